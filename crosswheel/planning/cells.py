"""The cells of a matrix: what each asks for, what it is resolved to, and how it is called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from crosswheel.errors import InputError
from crosswheel.planning.fitting import OWN_CUDA, Gpu, for_gpu, misfit, systems_for
from crosswheel.planning.plan import Plan
from crosswheel.planning.resolve import WHEEL, Refused, Request, Resolution, resolve
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.matrix import ALL, DEFAULT, NEWEST, Axes, Exclude
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import System


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One combination of an entry's values. ``version`` and ``python`` are exact or ``default``, a version may be
    ``newest``; ``entry`` is where it is written, such as ``axes`` or ``include.2``."""

    entry: str
    recipe: str
    target: str
    version: str
    python: str
    cpu: str
    features: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the matrix. ``resolution`` is None for a refused one, and ``why`` then has the reasons; ``version``,
    ``python`` and ``cpu`` are then None where nothing exact was asked for. ``features`` are those of the wheel, or of a
    refused cell those asked for. ``plan`` is there when it was planned."""

    id: str
    wish: Wish
    recipe: str
    version: str | None
    target: str
    cpu: str | None
    python: str | None
    features: tuple[str, ...]
    resolution: Resolution | None = None
    plan: Plan | None = None
    why: tuple[str, ...] = field(default=())

    @property
    def refused(self) -> bool:
        return self.resolution is None


def cell_id(recipe: str, version: str, target: str, python: str, more: tuple[str, ...] = ()) -> str:
    """The name of a cell: ``wrapt-1.16.0@rpi4+cp311``, and what is not the target's or the recipe's own after it:
    ``tensorflow-2.14.0@x86_64+cp311+x86-64-v3+no-xla``. Letters, digits and ``@+-._`` alone."""
    python = python if python == DEFAULT else f"cp{python.replace('.', '')}"
    return "+".join((f"{recipe}-{version}@{target}", python, *more))


def wishes(axes: Axes, entry: str, catalog: Catalog) -> Iterator[Wish]:
    """The combinations of an entry, in the order of its values. All names in it exist."""
    for asked, version in product(axes.recipe, axes.version):
        recipe = catalog.recipe(asked)
        versions = catalog.versions(recipe.name) if version == ALL else (version,)
        for exact, target, python in product(versions, axes.target, axes.python):
            systems = catalog.target(target).systems
            pythons = dict.fromkeys(system.python for system in systems) if python == ALL else (python,)
            for served, cpu, features in product(pythons, axes.cpu, axes.features):
                yield Wish(
                    entry=entry,
                    recipe=recipe.name,
                    target=target,
                    version=exact,
                    python=served,
                    cpu=cpu,
                    features=tuple(sorted(set(features))),
                )


def resolved(wish: Wish, catalog: Catalog) -> Cell:
    """The cell of a wish, with its resolution or the reasons why there is none."""
    try:
        found = _resolution(wish, catalog)
    except Refused as error:
        return _refused(wish, error.reasons)
    except InputError as error:
        return _refused(wish, (f"{error.what} ({error.why})" if error.why else error.what,))
    name, version = found.recipe.name, found.release.version
    cpu = (found.cpu.name,) if found.cpu.name != found.target.cpu else ()
    return Cell(
        id=cell_id(name, version, wish.target, found.python, (*cpu, *wish.features)),
        wish=wish,
        recipe=name,
        version=version,
        target=wish.target,
        cpu=found.cpu.name,
        python=found.python,
        features=tuple(sorted(found.features)),
        resolution=found,
    )


def _refused(wish: Wish, why: tuple[str, ...]) -> Cell:
    version, python, cpu = (
        None if value in (DEFAULT, NEWEST) else value for value in (wish.version, wish.python, wish.cpu)
    )
    more = (*([cpu] if cpu else []), *wish.features)
    return Cell(
        id=cell_id(wish.recipe, wish.version, wish.target, wish.python, more),
        wish=wish,
        recipe=wish.recipe,
        version=version,
        target=wish.target,
        cpu=cpu,
        python=python,
        features=wish.features,
        why=tuple(dict.fromkeys(why)),
    )


def with_reasons(cell: Cell, why: tuple[str, ...]) -> Cell:
    """The cell, refused."""
    return replace(cell, resolution=None, plan=None, why=why)


def _resolution(wish: Wish, catalog: Catalog) -> Resolution:
    """What a wish is resolved to. ``InputError`` where it cannot be, or can be planned and not built."""
    request = _request(wish)
    if wish.version == NEWEST:
        found = _newest(request, catalog)
    elif wish.version != DEFAULT and wish.version not in catalog.versions(wish.recipe):
        raise InputError(f"there is no release of {wish.recipe} {wish.version!r}")
    else:
        found = resolve(request, catalog, advise=False)
    if found.output != WHEEL:
        raise InputError(f"{wish.recipe} {found.release.version} is no wheel; it gives {found.output}")
    if not catalog.knows_externals(wish.recipe, found.release):
        what = f"{wish.recipe} {found.release.version} can be planned, but not built"
        raise InputError(f"{what}: what its own build files download is not known, and Bazel has no network")
    return found


def _request(wish: Wish) -> Request:
    return Request(
        recipe=wish.recipe,
        target=wish.target,
        version=None if wish.version in (DEFAULT, NEWEST) else wish.version,
        python=None if wish.python == DEFAULT else wish.python,
        cpu=None if wish.cpu == DEFAULT else wish.cpu,
        features={name.removeprefix("no-"): not name.startswith("no-") for name in wish.features},
    )


def _newest(request: Request, catalog: Catalog) -> Resolution:
    """The newest release that can be built, whatever the recipe's default is; the reasons where there is none."""
    recipe, target = catalog.recipe(request.recipe), catalog.target(request.target)
    gpu: Gpu | None = OWN_CUDA if request.features.get("cuda") else for_gpu(recipe, target)
    systems = [each for each in systems_for(target, gpu) if request.python in (None, each.python)]
    for release in catalog.releases(recipe.name):
        if not _serves_any(release, recipe, systems, catalog, gpu):
            continue
        try:
            return resolve(replace(request, version=release.version), catalog, advise=False)
        except Refused:
            continue
    return resolve(request, catalog, advise=False)


def _serves_any(release: Release, recipe: Recipe, systems: list[System], catalog: Catalog, gpu: Gpu | None) -> bool:
    fits = any(misfit(release, system, catalog, gpu) is None for system in systems)
    return fits and catalog.knows_externals(recipe.name, release)


def excludes(entry: Exclude, cell: Cell, catalog: Catalog) -> bool:
    """Whether an entry of ``[[exclude]]`` takes a cell out."""
    cpu = cell.cpu or catalog.target(cell.target).cpu
    return (
        (entry.recipe is None or cell.recipe in {catalog.recipe(name).name for name in entry.recipe})
        and (entry.target is None or cell.target in entry.target)
        and (entry.version is None or cell.version in entry.version)
        and (entry.python is None or cell.python in entry.python)
        and (entry.cpu is None or cpu in entry.cpu)
        and (entry.features is None or cell.wish.features in {tuple(sorted(set(one))) for one in entry.features})
    )
