"""Written data: what is wrong in it is told with file and line, all in one run; what is shipped has no problem."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosswheel.errors import DataError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.lint import lint
from crosswheel.spec.toml import line_of

pytestmark = pytest.mark.unit


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def told(data: Path) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in lint(Catalog(data))]


def test_the_shipped_data_has_no_problem(catalog: Catalog) -> None:
    assert lint(catalog) == []


def test_every_problem_is_told_in_one_run(data: Path) -> None:
    change(data / "recipes/wrapt/1.16.0.toml", "version = ", "colour = 1\nversion = ")
    change(data / "recipes/dm-tree/0.1.5.toml", 'versions = ["0.17.2"', 'versions = ["0.99.9"')
    change(data / "toolchains/targets/rpi4.toml", 'sysroot = "debian-12"', 'sysroot = "debian-99"')
    change(data / "toolchains/targets/rk3588.toml", 'cpu = "', 'cpu = "pentium')
    change(data / "patches/dm-tree/series.toml", "python-3.10-collections-abc.patch", "gone.patch")
    (data / "recipes/ml-dtypes/check.py").unlink()
    (data / "recipes/empty").mkdir()
    problems = "\n".join(told(data))
    for expected in (
        "recipes/wrapt/1.16.0.toml:1: this file has 1 problem\nline 1: `colour` is no known key",
        "toolchains/bazel.toml has no Bazel 0.99.9",
        "toolchains/targets/rpi4.toml:7: there is no sysroot 'debian-99'",
        "toolchains/targets/rk3588.toml:4: toolchains/cpus.toml has no cpu",
        "patches/dm-tree/series.toml:1: the patch 'gone.patch' does not exist",
        "patches/dm-tree/python-3.10-collections-abc.patch: no series lists this patch",
        "the check's script 'check.py' does not exist",
        "recipes/empty: this folder has no recipe.toml",
    ):
        assert expected in problems


def test_a_missing_hash_is_told_with_its_line(data: Path) -> None:
    path = data / "recipes/wrapt/1.16.0.toml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("sha256")))
    table = next(number for number, line in enumerate(lines, start=1) if line.startswith("[source]"))
    assert told(data) == [
        f"recipes/wrapt/1.16.0.toml:{table}: this file has 1 problem\nline {table}: `source.sha256` is missing"
    ]


def test_a_hash_that_is_none(data: Path) -> None:
    change(data / "recipes/wrapt/1.16.0.toml", 'sha256 = "', 'sha256 = "xyz')
    assert "`source.sha256` is no sha256" in told(data)[0]


def test_a_file_that_is_no_toml(data: Path) -> None:
    change(data / "toolchains/targets/rpi4.toml", 'name = "rpi4"', "name = rpi4")
    assert "toolchains/targets/rpi4.toml:1: this file is no valid TOML" in told(data)[0]


def test_a_name_that_is_not_the_files(data: Path) -> None:
    change(data / "toolchains/targets/rpi4.toml", 'name = "rpi4"', 'name = "rpi5"')
    with pytest.raises(DataError, match=r"the file is called 'rpi4\.toml'"):
        Catalog(data).target("rpi4")


def test_a_patch_that_is_no_patch(data: Path) -> None:
    (data / "patches/dm-tree/python-3.10-collections-abc.patch").write_text("hello\n")
    assert "this patch changes nothing" in told(data)[0]


def test_an_alias_that_two_recipes_want(data: Path) -> None:
    change(data / "recipes/wrapt/recipe.toml", "distribution", 'aliases = ["tree"]\ndistribution')
    assert any("'tree' already means" in line for line in told(data))


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("name",), 1),
        (("table", "key"), 4),
        (("table", "other"), 3),
        (("items", 0, "x"), 6),
        (("items", 1, "x"), 8),
        (("items", 1, "y"), 7),
        (("items", 1, "dotted", "deep"), 9),
        (("nothing",), None),
    ],
)
def test_lines_of_keys(location: tuple[str | int, ...], line: int | None) -> None:
    text = 'name = "a"\n\n[table]\nkey = 1\n[[items]]\nx = 1\n[[items]]\nx = 2\ndotted.deep = 1\n'
    assert line_of(text, location) == line
