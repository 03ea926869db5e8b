"""Runs a registry's own client, as the machine has it configured."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sources.places import MAX_BYTES, PlaceError

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Ended:
    """A client's exit status and what it said on both streams."""

    status: int
    words: str

    def last(self, lines: int = 6) -> str:
        """The last lines that are not empty: clients say last what went wrong."""
        return "\n".join([line for line in self.words.splitlines() if line.strip()][-lines:])


def run_client(argv: tuple[str, ...], *, job: Job, folder: Path, seconds: float, output: Path) -> Ended:
    """Runs ``argv`` in ``folder`` and waits. What it writes under ``output`` may be :data:`MAX_BYTES` at most.

    ``PlaceError`` if it runs for more than ``seconds`` or writes too much, ``Cancelled`` when the build is being
    stopped; in each case it and its children are ended.
    """
    said = folder / "client.log"
    deadline = time.monotonic() + seconds
    with said.open("wb") as stream:
        process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            while process.poll() is None:
                if job.cancelled.is_set():
                    raise Cancelled
                if time.monotonic() > deadline:
                    raise PlaceError(f"{Path(argv[0]).name} did not end within {seconds:.0f} seconds")
                if _size(output) > MAX_BYTES:
                    raise PlaceError(f"the file is longer than {MAX_BYTES:,} bytes")
                time.sleep(_POLL_SECONDS)
        finally:
            _end(process)
    return Ended(process.returncode, said.read_text("utf-8", "replace"))


def _size(path: Path) -> int:
    """Bytes of a file or of the files of a folder; they come and go while the client works."""
    total = 0
    for file in path.iterdir() if path.is_dir() else [path]:
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            continue
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the client's process group."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
