"""crosswheel as its users install it: wheel and sdist, built here, and the command in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import ROOT, CommandLine

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

OURS = ("crosswheel", "recipes", "toolchains", "sysroots", "patches", "docs", "tests", "benchmarks")
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "CONTRIBUTING.md", "tasks.py", "x")


@dataclass(frozen=True)
class Packages:
    """What was built in a copy of the checkout: the wheel, the sdist, and the wheel that the sdist gives."""

    source: Path
    wheel: Path
    sdist: Path
    again: Path


def run(*argv: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    place = tmp_path_factory.mktemp("packages")
    source = place / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in OURS:
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in (*FILES, "matrix.toml"):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--sdist", "--wheel", "--outdir", place / "out", source, cwd=place)
    (wheel,), (sdist,) = (place / "out").glob("*.whl"), (place / "out").glob("*.tar.gz")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", place / "again", sdist, cwd=place)
    (again,) = (place / "again").glob("*.whl")
    return Packages(source, wheel, sdist, again)


@pytest.fixture(scope="module")
def crosswheel(packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed with all that it requires into an environment that knows nothing of the checkout."""
    place = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", place / "venv", cwd=place)
    run(place / "venv/bin/pip", "install", "-q", "--disable-pip-version-check", packages.wheel, cwd=place)
    return place / "venv/bin/crosswheel"


def called(command: Path, *words: str | Path, status: int = 0, cwd: Path = Path("/"), **env: str) -> tuple[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CROSSWHEEL_DATA"))}
    done = subprocess.run(
        [str(command), *map(str, words)],
        cwd=cwd,
        env={**clean, "TERM": "dumb", "COLUMNS": "120", **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


def files(source: Path, folder: str) -> set[str]:
    found = {path.relative_to(source).as_posix() for path in (source / folder).rglob("*") if path.is_file()}
    return {path for path in found if "__pycache__" not in path}


def test_the_wheel_has_all_data_and_the_sdist_gives_the_same(packages: Packages) -> None:
    with zipfile.ZipFile(packages.wheel) as wheel, zipfile.ZipFile(packages.again) as again:
        names = set(wheel.namelist())
        assert names == set(again.namelist())
        for name in names - {name for name in names if name.endswith("/RECORD")}:
            assert wheel.read(name) == again.read(name), name
    data = {name.removeprefix("crosswheel/_data/") for name in names if name.startswith("crosswheel/_data/")}
    for folder in ("recipes", "toolchains", "sysroots", "patches"):
        assert files(packages.source, folder) == {name for name in data if name.startswith(f"{folder}/")}
    assert files(packages.source, "crosswheel") <= names
    assert not any("__pycache__" in name or name.startswith(("tests/", "benchmarks/")) for name in names)


def test_the_installed_command_says_what_the_checkout_says(
    packages: Packages, crosswheel: Path, tmp_path: Path
) -> None:
    here = CommandLine(root=packages.source, env={"CROSSWHEEL_STORE": str(tmp_path / "store")})
    store = {"CROSSWHEEL_STORE": str(tmp_path / "store")}
    for words in (("list",), ("list", "tensorflow"), ("check",)):
        assert called(crosswheel, *words, **store)[0] == here(*words).stdout
    planned = called(crosswheel, "plan", "dm-tree", "--target", "rpi4", "--json", **store)[0]
    assert json.loads(planned) == here.json("plan", "dm-tree", "--target", "rpi4")


def test_the_matrix_is_planned_and_rendered_from_the_shipped_data(
    packages: Packages, crosswheel: Path, tmp_path: Path
) -> None:
    store = {"CROSSWHEEL_STORE": str(tmp_path / "store")}
    planned = json.loads(called(crosswheel, "matrix", "plan", "--json", cwd=tmp_path, **store)[0])
    here = CommandLine(root=packages.source, env=store).json("matrix", "plan", cwd=tmp_path)
    assert [cell["id"] for cell in planned["cells"]] == [cell["id"] for cell in here["cells"]]
    called(crosswheel, "matrix", "render", "--for", "github", cwd=tmp_path)
    text = (tmp_path / ".github/workflows/nightly.yml").read_text()
    assert "run: .crosswheel/venv/bin/crosswheel matrix plan\n" in text
    version = packages_version(crosswheel)
    assert f".crosswheel/venv/bin/pip install --quiet crosswheel=={version}\n" in text
    assert called(crosswheel, "matrix", "render", "--for", "github", "--check", cwd=tmp_path)[0].endswith("rendered\n")


def packages_version(command: Path) -> str:
    return called(command, "--version")[0].split()[-1]


def test_it_says_its_own_name_and_has_no_task_of_the_checkout(crosswheel: Path) -> None:
    tasks, _ = called(crosswheel)
    assert "build" in tasks and "./x" not in tasks
    helped, _ = called(crosswheel, "--help", "build")
    assert helped.startswith("Usage: crosswheel build") and "./x" not in helped
    _, told = called(crosswheel, "test", status=2)
    assert "there is no command test" in told and "`crosswheel --list`" in told
    assert called(crosswheel, "--version")[0].startswith("crosswheel ")


def test_data_of_ones_own_and_nothing_is_written_into_the_package(crosswheel: Path, tmp_path: Path) -> None:
    release = (ROOT / "recipes/wrapt/1.16.0.toml").read_text().replace('version = "1.16.0"', 'version = "1.16.1"')
    own = tmp_path / "own/recipes/wrapt"
    own.mkdir(parents=True)
    (own / "1.16.1.toml").write_text(release)
    assert "1.16.1" in called(crosswheel, "list", "wrapt", "--data", tmp_path / "own")[0]
    assert called(crosswheel, "--data", tmp_path / "own", "check")[0].endswith(": 0 problems.\n")
    _, told = called(crosswheel, "sysroot", "lock", "emulator", status=2)
    assert "sysroots/locks/emulator.json would be written into the installed package" in told
