"""What a remote cache saves: the step that compiles dm-tree 0.1.5 for rpi4 (Bazel 0.17.2), cold and from a cache.

The cache is Debian's nginx with DAV on 127.0.0.1, fetched by apt and unpacked into a temporary folder, so that no
network is measured. Each run has a store of its own with links to the inputs: what differs is the cache alone. The
three alternate: without a cache; with an empty one, which is filled; and from that one, in which every action is. The
median of each counts. Bazel's own start, the copy of the source and pip are in all three, and no cache saves them; so
what Bazel takes for the build itself (its "Elapsed time") stands in the table, too.
"""

from __future__ import annotations

import importlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.overhead import planned
from benchmarks.rows import Row, spread
from benchmarks.stored import inputs_of, lend
from crosswheel.building.execute import execute
from crosswheel.building.job import Settings
from crosswheel.building.remote.endpoints import Remote
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import DATA, the_catalog
from crosswheel.errors import StepError
from crosswheel.planning.steps import RunStep
from crosswheel.spec.catalog import Catalog

_ELAPSED = re.compile(r"INFO: Elapsed time: ([0-9.]+)s")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds of the step, and of Bazel in it; actions that were found in the cache, and missed."""

    seconds: float
    bazel: float
    found: int
    missed: int


def measure(settings: Settings, runs: int = 3) -> list[Row]:
    """``runs`` of each, alternating."""
    catalog = the_catalog()
    step = planned(catalog).wheel.inputs["run"]
    assert isinstance(step, RunStep)
    inputs_of(step, catalog, settings)
    caches = _servers()
    found: dict[str, list[Run]] = {"without": [], "filling": [], "from it": []}
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as text:
        folder = Path(text)
        program = caches.fetched_nginx(folder / "nginx")
        for number in range(runs):
            with caches.nginx(program, folder / f"cache-{number}") as cache:
                for name, remote in (("without", None), ("filling", cache.url), ("from it", cache.url)):
                    given = Remote(cache=remote) if remote else None
                    found[name].append(once(step, catalog, replace(settings, remote=given)))
    return rows(found["without"], found["filling"], found["from it"])


def once(step: RunStep, catalog: Catalog, settings: Settings) -> Run:
    """One run in a store of its own. ``StepError`` where its log does not tell what Bazel did."""
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as folder:
        store = Store(Path(folder) / "store")
        lend({needed.key for needed in step.inputs.values()}, settings, store.root)
        os.sync()
        here = replace(settings, store=store.root)
        began = time.perf_counter()
        with Screen(quiet=True) as screen:
            made = execute(step, store, here, runners(catalog, here), screen).artefacts[step.key]
        seconds = time.perf_counter() - began
        elapsed = _ELAPSED.search((store.path(step.key) / "log.txt").read_text())
        note: Any = made.meta.notes.get("remote")
        counts = note["cache"] if note else {"found": 0, "missed": 0}
    if elapsed is None:
        raise StepError("Bazel's time cannot be told: it is not in the log of the build.")
    return Run(seconds=seconds, bazel=float(elapsed[1]), found=counts["found"], missed=counts["missed"])


def rows(without: Sequence[Run], filling: Sequence[Run], warm: Sequence[Run]) -> list[Row]:
    """The table of what was measured. From a cache that has all, the step must be faster."""
    cold, hit = (statistics.median(run.seconds for run in each) for each in (without, warm))
    last = warm[-1]
    return [
        _row("without a cache", without),
        _row("with an empty cache, which is filled", filling),
        Row(
            name=f"remote: all {last.found} actions from the cache",
            value=hit,
            unit="s",
            target=f"< {cold:.2f} s, nothing compiled",
            ok=hit < cold and all(run.missed == 0 and run.found for run in warm),
            note=spread(run.seconds for run in warm),
        ),
        Row(name="remote: from the cache / without", value=hit / cold, unit="×"),
        _bazel("without a cache", without),
        _bazel("from the cache", warm),
    ]


def _row(name: str, found: Sequence[Run]) -> Row:
    times = [run.seconds for run in found]
    return Row(name=f"remote: {name}", value=statistics.median(times), unit="s", note=spread(times))


def _bazel(name: str, found: Sequence[Run]) -> Row:
    times = [run.bazel for run in found]
    return Row(name=f"remote: Bazel's own time, {name}", value=statistics.median(times), unit="s", note=spread(times))


def _servers() -> Any:
    """The module that starts the servers of the tests."""
    folder = str(DATA / "tests" / "integration")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("caches")
