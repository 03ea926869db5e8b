"""What carries an index to where it is published: what a carrier can do, and running the tools that do it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from crosswheel.errors import FetchError, MachineError

_LINES = 12
"""So many lines of what a tool said are told."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Of some files, by their paths: which the other side has not, and of which it has other bytes."""

    missing: frozenset[str]
    changed: frozenset[str]

    @property
    def wanted(self) -> frozenset[str]:
        """What is to be sent."""
        return self.missing | self.changed


class Carrier(Protocol):
    """A place to publish to. Paths are those of an index, without ``..``. Each method raises ``FetchError`` where the
    place cannot be reached or refuses, ``MachineError`` where a disk is full or a tool is lacking."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    def read(self, path: str) -> bytes | None:
        """A small file there; None where it is not there."""
        ...

    def compare(self, source: Path, paths: Sequence[str]) -> Difference:
        """What of these files in ``source`` is not there with the same hash."""
        ...

    def send(self, source: Path, paths: Sequence[str]) -> None:
        """Brings files of ``source`` there, each in one move."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Removes files there."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a tool ended with."""

    status: int
    out: bytes
    err: str


def run(argv: Sequence[str], paths: Sequence[str] = (), *, without: Sequence[str] = ()) -> Answer:
    """Runs a tool, with ``paths`` on its input, one a line, and ``without`` some variables of the environment.
    ``MachineError`` where it is not there."""
    environ = {name: value for name, value in os.environ.items() if name not in without}
    text = "".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape")
    try:
        done = subprocess.run(argv, input=text, env={**environ, "LC_ALL": "C.UTF-8"}, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise MachineError(f"this machine has no {argv[0]}", hint=f"apt-get install {argv[0]}") from error
    return Answer(status=done.returncode, out=done.stdout, err=done.stderr.decode("utf-8", "replace"))


def failed(argv: Sequence[str], answer: Answer, place: str) -> FetchError | MachineError:
    """The error for a tool that ended with a status other than 0."""
    lines = [line for line in answer.err.splitlines() if line.strip()]
    said = "\n".join(lines[-_LINES:])
    why = f"{said}\n$ {shlex.join(argv)}\nexit status {answer.status}".lstrip("\n")
    if any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        hint = "make room there and publish again: what is there already is not sent again"
        return MachineError("there is no space left where this is published", where=place, why=why, hint=hint)
    hint = "publish again when it can be reached: the index there is whole, and what is there is not sent again"
    return FetchError("the index could not be published here", where=place, why=why, hint=hint)
