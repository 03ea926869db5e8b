"""What `patches check` and `patches refresh` do."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from crosswheel.building.job import Settings
from crosswheel.cli.settings import to_write
from crosswheel.errors import InputError
from crosswheel.planning.sources import fetch_step
from crosswheel.planning.steps import TreeStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.releases import Release
from crosswheel.spec.sources import Source

if TYPE_CHECKING:
    from crosswheel.building.sources.checking import PatchVerdict, TreeProvider
    from crosswheel.building.sources.upstream import Upstream
    from crosswheel.spec.checked import Checked


@dataclass(frozen=True)
class Given:
    """What `--source` gave: trees by the recipe's or an external's name, and upstream's own bytes by version."""

    trees: Mapping[str, Path] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def given_sources(source: Sequence[str]) -> Given:
    """Reads ``NAME=FOLDER`` and ``VERSION=PATH``. ``InputError`` for what is neither."""
    trees: dict[str, Path] = {}
    versions: dict[str, str] = {}
    for text in source:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError("this is neither NAME=FOLDER nor VERSION=PATH", where=f"--source {text}")
        if _is_version(name):
            versions[name] = path
        elif Path(path).is_dir():
            trees[name] = Path(path)
        else:
            raise InputError("this is not NAME=FOLDER with a folder that exists", where=f"--source {text}")
    return Given(trees, versions)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def check_patches(
    catalog: Catalog,
    settings: Settings,
    recipe: str | None,
    version: str | None,
    source: Sequence[str],
    record: bool = False,
) -> bool:
    """Says which patches apply to which releases; whether all that are due do.

    Trees come from the releases' sources, fetched into the store, or from ``source``: ``NAME=PATH`` of an unpacked
    tree, or ``VERSION=PATH`` of upstream's own bytes (see ``upstream.take``); with these, no other version is looked
    at, and the version need be no release of the recipe. ``record`` writes what was found to ``checked.toml``.
    """
    given = given_sources(source)
    if (given.versions or record) and not recipe:
        raise InputError("a version is one of a recipe's", hint="./x patches check RECIPE --source VERSION=PATH")
    if record and not given.versions:
        raise InputError("`--record` keeps what was tried on given bytes", hint="add --source VERSION=PATH")
    if recipe and given.versions:
        return _check_given(catalog, catalog.recipe(recipe).name, given, record)
    names = [catalog.recipe(recipe).name] if recipe else [n for n in catalog.recipe_names if catalog.series(n).patches]
    good = True
    for name in names:
        good = _check_recipe(catalog, settings, name, version, given.trees) and good
    return good


# --- on the releases' own sources ------------------------------------------------------------------------------------


def _check_recipe(
    catalog: Catalog, settings: Settings, name: str, version: str | None, given: Mapping[str, Path]
) -> bool:
    from crosswheel.building.sources.checking import check_series

    series = catalog.series(name)
    releases = {r.version: r for r in catalog.releases(name) if version in (None, r.version)}
    if not releases:
        raise InputError(f"{name} has no release {version}", where="--version")
    served = [v for v in releases if any(SpecifierSet(patch.versions).contains(v) for patch in series.patches)]

    def tree(wanted: str, external: str | None) -> Path:
        return given.get(external or name) or _fetched_tree(catalog, settings, releases[wanted], external)

    return _told(name, check_series(tree, series, catalog.layers.under("patches", name), served))


def _fetched_tree(catalog: Catalog, settings: Settings, release: Release, external: str | None) -> Path:
    """The unpatched tree of a release or of one of its externals, in the store."""
    from crosswheel.building.execute import execute
    from crosswheel.building.runners import runners
    from crosswheel.building.store import Store
    from crosswheel.cli.console import Screen

    source: Source | None = release.source
    if external is not None:
        source = next(item for item in release.externals if item.name == external)
    if source is None:
        raise InputError(f"{release.version} is kept beside its recipe, and has no patches")
    step = TreeStep(name=f"unpack {source.file}", inputs={"archive": fetch_step(source)})
    with Screen(quiet=True) as screen:
        result = execute(step, Store(settings.store), settings, runners(catalog, settings), screen)
    return result.artefacts[step.key].path


def _told(name: str, verdicts: Sequence[PatchVerdict]) -> bool:
    from crosswheel.cli.console import show_table

    rows = [(v.version, v.external or name, v.file, v.state) for v in verdicts]
    show_table(f"Patches of {name}", ("version", "tree", "patch", "verdict"), rows)
    for verdict in verdicts:
        if verdict.why:
            print(f"{verdict.file} on {verdict.version}:\n{verdict.why}\n")
    return all(verdict.state != "fails" for verdict in verdicts)


# --- on given bytes --------------------------------------------------------------------------------------------------


def _check_given(catalog: Catalog, name: str, given: Given, record: bool) -> bool:
    """The release's own tree alone: patches of externals need ``NAME=PATH`` or the release's sources."""
    from crosswheel.cli.console import show_table
    from crosswheel.spec.checked import write_checked

    results = [_check_version(catalog, name, version, path) for version, path in given.versions.items()]
    rows = [result.row() for result, _ in results]
    show_table(f"Patches of {name}, on given bytes", ("version", "bytes", "patches", "combinations", "verdict"), rows)
    failures = [verdict for _, found in results for verdict in found if verdict.state != "applies"]
    for verdict in failures:
        print(f"{verdict.file} on {verdict.version}: {verdict.state}\n{verdict.why}\n")
    passed = tuple(result.checked for result, _ in results if result.good)
    if record and passed:
        print(f"wrote {catalog.layers.shown(write_checked(to_write(catalog, 'patches', name), passed))}")
    return not failures


@dataclass(frozen=True)
class Result:
    """What came of a version on given bytes."""

    checked: Checked
    good: bool

    def row(self) -> tuple[str, ...]:
        """For the table."""
        of = self.checked
        verdict = "all apply" if self.good else "fails"
        return of.version, f"{of.kind} {of.id[:12]}", str(of.patches), str(of.combinations), verdict


def _check_version(catalog: Catalog, name: str, version: str, path: str) -> tuple[Result, list[PatchVerdict]]:
    from crosswheel.building.sources.checking import check_series, touched_by
    from crosswheel.building.sources.upstream import take
    from crosswheel.spec.checked import Checked, due, series_digest
    from crosswheel.spec.conditions import selections
    from crosswheel.spec.patches import Series

    series, folder = catalog.series(name), catalog.layers.under("patches", name)
    patches = due(series, version)
    if not patches:
        raise InputError(f"no patch of {name} serves {version}", where=f"--source {version}={path}")
    with tempfile.TemporaryDirectory(prefix="crosswheel-upstream-") as scratch:
        tree = Path(scratch)
        origin = take(path, touched_by(patches, folder), tree)
        _same_as_release(catalog, name, version, path, origin)
        found = check_series(_always(tree), Series(patches=tuple(patches)), folder, [version])
    checked = Checked(
        version=version,
        kind=origin.kind,
        id=origin.id,
        patches=len(patches),
        combinations=len(selections(patches)),
        series=series_digest(series, folder, version),
    )
    return Result(checked, all(verdict.state == "applies" for verdict in found)), found


def _always(tree: Path) -> TreeProvider:
    return lambda _version, _external: tree


def _same_as_release(catalog: Catalog, name: str, version: str, path: str, origin: Upstream) -> None:
    """``InputError`` for an archive that is not the one that the release names."""
    release = next((release for release in catalog.releases(name) if release.version == version), None)
    source = release.source if release else None
    if source and origin.kind == "archive" and origin.id != source.sha256:
        raise InputError(
            f"this archive is not that of {name} {version}",
            where=f"--source {version}={path}",
            why=f"its sha256 is {origin.id}, the release's {source.sha256}",
        )


# --- refresh ---------------------------------------------------------------------------------------------------------


def refresh_patch(catalog: Catalog, recipe: str, patch: str, pristine: Path, edited: Path) -> None:
    """Rewrites a patch of a series from two trees; its header, with the reason, stays."""
    from crosswheel.building.sources.patch import refresh

    name = catalog.recipe(recipe).name
    if patch not in {item.file for item in catalog.series(name).patches}:
        known = ", ".join(item.file for item in catalog.series(name).patches) or "no patch"
        raise InputError(f"the series of {name} has no patch {patch!r}", where="--patch", hint=f"it has {known}")
    for option, folder in (("--pristine", pristine), ("--edited", edited)):
        if not folder.is_dir():
            raise InputError("this folder does not exist", where=f"{option} {folder}")
    path = to_write(catalog, "patches", name, patch)
    text = refresh(catalog.layers.file("patches", name, patch), pristine, edited)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{patch}.", delete=False, encoding="utf-8") as out:
        out.write(text)
    Path(out.name).chmod(0o644)
    Path(out.name).replace(path)
    print(f"wrote {catalog.layers.shown(path)}")
