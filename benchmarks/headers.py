"""A Python's headers of CPython's own source, cold: one Python of each distribution that has the same in packages.

The source, the builder and the sysroot are in the store; configuring, installing the headers and writing down what was
found are measured, in a store of its own, by the executor's own clock. A source that is not to be had is not measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.rows import Row, unmeasured
from benchmarks.stored import inputs_of, lend
from crosswheel.building.execute import execute
from crosswheel.building.job import Settings
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import DATA
from crosswheel.errors import CrosswheelError
from crosswheel.planning.headers import headers_step
from crosswheel.planning.steps import RunStep
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog

ARCH: Arch = "aarch64"
PYTHONS = (
    ("2.7.18", "debian-11", "gcc-10"),
    ("3.9.2", "debian-11", "gcc-10"),
    ("3.11.2", "debian-12", "gcc-12"),
    ("3.13.5", "debian-13", "gcc-14"),
)
"""Versions whose source is in Debian, with the sysroot and the toolchain of the same release."""


def measure(settings: Settings, pythons: Sequence[tuple[str, str, str]] = PYTHONS) -> list[Row]:
    """One row for each Python."""
    catalog = Catalog(DATA)
    rows = []
    for version, sysroot, toolchain in pythons:
        name = f"headers of CPython {version}, {sysroot} {ARCH}"
        step = headers_step(catalog, catalog.cpython(version), ARCH, sysroot, toolchain)
        try:
            rows.append(Row(name=name, value=cold(step, catalog, settings), unit="s"))
        except CrosswheelError as error:
            rows.append(unmeasured(name, error.what))
    return rows


def cold(step: RunStep, catalog: Catalog, settings: Settings) -> float:
    """Seconds of the step in a store that has its inputs and nothing else."""
    inputs_of(step, catalog, settings)
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as folder:
        root = Path(folder)
        lend((needed.key for needed in step.inputs.values()), settings, root)
        own = replace(settings, store=root)
        with Screen(quiet=True) as screen:
            result = execute(step, Store(root), own, runners(catalog, own), screen)
    return next(item.seconds for item in result.steps if item.key == step.key)
