"""What crosswheel adds to a build: dm-tree 0.1.5 for rpi4 (Bazel 0.17.2), against the bare Bazel command.

Ours is a new Python process that plans, finds the inputs in the store, copies the source, runs `pip wheel` (which calls
Bazel) in the container, takes the wheel out, repacks and checks it, and commits both steps to the store: all that a
build does but the proof. It has a store of its own, with links to the inputs, so nothing is cached but these.

Bare is `bazel build` as dm-tree's `setup.py` gives it, in a container that is made by hand through Docker's SDK: the
same image, mounts, variables, user and limits, and a fresh copy of the same source that lies ready before the clock
starts; what it leaves is thrown away after the clock has stopped. So the copy, pip, setuptools, the wheel and clearing
up count against us and not against it. Bazel's server is in batch mode and its output folder empty on both sides.

The two alternate; the median of each counts. Before each the disk has finished what the one before left it to do.
Bazel's own time differs from run to run, on a busy machine by more than all that we add; so the seconds before Bazel's
first line and after its last one stand in the table too. Of bare they are the container's; of ours all of the above:
those outside the container are crosswheel's own, and those in it pip's and setuptools' as well.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.commands import ran
from benchmarks.rows import Row, spread
from benchmarks.stored import inputs_of, lend
from crosswheel.building.disk import remove
from crosswheel.building.job import Container, Job, Settings
from crosswheel.building.runs import run_run
from crosswheel.building.sandbox import ORDINARY_USER, Sandbox, environment, hand_over, sandbox_for
from crosswheel.building.store import Store
from crosswheel.cli.asking import Asked
from crosswheel.cli.build import make_plan
from crosswheel.cli.settings import DATA, read_settings
from crosswheel.errors import StepError
from crosswheel.planning.plan import Plan
from crosswheel.planning.resolve import Request
from crosswheel.planning.steps import RunStep
from crosswheel.spec.catalog import Catalog

SHARE, SECONDS = 0.05, 2.0
"""A build may take this share of the bare command's time more, and these seconds."""

BAZEL = ("bazel", "build", "//tree:_tree", "--symlink_prefix=build/temp/bazel-", "--compilation_mode=opt")
"""What dm-tree 0.1.5's setup.py runs (`BuildBazelExtension.bazel_build`)."""
BEGIN, END = "Extracting Bazel installation...", "Build completed successfully"
"""What Bazel 0.17.2 prints first in a new home, and last."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds of one run: from start to end, in the container (made and removed), and between Bazel's first and last
    line in it."""

    seconds: float
    container: float
    bazel: float

    @property
    def outside(self) -> float:
        """What is not the container's."""
        return self.seconds - self.container

    @property
    def inside(self) -> float:
        """What is the container's and not Bazel's own."""
        return self.container - self.bazel


def planned(catalog: Catalog) -> Plan:
    """The build that is measured."""
    request = Request(recipe="dm-tree", version="0.1.5", target="rpi4", python="3.11", tools={"bazel": "0.17.2"})
    return make_plan(catalog, Asked(request=request, sources={}))


def allowed(bare: float) -> float:
    """The most seconds that ours may take where the bare command takes ``bare``."""
    return bare * (1 + SHARE) + SECONDS


def measure(settings: Settings, runs: int = 3) -> list[Row]:
    """``runs`` of each, alternating."""
    catalog = Catalog(DATA)
    plan = planned(catalog)
    step = plan.wheel.inputs["run"]
    assert isinstance(step, RunStep)
    inputs = inputs_of(step, catalog, settings)
    _import_image(step, inputs, settings)
    ours: list[Run] = []
    bare: list[Run] = []
    for _ in range(runs):
        ours.append(_ours(step, settings))
        bare.append(_bare(step, inputs, settings))
    return rows(ours, bare)


def rows(ours: Sequence[Run], bare: Sequence[Run]) -> list[Row]:
    """The table of what was measured."""
    mine, hand = (statistics.median(run.seconds for run in runs) for runs in (ours, bare))
    limit = allowed(hand)
    return [
        Row(
            name="overhead: crosswheel",
            value=mine,
            unit="s",
            target=f"< {limit:.2f} s",
            ok=mine < limit,
            note=f"{spread(run.seconds for run in ours)}; allowed: bare + {SHARE:.0%} + {SECONDS:g} s",
        ),
        Row(name="overhead: bare bazel build", value=hand, unit="s", note=spread(run.seconds for run in bare)),
        Row(name="overhead: crosswheel / bare", value=mine / hand, unit="×"),
        _part("crosswheel, outside the container", [run.outside for run in ours]),
        _part("crosswheel, in it beside Bazel (pip, setuptools)", [run.inside for run in ours]),
        _part("bare, in it beside Bazel", [run.inside for run in bare]),
    ]


def _part(name: str, times: Sequence[float]) -> Row:
    return Row(name=f"overhead: {name}", value=statistics.median(times), unit="s", note=spread(times))


# --- ours ------------------------------------------------------------------------------------------------------------


def _ours(step: RunStep, settings: Settings) -> Run:
    """One build in a new process, with a store of its own."""
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as folder:
        store = Path(folder) / "store"
        lend({needed.key for needed in step.inputs.values()}, settings, store)
        os.sync()
        build = ran((sys.executable, "-m", "benchmarks.overhead"), store)
        return Run(seconds=build.seconds, **json.loads(build.stdout))


class _Timed:
    """A sandbox that takes the time of another's runs."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.found = _BazelTime()
        self.seconds = 0.0

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        def both(line: str) -> None:
            self.found.line(line)
            log(line)

        began = time.perf_counter()
        try:
            return self._sandbox.run(container, log=both, cancelled=cancelled, label_key=label_key)
        finally:
            self.seconds += time.perf_counter() - began

    def shell(self, container: Container) -> int:
        return self._sandbox.shell(container)

    def sweep(self, key: str) -> None:
        self._sandbox.sweep(key)


class _BazelTime:
    """Finds Bazel's own seconds in the log of a run, while it is written."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended: float | None = None

    def line(self, text: str) -> None:
        """A line, or several, have come now."""
        if BEGIN in text and self._began is None:
            self._began = time.perf_counter()
        if END in text:
            self._ended = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Raises ``StepError`` where Bazel did not say that it began and ended."""
        if self._began is None or self._ended is None:
            raise StepError("Bazel's time cannot be told: its first or last line was not in the log of the build.")
        return self._ended - self._began


def build_once() -> None:
    """What the new process does: the steps up to the wheel; prints the seconds of the container and of Bazel."""
    from crosswheel.building.execute import execute
    from crosswheel.building.runners import runners
    from crosswheel.cli.console import Screen

    settings = read_settings()
    catalog = Catalog(DATA)
    timed = _Timed(sandbox_for(settings))

    def run(step: RunStep, inputs: Mapping[str, Path], job: Job) -> None:
        run_run(step, inputs, job, sandbox=timed)

    with Screen() as screen:
        work = {**runners(catalog, settings), RunStep: run}
        execute(planned(catalog).wheel, Store(settings.store), settings, work, screen)
    print(json.dumps({"container": timed.seconds, "bazel": timed.found.seconds}))


# --- bare ------------------------------------------------------------------------------------------------------------


class _ByHand:
    """Runs a container through Docker's SDK and nothing else, and takes the time: made, started, ended, removed."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._found = _BazelTime()
        self._seconds = 0.0

    @property
    def time(self) -> Run:
        """What the run took."""
        return Run(seconds=self._seconds, container=self._seconds, bazel=self._found.seconds)

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        import docker
        from docker.types import Mount

        for mount in container.mounts:
            if mount.writable and os.geteuid() == 0:
                hand_over(mount.source, ORDINARY_USER)
        client = docker.from_env()
        user = f"{os.geteuid()}:{os.getegid()}" if os.geteuid() else f"{ORDINARY_USER}:{ORDINARY_USER}"
        os.sync()
        began = time.perf_counter()
        running = client.containers.run(
            self._image,
            list(container.argv),
            environment=environment(container),
            working_dir=container.cwd,
            user=user,
            mounts=[Mount(m.target, str(m.source), type="bind", read_only=not m.writable) for m in container.mounts],
            network_mode="none",
            cap_drop=["ALL"],
            read_only=True,
            init=True,
            security_opt=["no-new-privileges"],
            tmpfs=dict.fromkeys(("/tmp", "/var/tmp"), "rw,exec,nosuid,nodev,mode=1777"),
            shm_size="256m",
            mem_limit=f"{container.memory}m",
            memswap_limit=f"{container.memory}m",
            pids_limit=container.pids,
            detach=True,
        )
        try:
            for piece in running.logs(stream=True, follow=True):
                self._found.line(piece.decode(errors="replace"))
                log(piece.decode(errors="replace").rstrip())
            status = int(running.wait()["StatusCode"])
        finally:
            running.remove(force=True)
            self._seconds = time.perf_counter() - began
        return status

    def shell(self, container: Container) -> int:
        raise NotImplementedError("a measurement opens no shell")

    def sweep(self, key: str) -> None:
        raise NotImplementedError("a measurement leaves nothing behind")


def _bare(step: RunStep, inputs: Mapping[str, Path], settings: Settings) -> Run:
    """The bare command in a container made by hand, as that of ``step`` is."""
    from crosswheel.building.sandbox.docker_engine import image_name

    hand = _ByHand(image_name(inputs["builder"], step.inputs["builder"].key))
    _in_container(replace(step, commands=(BAZEL,), outputs=()), inputs, settings, hand)
    return hand.time


def _import_image(step: RunStep, inputs: Mapping[str, Path], settings: Settings) -> None:
    """One run of nothing, after which the engine has the image of the builder and the files have been read once."""
    idle = replace(step, commands=(("true",),), outputs=())
    _in_container(idle, inputs, settings, sandbox_for(replace(settings, sandbox="docker")))


def _in_container(step: RunStep, inputs: Mapping[str, Path], settings: Settings, sandbox: Sandbox) -> None:
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as folder:
        out, work = Path(folder) / "out", Path(folder) / "work"
        out.mkdir()
        work.mkdir()
        lines: list[str] = []
        job = Job(key=step.key, out=out, work=work, settings=settings, log=lines.append, cancelled=threading.Event())
        run_run(step, inputs, job, sandbox=sandbox)
        remove(work)  # Bazel leaves folders that are not writable


if __name__ == "__main__":
    build_once()
