"""Which releases go with which systems of a target: by their Python, the NumPy that there is for it, and for a GPU the
CUDA and cuDNN."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from packaging.specifiers import SpecifierSet

from crosswheel.errors import InputError
from crosswheel.planning.cuda import CUDA, CUDNN, choose
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import System, Target

NUMPY = "numpy"
"""The recipe of a NumPy of our own, for a Python whose distribution has none that a release takes."""

Fit = tuple[Release, System]

Gpu = Mapping[str, str]
"""A build for a GPU: the versions of CUDA and cuDNN that ``--tool`` chooses instead of a system's own."""

OWN_CUDA: Gpu = MappingProxyType({})
"""A build for a GPU, by what each system has itself."""


def serves(release: Release, python: str) -> bool:
    """Whether a release is for a CPython such as ``3.11``."""
    return in_range(release.python, f"{python}.0")


@cache
def in_range(range_: str, version: str, *, prereleases: bool | None = None) -> bool:
    """Whether a version is in a range, such as ``>=3.8,<3.12``; an empty one has all. Kept, because a matrix asks the
    same few questions again and again."""
    return SpecifierSet(range_).contains(version, prereleases=prereleases)


def distribution_numpy(release: Release, system: System, catalog: Catalog) -> bool:
    """Whether the distribution has a NumPy for the system's Python, of a version that the release takes."""
    packages = catalog.sysroot(system.sysroot).pythons[system.python]
    if not packages.numpy or not release.needs.numpy:
        return False
    return packages.numpy_version is None or in_range(release.needs.numpy, packages.numpy_version)


def own_numpys(release: Release, system: System, catalog: Catalog) -> list[Release]:
    """The releases of the recipe of NumPy that a release takes and that serve the system's Python, newest first."""
    if not release.needs.numpy or NUMPY not in catalog.recipe_names:
        return []
    taken = release.needs.numpy
    return [own for own in catalog.releases(NUMPY) if in_range(taken, own.version) and serves(own, system.python)]


def for_gpu(recipe: Recipe, target: Target) -> Gpu | None:
    """What a recipe is built for where nobody says: a GPU, if CUDA is on by itself, or anything."""
    feature = recipe.features.get(CUDA)
    return OWN_CUDA if feature and feature.default and target.arch in feature.arches else None


def systems_for(target: Target, gpu: Gpu | None) -> list[System]:
    """The systems of a target that a build can be for: for a GPU, those with CUDA."""
    return [system for system in target.systems if system.cuda or gpu is None]


def misfit(release: Release, system: System, catalog: Catalog, gpu: Gpu | None = None) -> str | None:
    """Why a release does not go with a system, for a ``gpu`` or not, as a sentence; None where it does."""
    if not serves(release, system.python):
        return f"{release.version} serves CPython {release.python}, and {system.sysroot} has {system.python} there"
    if gpu is not None and (refused := _refused_cuda(release, system, catalog, gpu)):
        return refused
    if not release.needs.numpy or distribution_numpy(release, system, catalog) or own_numpys(release, system, catalog):
        return None
    packages = catalog.sysroot(system.sysroot).pythons[system.python]
    has = f"NumPy {packages.numpy_version}" if packages.numpy else "no NumPy"
    return (
        f"{release.version} takes NumPy {release.needs.numpy}{_source(release)}; for CPython {system.python}, "
        f"{system.sysroot} has {has}, and no release of the recipe {NUMPY} is one"
    )


def _refused_cuda(release: Release, system: System, catalog: Catalog, gpu: Gpu) -> str | None:
    """Which of CUDA and cuDNN the release's own code does not take. A version that is not known here is refused
    elsewhere."""
    if system.cuda is None:
        return None
    takes: list[str] = []
    has: dict[str, list[str]] = {}
    sources: list[str] = []
    for name, word, range_, own, known in (
        (CUDA, "CUDA", release.accepts.cuda, system.cuda.toolkit, catalog.cuda_versions),
        (CUDNN, "cuDNN", release.accepts.cudnn, system.cuda.cudnn, catalog.cudnn_versions),
    ):
        version = gpu.get(name, own)
        if range_ is None or (version is not None and (version not in known or in_range(range_, version))):
            continue
        where = "asked for is" if name in gpu else f"{system.name or system.sysroot} has"
        takes.append(f"{word} {range_}")
        has.setdefault(where, []).append(f"{word} {version}" if version else f"no {word}")
        sources.append(f"{word}, grade {release.facts[name].grade}: {release.facts[name].source}")
    if not takes:
        return None
    there = ", ".join(f"{where} {' and '.join(versions)}" for where, versions in has.items())
    return f"{release.version} takes {' and '.join(takes)}, and {there} ({'; '.join(sources)})"


def _source(release: Release) -> str:
    fact = release.facts.get("numpy") or release.facts.get("needs")
    return f" ({fact.source})" if fact else ""


def fitting(
    releases: Iterable[Release], systems: Iterable[System], catalog: Catalog, gpu: Gpu | None = None
) -> Fit | None:
    """The first release, and for it the first system, that go together."""
    asked = tuple(systems)
    for release in releases:
        for system in asked:
            if misfit(release, system, catalog, gpu) is None:
                return release, system
    return None


def nearest(recipe: str, target: Target, version: str | None, catalog: Catalog, gpu: Gpu | None = None) -> list[str]:
    """What could be built instead, as sentences: the release nearest to ``version`` that fits the target (without a
    version, the newest), and the targets that ``version`` itself fits. For a ``gpu``, only systems with CUDA count."""
    systems = [system for system in systems_for(target, gpu) if _consistent(target, system, catalog, gpu)]
    if not systems:
        return []
    releases = catalog.releases(recipe)
    told: list[str] = []
    ordered = releases
    place = next((at for at, release in enumerate(releases) if release.version == version), None)
    if place is not None:
        ordered = tuple(sorted(releases, key=lambda release: abs(releases.index(release) - place)))
    found = fitting(ordered, systems, catalog, gpu)
    if found:
        told.append(f"nearest that fits {target.name}: version {found[0].version} {_of(found[1], gpu)}")
        newest = fitting(releases, systems, catalog, gpu)
        if newest and newest[0] is not found[0]:
            told.append(f"newest that fits {target.name}: version {newest[0].version} {_of(newest[1], gpu)}")
    else:
        what = "a CPython" if gpu is None else "a CPython and a CUDA"
        told.append(f"no release of it fits {what} that {target.name} has")
    if place is not None:
        told.extend(_elsewhere(releases[place], target, catalog, gpu))
    return told


def _consistent(target: Target, system: System, catalog: Catalog, gpu: Gpu | None) -> bool:
    """Whether the versions that a build for a GPU chooses go together on a system, whatever the release."""
    return gpu is None or choose(gpu, (), target, system, catalog.toolchain(system.toolchain), catalog, []) is not None


def _of(system: System, gpu: Gpu | None) -> str:
    """A system that fits, as words: ``with CPython 3.6 (jetpack-4.6)`` in a build for a GPU."""
    name = f" ({system.name})" if gpu is not None and system.name else ""
    return f"with CPython {system.python}{name}"


def _elsewhere(release: Release, target: Target, catalog: Catalog, gpu: Gpu | None) -> list[str]:
    """The other targets that a release fits as they are: with the CUDA that they have themselves."""
    gpu = None if gpu is None else OWN_CUDA
    fits = []
    for name in catalog.target_names:
        systems = [] if name == target.name else systems_for(catalog.target(name), gpu)
        found = fitting([release], systems, catalog, gpu)
        if found:
            fits.append(f"{name} {_of(found[1], gpu)}")
    return [f"targets that {release.version} fits: {', '.join(fits)}"] if fits else []


def unknown_externals(
    recipe: str, release: Release, target: Target, catalog: Catalog, gpu: Gpu | None = None
) -> InputError | None:
    """The error for a release that can be planned and not built: Bazel has no network, and what the release's own build
    files download is not known. None where it is."""
    if catalog.knows_externals(recipe, release):
        return None
    known = [other for other in catalog.releases(recipe) if catalog.knows_externals(recipe, other)]
    found = fitting(known, systems_for(target, gpu), catalog, gpu)
    instead = f"; {found[0].version} {_of(found[1], gpu)} is the newest for {target.name}" if found else ""
    return InputError(
        f"{recipe} {release.version} can be planned, but not built",
        why=f"what its own build files download is not known, and Bazel has no network{instead}",
        hint=f"`./x recipe externals {recipe} --version {release.version} --source TREE` reads it from upstream's tree",
    )
