"""The task `new recipe`: drafts a recipe from a source archive of the package index."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.command import as_typed
from crosswheel.cli.lines import plain
from crosswheel.cli.settings import read_settings, the_catalog, to_write
from crosswheel.errors import InputError, MachineError
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.toml import validate

if TYPE_CHECKING:
    from crosswheel.building.drafting import Draft
    from crosswheel.spec.catalog import Catalog

_NAME = re.compile(r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
_FROM = re.compile(r"^pypi(?::(?P<project>[A-Za-z0-9][A-Za-z0-9._-]*))?(?:==(?P<version>\S+))?$")


@task(
    help={
        "name": "The recipe's name, such as markupsafe: the folder's name, and the project's on the index.",
        "from_": "pypi, pypi==2.1.5, or pypi:PROJECT==2.1.5 where the project has another name.",
    }
)
def recipe(_context: Context, name: str, from_: str = "pypi") -> None:
    """Draft a recipe from a source archive on the package index: `./x new recipe markupsafe --from pypi`."""
    asked = _FROM.match(from_)
    if asked is None:
        raise InputError(
            f"{from_!r} is no place that a recipe can be drafted from",
            where="--from",
            hint="--from pypi, --from pypi==2.1.5, or --from pypi:PROJECT==2.1.5",
        )
    write_draft(the_catalog(), name, asked["project"] or name, asked["version"])


new = Collection("new", recipe)


def write_draft(catalog: Catalog, name: str, project: str, version: str | None) -> Path:
    """Writes the recipe's folder, whole or not at all, and tells what is left to do. ``InputError`` for a recipe that
    is there already."""
    from crosswheel.building.drafting import draft
    from crosswheel.building.sources.package_index import PackageIndex

    if not _NAME.match(name):
        raise InputError(f"{name!r} is no name of a recipe", hint="small letters, digits and -, such as dm-tree")
    folder = to_write(catalog, "recipes", name)
    there = catalog.layers.file("recipes", name)
    if there.exists():
        raise InputError(
            f"there is a recipe {name!r} already",
            where=catalog.layers.shown(there),
            hint="docs/add-a-version.md tells how a version is added; a draft overwrites nothing",
        )
    for other in catalog.recipe_names:
        if name in catalog.recipe(other).aliases:
            raise InputError(f"{name!r} is another name of the recipe {other!r}", hint="`./x list` shows them all")
    with PackageIndex() as index:
        found = draft(name, project, version, catalog, read_settings(), index)
    files = texts(found)
    _place(files, folder)
    _tell(found, [catalog.layers.shown(folder / file) for file in files])
    return folder


def texts(found: Draft) -> dict[str, str]:
    """The files of the recipe, as the models of the written data take them."""
    files = {
        "recipe.toml": recipe_text(found),
        f"{found.facts.version}.toml": release_text(found),
        "check.py": check_text(found),
    }
    first, second, _ = files
    validate(Recipe, tomllib.loads(files[first]), files[first], Path(first))
    validate(Release, tomllib.loads(files[second]), files[second], Path(second))
    return files


def _place(files: dict[str, str], folder: Path) -> None:
    partial = folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        for file, text in files.items():
            (partial / file).write_text(text, encoding="utf-8")
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError as error:
        why = error.strerror or str(error)
        raise MachineError("the recipe could not be written", where=str(folder), why=why) from error
    finally:
        if partial != folder:
            shutil.rmtree(partial, ignore_errors=True)


def _tell(found: Draft, files: list[str]) -> None:
    print(
        f"{found.project} {found.facts.version}: built by {_one_line(found.facts.backend) or 'setup.py'}, "
        f"CPython {found.python}"
    )
    for file in files:
        print(f"wrote {file}")
    for sentence in [
        *found.todo,
        "check.py imports what was compiled, and no more: let it run the package's own tests",
    ]:
        print(f"to do: {_one_line(sentence)}")
    print(as_typed(f"→ ./x check, then ./x build {found.name} --target rpi4"))


# --- the files -------------------------------------------------------------------------------------------------------


def recipe_text(found: Draft) -> str:
    """``recipe.toml``."""
    facts = found.facts
    alias = canonical(found.project)
    lines = [
        f"# Drafted from {found.file} by `./x new recipe`.",
        f"name = {_quoted(found.name)}",
        f"summary = {_quoted(facts.summary or f'{found.project}, which says nothing of itself')}",
        f"homepage = {_quoted(facts.homepage)}",
        *([f"aliases = {_quoted([alias])}"] if alias != found.name else []),
        f"distribution = {_quoted(found.distribution)}",
        f"modules = {_quoted(list(facts.modules))}",
        "",
        "# TODO: an import alone is no check; docs/add-a-package.md shows one that runs the package's own tests.",
        "[check]",
        'script = "check.py"',
        *([f"packages = {_quoted(list(found.packages))}"] if found.packages else []),
    ]
    return "\n".join(lines) + "\n"


def canonical(project: str) -> str:
    """A project's name as recipes have it."""
    return re.sub(r"[-_.]+", "-", project).lower()


def release_text(found: Draft) -> str:
    """``<version>.toml``."""
    facts = found.facts
    lines = [
        *(f"# TODO: {_one_line(sentence)}." for sentence in found.todo),
        f"version = {_quoted(facts.version)}",
        f"backend = {_quoted(found.backend)}",
        f"python = {_quoted(found.python)}",
        "# TODO: the number of tests that the first proof tells.",
        "tests = 1",
        'note = "drafted; nobody has looked at it yet"',
        "",
        "[source]",
        f"file = {_quoted(found.file)}",
        f"sha256 = {_quoted(found.sha256)}",
        f"places = {_quoted([f'pypi:{found.project}=={facts.version}'])}",
    ]
    for wheel in found.requires:
        lines += ["", "[[requires]]", *([f"python = {_quoted(wheel.python)}"] if wheel.python else [])]
        lines += [
            f"file = {_quoted(wheel.file)}",
            f"sha256 = {_quoted(wheel.sha256)}",
            f"places = {_quoted([wheel.place])}",
        ]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """What an archive says, as a comment and a terminal may have it: whoever made it may have wanted more."""
    return plain(" ".join(text.split()))


def _quoted(value: str | list[str]) -> str:
    """As TOML writes it. JSON's escapes are TOML's, but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


_CHECK = '''"""The import of {name} on the target, with every module that was compiled: check.py RESULT SOURCE.

TODO: run the package's own tests from SOURCE{tests}; docs/add-a-package.md shows how.
"""

import importlib
import json
import os
import sys
import traceback
from importlib.machinery import EXTENSION_SUFFIXES

MODULES = {modules}


def compiled(package):
    """The names of the modules below an imported package that are machine code."""
    for place in getattr(package, "__path__", []):
        for folder, _, files in os.walk(place):
            inside = os.path.relpath(folder, place)
            parts = [package.__name__] + ([] if inside == "." else inside.split(os.sep))
            for file in sorted(files):
                ending = next((end for end in EXTENSION_SUFFIXES if file.endswith(end)), None)
                if ending:
                    yield ".".join(parts + [file[: -len(ending)]])


passed = failures = machine_code = 0
for name in MODULES:
    try:
        module = importlib.import_module(name)
        passed += 1
    except Exception:
        traceback.print_exc()
        failures += 1
        continue
    machine_code += str(getattr(module, "__file__", "")).endswith(tuple(EXTENSION_SUFFIXES))
    for inner in compiled(module):
        try:
            importlib.import_module(inner)
            passed += 1
            machine_code += 1
        except Exception:
            traceback.print_exc()
            failures += 1
# Many packages fall back to Python where their extension is missing, and that would prove nothing.
if not machine_code:
    print("no module of", ", ".join(MODULES), "is machine code")
    failures += 1
with open(sys.argv[1], "w") as out:
    json.dump({{"tests": passed + failures, "failures": failures, "skipped": 0}}, out)
sys.exit(1 if failures else 0)
'''


def check_text(found: Draft) -> str:
    """``check.py``: it really imports the package, on the emulated target."""
    tests = f"/{found.facts.tests}" if found.facts.tests else ", if they are in it"
    return _CHECK.format(name=found.name, tests=tests, modules=json.dumps(list(found.facts.modules)))
