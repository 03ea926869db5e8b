"""Containers of the Docker sandbox whose root holds nothing but a static busybox, and builds in them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosswheel.building.execute import Runner, execute
from crosswheel.building.job import Container, Job, Mount, Settings
from crosswheel.building.runs import run_run
from crosswheel.building.sandbox.docker_engine import DockerSandbox, store_label
from crosswheel.building.store import Store
from crosswheel.errors import CrosswheelError
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep, Step

ROOT = FilesStep(name="a tiny root", files={"only for its key": RenderedFile(text="busybox")})
KEY = "5" * 64


def containers_of(engine: Any, store: Store, key: str = "") -> list[Any]:
    """All containers of the store, running or not; with ``key`` those of a step."""
    labels = [f"crosswheel.store={store_label(store.root)}", *([f"crosswheel.key={key}"] if key else [])]
    return list(engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True))


def sh(root: Path, script: str, *mounts: Mount, memory: int = 256, pids: int = 64) -> Container:
    return Container(
        root=root,
        root_key=ROOT.key,
        argv=("sh", "-c", script),
        env={"GREETING": "hello"},
        cwd="/tmp",
        mounts=mounts,
        memory=memory,
        pids=pids,
    )


def run(sandbox: DockerSandbox, container: Container, key: str = KEY) -> tuple[int, list[str]]:
    log: list[str] = []
    status = sandbox.run(container, log=log.append, cancelled=threading.Event(), label_key=key)
    return status, [line for line in log if not line.startswith("importing")]


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def a_step(root: Path, script: str) -> RunStep:
    return RunStep(
        name="a step",
        inputs={"builder": ROOT, "input": ROOT},
        commands=(("sh", "-c", script), ("sh", "-c", "cat /input/bin/sh > /dev/null")),
        env={},
        cwd="/build/src",
        mounts={"input": "/input"},
        copies={"input": "/build/src"},
        outputs=("*.txt",),
        sized_env={"SIZE": "{jobs} {memory}"},
    )


class Listener:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def plan(self, steps: object) -> None: ...

    def started(self, step: Step) -> None: ...

    def line(self, step: Step, text: str) -> None:
        self.lines.append(text)

    def waiting(self, step: Step) -> None: ...

    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...

    def damaged(self, step: Step, what: str) -> None: ...

    def failed(self, step: Step, error: CrosswheelError) -> None: ...


def build(step: RunStep, root: Path, store: Store, **options: Any) -> Path:
    """Executes the step with the busybox root as its builder."""
    host = options.pop("host", None)

    def give_root(step: FilesStep, inputs: Mapping[str, Path], job: Job) -> None:
        subprocess.run(("cp", "-a", f"{root}/.", str(job.out)), check=True)

    def run_step(step: RunStep, inputs: Mapping[str, Path], job: Job) -> None:
        run_run(step, inputs, job, sandbox=DockerSandbox(store.root, host=host))

    settings = Settings(store=store.root, memory=64, **options)
    runners: Mapping[type[Step], Runner] = {FilesStep: give_root, RunStep: run_step}
    return execute(step, store, settings, runners, Listener()).artefacts[step.key].path


KILLED_BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import containers as t
root, store = Path(sys.argv[1]), t.Store(Path(sys.argv[2]))
step = t.a_step(root, sys.argv[4])
try:
    t.build(step, root, store)
except KeyboardInterrupt:
    sys.exit(130)
"""
SLOW = "echo ready > /build/ready; sleep 60; echo x > /build/out/x.txt"


def start_build(root: Path, store: Store) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    argv = (sys.executable, "-c", KILLED_BUILD, str(root), str(store.root), here, SLOW)
    before = set(ready(store))
    process = subprocess.Popen(argv)
    until(lambda: set(ready(store)) - before, 60)
    return process


def ready(store: Store) -> list[Path]:
    """A file for each container that has begun to work."""
    return list((store.root / "tmp").glob("*/work/build/ready"))
