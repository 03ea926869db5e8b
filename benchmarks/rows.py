"""A measured value and what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from crosswheel.errors import MachineError

MISSED = 1
"""The exit code where a target is missed."""
LACKS = MachineError.exit_code
"""The exit code where this machine does not allow a measurement."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table. ``value`` is None where it could not be measured, and ``note`` says why. ``target`` is what
    is wanted, in words; ``ok`` is None where nothing is wanted of it, or nothing was measured."""

    name: str
    value: float | None
    unit: str
    target: str = ""
    ok: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """``ok``, ``missed``, ``not measured`` or nothing."""
        if self.value is None:
            return "not measured"
        return {True: "ok", False: "missed", None: ""}[self.ok]

    @property
    def shown(self) -> str:
        """The value with its unit."""
        if self.value is None:
            return "–"
        digits = 3 if abs(self.value) < 1 else 2 if abs(self.value) < 100 else 0
        return f"{self.value:.{digits}f} {self.unit}"

    def as_json(self) -> dict[str, object]:
        """As an object of JSON; the value is not rounded."""
        return {**asdict(self), "verdict": self.verdict}


def below(name: str, value: float, unit: str, limit: float, *, note: str = "") -> Row:
    """A value that must be smaller than ``limit``."""
    return Row(name=name, value=value, unit=unit, target=f"< {limit:g} {unit}", ok=value < limit, note=note)


def unmeasured(name: str, why: str) -> Row:
    """The row of a measurement that this machine does not allow."""
    return Row(name=name, value=None, unit="", note=why)


def spread(values: Iterable[float]) -> str:
    """All values in the order in which they were taken."""
    return " ".join(f"{value:.2f}" for value in values)


def exit_code(rows: Sequence[Row], *, error: int = 0) -> int:
    """:data:`MISSED` where a target is missed, else ``error``, the exit code of an error that ended a measurement,
    else :data:`LACKS` where something could not be measured, else 0."""
    if any(row.ok is False for row in rows):
        return MISSED
    return error or (LACKS if any(row.value is None for row in rows) else 0)
