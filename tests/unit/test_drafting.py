"""`new recipe`: what is read of a source archive, what is pinned, what is refused, and that nothing is half written."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fetching import without_index
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswheel.building.drafting import Draft, draft
from crosswheel.building.job import Settings
from crosswheel.building.sources.package_index import Page
from crosswheel.building.sources.sdist import read_sdist
from crosswheel.cli import drafting
from crosswheel.cli.drafting import check_text, texts, write_draft
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError, InputError, MachineError
from crosswheel.planning.wheelhouse import IndexFile
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.lint import lint

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]

INFO = """\
Metadata-Version: 2.1
Name: My.Pkg
Version: 1.2
Summary: Quick "quotes" and a \\ backslash
Project-URL: Documentation, https://docs.example.org
Project-URL: Source, https://example.org/my-pkg
Requires-Python: >=3.9
Requires-Dist: numpy>=1.20
Requires-Dist: pytest; extra == "test"
"""
BUILD = '[build-system]\nrequires = ["setuptools>=61", "Cython"]\nbuild-backend = "setuptools.build_meta"\n'


@dataclass
class Index:
    """An index that lists what a test says. ``wheels`` maps a file to the requirements that its METADATA has."""

    files: dict[str, list[IndexFile]] = field(default_factory=dict)
    wheels: Mapping[str, str] = field(default_factory=dict)

    def pages(self, projects: Iterable[str]) -> Mapping[str, Page]:
        return {name: Page(files=tuple(self.files.get(name, ()))) for name in projects}

    def papers(self, wheels: Iterable[tuple[str, str]]) -> Mapping[str, str | None]:
        return {file: self.wheels.get(file, "Metadata-Version: 2.1\n") for _, file in wheels}

    def add(self, project: str, *files: str, python: str | None = None, sha256: str = "a" * 64) -> None:
        self.files.setdefault(project, []).extend(
            IndexFile(file=file, sha256=sha256, requires_python=python, metadata=True) for file in files
        )


@dataclass
class World:
    """Source archives in a folder that pip finds, and an index that lists them."""

    links: Path
    index: Index
    catalog: Catalog

    def sdist(self, project: str = "my-pkg", version: str = "1.2", *, info: str = INFO, **files: str) -> Path:
        path = self.links / f"{project.replace('-', '_')}-{version}.tar.gz"
        members = {"PKG-INFO": info, **{name.replace("__", "/"): text for name, text in files.items()}}
        with tarfile.open(path, "w:gz") as tar:
            for name, text in members.items():
                member = tarfile.TarInfo(f"{project}-{version}/{name}")
                member.size = len(text.encode())
                tar.addfile(member, io.BytesIO(text.encode()))
        self.index.add(project, path.name, sha256=sha256_file(path))
        return path

    def draft(self, project: str = "my-pkg", version: str | None = None) -> Draft:
        given = Settings(store=self.links.parent / "store")
        return draft(project, project, version, self.catalog, given, self.index)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> World:
    links = tmp_path / "links"
    links.mkdir()
    without_index(monkeypatch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(links))
    index = Index()
    index.add("setuptools", "setuptools-80.0-py3-none-any.whl", python=">=3.9")
    index.add("cython", *(f"cython-3.1-cp{n}-cp{n}-manylinux_2_17_x86_64.whl" for n in ("39", "310", "311")))
    index.add("cython", "cython-3.0-py2.py3-none-any.whl")
    return World(links, index, catalog)


def test_a_draft_says_what_the_archive_says(world: World) -> None:
    path = world.sdist(**{"pyproject.toml": BUILD, "src__my_pkg__init__.py": "", "src__my_pkg____init__.py": ""})
    world.index.add("my-pkg", "my_pkg-1.2-cp312-cp312-manylinux_2_17_x86_64.whl")
    found = world.draft()
    assert (found.file, found.sha256) == (path.name, sha256_file(path))
    assert (found.distribution, found.backend, found.python) == ("my_pkg", "pep517", ">=3.9,<3.13")
    assert found.facts.homepage == "https://example.org/my-pkg"
    assert found.packages == ("python3-numpy",)
    files = texts(found)
    assert set(files) == {"recipe.toml", "1.2.toml", "check.py"}
    assert 'summary = "Quick \\"quotes\\" and a \\\\ backslash"' in files["recipe.toml"]
    assert "TODO" in files["recipe.toml"] and "tests = 1" in files["1.2.toml"]


def test_what_the_build_requires_is_pinned_for_each_python_that_targets_have(world: World) -> None:
    world.sdist(**{"pyproject.toml": BUILD})
    pinned = {(wheel.file, wheel.python) for wheel in world.draft().requires}
    assert ("setuptools-80.0-py3-none-any.whl", "") in pinned
    assert ("cython-3.1-cp39-cp39-manylinux_2_17_x86_64.whl", "<3.10") in pinned
    assert ("cython-3.1-cp310-cp310-manylinux_2_17_x86_64.whl", ">=3.10,<3.11") in pinned
    assert ("cython-3.1-cp311-cp311-manylinux_2_17_x86_64.whl", ">=3.11,<3.13") in pinned
    assert ("cython-3.0-py2.py3-none-any.whl", ">=3.13") in pinned  # 3.1 has no wheel for it
    assert all(len(wheel.sha256) == 64 and wheel.place.startswith("pypi:") for wheel in world.draft().requires)


def test_a_python_for_which_the_build_lacks_something_is_left_out_and_said(world: World) -> None:
    world.index.files["setuptools"] = []
    world.index.add("setuptools", "setuptools-80.0-py3-none-any.whl", python=">=3.11")
    world.sdist(**{"pyproject.toml": BUILD})
    found = world.draft()
    assert found.python == ">=3.11"
    assert any("CPython 3.9 (setuptools)" in sentence for sentence in found.todo)
    world.index.files["setuptools"] = []
    with pytest.raises(InputError, match="for no Python is there all that its build requires"):
        world.draft()


@pytest.mark.parametrize(
    ("build", "backend", "todo"),
    [
        ('requires = ["meson-python"]\nbuild-backend = "mesonpy"', "meson", ""),
        ('requires = ["scikit-build-core"]\nbuild-backend = "scikit_build_core.build"', "cmake", "[[externals]]"),
        ('requires = ["setuptools", "cmake"]', "cmake", "[[externals]]"),
        ('requires = ["setuptools"]\nbuild-backend = "own"\nbackend-path = ["."]', "pep517", "its backend is own"),
        ('requires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"', "pep517", ""),
    ],
)
def test_the_backend_is_found(world: World, build: str, backend: str, todo: str) -> None:
    for name in ("meson-python", "scikit-build-core", "cmake", "flit-core"):
        world.index.add(name, f"{name.replace('-', '_')}-1.0-py3-none-any.whl")
    world.sdist(**{"pyproject.toml": f"[build-system]\n{build}\n"}, info=INFO.replace("Requires-Dist", "X-Dist"))
    found = world.draft()
    assert found.backend == backend
    assert todo in " ".join(found.todo) if todo else not found.todo
    texts(found)


def test_an_old_setup_py_has_no_requirements_and_its_setup_requires_are_a_todo(world: World) -> None:
    world.sdist(**{"setup.py": "from setuptools import setup\nsetup(setup_requires=['numpy'])\n"})
    found = world.draft()
    assert found.requires == () and found.facts.backend == ""
    assert any("setup_requires" in sentence for sentence in found.todo)


def test_the_newest_is_taken_but_no_prerelease_and_nothing_withdrawn(world: World) -> None:
    world.sdist()
    world.sdist(version="2.0rc1")
    world.index.files["my-pkg"].append(IndexFile(file="my_pkg-1.9.tar.gz", sha256="b" * 64, yanked=True))
    assert world.draft().facts.version == "1.2"


def test_what_cannot_be_drafted_is_refused_with_the_reason(world: World) -> None:
    with pytest.raises(InputError, match="no index that pip uses here lists a project 'nothing'"):
        world.draft("nothing")
    world.sdist()
    with pytest.raises(InputError, match=r"has no my-pkg 9\.9") as missing:
        world.draft(version="9.9")
    assert "1.2" in missing.value.hint
    with pytest.raises(InputError, match="is no version"):
        world.draft(version="new")
    world.index.add("pure", "pure-1.0.tar.gz", "pure-1.0-py3-none-any.whl")
    with pytest.raises(InputError, match="is pure Python"):
        world.draft("pure")
    world.index.add("closed", "closed-1.0-cp311-cp311-manylinux_2_17_x86_64.whl")
    with pytest.raises(InputError, match="has no source archive"):
        world.draft("closed")
    world.sdist(
        "rusty",
        info=INFO.replace("My.Pkg", "rusty"),
        **{"pyproject.toml": '[build-system]\nrequires = ["maturin>=1"]\n'},
    )
    with pytest.raises(InputError, match="built by Rust"):
        world.draft("rusty")
    world.sdist("new-only", info=INFO.replace(">=3.9", ">=3.30").replace("My.Pkg", "new-only"))
    with pytest.raises(InputError, match="no target has a CPython"):
        world.draft("new-only")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"info": "nothing\n"}, "no PKG-INFO"),
        ({"pyproject.toml": "[build-system"}, "no valid TOML"),
        ({"pyproject.toml": '[build-system]\nrequires = ["??"]\n'}, "no requirement"),
    ],
)
def test_an_archive_that_lies_is_refused(world: World, files: dict[str, str], message: str) -> None:
    world.sdist(**files)
    with pytest.raises(InputError, match=message) as refused:
        world.draft()
    assert "my_pkg-1.2.tar.gz" in refused.value.where


def test_other_bytes_than_the_index_says_are_refused(world: World) -> None:
    world.sdist()
    (item,) = world.index.files["my-pkg"]
    world.index.files["my-pkg"] = [IndexFile(file=item.file, sha256="c" * 64)]
    with pytest.raises(FetchError, match="other bytes"):
        world.draft()


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def asking(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """The task asks the test's index."""

    class Asked:
        def __enter__(self) -> Index:
            return world.index

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("crosswheel.building.sources.package_index.PackageIndex", Asked)
    monkeypatch.setenv("CROSSWHEEL_STORE", str(tmp_path / "store"))
    return world


def test_the_draft_passes_check_and_is_never_written_over(
    asking: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    asking.sdist(**{"pyproject.toml": BUILD})
    folder = write_draft(Catalog(ROOT, own), "my-pkg", "my-pkg", None)
    assert folder == own / "recipes/my-pkg"
    assert sorted(path.name for path in folder.iterdir()) == ["1.2.toml", "check.py", "recipe.toml"]
    assert lint(Catalog(ROOT, own)) == []
    said = capsys.readouterr().out
    assert f"wrote {folder / 'recipe.toml'}" in said and "to do: it requires numpy>=1.20" in said
    with pytest.raises(InputError, match="there is a recipe 'my-pkg' already"):
        write_draft(Catalog(ROOT, own), "my-pkg", "my-pkg", None)
    with pytest.raises(InputError, match="there is a recipe 'wrapt' already"):
        write_draft(Catalog(ROOT, own), "wrapt", "my-pkg", None)
    with pytest.raises(InputError, match="another name of the recipe 'tensorflow'"):
        write_draft(Catalog(ROOT, own), "tf", "my-pkg", None)


@pytest.mark.parametrize("name", ["../evil", "Big", "a_b", "", "-x"])
def test_a_name_that_is_no_folder_of_recipes_is_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(InputError, match="no name of a recipe"):
        write_draft(catalog, name, "my-pkg", None)


def test_nothing_half_written_stays(asking: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    asking.sdist()

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drafting.Path, "write_text", full)
    with pytest.raises(MachineError, match="could not be written"):
        write_draft(Catalog(ROOT, own), "my-pkg", "my-pkg", None)
    assert [path.name for path in (own / "recipes").iterdir()] == []


# --- the check -------------------------------------------------------------------------------------------------------


def run_check(found: Draft, folder: Path) -> tuple[int, dict[str, int]]:
    script = folder / "check.py"
    script.write_text(check_text(found))
    result = folder / "result.json"
    done = subprocess.run([sys.executable, str(script), str(result), str(folder)], cwd=folder, check=False)
    return done.returncode, json.loads(result.read_text())


def test_the_check_imports_what_was_compiled_and_fails_where_nothing_was(world: World, tmp_path: Path) -> None:
    from dataclasses import replace

    world.sdist()
    found = world.draft()
    ast.parse(check_text(found))
    for modules, status, tests in ((("numpy",), 0, 10), (("json",), 1, 1), (("no_such_module",), 1, 1)):
        ended, told = run_check(replace(found, facts=replace(found.facts, modules=modules)), tmp_path)
        assert ended == status and told["tests"] >= tests, (modules, told)
        assert (told["failures"] > 0) == (status != 0)


# --- who made the archive may mean harm ------------------------------------------------------------------------------


@given(summary=st.text(max_size=60), backend=st.text(max_size=40))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_an_archive_says_stays_text(
    summary: str, backend: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = tmp_path_factory.mktemp("tree")
    info = f"Metadata-Version: 2.1\nName: pkg\nVersion: 1.0\nSummary: {summary}\n"
    (tree / "PKG-INFO").write_bytes(info.encode("utf-8", "surrogatepass"))
    told = json.dumps(backend).replace("\x7f", "\\u007f").encode("utf-8", "replace").decode()
    (tree / "pyproject.toml").write_text(f"[build-system]\nrequires = []\nbuild-backend = {told}\n", encoding="utf-8")
    try:
        facts = read_sdist(tree, "pkg-1.0.tar.gz")
    except InputError:
        return  # a summary with a line that ends the headers
    found = Draft(
        name="pkg",
        project="pkg",
        facts=facts,
        file="pkg-1.0.tar.gz",
        sha256="a" * 64,
        distribution="pkg",
        backend="pep517",
        python=">=3.9",
        requires=(),
        packages=(),
        todo=(f"its backend is {facts.backend}, which nobody has tried here",),
    )
    files = texts(found)
    for text in files.values():
        text.encode("utf-8")
    assert set(tomllib.loads(files["1.0.toml"])) == {"version", "backend", "python", "tests", "note", "source"}
    assert set(tomllib.loads(files["recipe.toml"])) <= {
        "name", "summary", "homepage", "distribution", "modules", "check"
    }  # fmt: skip
    ast.parse(files["check.py"])


@pytest.mark.parametrize(
    "line", ["Name: other\nVersion: 1.2", "Name: my-pkg\nVersion: 1.3", "Name: my-pkg\nVersion: ../../1.2"]
)
def test_an_archive_of_something_else_is_refused(world: World, line: str) -> None:
    world.sdist(info=f"Metadata-Version: 2.1\n{line}\n")
    with pytest.raises(InputError, match="is not of my-pkg"):
        world.draft()


def test_a_backend_cannot_write_keys_of_its_own(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    build = "[build-system]\nrequires = []\nbuild-backend = \"x\\nenv = { CC = 'evil' }\\u001b[2J\"\n"
    world.sdist(**{"pyproject.toml": build})
    found = world.draft()
    assert "env" not in tomllib.loads(texts(found)["1.2.toml"])
    drafting._tell(found, [])
    assert "\x1b" not in capsys.readouterr().out
