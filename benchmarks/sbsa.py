"""The sysroot, the CUDA toolkit and the cuDNN of ``cuda-check`` for ``sbsa-debian``, from nothing: seconds and bytes.

Cold means an empty store: what apt's mirror and the package index have is fetched. Of NVIDIA's wheels no more is got
than the members that the data names.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.rows import Row
from crosswheel.building.job import Settings
from crosswheel.building.store import Store
from crosswheel.cli.executing import execute_all
from crosswheel.cli.settings import DATA
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import Step
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog

ROLES = ("sysroot", "cuda", "cudnn")
"""The inputs of the step that compiles, which are assembled."""


def measure(settings: Settings, runs: int = 1) -> list[Row]:
    """Seconds and megabytes of ``runs`` cold stores; the quickest counts, as each fetches the same."""
    catalog = Catalog(DATA)
    made = plan(resolve(Request(recipe="cuda-check", target="sbsa-debian"), catalog), catalog, rules=RULES)
    compiled = made.output.inputs["run"]
    goals = tuple(compiled.inputs[role] for role in ROLES)
    members = {step.key: step for goal in goals for step in goal.walk() if isinstance(step, MembersStep)}
    taken = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="cw-sbsa-") as folder:
            taken.append(_cold(goals, catalog, replace(settings, store=Path(folder)), tuple(members.values())))
    seconds, debs, parts = min(taken)
    return [
        Row(name="sbsa sysroot with CUDA 12.4 and cuDNN 9.6, cold", value=seconds, unit="s"),
        Row(name="  fetched as packages", value=debs / 1e6, unit="MB"),
        Row(name="  fetched as parts of wheels, unpacked", value=parts / 1e6, unit="MB"),
    ]


def _cold(
    goals: tuple[Step, ...], catalog: Catalog, settings: Settings, members: tuple[MembersStep, ...]
) -> tuple[float, int, int]:
    """Seconds, bytes of packages, and bytes of members."""
    store = Store(settings.store)
    begun = time.monotonic()
    result = execute_all(goals, catalog, store, settings, quiet=False)
    seconds = time.monotonic() - begun
    debs = sum(path.stat().st_size for path in (settings.store / "debs").rglob("*") if path.is_file())
    parts = sum(_size(result.artefacts[step.key].path) for step in members if step.key in result.artefacts)
    return seconds, debs, parts


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
