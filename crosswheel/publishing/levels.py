"""Which wheels are in which of the indexes of a folder, so that pip never prefers one that dies on the processor.

pip knows a processor's architecture and nothing else of it. So each target has an index of its own, and so has each
other cpu that wheels of it were built for; ``simple/`` has the wheels of all targets for their own cpus.

In the index of a cpu stand, side by side, the wheels of every cpu whose features it has. They are told apart by their
build tags, of which pip takes the highest (and none is less than any): :class:`crosswheel.spec.targets.Cpu` has the
number, which rises with the features. Those that have less than the target's own cpu are left out where it fits,
because its wheels have no build tag and would lose against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crosswheel.errors import InputError
from crosswheel.publishing.ledger import Ledger, Listed
from crosswheel.spec.catalog import Catalog

ALL = ""
"""The index of all targets."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One index: its ``folder`` from that of all (``""``, ``rpi4``, ``x86_64/x86-64-v3``), and its wheels.

    ``apart`` are file names that several targets give to different wheels, which are therefore not in it."""

    folder: str
    wheels: tuple[Listed, ...]
    apart: Mapping[str, tuple[str, ...]]

    @property
    def projects(self) -> Mapping[str, tuple[Listed, ...]]:
        """The wheels of each package, by its normalised name."""
        found: dict[str, list[Listed]] = {}
        for wheel in self.wheels:
            found.setdefault(wheel.project, []).append(wheel)
        for file in self.apart:
            found.setdefault(file_project(file), [])
        return {name: tuple(found[name]) for name in sorted(found)}


def file_project(file: str) -> str:
    """The normalised name of a wheel's package."""
    from packaging.utils import canonicalize_name

    return canonicalize_name(file.partition("-")[0])


def listings(ledger: Ledger, catalog: Catalog) -> tuple[Listing, ...]:
    """Every index of a folder, that of all targets first."""
    found = [_of_all(ledger.wheels)]
    for target in sorted({wheel.target for wheel in ledger.wheels}):
        wheels = [wheel for wheel in ledger.wheels if wheel.target == target]
        own = tuple(wheel for wheel in wheels if wheel.own)
        found.append(Listing(folder=target, wheels=own, apart={}))
        for cpu in sorted({wheel.cpu for wheel in wheels if not wheel.own}):
            fit = [wheel for wheel in wheels if wheel.cpu in _fitting(target, cpu, wheels, catalog)]
            found.append(Listing(folder=f"{target}/{cpu}", wheels=tuple(fit), apart={}))
    return tuple(found)


def _of_all(wheels: Iterable[Listed]) -> Listing:
    names: dict[str, list[Listed]] = {}
    for wheel in wheels:
        if wheel.own:
            names.setdefault(wheel.file, []).append(wheel)
    one = [same[0] for same in names.values() if len({wheel.sha256 for wheel in same}) == 1]
    apart = {
        file: tuple(wheel.folder for wheel in same)
        for file, same in sorted(names.items())
        if len({wheel.sha256 for wheel in same}) > 1
    }
    return Listing(folder=ALL, wheels=tuple(one), apart=apart)


def _fitting(target: str, cpu: str, wheels: Iterable[Listed], catalog: Catalog) -> frozenset[str]:
    """The cpus whose wheels stand in the index of ``cpu``."""
    present = {wheel.cpu: wheel.own for wheel in wheels}
    features = {name: _features(target, name, catalog) for name in present}
    has = features[cpu]
    fit = {name for name, each in features.items() if name == cpu or (each and has and each <= has)}
    own = next((name for name in sorted(fit) if present[name]), None)
    if own is not None:
        base = features[own] or frozenset()
        fit = {name for name in fit if base <= (features[name] or frozenset())}
    return frozenset({*fit, cpu})


def _features(target: str, cpu: str, catalog: Catalog) -> frozenset[str] | None:
    """The features of a target with a cpu; None where the written data no longer has them."""
    try:
        return frozenset(catalog.instruction_set(catalog.target(target), catalog.cpu(cpu)).features)
    except InputError:
        return None
