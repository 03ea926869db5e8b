"""What the TOML files may say of instruction sets: ``toolchains/isa.toml`` of all processors of an architecture, and
``[[dispatched]]`` of a recipe of functions that are chosen at run time.

Features of x86_64 have the names of iced-x86 (CPUID's: ``SSE4_1``, ``AVX512VL``), those of aarch64 the names of LLVM
(``LSE``, ``FullFP16``), because the decoders tell of them so.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, StringConstraints

from crosswheel.spec.base import Arch, Model

FeatureName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9_]*$")]


class Dispatched(Model):
    """Functions that may use more than the target's processor has, because they are called only where a processor has
    it.

    ``symbols`` are patterns of the linker's names (mangled, as ``nm`` shows them). A weak function must be listed with
    ``weak``: the linker keeps one copy of those that several files have, for all of them. ``files`` are patterns of the
    names of files in the wheel.
    """

    symbols: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: str
    weak: bool = False
    files: tuple[str, ...] = ("*",)

    def serves(self, file: str) -> bool:
        """Whether it is about functions in a file of the wheel."""
        return any(fnmatchcase(file, pattern) for pattern in self.files)


class Harmless(Model):
    """Instructions that do no harm on a processor which does not know them."""

    arch: Arch
    instructions: Annotated[tuple[str, ...], Field(min_length=1)]
    reason: str
    source: str


class InstructionSets(Model):
    """The whole of ``toolchains/isa.toml``."""

    harmless: tuple[Harmless, ...] = ()


class InstructionSet(Model):
    """What a processor has: ``features``; ``usual`` are those that its level lacks and that nearly all processors have
    which are in use; ``harmless`` instructions; and what is ``dispatched`` in the wheel."""

    features: tuple[FeatureName, ...]
    usual: tuple[FeatureName, ...] = ()
    harmless: tuple[str, ...] = ()
    dispatched: tuple[Dispatched, ...] = ()

    def lacks(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Those of the ``wanted`` features that the processor has not; it has ``SVEorSME`` where it has either."""
        has = set(self.features)
        return tuple(each for each in wanted if has.isdisjoint((each, *each.split("or"))))
