"""Under which circumstances the patches of a series apply, and which of them meet in one build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, product
from typing import get_args

from packaging.specifiers import SpecifierSet

from crosswheel.spec.base import Arch
from crosswheel.spec.patches import Patch, When


@dataclass(frozen=True)
class Circumstances:
    """What the conditions of a patch ask for. An empty ``python`` or ``bazel`` is one that no condition asks about."""

    arch: Arch
    python: str
    bazel: str
    features: frozenset[str]

    def told(self) -> str:
        """In words, for a message: ``aarch64, Bazel 0.15, with cuda``."""
        bazel = f", Bazel {self.bazel}" if self.bazel else ""
        python = f", Python {self.python}" if self.python else ""
        return f"{self.arch}{bazel}{python}" + (f", with {', '.join(sorted(self.features))}" if self.features else "")


def holds(when: When, given: Circumstances) -> bool:
    """Whether all conditions of a patch hold."""
    return (
        (when.arch is None or when.arch == given.arch)
        and (when.python is None or SpecifierSet(when.python).contains(given.python))
        and (when.bazel is None or SpecifierSet(when.bazel).contains(given.bazel))
        and set(when.features) <= given.features
        and not given.features.intersection(when.without)
    )


def selections(patches: Sequence[Patch]) -> dict[tuple[Patch, ...], Circumstances]:
    """Every choice of ``patches``, in their order, that some build makes, each with circumstances that lead to it.

    Architectures, features, and versions on both sides of every bound that a condition names are tried with one
    another, so no two conditions can meet in a build and be missed here.
    """
    found: dict[tuple[Patch, ...], Circumstances] = {}
    for given in _circumstances([patch.when for patch in patches]):
        found.setdefault(tuple(patch for patch in patches if holds(patch.when, given)), given)
    return found


def _circumstances(conditions: Sequence[When]) -> Iterator[Circumstances]:
    features = sorted({feature for when in conditions for feature in (*when.features, *when.without)})
    sets = chain.from_iterable(combinations(features, size) for size in range(len(features) + 1))
    pythons = _around(when.python for when in conditions)
    bazels = _around(when.bazel for when in conditions)
    for chosen, arch, python, bazel in product([*sets], get_args(Arch), pythons, bazels):
        yield Circumstances(arch, python, bazel, frozenset(chosen))


def _around(ranges: Iterable[str | None]) -> tuple[str, ...]:
    """Versions on and beside every bound of the ranges: what holds between two bounds holds for one of these."""
    bounds = {one.version.removesuffix(".*") for text in ranges if text for one in SpecifierSet(text)}
    if not bounds:
        return ("",)
    return tuple(chain(*((bound, f"{bound}.1") for bound in sorted(bounds)), ("0", "9999")))
