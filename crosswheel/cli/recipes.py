"""The task `recipe`: writes what of a recipe is read from upstream's tree instead of typed."""

from __future__ import annotations

import json
from pathlib import Path

from invoke.context import Context

from crosswheel.building.sources.workspace import Workspace, read_workspace, version_of
from crosswheel.cli.arguments import task
from crosswheel.cli.settings import DATA
from crosswheel.errors import InputError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import External


@task(
    help={
        "action": "`externals`: write recipes/RECIPE/externals/VERSION.toml from an upstream tree.",
        "recipe": "The recipe, such as tensorflow.",
        "version": "The release that the tree is.",
        "source": "The unpacked tree, as upstream has it.",
        "origin": "Where the tree is from, for the file's comment: a repository and commit, say.",
    }
)
def recipe(_context: Context, action: str, recipe: str, version: str, source: str, origin: str = "") -> None:
    """Write what a release downloads, as its upstream tree says: `./x recipe externals tensorflow …`."""
    if action != "externals":
        raise InputError(
            f"`recipe` has no action {action!r}",
            hint="./x recipe externals tensorflow --version 1.5.0 --source DIR",
        )
    write_externals(Catalog(DATA), recipe, version, Path(source), origin)


def write_externals(catalog: Catalog, recipe: str, version: str, tree: Path, origin: str = "") -> None:
    """Writes the file and says what of the tree's repositories is not in it. ``InputError`` if the tree is not of the
    release."""
    name = catalog.recipe(recipe).name
    if not tree.is_dir():
        raise InputError("this folder does not exist", where=f"--source {tree}")
    said = version_of(tree)
    if said is not None and said != version:
        raise InputError(
            f"this is the tree of {name} {said}, not of {version}",
            where=f"--source {tree}",
            hint=f"give the tree of {version}, or --version {said}",
        )
    found = read_workspace(tree)
    if not found.externals:
        raise InputError("the build files of this tree pin nothing that is downloaded", where=f"--source {tree}")
    path = catalog.root / "recipes" / name / "externals" / f"{version}.toml"
    text = externals_text(name, version, found, origin)
    old = path.read_text(encoding="utf-8") if path.is_file() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    if text != old:
        partial = path.with_name(f".{path.name}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    _tell(found, path.relative_to(catalog.root).as_posix(), said, changed=text != old)


def _tell(found: Workspace, path: str, version: str | None, *, changed: bool) -> None:
    if version is None:
        print("the tree does not say which version it is; that is not checked")
    for item in found.left:
        print(f"not written: {item.name} ({item.where}): {item.why}")
    print(f"{'wrote' if changed else 'unchanged:'} {path}: {len(found.externals)} externals")


def externals_text(recipe: str, version: str, found: Workspace, origin: str) -> str:
    """The file's text: the same for the same tree."""
    lines = [
        f"# What {recipe} {version} downloads, as its build files say. Not written by hand, but by",
        f"#   ./x recipe externals {recipe} --version {version} --source TREE",
        *([f"# The tree: {origin}."] if origin else []),
        "# Read from:",
        *(f"#   {path} (sha256 {sha256})" for path, sha256 in sorted(found.read.items())),
    ]
    for external in found.externals:
        lines += ["", *_table(external)]
    return "\n".join(lines) + "\n"


def _table(external: External) -> list[str]:
    fields = [f"{key} = {json.dumps(value)}" for key, value in (
        ("name", external.name), ("file", external.file), ("sha256", external.sha256)
    )]  # fmt: skip
    places = [f"    {json.dumps(place.uri)}," for place in external.places]
    return ["[[externals]]", *fields, "places = [", *places, "]"]
