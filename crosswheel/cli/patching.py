"""What `patches check` and `patches refresh` do."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from packaging.specifiers import SpecifierSet

from crosswheel.building.job import Settings
from crosswheel.errors import InputError
from crosswheel.planning.sources import fetch_step
from crosswheel.planning.steps import TreeStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.models import Release, Source


def check_patches(
    catalog: Catalog, settings: Settings, recipe: str | None, version: str | None, source: Sequence[str]
) -> bool:
    """Says which patches apply to which releases; whether all that are due do.

    Trees come from the releases' sources, fetched into the store, or from ``NAME=PATH`` of an unpacked tree.
    """
    names = [catalog.recipe(recipe).name] if recipe else [n for n in catalog.recipe_names if catalog.series(n).patches]
    given = dict(_named_tree(text) for text in source)
    good = True
    for name in names:
        good = _check_recipe(catalog, settings, name, version, given) and good
    return good


def _named_tree(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not Path(path).is_dir():
        raise InputError("this is not NAME=FOLDER with a folder that exists", where=f"--source {text}")
    return name, Path(path)


def _check_recipe(
    catalog: Catalog, settings: Settings, name: str, version: str | None, given: dict[str, Path]
) -> bool:
    from crosswheel.building.sources.patch import check_series
    from crosswheel.cli.console import show_table

    series = catalog.series(name)
    releases = {r.version: r for r in catalog.releases(name) if version in (None, r.version)}
    if not releases:
        raise InputError(f"{name} has no release {version}", where="--version")
    served = [v for v in releases if any(SpecifierSet(patch.versions).contains(v) for patch in series.patches)]

    def tree(wanted: str, external: str | None) -> Path:
        return given.get(external or name) or _fetched_tree(catalog, settings, releases[wanted], external)

    verdicts = check_series(tree, series, catalog.root / "patches" / name, served)
    rows = [(v.version, v.external or name, v.file, v.state) for v in verdicts]
    show_table(f"Patches of {name}", ("version", "tree", "patch", "verdict"), rows)
    for verdict in verdicts:
        if verdict.why:
            print(f"{verdict.file} on {verdict.version}:\n{verdict.why}\n")
    return all(verdict.state != "fails" for verdict in verdicts)


def _fetched_tree(catalog: Catalog, settings: Settings, release: Release, external: str | None) -> Path:
    """The unpatched tree of a release or of one of its externals, in the store."""
    from crosswheel.building.execute import execute
    from crosswheel.building.runners import runners
    from crosswheel.building.store import Store
    from crosswheel.cli.console import Screen

    source: Source = release.source
    if external is not None:
        source = next(item for item in release.externals if item.name == external)
    step = TreeStep(name=f"unpack {source.file}", inputs={"archive": fetch_step(source)})
    with Screen(quiet=True) as screen:
        result = execute(step, Store(settings.store), settings, runners(catalog, settings), screen)
    return result.artefacts[step.key].path


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
    path = catalog.root / "patches" / name / patch
    text = refresh(path, pristine, edited)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{patch}.", delete=False, encoding="utf-8") as out:
        out.write(text)
    Path(out.name).chmod(0o644)
    Path(out.name).replace(path)
    print(f"wrote {path.relative_to(catalog.root)}")
