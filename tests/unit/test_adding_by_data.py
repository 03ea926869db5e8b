"""A version, a target, a patch and a package are added by writing data, as the documents say: their own examples are
written into a copy of the data, and their own commands are run on it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from invoke.program import Program
from unidiff.patch import PatchSet

from crosswheel.cli import inspect, ns, settings
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, Resolution, resolve
from crosswheel.planning.steps import FetchStep, FilesStep, RunStep, TreeStep
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.lint import lint

pytestmark = pytest.mark.unit

DOCS = Path(__file__).resolve().parents[2] / "docs"

_BLOCK = re.compile(r"^(Write|Append to) `([^`]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Run = Callable[[str], str]


def examples(document: str) -> list[tuple[str, str, str]]:
    """The verb (``Write``, ``Append to``), path and text of each file that a document has one write."""
    return [(match[1], match[2], match[3]) for match in _BLOCK.finditer((DOCS / document).read_text())]


def follow(document: str, data: Path) -> list[str]:
    """Writes a document's files into the data; returns their paths."""
    paths = []
    for verb, name, text in examples(document):
        path = data / name
        assert path.is_file() == (verb == "Append to"), f"{document}: {verb} {name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if verb == "Append to" else "") + text)
        paths.append(name)
    assert paths, f"{document} has nobody write anything"
    return paths


def commands(document: str) -> list[str]:
    """The commands of a document's console blocks that the project itself runs, in order."""
    lines = "".join(_CONSOLE.findall((DOCS / document).read_text())).splitlines()
    found = [line.removeprefix("$ ./x ") for line in lines if line.startswith("$ ./x ")]
    assert found, f"{document} shows no command"
    return found


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line on the copy of the data, as `./x` does; returns what it prints."""
    for module in (settings, inspect):
        monkeypatch.setattr(module, "DATA", data)
    monkeypatch.setenv("CROSSWHEEL_STORE", str(tmp_path / "store"))

    def call(line: str) -> str:
        capsys.readouterr()
        try:
            Program(namespace=ns).run(["invoke", "--write-pyc", *shlex.split(line)])
        except SystemExit as stopped:
            if stopped.code:
                said = capsys.readouterr()
                pytest.fail(f"`./x {line}` ended with {stopped.code}:\n{said.out}{said.err}")
        return capsys.readouterr().out

    return call


def run_all(document: str, run: Run) -> dict[str, str]:
    """The output of each of a document's commands."""
    return {line: run(line) for line in commands(document)}


def problems(data: Path) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in lint(Catalog(data))]


def planned(data: Path, recipe: str, target: str, version: str | None = None) -> tuple[Resolution, Plan]:
    catalog = Catalog(data)
    resolution = resolve(Request(recipe=recipe, target=target, version=version), catalog)
    return resolution, plan(resolution, catalog, rules=RULES)


def unpacked(made: Plan, recipe: str) -> TreeStep:
    """The step that unpacks the release's own source."""
    trees = [step for step in made.steps if isinstance(step, TreeStep) and step.name.startswith(f"unpack {recipe} ")]
    assert len(trees) == 1
    return trees[0]


def compilation(made: Plan) -> RunStep:
    return next(step for step in made.steps if isinstance(step, RunStep))


# --- a version -------------------------------------------------------------------------------------------------------


def test_a_version_is_added_as_the_document_says(data: Path, run: Run) -> None:
    before = planned(data, "wrapt", "rpi4")[0].release
    assert follow("add-a-version.md", data) == ["recipes/wrapt/1.17.3.toml"]
    assert problems(data) == []
    said = run_all("add-a-version.md", run)
    assert said["check"].endswith(": 0 problems.\n")
    first = said["list wrapt"].splitlines()[2].split()
    assert first[:2] == ["1.17.3", "pep517"]
    assert said["plan wrapt --target rpi4"].startswith("wrapt 1.17.3 for rpi4 (CPython 3.11, cortex-a72)\n")

    resolution, made = planned(data, "wrapt", "rpi4")
    assert resolution.release.version == "1.17.3"
    assert resolution.wheel_tag == "cp311-cp311-linux_aarch64"
    fetched = next(step for step in made.steps if isinstance(step, FetchStep) and step.file == "wrapt-1.17.3.tar.gz")
    assert fetched.sha256 == "f66eb08feaa410fe4eebd17f2a2c8e2e46d3476e9f8c783daa8e09e0faa666d0"
    assert (made.wheel.version, made.proof.tests) == ("1.17.3", 444)
    assert compilation(made).env["WRAPT_INSTALL_EXTENSIONS"] == "true"
    # The older release is still there, and its keys are what they were.
    old = planned(data, "wrapt", "rpi4", before.version)[0]
    assert old.release == before


def test_an_older_python_still_gets_the_release_that_serves_it(data: Path) -> None:
    follow("add-a-version.md", data)
    path = data / "recipes/wrapt/1.17.3.toml"
    path.write_text(path.read_text().replace('python = ">=3.8,', 'python = ">=3.10,'))
    assert planned(data, "wrapt", "nanopi-m4")[0].release.version == "1.16.0"
    assert planned(data, "wrapt", "rpi4")[0].release.version == "1.17.3"


# --- a target --------------------------------------------------------------------------------------------------------


def test_a_target_is_added_as_the_document_says(data: Path, run: Run) -> None:
    assert follow("add-a-target.md", data) == ["toolchains/cpus.toml", "toolchains/targets/odroid-n2.toml"]
    assert problems(data) == []
    said = run_all("add-a-target.md", run)
    assert re.search(r"^  odroid-n2 +cortex-a73\.cortex-a53 +debian-12 \(CPython 3\.11\) ", said["list"], re.MULTILINE)
    assert "(CPython 3.11, cortex-a73.cortex-a53)" in said["plan wrapt --target odroid-n2"].splitlines()[0]

    resolution, made = planned(data, "wrapt", "odroid-n2")
    assert made.wheel.tag == resolution.wheel_tag == "cp311-cp311-linux_aarch64"
    run_step = compilation(made)
    assert run_step.inputs["sysroot"].name == "assemble sysroot debian-12 aarch64"
    assert run_step.inputs["builder"].name == "assemble builder gcc-12 aarch64"
    files = run_step.inputs["toolchain"]
    assert isinstance(files, FilesStep)
    for wrapper in ("bin/cc", "bin/c++"):
        assert "-mcpu=cortex-a73.cortex-a53" in files.files[wrapper].text
        assert "-mcpu" not in files.files[f"host/{wrapper}"].text
    policy = dict(made.proof.policy)
    has = policy.pop("instructions")
    assert isinstance(has, dict)
    assert has["features"] == ["CRC", "EL2VMSA", "EL3", "FPARMv8", "NEON", "V8_0a"]
    assert policy == {
        "target": "odroid-n2",
        "arch": "aarch64",
        "python": "3.11",
        "cpu": "cortex-a73.cortex-a53",
        "qemu": "cortex-a53",
        "avx": False,
        "sysroot": "debian-12",
        "floors": Catalog(data).sysroot("debian-12").floors.model_dump(),
    }
    assert made.proof.name == "prove wrapt 1.16.0 on cortex-a53"


def test_a_target_shares_what_it_has_in_common_with_another(data: Path) -> None:
    follow("add-a-target.md", data)
    ours, theirs = compilation(planned(data, "wrapt", "odroid-n2")[1]), compilation(planned(data, "wrapt", "rpi4")[1])
    shared = {role for role in ours.inputs if ours.inputs[role].key == theirs.inputs[role].key}
    assert shared == set(ours.inputs) - {"toolchain"}
    assert ours.key != theirs.key


# --- a patch ---------------------------------------------------------------------------------------------------------


def test_a_patch_is_added_as_the_document_says(data: Path, run: Run) -> None:
    follow("add-a-version.md", data)
    before = {version: planned(data, "wrapt", "rpi4", version)[1] for version in ("1.16.0", "1.17.3")}
    dm_tree = planned(data, "dm-tree", "rpi4")[1]
    assert follow("add-a-patch.md", data) == ["patches/wrapt/round-with-digits.patch", "patches/wrapt/series.toml"]
    assert problems(data) == []
    said = run_all("add-a-patch.md", run)
    assert said["plan wrapt --version 1.16.0 --target rpi4"].startswith("wrapt 1.16.0 for rpi4")

    resolution, after = planned(data, "wrapt", "rpi4", "1.16.0")
    assert [patch.file for patch in resolution.patches] == ["round-with-digits.patch"]
    tree = unpacked(after, "wrapt")
    assert [patch.file for patch in tree.patches] == ["round-with-digits.patch"]
    assert tree.patches[0].text == (data / "patches/wrapt/round-with-digits.patch").read_text()
    changed = {step.name for step in after.steps} - {
        step.name for step in after.steps if step.key in {other.key for other in before["1.16.0"].steps}
    }
    assert {name.split()[0] for name in changed} == {"unpack", "compile", "wheel", "prove"}
    # Nothing else has it, and nothing else is built anew.
    assert unpacked(planned(data, "wrapt", "rpi4", "1.17.3")[1], "wrapt").patches == ()
    assert planned(data, "wrapt", "rpi4", "1.17.3")[1].proof.key == before["1.17.3"].proof.key
    assert planned(data, "dm-tree", "rpi4")[1].proof.key == dm_tree.proof.key


def test_the_documents_patch_applies_to_what_it_quotes(data: Path, tmp_path: Path) -> None:
    follow("add-a-patch.md", data)
    path = data / "patches/wrapt/round-with-digits.patch"
    changed = PatchSet(path.read_text())
    assert [file.path for file in changed] == ["src/wrapt/_wrappers.c"]
    # A file that has the patch's own old lines where it wants them.
    lines = [""] * 2000
    for hunk in changed[0]:
        start = hunk.source_start - 1
        lines[start : start + hunk.source_length] = [line[1:].rstrip("\n") for line in hunk.source]
    source = tmp_path / "tree" / changed[0].path
    source.parent.mkdir(parents=True)
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(("git", "apply", "--verbose", str(path)), cwd=tmp_path / "tree", check=True, capture_output=True)
    assert source.read_text().count("ndigits") == 3


@pytest.mark.parametrize(
    ("line", "patched"),
    [
        ('when = { arch = "aarch64" }', {"rpi4", "nanopi-m4"}),
        ('when = { python = "<3.10" }', {"nanopi-m4"}),
        ('when = { python = ">=3.10", arch = "aarch64" }', {"rpi4"}),
        ('when = { bazel = ">=1" }', set()),
    ],
)
def test_the_conditions_of_a_patch_hold_all_at_once(data: Path, line: str, patched: set[str]) -> None:
    follow("add-a-patch.md", data)
    with (data / "patches/wrapt/series.toml").open("a") as series:
        series.write(f"{line}\n")
    assert problems(data) == []
    for target in ("rpi4", "nanopi-m4", "x86_64"):
        made = planned(data, "wrapt", target, "1.16.0")[1]
        assert bool(unpacked(made, "wrapt").patches) == (target in patched), target


# --- a package -------------------------------------------------------------------------------------------------------


def test_a_package_is_added_as_the_document_says(data: Path, run: Run) -> None:
    folder = "recipes/markupsafe"
    assert follow("add-a-package.md", data) == [f"{folder}/recipe.toml", f"{folder}/2.1.5.toml", f"{folder}/check.py"]
    assert problems(data) == []
    said = run_all("add-a-package.md", run)
    assert said["list markupsafe"].splitlines()[2].split()[:2] == ["2.1.5", "pep517"]
    assert said["plan markupsafe --target rpi4"].startswith("markupsafe 2.1.5 for rpi4")
    assert "markupsafe" in {recipe["name"] for recipe in json.loads(run("list --json"))["recipes"]}
    assert len(json.loads(run("plan MarkupSafe --target rpi4 --json"))["steps"]) > 5

    made = planned(data, "markupsafe", "rpi4")[1]
    assert (made.wheel.distribution, made.wheel.tag) == ("MarkupSafe", "cp311-cp311-linux_aarch64")
    assert made.proof.check == (data / folder / "check.py").read_text()
    assert made.proof.tests == 53
    assert compilation(made).env["CIBUILDWHEEL"] == "1"
    compile((data / folder / "check.py").read_text(), "check.py", "exec")


def test_the_documents_check_counts_what_pytest_does(data: Path, tmp_path: Path) -> None:
    follow("add-a-package.md", data)
    tests = tmp_path / "source" / "tests"
    tests.mkdir(parents=True)
    (tests / "test_some.py").write_text(
        "import pytest\n\n"
        "def test_good(): pass\n\n"
        "def test_bad(): assert False\n\n"
        "@pytest.mark.skip\ndef test_not_here(): pass\n\n"
        "def test_skips_itself(): pytest.skip()\n"
    )
    result = tmp_path / "result.json"
    check = shutil.copy(data / "recipes/markupsafe/check.py", tmp_path)
    argv = (sys.executable, check, str(result), str(tests.parent))
    ended = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert json.loads(result.read_text()) == {"tests": 4, "failures": 1, "skipped": 2}
