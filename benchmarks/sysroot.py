"""A sysroot from nothing: crosswheel's assembler against ``mmdebstrap --variant=extract``.

Same packages, suites, mirror, keyring and disk, alternating in one run; the median of each counts. Cold means: an
empty store, no lists, no packages. ``mmdebstrap`` must be installed (``apt-get install mmdebstrap``).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.rows import Row
from crosswheel.building.debian.apt import KEYRINGS, Source, run_lock
from crosswheel.building.debian.aptrun import apt_runner
from crosswheel.building.debian.mirrors import choose, machine_mirrors
from crosswheel.building.debian.roots import run_root
from crosswheel.building.job import Job, Settings
from crosswheel.errors import MachineError, StepError
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.models import Archive

SYSROOT = "debian-12"
ARCHITECTURE = "arm64"
RATIO = 1.0
"""Ours must take less than this share of mmdebstrap's time."""


def measure(runs: int = 3, sysroot: str = SYSROOT, architecture: str = ARCHITECTURE) -> list[Row]:
    """Both assemblers, ``runs`` times each. ``MachineError`` where mmdebstrap is not installed."""
    if not shutil.which("mmdebstrap"):
        raise MachineError("mmdebstrap is not installed.", hint="apt-get install mmdebstrap")
    catalog = Catalog(Path(__file__).parents[1])
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
    times = "ours " + " ".join(f"{t:.2f}" for t in ours) + ", mmdebstrap " + " ".join(f"{t:.2f}" for t in theirs)
    return [
        Row(name="sysroot cold: crosswheel", value=mine, unit="s", note=what),
        Row(name="  of it resolving", value=statistics.median(resolving), unit="s"),
        Row(name="sysroot cold: mmdebstrap --variant=extract", value=other, unit="s", note=what),
        Row(
            name="sysroot cold: crosswheel / mmdebstrap",
            value=mine / other,
            unit="×",
            target=f"< {RATIO}",
            ok=mine / other < RATIO,
            note=times,
        ),
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
    lines = [
        Source(suite=suite, mirror=mirrors[suite.archive], keyring=KEYRINGS / archives[suite.archive].keyring)
        for suite in step.suites
    ]
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


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m benchmarks.sysroot [--runs N]``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    for row in measure(parser.parse_args(argv).runs):
        verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
        print(f"{row.name:45} {row.value:7.2f} {row.unit:3} {row.target:8} {verdict:7} {row.note}")


if __name__ == "__main__":
    main()
