"""The sandbox for those who are in a container already: namespaces of this machine, without an engine.

``unshare`` makes namespaces for mounts, processes and the network; in them :mod:`crosswheel.building.sandbox.enter`
puts the builder's root together with the mounts and starts the command there. So the network is off and inputs are
read-only as in Docker, but memory and processes have no limit, and the machine's kernel settings and devices are seen:
it is not hermetic, and says so.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

from crosswheel.building.job import Cancelled, Container
from crosswheel.building.sandbox import ORDINARY_USER, Lines, environment, hand_over
from crosswheel.errors import MachineError

WARNING = (
    "warning: --sandbox host is not hermetic: no limit on memory and processes, and this machine's kernel settings and "
    "devices are seen"
)

_PROBE_SECONDS = 20
_WATCH_SECONDS = 0.2


class HostSandbox:
    """See :class:`crosswheel.building.sandbox.Sandbox`. ``MachineError`` where namespaces are not permitted."""

    def __init__(self) -> None:
        self._warned = False

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        """See :class:`crosswheel.building.sandbox.Sandbox`."""
        if not self._warned:
            log(WARNING)
            self._warned = True
        with self._command(container) as argv:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C stops the build, and the build stops the command
            )
            with process:
                try:
                    _read(process, Lines(log), cancelled)
                finally:
                    # With its process namespace all in it goes too; without one, all that stayed in its session.
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
            if cancelled.is_set():
                raise Cancelled
            return _status(process.returncode)

    def shell(self, container: Container) -> int:
        """See :class:`crosswheel.building.sandbox.Sandbox`."""
        print(WARNING, file=sys.stderr)
        with self._command(container) as argv:
            return _status(subprocess.run(argv, check=False).returncode)

    def sweep(self, key: str) -> None:
        """Nothing is ever left: the kernel kills the command together with the process that started it."""

    @contextmanager
    def _command(self, container: Container) -> Iterator[tuple[str, ...]]:
        for mount in container.mounts:
            if mount.writable and os.geteuid() == 0:
                hand_over(mount.source, ORDINARY_USER)
        with tempfile.TemporaryDirectory(prefix="crosswheel-") as stage:
            yield _argv(container, Path(stage), own_processes=self._own_processes)

    @cached_property
    def _own_processes(self) -> bool:
        """Whether a namespace of processes can be had too. A container engine masks parts of /proc; then the kernel
        refuses a fresh one."""
        from crosswheel.building.sandbox import enter as sandbox_enter

        with tempfile.TemporaryDirectory(prefix="crosswheel-") as stage:
            answers = []
            root = Path(stage) / "empty"
            root.mkdir()
            for own_processes in (True, False):
                probe = Container(root=root, root_key="", argv=("none",), env={}, cwd="/", mounts=(), memory=0)
                argv = _argv(probe, Path(stage), own_processes=own_processes)
                try:
                    done = subprocess.run(argv, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
                except FileNotFoundError as error:
                    raise _not_permitted(f"{error.filename} is not installed (package util-linux).") from error
                if done.returncode == sandbox_enter.NOT_FOUND:  # all went well until the command was looked for
                    return own_processes
                answers.append(done.stderr.strip())
        raise _not_permitted("\n".join(dict.fromkeys(answers)))


def _not_permitted(why: str) -> MachineError:
    return MachineError(
        "The host sandbox needs Linux namespaces, and this machine does not permit them.",
        where="--sandbox host",
        why=why,
        hint="Start your container with `--privileged`, or on a machine of its own set "
        "`sudo sysctl kernel.unprivileged_userns_clone=1` (Debian) or "
        "`kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu); or build with Docker.",
    )


def _argv(container: Container, stage: Path, *, own_processes: bool) -> tuple[str, ...]:
    from crosswheel.building.sandbox import enter as sandbox_enter

    caller = os.geteuid()
    spec = {
        "root": str(container.root),
        "stage": str(stage),
        "mounts": [[str(m.source), m.target, m.writable] for m in sorted(container.mounts, key=lambda m: m.target)],
        "argv": container.argv,
        "env": environment(container),
        "cwd": container.cwd,
        "core": container.core,
        "own_processes": own_processes,
        "user": ORDINARY_USER if caller == 0 else caller,
        "group": ORDINARY_USER if caller == 0 else os.getegid(),
        "namespaced_user": caller != 0,
    }
    path = stage / "spec.json"
    path.write_text(json.dumps(spec))
    return (
        *("setpriv", "--pdeathsig", "KILL", "--no-new-privs"),
        *("unshare", "--mount", "--net", "--ipc", "--uts", "--fork", "--kill-child"),
        *(("--pid",) if own_processes else ()),
        *(("--map-root-user",) if caller != 0 else ()),
        *("--", sys.executable, "-I", str(sandbox_enter.__file__), str(path)),
    )


def _read(process: subprocess.Popen[bytes], lines: Lines, cancelled: threading.Event) -> None:
    """Reads the output until the command ends; a process that it left behind may hold the output open."""
    assert process.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not cancelled.is_set():
            if selector.select(_WATCH_SECONDS):
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                lines.feed(data)
            elif process.poll() is not None:
                break
    lines.end()
    while not cancelled.is_set() and process.poll() is None:
        cancelled.wait(_WATCH_SECONDS / 4)


def _status(code: int) -> int:
    """As a shell gives it: 128 + the signal for a process that a signal ended."""
    return code if code >= 0 else 128 - code
