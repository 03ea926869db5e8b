"""The matrix: planning 200, 2,000 and 10,000 cells, and a night with nothing new.

Planning is measured in this process, from the first line of TOML on: cells, resolutions, plans with all their keys, and
what they share. The night is measured as a user meets it, ``./x matrix run`` in a new process, of cells that the run
before made sure of; besides, ``./x matrix plan`` of the shipped matrix.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.commands import X, ran
from benchmarks.rows import Row, below, spread
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.errors import StepError
from crosswheel.planning.matrix import Cells, plan_matrix, sharing
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.matrix import Matrix
from crosswheel.spec.remembering import remembering

SECONDS = {200: 1.0, 2_000: 3.0, 10_000: 5.0}
"""How long planning so many cells may take, of the processor's time: one thread, which reads files that are cached."""

NIGHT = 3.0
"""How long a night with nothing new may take, wall clock."""

_SMALL = 'name = "quick"\n[axes]\nrecipe = "wrapt"\ntarget = ["rpi4", "x86_64"]\n'


def measure(settings: Settings, runs: int = 3) -> list[Row]:
    """The median of ``runs`` rounds of each."""
    rows = [_planned(count, runs) for count in SECONDS]
    shown = [ran((X, "matrix", "plan"), settings.store).seconds for _ in range(runs)]
    rows.append(
        Row(name="matrix: ./x matrix plan, as shipped", value=statistics.median(shown), unit="s", note=spread(shown))
    )
    return [*rows, _night(settings, runs)]


def matrix_of(count: int) -> Matrix:
    """A matrix of at least so many cells of the shipped recipes: all versions, targets and Pythons, and as many
    processors as it takes."""
    catalog = Catalog(DATA)
    small = ["numpy", "dm-tree", "wrapt", "ml-dtypes", "h5py", "grpcio", "tflite-runtime"]
    arm = ["cortex-a53", "cortex-a57", "cortex-a76"]
    intel = ["x86-64-v2", "x86-64-v3", "sandybridge"]
    axes = {
        "recipe": small if count < 2_000 else [*small, "tensorflow"],
        "version": "all",
        "target": list(catalog.target_names),
        "python": "all",
        "cpu": ["default"]
        if count < 2_000
        else ["default", "cortex-a53"]
        if count < 10_000
        else ["default", *arm, *intel],
    }
    return Matrix.model_validate({"name": "measured", "axes": axes})


def _planned(count: int, runs: int) -> Row:
    rounds: list[float] = []
    walls: list[float] = []
    for _ in range(runs):
        began, wall = time.process_time(), time.perf_counter()
        cells = plan_matrix(matrix_of(count), remembering(Catalog(DATA)), "measured", rules=RULES)
        shared = sharing(cell.plan for cell in cells.planned if cell.plan)
        rounds.append(time.process_time() - began)
        walls.append(time.perf_counter() - wall)
    steps = f"{shared.distinct:,} of {shared.steps:,} steps are distinct"
    note = f"{_told(cells)}; {steps}; {spread(rounds)}; by the clock {spread(walls)}"
    return below(
        f"matrix: planning {len(cells.all):,} cells", statistics.median(rounds), "s", SECONDS[count], note=note
    )


def _told(cells: Cells) -> str:
    return f"{len(cells.planned):,} planned, {len(cells.refused):,} refused"


def _night(settings: Settings, runs: int) -> Row:
    """A night of two cells, of which both are in the store."""
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as folder:
        file = Path(folder, "matrix.toml")
        file.write_text(_SMALL)
        command = (
            X,
            "matrix",
            "run",
            "--matrix",
            str(file),
            "--out",
            f"{folder}/dist",
            "--history",
            f"{folder}/history",
        )
        ran(command, settings.store)
        cells = json.loads(ran((*command, "--json"), settings.store).stdout)["cells"]
        made = [cell["cell"] for cell in cells if cell["outcome"] != "cached"]
        if made:
            raise StepError("A night that had just been made had something to do again.", why="\n".join(made))
        times = [ran(command, settings.store).seconds for _ in range(runs)]
    name = f"matrix: ./x matrix run, {len(cells)} cells, nothing new"
    return below(name, statistics.median(times), "s", NIGHT, note=spread(times))
