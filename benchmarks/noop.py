"""A build with nothing to do: ``build wrapt --target rpi4`` where all of it is in the store.

Measured as a user meets it: a new process each time, from the command to its end, with Python's start, reading the
written data, planning, hashing, looking the artefacts up in the store, copying the wheel out and showing its proof.
``./x`` and ``invoke`` of the venv alternate; so does a Python that does nothing, which is the floor of both. The median
of each counts. One run before them makes sure that there really is nothing to do.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile

from benchmarks.commands import INVOKE, X, ran
from benchmarks.rows import Row, below, spread
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.errors import StepError

SECONDS = 0.7
"""The most that a build with nothing to do may take, wall clock."""

PACKAGE = ("wrapt", "--target", "rpi4")


def measure(settings: Settings, runs: int = 9) -> list[Row]:
    """``runs`` of each. ``StepError`` where the build fails or never has nothing to do."""
    times: dict[str, list[float]] = {"x": [], "invoke": [], "python": []}
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as out:
        build = ("build", *PACKAGE, "--out", out)
        _make_sure(settings, (X, *build, "--json"))
        commands = {
            "x": (X, *build),
            "invoke": (INVOKE, "--search-root", str(DATA), *build),
            "python": (sys.executable, "-c", "pass"),
        }
        for _ in range(runs):
            for name, argv in commands.items():
                times[name].append(ran(argv, settings.store).seconds)
    median = {name: statistics.median(values) for name, values in times.items()}
    what = f"build {' '.join(PACKAGE)}"
    return [
        below(f"noop: ./x {what}", median["x"], "s", SECONDS, note=spread(times["x"])),
        below(f"noop: invoke {what}", median["invoke"], "s", SECONDS, note=spread(times["invoke"])),
        Row(name="noop: python -c pass", value=median["python"], unit="s", note=spread(times["python"])),
        Row(name="noop: ./x against python -c pass", value=median["x"] / median["python"], unit="×"),
    ]


def _make_sure(settings: Settings, argv: tuple[str, ...]) -> None:
    """Builds what is missing, then looks that everything is in the store."""
    ran(argv, settings.store)
    steps = json.loads(ran(argv, settings.store).stdout)["steps"]
    made = [step["name"] for step in steps if not step["cached"]]
    if made:
        raise StepError("A build that was just made had something to do again.", why="\n".join(made))
