"""A sysroot from the store, and from nothing: crosswheel's assembler against ``mmdebstrap --variant=extract``.

Cold: an empty store, no lists, no packages; the same packages, suites, mirror, keyring and disk, alternating in one
run; the median of each counts. ``mmdebstrap`` must be installed (``apt-get install mmdebstrap``). Ours does more: it
writes a lock, checks each package against it, and makes links relative.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.rows import Row, below, spread, unmeasured
from benchmarks.stored import made
from crosswheel.building.debian.apt import KEYRINGS, Source, run_lock
from crosswheel.building.debian.aptrun import apt_runner
from crosswheel.building.debian.mirrors import choose, machine_mirrors
from crosswheel.building.debian.roots import run_root
from crosswheel.building.execute import execute
from crosswheel.building.job import Job, Settings
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import DATA
from crosswheel.errors import StepError
from crosswheel.planning.roots import sysroot_step
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.planning.toolchains import DEB_ARCH
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sysroots import Archive

SYSROOT = "debian-12"
ARCH: Arch = "aarch64"
RATIO = 1.0
"""Ours must take less than this share of mmdebstrap's time."""

STORED_SECONDS = 0.5
"""The most that a sysroot from the store may take, wall clock."""


def measure(settings: Settings, runs: int = 3) -> list[Row]:
    """From the store, and cold. Where mmdebstrap is not installed, the row says so, and nothing is cold."""
    catalog = Catalog(DATA)
    return [from_store(catalog, settings), *cold(catalog, runs)]


def from_store(catalog: Catalog, settings: Settings, runs: int = 9) -> Row:
    """The executor's time for a sysroot that is in the store: looking it up and checking that it is whole, by a store,
    a plan and keys that are new each time."""
    made([sysroot_step(catalog, SYSROOT, ARCH)], catalog, settings)
    times: list[float] = []
    for _ in range(runs):
        began = time.perf_counter()
        step = sysroot_step(catalog, SYSROOT, ARCH)
        with Screen(quiet=True) as screen:
            result = execute(step, Store(settings.store), settings, runners(catalog, settings), screen)
        times.append(time.perf_counter() - began)
        if not all(item.cached for item in result.steps):
            raise StepError("A sysroot that was just made was not in the store.", where=step.name)
    seconds = statistics.median(times)
    return below("sysroot from the store", seconds, "s", STORED_SECONDS, note=spread(times))


def cold(catalog: Catalog, runs: int, sysroot: str = SYSROOT, architecture: str = DEB_ARCH[ARCH]) -> list[Row]:
    """Both assemblers, ``runs`` times each."""
    if not shutil.which("mmdebstrap"):
        why = "mmdebstrap is missing: apt-get install mmdebstrap"
        return [unmeasured("sysroot cold: crosswheel / mmdebstrap", why)]
    data = catalog.sysroot(sysroot)
    step = LockStep(
        name="benchmark",
        lock="benchmark",
        architecture=architecture,
        suites=data.suites,
        packages=data.development,
        snapshot=data.snapshot,
    )
    resolving: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as name:
        folder = Path(name)
        sources = _sources(step, catalog.archives, folder)
        for number in range(runs):
            lock, root = _ours(step, catalog.archives, folder / f"ours-{number}")
            resolving.append(lock)
            ours.append(lock + root)
            theirs.append(_theirs(step, sources, folder / f"theirs-{number}"))
    mine, other = statistics.median(ours), statistics.median(theirs)
    what = f"{sysroot} {architecture}, {len(step.packages)} packages and what they need"
    times = f"ours {spread(ours)}, mmdebstrap {spread(theirs)}"
    return [
        Row(name="sysroot cold: crosswheel", value=mine, unit="s", note=what),
        Row(name="  of it resolving", value=statistics.median(resolving), unit="s"),
        Row(name="sysroot cold: mmdebstrap --variant=extract", value=other, unit="s", note=what),
        below("sysroot cold: crosswheel / mmdebstrap", mine / other, "×", RATIO, note=times),
    ]


def _job(store: Path, name: str) -> Job:
    out, work = store / "tmp" / name / "out", store / "tmp" / name / "work"
    out.mkdir(parents=True)
    work.mkdir()
    return Job(
        key=name,
        out=out,
        work=work,
        settings=Settings(store=store),
        log=lambda line: None,
        cancelled=threading.Event(),
    )


def _ours(step: LockStep, archives: Mapping[str, Archive], store: Path) -> tuple[float, float]:
    """Seconds for the lock and for the root, in an empty store."""
    lock_job, root_job = _job(store, "lock"), _job(store, "root")
    root = RootStep(name="benchmark", inputs={"lock": step})
    start = time.perf_counter()
    run_lock(step, {}, lock_job, archives=archives)
    resolved = time.perf_counter()
    run_root(root, {"lock": lock_job.out}, root_job, archives=archives)
    end = time.perf_counter()
    shutil.rmtree(store)
    return resolved - start, end - resolved


def _sources(step: LockStep, archives: Mapping[str, Archive], folder: Path) -> Path:
    """sources.list for mmdebstrap, with the mirrors that ours uses."""
    job = _job(folder / "sources", "sources")
    used = [archives[name] for name in dict.fromkeys(suite.archive for suite in step.suites)]
    runner = apt_runner(used, job)
    mirrors = choose(used, job.settings, lambda: machine_mirrors(runner, job.work), step.snapshot)
    rings = {archive.name: KEYRINGS / (archive.keyring or "") for archive in used}
    lines = [Source(suite=suite, mirror=mirrors[suite.archive], keyring=rings[suite.archive]) for suite in step.suites]
    path = folder / "sources.list"
    path.write_text("".join(line.line(step.architecture) + "\n" for line in lines))
    return path


def _theirs(step: LockStep, sources: Path, root: Path) -> float:
    """Seconds for the same packages by mmdebstrap."""
    argv = (
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--skip=check/qemu",
        f"--architectures={step.architecture}",
        f"--include={','.join(step.packages)}",
        step.suites[0].name,
        str(root),
        str(sources),
    )
    start = time.perf_counter()
    ran = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    if ran.returncode != 0:
        raise StepError("mmdebstrap failed.", why=ran.stderr.strip()[-2000:])
    shutil.rmtree(root)
    return seconds
