"""Where the commands of a step run: closed off from the network, the machine and the store.

:class:`Sandbox` is what runners see. :mod:`.docker_engine` has the one that holds what the design promises;
:mod:`.host` has the one for those who are in a container already, which says what it lacks.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from crosswheel.building.job import Container, Settings

if TYPE_CHECKING:
    from crosswheel.building.store import Store

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where a command is searched unless the container's ``env`` says otherwise."""

ORDINARY_USER = 1000
"""The uid and gid of a container's processes where the caller is root: a build never runs as root."""

_LONGEST_LINE = 4000
_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][0-9A-B]|[=>78cDEHM])")


class Sandbox(Protocol):
    """Runs commands in a container."""

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        """Runs ``container.argv`` to its end and returns its exit status; ``log`` gets each line of its output.

        The files in writable mounts belong to the container's user from the first run on. ``label_key`` is the key
        of the step, whose lock the caller holds. Where the memory limit was reached, a line that begins with
        :data:`crosswheel.building.diagnose.OUT_OF_MEMORY` is logged. Raises :class:`~crosswheel.building.job.Cancelled`
        at most about two seconds after ``cancelled`` is set, and ``MachineError`` where the machine is at fault. In no
        case is a container left behind by a process that lives.
        """
        ...

    def shell(self, container: Container) -> int:
        """Gives the user's terminal to ``container.argv`` and returns its exit status."""
        ...

    def sweep(self, key: str) -> None:
        """Removes what a killed build left running for the step ``key`` of this store."""
        ...


def sandbox_for(settings: Settings) -> Sandbox:
    """The sandbox that the user chose, one for all steps. Nothing is started or connected to before it is used."""
    return _sandbox(settings.sandbox, settings.store)


@cache
def _sandbox(kind: str, store: Path) -> Sandbox:
    if kind == "host":
        from crosswheel.building.sandbox.host import HostSandbox

        return HostSandbox()
    from crosswheel.building.sandbox.docker_engine import DockerSandbox

    return DockerSandbox(store)


def remove_images(store: Store) -> int:
    """Removes the images that were made of roots which are no longer in the store; returns how many. Without a Docker
    engine that answers there is none to remove."""
    from crosswheel.building.sandbox.docker_engine import DockerSandbox
    from crosswheel.building.sandbox.engine import DEFAULT_HOST, ping

    if ping(os.environ.get("DOCKER_HOST") or DEFAULT_HOST).state != "answers":
        return 0
    return DockerSandbox(store.root).remove_images(store.has)


class Lines:
    """Cuts a stream of bytes into lines for ``log``.

    Of a line that is overwritten by carriage returns (a progress bar) the last state counts; escape sequences are
    dropped, and of a very long line the beginning is kept.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rest = b""
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._emit(line)
        self._rest = rest
        if len(rest) > 16 * _LONGEST_LINE:
            last = rest.rstrip(b"\r").rpartition(b"\r")[2]
            self._dropped += max(0, len(last) - 4 * _LONGEST_LINE)
            self._rest = last[: 4 * _LONGEST_LINE]

    def end(self) -> None:
        """No more bytes come."""
        if self._rest:
            self._emit(self._rest)
            self._rest = b""

    def _emit(self, line: bytes) -> None:
        last = line.rstrip(b"\r").rpartition(b"\r")[2]
        text = _ESCAPE.sub("", last.decode(errors="replace"))
        missing = self._dropped + max(0, len(text) - _LONGEST_LINE)
        self._dropped = 0
        self._log(f"{text[:_LONGEST_LINE]}… ({missing} more)" if missing else text)


def environment(container: Container) -> dict[str, str]:
    """What a container's processes see: what the container says, and a search path."""
    return {"PATH": PATH, **container.env}


def hand_over(folder: Path, owner: int) -> None:
    """Gives a folder and all in it to the user ``owner``, unless the folder is theirs already."""
    if folder.lstat().st_uid == owner:
        return
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(place) / name, owner, owner, follow_symlinks=False)
    os.chown(folder, owner, owner, follow_symlinks=False)
