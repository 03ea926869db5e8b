"""The Docker engine as seen from its socket, and how to start it.

One HTTP request over the socket says all that a build wants to know before its first container: whether the engine
answers, and its version. That takes a millisecond, where importing the docker SDK takes a fifth of a second.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from crosswheel.errors import MachineError

DEFAULT_HOST = "unix:///var/run/docker.sock"
START_SECONDS = 30.0

_FATAL = ("level=error", "level=fatal", "failed to", "permission denied", "not permitted", "no space left")
_CAUSES = (
    ("devices cgroup isn't mounted", "mount the control groups first: mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
    ("iptables", "this kernel or container allows no packet filter: it needs CAP_NET_ADMIN and the package iptables"),
    ("no space left", "free some space under /var/lib and try again"),
    ("operation not permitted", "in a container it must be privileged; or build without it: --sandbox host"),
)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What was found at ``host``. ``version`` is the engine's, empty where it does not say."""

    host: str
    state: Literal["answers", "silent", "refuses", "absent", "forbidden", "unknown"]
    version: str = ""


def ping(host: str = DEFAULT_HOST, *, seconds: float = 5.0) -> Engine:
    """Asks the engine at ``host`` (``unix://…``, ``tcp://…``) whether it is there.

    ``silent``: something listens and says nothing for ``seconds``. ``refuses``: the socket is there and nobody
    listens. ``forbidden``: this user may not open it. ``unknown``: a kind of address (``ssh://``) that only the
    docker SDK can reach.
    """
    try:
        reply = _get(host, "/_ping", seconds)
    except FileNotFoundError:
        return Engine(host=host, state="absent")
    except PermissionError:
        return Engine(host=host, state="forbidden")
    except ConnectionError:
        return Engine(host=host, state="refuses")
    except OSError:  # a time-out, a name that does not resolve, no route
        return Engine(host=host, state="silent")
    if reply is None:
        return Engine(host=host, state="unknown")
    return Engine(host=host, state="answers" if reply.startswith(b"HTTP/") else "silent", version=_version(reply))


def data_root(host: str = DEFAULT_HOST) -> str:
    """The folder in which the engine keeps its images, such as ``/var/lib/docker``; empty where it does not say."""
    import json

    try:
        reply = _get(host, "/info", 5.0) or b""
        root = json.loads(reply.partition(b"\r\n\r\n")[2]).get("DockerRootDir", "")
    except (OSError, ValueError):
        return ""
    return str(root)


def _get(host: str, path: str, seconds: float) -> bytes | None:
    """The whole reply to a GET, head and body; None where the kind of address is not known. Raises OSError."""
    url = urlsplit(host)
    family, address = _address(url.scheme, url.path, url.hostname or "", url.port)
    if family is None:
        return None
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        connection.connect(address)
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        return _read(connection)


def _address(scheme: str, path: str, name: str, port: int | None) -> tuple[int | None, str | tuple[str, int]]:
    if scheme == "unix":
        return socket.AF_UNIX, path
    if scheme in ("tcp", "http", "https"):
        return socket.AF_INET, (name, port or 2375)
    return None, ""


def _read(connection: socket.socket) -> bytes:
    reply = b""
    while len(reply) < 65536 and (piece := connection.recv(8192)):
        reply += piece
    return reply


def _version(reply: bytes) -> str:
    """``Server: Docker/20.10.24+dfsg1 (linux)`` → ``20.10.24+dfsg1``."""
    for line in reply.decode("latin-1").splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "server" and "/" in value:
            return value.split("/", 1)[1].split()[0]
    return ""


def is_running(proc: Path = Path("/proc")) -> bool:
    """Whether a process called ``dockerd`` runs on this machine."""
    for folder in proc.iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "comm").read_text().strip() == "dockerd":
                    return True
            except OSError:  # it ended while we looked
                continue
    return False


def start(
    log: Path,
    *,
    say: Callable[[str], None],
    host: str = DEFAULT_HOST,
    environ: Mapping[str, str],
    seconds: float = START_SECONDS,
    root: Path = Path("/"),
) -> Engine:
    """Starts the engine and waits until it answers, up to ``seconds``.

    systemd or a System V init starts it where one of them runs; else ``dockerd`` itself is started as a process of
    its own, with its output in ``log``. Where a ``dockerd`` runs already, none is started: it is waited for. Two calls
    at once start one. Raises MachineError with the lines of the log that matter.
    """
    import fcntl

    log.parent.mkdir(parents=True, exist_ok=True)
    with (log.parent / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        engine = ping(host)
        if engine.state == "answers":
            return engine
        written = log.stat().st_size if log.exists() else 0
        ended: Callable[[], int | None] | None = None
        if is_running(root / "proc"):
            say("dockerd runs and does not answer yet; waiting for it")
        else:
            ended = _start(start_command(root), log, say, environ)
        return _wait(host, seconds, ended, lambda what: _failure(what, log, written))


def start_command(root: Path = Path("/")) -> tuple[str, ...]:
    """How this machine starts its Docker engine."""
    if (root / "run/systemd/system").is_dir():
        return ("systemctl", "start", "docker")
    init = root / "proc/1/comm"
    if (root / "etc/init.d/docker").exists() and init.exists() and init.read_text().strip() == "init":
        return ("service", "docker", "start")
    return ("dockerd",)


def _start(
    argv: tuple[str, ...], log: Path, say: Callable[[str], None], environ: Mapping[str, str]
) -> Callable[[], int | None]:
    """Runs ``argv``. The result gives the exit status of an engine that ended or could not be started, else None."""
    import subprocess

    say(f"starting Docker: {' '.join(argv)} (log: {log})")
    # iptables and containerd lie in sbin, which an ordinary PATH may lack.
    path = os.pathsep.join([environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**environ, "PATH": path},
                start_new_session=True,  # Ctrl-C stops the build, not the engine
            )
        except FileNotFoundError as error:
            raise MachineError(
                f"the Docker engine cannot be started: {argv[0]} is not installed",
                hint="./x doctor names what to install",
            ) from error
    if argv == ("dockerd",):
        return process.poll
    return lambda: process.poll() or None


def _wait(
    host: str, seconds: float, ended: Callable[[], int | None] | None, failure: Callable[[str], MachineError]
) -> Engine:
    end = time.monotonic() + seconds
    while True:
        engine = ping(host, seconds=2)
        if engine.state == "answers":
            return engine
        status = ended() if ended else None
        if status is not None:
            raise failure(f"the Docker engine did not start (exit status {status})")
        if engine.state == "forbidden":
            raise MachineError(
                "the Docker engine runs, and this user may not open its socket",
                where=host,
                hint='sudo usermod -aG docker "$USER", then log in again',
            )
        if time.monotonic() > end:
            raise failure(f"the Docker engine did not answer within {seconds:.0f} s")
        time.sleep(0.2)


def _failure(what: str, log: Path, start: int) -> MachineError:
    """``start``: where in ``log`` the output of this attempt begins, in bytes."""
    text = log.read_bytes()[start:].decode(errors="replace") if log.exists() else ""
    lines = relevant_lines(text.splitlines())
    cause = next((hint for sign, hint in _CAUSES if any(sign in line.lower() for line in lines)), "")
    return MachineError(what, where=str(log), why="\n".join(lines), hint=cause or f"read {log}, then ./x doctor")


def relevant_lines(lines: Iterable[str], limit: int = 6) -> list[str]:
    """The last lines of dockerd's log that tell of an error, without its time stamps; else its last lines."""
    kept = [line for line in lines if line.strip()]
    fatal = [line for line in kept if any(sign in line.lower() for sign in _FATAL)]
    return [line.split("level=", 1)[-1][:400] for line in (fatal or kept)[-limit:]]
