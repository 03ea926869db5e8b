"""What a second Python and a second target cost where a first cell is there: dm-tree and ml-dtypes.

In an empty store: x86_64 with Python 3.11; then Python 3.9 besides, which is another distribution's, so
that it has a builder and a sysroot of its own; then rpi4 besides, of the first one's distribution and another
architecture. Then the same of the second package, which finds these roots there. A cell's own steps (compiling,
packing, proving) are told apart from what it brings in roots and sources, which have the network in them.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commands import X, ran
from benchmarks.rows import Row
from crosswheel.building.job import Settings

PACKAGES = ("dm-tree", "ml-dtypes")
CELLS = (
    ("first: x86_64, Python 3.11", ("--target", "x86_64", "--python", "3.11")),
    ("second Python: 3.9", ("--target", "x86_64", "--python", "3.9")),
    ("second target: rpi4", ("--target", "rpi4", "--python", "3.11")),
)
_OWN = ("run", "wheel", "proof")


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds: of the command, by the wall clock, and of the cell's own steps; how many steps ran, of how many."""

    wall: float
    own: float
    ran: int
    steps: int


def measure(_settings: Settings) -> list[Row]:
    """One round, which takes many minutes and some GiB of disk."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as folder:
        for package in PACKAGES:
            first: Took | None = None
            for name, words in CELLS:
                took = _built((package, *words), Path(folder))
                first = first or took
                note = f"own steps {took.own:.0f} s; {took.ran} of {took.steps} steps ran"
                if took is not first:
                    note += f"; {100 * took.wall / first.wall:.0f} % of the first"
                rows.append(Row(name=f"margins: {package}, {name}", value=took.wall, unit="s", note=note))
    return rows


def _built(words: tuple[str, ...], folder: Path) -> Took:
    done = ran((X, "build", *words, "--out", str(folder / "dist"), "--json"), folder / "store")
    steps = json.loads(done.stdout)["steps"]
    return Took(
        wall=done.seconds,
        own=sum(step["seconds"] for step in steps if step["kind"] in _OWN),
        ran=sum(not step["cached"] for step in steps),
        steps=len(steps),
    )
