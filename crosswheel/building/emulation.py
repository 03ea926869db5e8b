"""Runs one process in the target's root, in a container, within a time."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.job import Cancelled, Container, Job, Mount
from crosswheel.building.sandbox import Sandbox
from crosswheel.errors import StepError
from crosswheel.proving.emulate import EMULATOR, dies

_REMEMBERED_LINES = 2000
_WATCH_SECONDS = 0.1
_LAST_WORDS_SECONDS = 3.0
"""How long qemu may take to end after it said that it dies; see :func:`crosswheel.proving.emulate.dies`."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """What is to run; ``timeout`` is in seconds, ``core`` in bytes: so large may the core file be that it leaves in
    ``cwd`` when it dies."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    timeout: float
    core: int = 0


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where it is to run: the target's root, the key of the step that made it, and what is seen in it besides."""

    root: Path
    root_key: str
    mounts: tuple[Mount, ...]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process on the emulated target ended."""

    status: int
    timed_out: bool
    seconds: float
    lines: tuple[str, ...]


class Watch:
    """Sets ``stop`` when the build is cancelled or the time is over; then ``expired`` says that it was the time."""

    def __init__(self, cancelled: threading.Event, seconds: float) -> None:
        self.stop = threading.Event()
        self.expired = False
        self._cancelled = cancelled
        self._deadline = time.monotonic() + seconds

    def hurry(self, seconds: float) -> None:
        """At most ``seconds`` from now on."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def look(self) -> None:
        """Once."""
        if time.monotonic() > self._deadline:
            self.expired = True
        if self.expired or self._cancelled.is_set():
            self.stop.set()


def emulator_mount(root: Path, arch: str) -> Mount:
    """The folder with qemu-user of the emulator's ``root``. ``StepError`` where it has none for ``arch``."""
    folder = root / "usr" / "bin"
    if not (folder / f"qemu-{arch}-static").is_file():
        raise StepError(f"The emulator's root has no qemu-{arch}-static.", where=str(folder))
    return Mount(source=folder, target=EMULATOR)


def read_left(path: Path, most: int) -> bytes | None:
    """The file that a process left, or None. The wheel's own code may have written it: a link is not followed, a pipe
    is not waited for, and of more than ``most`` bytes one more is read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return stream.read(most + 1)


def run_emulated(process: Process, place: Place, job: Job, sandbox: Sandbox) -> Ended:
    """Runs ``process`` in ``place``; its lines go to the job's log as well. Raises :class:`Cancelled`."""
    container = Container(
        root=place.root,
        root_key=place.root_key,
        argv=process.argv,
        env=process.env,
        cwd=process.cwd,
        mounts=place.mounts,
        memory=job.settings.memory,
        core=process.core,
    )
    lines: deque[str] = deque(maxlen=_REMEMBERED_LINES)
    began = time.monotonic()
    with watching(job.cancelled, process.timeout) as watch:

        def log(line: str) -> None:
            lines.append(line)
            job.log(line)
            if dies(line):
                watch.hurry(_LAST_WORDS_SECONDS)

        try:
            status = sandbox.run(container, log=log, cancelled=watch.stop, label_key=job.key)
        except Cancelled:
            if job.cancelled.is_set():
                raise
            status = 137
    return Ended(
        status=status,
        timed_out=watch.expired and not any(dies(line) for line in lines),
        seconds=time.monotonic() - began,
        lines=tuple(lines),
    )


@contextmanager
def watching(cancelled: threading.Event, seconds: float) -> Iterator[Watch]:
    """Watches ``cancelled`` and the clock from another thread."""
    watch = Watch(cancelled, seconds)
    done = threading.Event()

    def look() -> None:
        while not done.wait(_WATCH_SECONDS):
            watch.look()

    watcher = threading.Thread(target=look, name="proof-watch", daemon=True)
    watcher.start()
    try:
        yield watch
    finally:
        done.set()
        watcher.join()
