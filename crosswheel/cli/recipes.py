"""The task `recipe`: writes what of a recipe is read from upstream's tree instead of typed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from invoke.context import Context

from crosswheel.building.sources.workspace import Workspace, read_workspace, version_of
from crosswheel.cli.arguments import task
from crosswheel.cli.settings import the_catalog, to_write
from crosswheel.errors import InputError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import External


@task(
    iterable=["with_"],
    help={
        "action": "`externals`: write recipes/RECIPE/externals/VERSION.toml from an upstream tree.",
        "recipe": "The recipe, such as tensorflow.",
        "version": "The release that the tree is.",
        "source": "The unpacked tree, as upstream has it.",
        "with_": "NAME=DIR: the unpacked source of an external whose functions the tree calls (repeatable).",
        "origin": "Where the tree is from, for the file's comment: a repository and commit, say.",
    },
)
def recipe(
    _context: Context,
    action: str,
    recipe: str,
    version: str,
    source: str,
    with_: Sequence[str] = (),
    origin: str = "",
) -> None:
    """Write what a release downloads, as its upstream tree says: `./x recipe externals tensorflow …`."""
    if action != "externals":
        raise InputError(
            f"`recipe` has no action {action!r}",
            hint="./x recipe externals tensorflow --version 1.5.0 --source DIR",
        )
    write_externals(the_catalog(), recipe, version, Path(source), origin, further_trees(with_))


def further_trees(words: Sequence[str]) -> dict[str, Path]:
    """The trees of other repositories that were given, by name. ``InputError`` for one that is none."""
    trees = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise InputError("this is not NAME=DIR", where=f"--with {word}", hint="--with io_bazel_rules_closure=DIR")
        if not Path(folder).is_dir():
            raise InputError("this folder does not exist", where=f"--with {word}")
        trees[name.lstrip("@")] = Path(folder)
    return trees


def write_externals(
    catalog: Catalog,
    recipe: str,
    version: str,
    tree: Path,
    origin: str = "",
    further: Mapping[str, Path] | None = None,
) -> None:
    """Writes the file and says what of the tree's repositories is not in it. ``InputError`` if the tree is not of the
    release, or one of the ``further`` ones is loaded from nowhere."""
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
    found = read_workspace(tree, further)
    for unused in sorted(set(further or {}) - set(_loaded(found))):
        raise InputError(
            f"nothing of this tree loads a file of @{unused}",
            where=f"--with {unused}=…",
            hint=f"it calls functions of: {', '.join(sorted({*found.unread, *_loaded(found)})) or 'none'}",
        )
    if not found.externals:
        raise InputError("the build files of this tree pin nothing that is downloaded", where=f"--source {tree}")
    path = to_write(catalog, "recipes", name, "externals", f"{version}.toml")
    text = externals_text(name, version, found, origin)
    old = path.read_text(encoding="utf-8") if path.is_file() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    if text != old:
        partial = path.with_name(f".{path.name}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    _tell(found, catalog.layers.shown(path), said, changed=text != old)


def _loaded(found: Workspace) -> list[str]:
    """The repositories besides the tree's own of which files were read."""
    return sorted({path.removeprefix("@").partition("//")[0] for path in found.read if path.startswith("@")})


def _tell(found: Workspace, path: str, version: str | None, *, changed: bool) -> None:
    if version is None:
        print("the tree does not say which version it is; that is not checked")
    for item in found.left:
        print(f"not written: {item.name} ({item.where}): {item.why}")
    print(f"{'wrote' if changed else 'unchanged:'} {path}: {len(found.externals)} externals")


def externals_text(recipe: str, version: str, found: Workspace, origin: str) -> str:
    """The file's text: the same for the same tree."""
    given = "".join(f" --with {name}=DIR" for name in _loaded(found))
    unread = ["# Functions of other repositories, of which it is not read what they declare (--with NAME=DIR):"]
    unread += [f"#   @{origin}: {', '.join(names)}" for origin, names in sorted(found.unread.items())]
    wanting = ["# The build files load from these, too, which have to be given as folders:"]
    wanting += [f"#   @{name}: {why}" for name, why in found.wanting.items()]
    lines = [
        f"# What {recipe} {version} downloads, as its build files say. Not written by hand, but by",
        f"#   ./x recipe externals {recipe} --version {version} --source TREE{given}",
        *([f"# The tree: {origin}."] if origin else []),
        *(unread if found.unread else []),
        *(wanting if found.wanting else []),
        "# Read from:",
        *(f"#   {path} (sha256 {sha256})" for path, sha256 in sorted(found.read.items())),
    ]
    if found.loaded:
        lines += ["", "# The build files load from these, so that every build gets them:"]
        lines += ["loaded = [", *(f"    {json.dumps(name)}," for name in found.loaded), "]"]
    for external in found.externals:
        lines += ["", *_table(external)]
    return "\n".join(lines) + "\n"


def _table(external: External) -> list[str]:
    fields = [f"{key} = {json.dumps(value)}" for key, value in (
        ("name", external.name), ("file", external.file), ("sha256", external.sha256)
    )]  # fmt: skip
    places = [f"    {json.dumps(place.uri)}," for place in external.places]
    return ["[[externals]]", *fields, "places = [", *places, "]"]
