"""What kept builds cost: ``docs/proofs/measured.toml``, written by hand; a part of the status page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from crosswheel.errors import DataError
from crosswheel.spec.base import Model
from crosswheel.spec.toml import read_toml, validate

FILE = "measured.toml"


class Measured(Model):
    """One measured build. ``proof`` is the file of its proof, ``what`` was measured on which machine; ``minutes`` of
    wall and of processor time, ``memory`` in GiB at the peak (of the container, without what files are cached);
    ``mirror`` is the file of the manifest of the mirror that it was built from."""

    proof: str
    what: str
    minutes: float = Field(gt=0)
    cpu_minutes: float = Field(gt=0)
    memory: float = Field(gt=0)
    note: str = ""
    mirror: str | None = None


def measured(folder: Path) -> list[Measured]:
    """The measurements in ``folder``, in the order of the file; none without the file. ``DataError`` for one of a proof
    that is not kept there."""
    path = folder / FILE
    if not path.is_file():
        return []
    data, text = read_toml(path)
    found = [
        validate(Measured, item, text, path, ("measured", number))
        for number, item in enumerate(data.get("measured", []))
    ]
    for item in found:
        for kept in (item.proof, item.mirror):
            if kept and not (folder / kept).is_file():
                raise DataError(f"{kept!r} is not kept here", where=str(path))
    return found


def measured_lines(folder: Path) -> Iterator[str]:
    """The section of the status page; nothing where nothing was measured."""
    found = measured(folder)
    if not found:
        return
    yield "## What they cost"
    yield ""
    yield "| build | measured | wall | processor | memory | note |"
    yield "|---|---|---|---|---|---|"
    for item in found:
        name = item.proof.removesuffix(".json")
        cells = (
            f"[{name}](proofs/{item.proof})",
            item.what,
            f"{item.minutes:g} min",
            f"{item.cpu_minutes:g} min",
            f"{item.memory:g} GiB",
            item.note + (f"; [the mirror's manifest](proofs/{item.mirror})" if item.mirror else ""),
        )
        yield "| " + " | ".join(cells) + " |"
    yield ""
