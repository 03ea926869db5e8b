"""Which releases go with which systems of a target: by their Python, and by the NumPy that there is for it."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.specifiers import SpecifierSet

from crosswheel.errors import InputError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import System, Target

NUMPY = "numpy"
"""The recipe of a NumPy of our own, for a Python whose distribution has none that a release takes."""

Fit = tuple[Release, System]


def serves(release: Release, python: str) -> bool:
    """Whether a release is for a CPython such as ``3.11``."""
    return SpecifierSet(release.python).contains(f"{python}.0")


def distribution_numpy(release: Release, system: System, catalog: Catalog) -> bool:
    """Whether the distribution has a NumPy for the system's Python, of a version that the release takes."""
    packages = catalog.sysroot(system.sysroot).pythons[system.python]
    if not packages.numpy or not release.needs.numpy:
        return False
    return packages.numpy_version is None or SpecifierSet(release.needs.numpy).contains(packages.numpy_version)


def own_numpys(release: Release, system: System, catalog: Catalog) -> list[Release]:
    """The releases of the recipe of NumPy that a release takes and that serve the system's Python, newest first."""
    if not release.needs.numpy or NUMPY not in catalog.recipe_names:
        return []
    taken = SpecifierSet(release.needs.numpy)
    return [own for own in catalog.releases(NUMPY) if taken.contains(own.version) and serves(own, system.python)]


def misfit(release: Release, system: System, catalog: Catalog) -> str | None:
    """Why a release does not go with a system, as a sentence; None where it does."""
    if not serves(release, system.python):
        return f"{release.version} serves CPython {release.python}, and {system.sysroot} has {system.python} there"
    if not release.needs.numpy or distribution_numpy(release, system, catalog) or own_numpys(release, system, catalog):
        return None
    packages = catalog.sysroot(system.sysroot).pythons[system.python]
    has = f"NumPy {packages.numpy_version}" if packages.numpy else "no NumPy"
    return (
        f"{release.version} takes NumPy {release.needs.numpy}{_source(release)}; for CPython {system.python}, "
        f"{system.sysroot} has {has}, and no release of the recipe {NUMPY} is one"
    )


def _source(release: Release) -> str:
    fact = release.facts.get("numpy") or release.facts.get("needs")
    return f" ({fact.source})" if fact else ""


def fitting(releases: Iterable[Release], systems: Iterable[System], catalog: Catalog) -> Fit | None:
    """The first release, and for it the first system, that go together."""
    asked = tuple(systems)
    for release in releases:
        for system in asked:
            if misfit(release, system, catalog) is None:
                return release, system
    return None


def nearest(recipe: str, target: Target, version: str | None, catalog: Catalog, *, gpu: bool = False) -> list[str]:
    """What could be built instead, as sentences: the release nearest to ``version`` that fits the target (without a
    version, the newest), and the targets that ``version`` itself fits. For a ``gpu``, only systems with CUDA count."""
    systems = _systems(target, gpu=gpu)
    if not systems:
        return []
    releases = catalog.releases(recipe)
    told: list[str] = []
    ordered = releases
    place = next((at for at, release in enumerate(releases) if release.version == version), None)
    if place is not None:
        ordered = tuple(sorted(releases, key=lambda release: abs(releases.index(release) - place)))
    found = fitting(ordered, systems, catalog)
    if found:
        told.append(f"nearest that fits {target.name}: version {found[0].version} with CPython {found[1].python}")
        newest = fitting(releases, systems, catalog)
        if newest and newest[0] is not found[0]:
            told.append(f"newest that fits {target.name}: version {newest[0].version} with CPython {newest[1].python}")
    else:
        told.append(f"no release of it fits a CPython that {target.name} has")
    if place is not None:
        told.extend(_elsewhere(releases[place], target, catalog, gpu=gpu))
    return told


def _systems(target: Target, *, gpu: bool) -> list[System]:
    return [system for system in target.systems if system.cuda or not gpu]


def _elsewhere(release: Release, target: Target, catalog: Catalog, *, gpu: bool) -> list[str]:
    fits = []
    for name in catalog.target_names:
        found = None if name == target.name else fitting([release], _systems(catalog.target(name), gpu=gpu), catalog)
        if found:
            fits.append(f"{name} with CPython {found[1].python}")
    return [f"targets that {release.version} fits: {', '.join(fits)}"] if fits else []


def unknown_externals(recipe: str, release: Release, target: Target, catalog: Catalog) -> InputError | None:
    """The error for a release that can be planned and not built: Bazel has no network, and what the release's own build
    files download is not known. None where it is."""
    if catalog.knows_externals(recipe, release):
        return None
    known = [other for other in catalog.releases(recipe) if catalog.knows_externals(recipe, other)]
    found = fitting(known, target.systems, catalog)
    instead = f"; {found[0].version} with CPython {found[1].python} is the newest for {target.name}" if found else ""
    return InputError(
        f"{recipe} {release.version} can be planned, but not built",
        why=f"what its own build files download is not known, and Bazel has no network{instead}",
        hint=f"`./x recipe externals {recipe} --version {release.version} --source TREE` reads it from upstream's tree",
    )
