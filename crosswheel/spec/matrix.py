"""What ``matrix.toml`` may say: which wheels a night makes, by axes, and what one of them may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from crosswheel.digest import sha256_bytes
from crosswheel.errors import DataError
from crosswheel.spec.base import Model, Name
from crosswheel.spec.toml import read_toml, validate

DEFAULT = "default"
"""Of a version or a Python: what a build takes where nobody says."""
NEWEST = "newest"
"""Of a version: the newest release that fits, whatever the recipe's own default is."""
ALL = "all"
"""Of a version or a Python: a cell for each."""


def _listed(value: Any) -> Any:
    """One value stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _sets(value: Any) -> Any:
    """A list of features is one set of them; a list of lists is several sets."""
    if isinstance(value, str):
        return ((value,),)
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return (tuple(value),)
    return value


Values = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed), Field(min_length=1)]
Features = Annotated[tuple[tuple[Annotated[str, Field(min_length=1)], ...], ...], BeforeValidator(_sets)]


class Axes(Model):
    """Cells: each combination of one value of each axis. ``version`` and ``python`` are exact, or ``default``,
    ``newest`` (of a version) or ``all``; ``cpu`` is ``default``, which is the target's own, or a processor or level of
    its architecture. Each of ``features`` is a set of features that are switched on, or off by ``no-``."""

    recipe: Values
    target: Values
    version: Values = (DEFAULT,)
    python: Values = (DEFAULT,)
    cpu: Values = (DEFAULT,)
    features: Features = ((),)


class Exclude(Model):
    """Cells of the axes that are left out: those that have one of the values of each key that is given. A version and a
    Python are exact here; ``features`` is the whole set."""

    recipe: Values | None = None
    target: Values | None = None
    version: Values | None = None
    python: Values | None = None
    cpu: Values | None = None
    features: Features | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Exclude:
        given = self.model_dump(exclude_none=True)
        if not given:
            raise ValueError("it excludes everything: it names no recipe, version, target, python, cpu or features")
        words = {*(self.version or ()), *(self.python or ()), *(self.cpu or ())} & {DEFAULT, NEWEST, ALL}
        if words:
            raise ValueError(f"{sorted(words)[0]!r} is no value of a cell: name it exactly, or leave the key out")
        return self


class Cost(Model):
    """What a cell may cost, at most. ``minutes`` of compiling and proving, after which it is stopped; ``memory`` in GiB
    of the container that it is built in; ``disk`` in GiB that must be free on the store's disk before a step of it
    begins."""

    minutes: float | None = Field(default=None, gt=0)
    memory: float | None = Field(default=None, gt=0)
    disk: float | None = Field(default=None, gt=0)


class Matrix(Model):
    """A file of cells. The entries of ``include`` are products of their own, and each of their cells must work."""

    name: Name
    axes: Axes | None = None
    include: tuple[Axes, ...] = ()
    exclude: tuple[Exclude, ...] = ()
    cost: Cost = Cost()

    @model_validator(mode="after")
    def _has_cells(self) -> Matrix:
        if self.axes is None and not self.include:
            raise ValueError("it has no cells: neither [axes] nor an [[include]]")
        if self.axes is None and self.exclude:
            raise ValueError("[[exclude]] takes cells from [axes], and there are none")
        return self


def read_matrix(path: Path) -> tuple[Matrix, str]:
    """A matrix, and the sha256 of its file. Raises ``DataError`` with file and lines."""
    if not path.is_file():
        raise DataError(
            "there is no such matrix",
            where=str(path),
            hint="`--matrix FILE` names one; docs/matrix.md says what is in it",
        )
    data, text = read_toml(path)
    return validate(Matrix, data, text, path), sha256_bytes(text.encode())
