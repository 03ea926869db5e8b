"""Which features tell a wheel from the plain one of its version: those that its recipe does not have by default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Feature


class Marks:
    """Says by which features a wheel differs: ``cuda`` where it was switched on, ``no-jemalloc`` where it was off."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @cached_property
    def _arches(self) -> Mapping[str, str]:
        return {name: self._catalog.target(name).arch for name in self._catalog.target_names}

    @cached_property
    def _features(self) -> Mapping[str, Mapping[str, Feature]]:
        return {name: self._catalog.recipe(name).features for name in self._catalog.recipe_names}

    def of_wheel(self, recipe: str, version: str, target: str, features: Iterable[str]) -> tuple[str, ...]:
        """The marks of a wheel that has ``features`` and no others."""
        has = set(features)
        defaults = self._defaults(recipe, version, target)
        return tuple(sorted({*(has - defaults), *(f"no-{name}" for name in defaults - has)}))

    def of_request(self, recipe: str, version: str, target: str, features: Iterable[str]) -> tuple[str, ...]:
        """The marks of a request for ``features``, some of them switched off (``no-avx``)."""
        defaults = self._defaults(recipe, version, target)
        off = {name for name in features if name.startswith("no-") and name.removeprefix("no-") not in defaults}
        return tuple(sorted(set(features) - defaults - off))

    def _defaults(self, recipe: str, version: str, target: str) -> set[str]:
        """The features that a recipe's version has on a target without being asked."""
        arch = self._arches.get(target)
        try:
            number = Version(version)
        except InvalidVersion:
            return set()
        return {
            name
            for name, feature in self._features.get(recipe, {}).items()
            if feature.default
            and arch in feature.arches
            and (feature.versions is None or SpecifierSet(feature.versions).contains(number, prereleases=True))
        }
