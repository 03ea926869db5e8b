"""The answers that CPython's configure is given, and the look at configure before it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from packaging.version import Version

from crosswheel.building.diagnose import diagnose
from crosswheel.errors import DataError
from crosswheel.planning.headers import headers_step
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.config_site import answers_for
from crosswheel.spec.lint import lint
from crosswheel.spec.pythons import Machine, answers_in

pytestmark = pytest.mark.unit

HARD = ("ac_cv_buggy_getaddrinfo", "ac_cv_file__dev_ptc", "ac_cv_file__dev_ptmx")
SITE = "sysroots/config.site/cpython"


def lint_of(data: Path) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in lint(Catalog(data))]


# --- answers ---------------------------------------------------------------------------------------------------------


def test_all_series_are_served(catalog: Catalog) -> None:
    series = [item.series for item in catalog.pythons.cpythons]
    assert series == ["2.7", *(f"3.{minor}" for minor in range(5, 14))]


@pytest.mark.parametrize("arch", get_args(Arch))
def test_every_cpython_has_its_answers(arch: Arch, catalog: Catalog) -> None:
    for cpython in catalog.pythons.cpythons:
        answers = answers_for(catalog, cpython, Machine(arch, "2.31"))
        version = Version(cpython.version)
        assert answers.keys() >= set(HARD)
        assert ("ac_cv_aligned_required" in answers) == (version.major == 3)
        assert ("ac_cv_little_endian_double" in answers) == (version < Version("3.8"))
        assert ("ac_cv_wchar_t_signed" in answers) == (arch == "aarch64")
        assert "ac_cv_pthread" in answers
        assert "ac_cv_pthread_is_default" not in answers
        newer = answers_for(catalog, cpython, Machine(arch, "2.36"))
        assert "ac_cv_pthread_is_default" in newer
        assert answers.keys() ^ newer.keys() == {"ac_cv_pthread", "ac_cv_pthread_is_default"}


def test_a_file_of_answers_is_read_strictly() -> None:
    text = "# Why.\nac_cv_one=yes\nac_cv_two=8\n\n# Why not.\nac_cv_three=no\n"
    assert answers_in(text) == {"ac_cv_one": "yes", "ac_cv_two": "8", "ac_cv_three": "no"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ac_cv_one=yes\n", "line 1: ac_cv_one has no comment"),
        ("# Why.\nac_cv_one=yes\n\nac_cv_two=no\n", "line 4: ac_cv_two has no comment"),
        ("# Why.\nac_cv_one=yes\nac_cv_one=no\n", "line 3: ac_cv_one is answered twice"),
        ("# Why.\nac_cv_one=$(date)\n", "line 2: 'ac_cv_one=$(date)' is neither"),
        ("# Why.\nexport PATH=/\n", "line 2: 'export PATH=/' is neither"),
        ("# Why.\nac_cv_one = yes\n", "line 2: 'ac_cv_one = yes' is neither"),
    ],
)
def test_what_a_shell_would_read_otherwise_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        answers_in(text)


@pytest.mark.parametrize("key", HARD)
@pytest.mark.parametrize("version", ["2.7.18", "3.9.2", "3.13.5"])
def test_without_a_hard_answer_nothing_begins(key: str, version: str, data: Path) -> None:
    """Our sentence, and not configure's after a minute: the key, the Python, the file, and what to do."""
    path = data / SITE
    path.write_text(re.sub(rf"^{key}=.*\n", "", path.read_text(), flags=re.MULTILINE))
    catalog = Catalog(data)
    with pytest.raises(DataError) as caught:
        headers_step(catalog, catalog.cpython(version), "aarch64", "debian-11", "gcc-10")
    error = caught.value
    assert error.what == f"CPython {version} cannot be configured for aarch64 without an answer to {key}"
    assert error.where == SITE
    assert "configure stops" in error.why
    assert "add `KEY=ANSWER` there" in error.hint
    assert any(key in line and line.startswith(f"{SITE}: CPython {version}") for line in lint_of(data))


def test_all_hard_answers_that_are_missing_are_told_at_once(data: Path) -> None:
    (data / SITE).write_text("# Nothing.\n")
    catalog = Catalog(data)
    with pytest.raises(DataError) as caught:
        answers_for(catalog, catalog.cpython("3.9"), Machine("x86_64", "2.31"))
    assert all(key in caught.value.what and key in caught.value.why for key in HARD)


def test_what_is_wrong_with_the_answers_is_found_by_check(data: Path) -> None:
    assert lint_of(data) == []
    (data / "sysroots/config.site/stray").write_text("# Nobody reads this.\nac_cv_one=yes\n")
    with (data / "sysroots/config.site/cpython-aarch64").open("a") as stream:
        stream.write("\n# Once more.\nac_cv_working_tzset=no\n")
    found = lint_of(data)
    assert "sysroots/config.site/stray: sysroots/pythons.toml does not list this file" in found
    assert any("ac_cv_working_tzset is answered by cpython as well" in line for line in found)
    (data / "sysroots/config.site/cpython-3").unlink()
    assert any("cpython-3: this file does not exist" in line for line in lint_of(data))
    (data / SITE).write_text("rm -rf /\n")
    assert any("configure would not read this as it is meant\nline 1" in line for line in lint_of(data))


# --- before configure ------------------------------------------------------------------------------------------------

CONFIGURE = """
PACKAGE_NAME='python'
PACKAGE_TARNAME='python'
PACKAGE_VERSION='{version}'
if ${{ac_cv_file__dev_ptmx+:}} false; then :
if test ${{ac_cv_file__dev_new+y}}
if ${{ac_cv_working_tzset+:}} false; then :
"""
HERE = "{}.{}".format(*sys.version_info)


def look(
    folder: Path, answers: str, *, version: str = HERE, series: str = HERE, python: str = sys.executable
) -> tuple[int, str]:
    """Runs the script that looks at configure, as the builder does."""
    script = Path(__file__).resolve().parents[2] / "toolchains/templates/headers/check.py.j2"
    (folder / "configure").write_text(CONFIGURE.format(version=version))
    (folder / "config.site").write_text(answers)
    argv = (sys.executable, str(script), str(folder / "configure"), str(folder / "config.site"), series, python)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


ANSWERS = "ac_cv_file__dev_ptmx=yes\nac_cv_file__dev_new=no\n"


def test_configure_is_run_where_all_that_it_stops_at_is_answered(tmp_path: Path) -> None:
    assert look(tmp_path, ANSWERS) == (0, "")
    status, said = look(tmp_path, ANSWERS + "ac_cv_aligned_required=no\n")
    assert (status, said) == (
        0,
        f"config.site answers ac_cv_aligned_required, which configure of CPython {HERE} does not ask for\n",
    )


def test_a_question_of_a_configure_that_nobody_knew_of(tmp_path: Path) -> None:
    status, said = look(tmp_path, "ac_cv_file__dev_ptmx=yes\n")
    assert (status, said) == (
        1,
        f"config.site has no answer: ac_cv_file__dev_new, which configure of CPython {HERE} stops without\n",
    )
    found = diagnose(said.splitlines(), 1)
    assert found.lines == (said.strip(),)
    assert "was not begun" in found.cause
    assert "sysroots/config.site" in found.advice


def test_a_source_of_something_else(tmp_path: Path) -> None:
    status, said = look(tmp_path, ANSWERS, version="3.4")
    assert status == 1
    assert said == f"config.site wants another source: its configure is that of 3.4, not that of {HERE}\n"
    (tmp_path / "other").mkdir()
    script = Path(__file__).resolve().parents[2] / "toolchains/templates/headers/check.py.j2"
    nothing = (sys.executable, str(script), str(tmp_path / "other/configure"), os.devnull, HERE, sys.executable)
    assert "none of CPython" in subprocess.run(nothing, capture_output=True, text=True, check=False).stdout


def test_an_interpreter_that_is_not_there_or_of_another_series(tmp_path: Path) -> None:
    status, said = look(tmp_path, ANSWERS, python="/nowhere/python")
    assert status == 1
    assert said.startswith("config.site wants an interpreter: /nowhere/python of the builder does not run:")
    status, said = look(tmp_path, ANSWERS, version="2.6", series="2.6")
    assert status == 1
    assert f"of the builder is {HERE}, not 2.6" in said


# --- the document ----------------------------------------------------------------------------------------------------


def test_the_document_tells_of_every_answer_file_and_difference(catalog: Catalog) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/python-headers.md").read_text()
    for site in catalog.pythons.sites:
        assert f"`sysroots/config.site/{site.file}`" in text
        for key, value in catalog.site_answers(site.file).items():
            row = next(line for line in text.splitlines() if line.startswith("|") and f"`{key}`" in line)
            assert row.split("|")[2].strip() == value, key
    for difference in catalog.pythons.differences:
        assert all(f"`{macro}`" in text for macro in difference.macros), difference.macros
