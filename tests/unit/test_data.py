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
    first = next(number for number, line in enumerate(lines) if line.startswith("sha256"))
    path.write_text("".join(lines[:first] + lines[first + 1 :]))
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


def test_eras_say_nothing_that_is_a_releases_own(data: Path) -> None:
    eras = data / "recipes/tensorflow/eras"
    change(eras / "1.12.toml", 'backend = "bazel"', 'version = "1.12"\nbackend = "bazel"\ncolour = 1')
    (eras / "1.99.toml").write_text('backend = "bazel"\n')
    (eras / "broken.toml").write_text("backend = \n")
    problems = "\n".join(told(data))
    assert "recipes/tensorflow/eras/1.12.toml:3: `version` is a release's own, not an era's" in problems
    assert "recipes/tensorflow/eras/1.12.toml:5: `colour` is no known key" in problems
    assert "recipes/tensorflow/eras/1.99.toml: no release is of this era" in problems
    assert "recipes/tensorflow/eras/broken.toml:1: this file is no valid TOML" in problems


def test_an_era_that_is_not_there(data: Path) -> None:
    change(data / "recipes/tensorflow/1.13.2.toml", 'era = "1.13-2.0"', 'era = "1.13-1.15"')
    assert any("there is no era '1.13-1.15'" in line for line in told(data))


def test_a_bazel_that_the_release_itself_refuses(data: Path) -> None:
    change(data / "recipes/tensorflow/1.13.2.toml", 'versions = ["0.20.0"', 'versions = ["2.1.0", "0.20.0"')
    assert any("Bazel 2.1.0 is outside the range '>=0.19.0,<=0.21.0' that is enforced" in line for line in told(data))


def test_features_that_no_recipe_has(data: Path) -> None:
    change(data / "recipes/tensorflow/eras/1.12.toml", "xla = [", "quantum = [")
    change(data / "recipes/tensorflow/eras/1.12.toml", 'llvm = "xla"', 'llvm = "xxl"')
    problems = "\n".join(told(data))
    assert "`bazel.features` names the feature 'quantum', which recipe.toml does not have" in problems
    assert "`bazel.optional` names the feature 'xxl'" in problems


def test_externals_and_what_is_optional_of_them(data: Path) -> None:
    folder = data / "recipes/tensorflow"
    text = (folder / "externals/1.5.0.toml").read_text()
    (folder / "externals/0.1.0.toml").write_text(text)
    (folder / "externals/1.5.0.toml").write_text(text + "\n" + text[text.index("[[externals]]") :])
    change(folder / "1.5.0.toml", "[bazel.optional]", '[bazel.optional]\nnothing_of_the_kind = ""')
    problems = "\n".join(told(data))
    assert "recipes/tensorflow/externals/0.1.0.toml: there is no release '0.1.0'" in problems
    assert "the external 'absl_py' stands here twice" in problems
    assert "no external is called 'nothing_of_the_kind'" in problems


def test_two_replacements_of_one_external(data: Path) -> None:
    path = data / "recipes/tensorflow/replacements.toml"
    text = path.read_text()
    path.write_text(text + "\n" + text[text.rindex("[[replacements]]") :])
    assert any("two replacements stand for" in line for line in told(data))


def test_a_cpu_says_what_instructions_it_has(data: Path) -> None:
    path = data / "toolchains/cpus.toml"
    change(path, 'above = "nehalem"\n', "")
    change(path, 'features = ["PCLMULQDQ"]\n', "")
    change(path, 'above = "x86-64-v2"\nfeatures = ["RDTSCP"]', 'above = "cortex-a53"')
    change(path, 'above = "armv8.1-a"', 'above = "armv8-1"')
    problems = "\n".join(told(data))
    for expected in (
        "'westmere' has neither `features` nor a cpu that it stands `above`",
        "'nehalem' is x86_64, and stands above 'cortex-a53', which is not",
        "toolchains/cpus.toml has no cpu 'armv8-1'",
    ):
        assert expected in problems
    assert problems.count("toolchains/cpus.toml:") == 3


def test_no_cpu_stands_above_itself(data: Path) -> None:
    """However long the way round; and it is told once."""
    path = data / "toolchains/cpus.toml"
    change(path, 'above = "armv8-a"\nfeatures = ["V8_1a"', 'above = "armv8.3-a"\nfeatures = ["V8_1a"')
    assert [line.partition(": ")[2] for line in told(data)] == [
        "no cpu stands above itself: armv8.1-a above armv8.3-a above armv8.2-a above armv8.1-a"
    ]
    change(path, 'above = "westmere"', 'above = "sandybridge"')
    assert "no cpu stands above itself: sandybridge above sandybridge" in "\n".join(told(data))


def test_the_build_tag_of_a_cpu_rises_with_its_features(data: Path) -> None:
    path = data / "toolchains/cpus.toml"
    change(path, "build = 40\n", "build = 14\n")  # x86-64-v3
    change(path, "build = 112\n", "build = 110\n")  # cortex-a57, as cortex-a53
    problems = told(data)
    assert sorted(problem.partition(": ")[2] for problem in problems) == [
        "'cortex-a57' and 'cortex-a53' have one `build`, 110",
        "'x86-64-v3' has all features of 'core2', and a lower `build`: 14, 15",
        "'x86-64-v3' has all features of 'x86-64-v2', and a lower `build`: 14, 20",
    ]


def test_what_the_written_data_says_of_cuda(data: Path) -> None:
    change(data / "toolchains/targets/jetson-nano.toml", 'toolkit = "10.2", cudnn = "8.2"', 'toolkit = "10.9"')
    change(data / "toolchains/targets/jetson-xavier.toml", 'cudnn = "8.6"', 'cudnn = "8.7"')
    change(data / "toolchains/targets/jetson-orin.toml", 'cudnn = "9.3"', 'cudnn = "8.6"')
    change(data / "toolchains/cuda/8.0.toml", 'archive = "cuda-ubuntu1604"', 'archive = "cuda-ubuntu1504"')
    change(data / "toolchains/cudnn/8.2.toml", 'archive = "jetson"', 'archive = "jetsam"')
    change(data / "toolchains/cuda/12.2.toml", "\n[host.layout]", "\n[host.lay]")
    problems = "\n".join(told(data))
    for expected in (
        "toolchains/targets/jetson-nano.toml:9: toolchains/cuda has no CUDA 10.9",
        "toolchains/targets/jetson-xavier.toml:8: toolchains/cudnn has no cuDNN 8.7",
        "toolchains/targets/jetson-orin.toml:9: cuDNN 8.6 is for CUDA >=11,<12",
        "toolchains/cuda/8.0.toml: sysroots/archives.toml has no archive 'cuda-ubuntu1504'",
        "toolchains/cudnn/8.2.toml: sysroots/archives.toml has no archive 'jetsam'",
        "toolchains/cuda/12.2.toml",
    ):
        assert expected in problems


def test_a_part_of_cudnn_has_no_layout_and_one_of_a_toolkit_has(data: Path) -> None:
    cudnn, toolkit = data / "toolchains/cudnn/6.0.toml", data / "toolchains/cuda/8.0.toml"
    cudnn.write_text(cudnn.read_text() + '\n[parts.x86_64.layout]\n"*" = "lib/"\n')
    toolkit.write_text(toolkit.read_text().partition("\n[target.aarch64.layout]")[0])
    problems = "\n".join(told(data))
    assert "cudnn/6.0.toml:" in problems
    assert "a toolkit's part is of packages or of a wheel, and has a `layout`" in problems
