"""A catalog for many plans in one process: what was looked up once is not looked up again.

The catalog itself looks for files each time, because commands write data and read it again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import TypeVar

from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog, V
from crosswheel.spec.isa import InstructionSet
from crosswheel.spec.patches import Series
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.sources import External
from crosswheel.spec.sysroots import Sysroot
from crosswheel.spec.targets import Cpu, Target, Toolchain

T = TypeVar("T")


class Remembering(Catalog):
    """The same data, for as long as nobody changes it."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog.root, None if catalog.own == catalog.root else catalog.own)
        self._remembered: dict[tuple[object, ...], object] = {}

    def _once(self, find: Callable[..., T], *of: object, key: tuple[object, ...] | None = None) -> T:
        name = (find.__name__, *(of if key is None else key))
        if name not in self._remembered:
            self._remembered[name] = find(*of)
        return self._remembered[name]  # type: ignore[return-value]  # it is what `find` gave

    def once(self, what: str, of: Hashable, make: Callable[[], V]) -> V:
        """What ``make`` gives, made the first time."""
        name = (what, of)
        if name not in self._remembered:
            self._remembered[name] = make()
        return self._remembered[name]  # type: ignore[return-value]  # it is what `make` gave

    def recipe(self, name: str) -> Recipe:
        return self._once(super().recipe, name)

    def versions(self, recipe: str) -> tuple[str, ...]:
        return self._once(super().versions, recipe)

    def release(self, recipe: str, version: str) -> Release:
        return self._once(super().release, recipe, version)

    def releases(self, recipe: str) -> tuple[Release, ...]:
        return self._once(super().releases, recipe)

    def knows_externals(self, recipe: str, release: Release) -> bool:
        return self._once(super().knows_externals, recipe, release, key=(recipe, release.version))

    def loaded_externals(self, recipe: str, release: Release) -> frozenset[str]:
        return self._once(super().loaded_externals, recipe, release, key=(recipe, release.version))

    def target(self, name: str) -> Target:
        return self._once(super().target, name)

    def toolchain(self, name: str) -> Toolchain:
        return self._once(super().toolchain, name)

    def sysroot(self, name: str) -> Sysroot:
        return self._once(super().sysroot, name)

    def check_script(self, recipe: Recipe) -> str:
        return self._once(super().check_script, recipe, key=(recipe.name,))

    def instruction_set(self, target: Target, cpu: Cpu, recipe: Recipe | None = None) -> InstructionSet:
        key = (target.name, cpu.name, recipe.name if recipe else None)
        return self._once(super().instruction_set, target, cpu, recipe, key=key)

    def series(self, recipe: str) -> Series:
        return self._once(super().series, recipe)

    def template(self, name: str) -> str:
        return self._once(super().template, name)

    def lock_text(self, lock: str) -> str | None:
        return self._once(super().lock_text, lock)

    def patch_text(self, recipe: str, file: str) -> str:
        return self._once(super().patch_text, recipe, file)

    def externals(
        self, recipe: str, release: Release, arch: Arch, features: Collection[str] = ()
    ) -> tuple[External, ...]:
        key = (recipe, release.version, arch, frozenset(features))
        return self._once(super().externals, recipe, release, arch, features, key=key)


def remembering(catalog: Catalog) -> Remembering:
    """The catalog for many plans."""
    return Remembering(catalog)
