"""The lines of the page, run as they stand: pip installs our wheel, with what it requires, whatever the package index
has of the same name."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import served
from page_writer import CATALOG, Page, page, wheel

from crosswheel.publishing.index import build_index

pytestmark = pytest.mark.integration

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp{PYTHON.replace('.', '')}"
Run = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a pip."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True, symlinks=True)
    return folder


@pytest.fixture
def package_index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A package index as others fill it: the address and the folder of its wheels, by projects."""
    folder = tmp_path / "pypi"
    folder.mkdir()
    with served(folder) as address:
        yield address, folder


@pytest.fixture
def run(environment: Path, package_index: tuple[str, Path], tmp_path: Path) -> Run:
    """Runs a line in the environment, in which nothing is installed, and whose pip is set to the package index; says
    where each module is from then."""
    names = ("ours", "needed", "besides")

    def ran(line: str) -> dict[str, str]:
        env = {
            **os.environ,
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_INDEX_URL": package_index[0],
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        without = (str(environment / "bin/python"), "-m", "pip", "uninstall", "--yes", "--quiet", *names)
        subprocess.run(without, env=env, check=True, capture_output=True)
        done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        found = {}
        for name in names:
            asked = [str(environment / "bin/python"), "-c", f"import {name}; print({name}.path)"]
            said = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, check=False)
            found[name] = said.stdout.strip()
        return found

    return ran


def decoy(folder: Path, name: str, version: str, tags: str) -> None:
    """A wheel of somebody else in the package index."""
    made = wheel(folder / "made", name, version, target="x86_64", python=PYTHON, tags=tags)
    (folder / name).mkdir(exist_ok=True)
    made.rename(folder / name / made.name)


def lines_of(folder: Path, recipe: str) -> list[str]:
    """The lines on the page of a package's cell."""
    (path,) = (folder / "cells").glob(f"{recipe}-*.html")
    text = Page(path).source
    found = [part.split("</code>")[0] for part in text.split('<code id="')[1:]]
    return [part.partition(">")[2].replace("&amp;", "&").replace("&#39;", "'") for part in found]


def test_the_line_installs_ours_and_brings_what_it_requires(
    run: Run, package_index: tuple[str, Path], tmp_path: Path
) -> None:
    dist, index, folder = tmp_path / "dist", tmp_path / "index", tmp_path / "page"
    ours = wheel(dist, "ours", "1.0", target="x86_64", python=PYTHON, requires=["needed>=1", "besides"])
    besides = wheel(dist, "besides", "2.0", target="x86_64", python=PYTHON)
    build_index(index, dist, CATALOG)
    for name, version in (("ours", "1.0"), ("ours", "9.0"), ("besides", "2.0"), ("besides", "9.0")):
        decoy(package_index[1], name, version, f"{TAG}-{TAG}-manylinux2014_x86_64")
    decoy(package_index[1], "needed", "1.5", "py3-none-any")
    with served(index) as address:
        page(folder, index, tmp_path / "none", address)
        line, exact = lines_of(folder, "ours")
        assert f"--index-url {address}/x86_64/simple/" in line
        found = run(line)
        assert found["ours"] == str(ours)
        assert found["besides"] == str(besides)
        assert found["needed"].startswith(str(package_index[1]))
        assert run(exact)["ours"] == str(ours)


def test_with_an_extra_index_the_package_index_would_win(
    run: Run, package_index: tuple[str, Path], tmp_path: Path
) -> None:
    """Why the line has no ``--extra-index-url``: of the same version, pip takes the manylinux wheel of others."""
    dist, index = tmp_path / "dist", tmp_path / "index"
    wheel(dist, "ours", "1.0", target="x86_64", python=PYTHON)
    build_index(index, dist, CATALOG)
    decoy(package_index[1], "ours", "1.0", f"{TAG}-{TAG}-manylinux2014_x86_64")
    with served(index) as address:
        found = run(f"python{PYTHON} -m pip install --extra-index-url {address}/x86_64/simple/ ours==1.0")
        assert found["ours"].startswith(str(package_index[1]))


def test_one_call_is_enough_where_the_index_has_all(run: Run, tmp_path: Path) -> None:
    dist, index, folder = tmp_path / "dist", tmp_path / "index", tmp_path / "page"
    ours = wheel(dist, "ours", "1.0", target="x86_64", python=PYTHON, requires=["besides"])
    besides = wheel(dist, "besides", "2.0", target="x86_64", python=PYTHON)
    build_index(index, dist, CATALOG)
    with served(index) as address:
        page(folder, index, tmp_path / "none", address)
        line, _ = lines_of(folder, "ours")
        assert "&&" not in line
        found = run(line)
    assert (found["ours"], found["besides"]) == (str(ours), str(besides))
