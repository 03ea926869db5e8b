"""Running apt's commands: on this machine, or, where it has no apt, inside a Debian image."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from crosswheel.building.job import Cancelled, Job
from crosswheel.errors import CrosswheelError, FetchError, MachineError
from crosswheel.spec.sysroots import Archive

if TYPE_CHECKING:
    from docker import DockerClient


HELPER = "/usr/lib/apt/apt-helper"
"""apt's own download client; part of the package ``apt``, not in the PATH."""

_POLL_SECONDS = 0.2
_COMPLAINT = re.compile(r"E:|W:|Err:|gpgv:|.*\b(Pre-)?Depends: ")
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Ran:
    """A command that ended: its exit status, standard output and standard error."""

    status: int
    output: str
    errors: str

    def complaints(self, limit: int = 8) -> list[str]:
        """apt's own lines about what went wrong, without repetitions, at most ``limit``."""
        lines = [line.strip() for line in (self.errors + "\n" + self.output).splitlines() if line.strip()]
        chosen = [line for line in lines if _COMPLAINT.match(line)] or lines[-limit:]
        return list(dict.fromkeys(chosen))[:limit]


class AptRunner(Protocol):
    """Runs apt's commands somewhere. ``shares_files``: whether it sees this machine's own files."""

    shares_files: bool

    def run(self, argv: Sequence[str], folders: Sequence[Path]) -> Ran:
        """Runs a command; ``folders`` are those of this machine that it reads or writes, apart from apt's own.

        ``Cancelled`` when the build is being stopped."""
        ...

    def has(self, path: Path) -> bool:
        """Whether there is a file ``path`` where the commands run."""
        ...


class HostApt:
    """The apt of this machine, with its proxies and credentials."""

    shares_files = True

    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def run(self, argv: Sequence[str], folders: Sequence[Path]) -> Ran:
        """See :class:`AptRunner`."""
        environ = {**os.environ, "LC_ALL": "C"}
        with subprocess.Popen(
            tuple(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            cwd="/",
            umask=0o022,
            start_new_session=True,
        ) as process:
            try:
                output, errors = self._communicate(process)
            except BaseException:
                _end(process)
                raise
        return Ran(process.returncode, _text(output), _text(errors))

    def _communicate(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        while True:
            try:
                return process.communicate(timeout=_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if self._cancelled.is_set():
                    raise Cancelled from None

    def has(self, path: Path) -> bool:
        """See :class:`AptRunner`."""
        return path.is_file()


class ContainerApt:
    """The apt of an image; the folders are mounted at the same paths, and the files written are the caller's.

    The image is pulled by its digest if the engine does not have it. It uses the machine's network as it is, and its
    proxies by the environment. The tests exercise this with an image that they import themselves: whether a registry
    gives the image of the written data can be tried only where one is reachable.
    """

    shares_files = False

    def __init__(self, image: str, cancelled: threading.Event) -> None:
        self._image = image
        self._cancelled = cancelled
        self._client: DockerClient | None = None
        self._lock = threading.Lock()

    def run(self, argv: Sequence[str], folders: Sequence[Path]) -> Ran:
        """See :class:`AptRunner`."""
        import docker.errors

        try:
            return self._run(argv, folders)
        except (docker.errors.DockerException, OSError) as error:
            raise MachineError(
                f"apt's container of the image {self._image} could not be run.",
                why=str(error),
                hint="./x doctor looks at Docker.",
            ) from error

    def _run(self, argv: Sequence[str], folders: Sequence[Path]) -> Ran:
        container = self._engine().containers.create(
            self._image,
            list(argv),
            entrypoint=[],
            volumes={str(folder): {"bind": str(folder), "mode": "rw"} for folder in folders},
            user=f"{os.getuid()}:{os.getgid()}",
            environment={"LC_ALL": "C", **{name: os.environ[name] for name in _PROXIES if name in os.environ}},
            working_dir="/",
            network_mode="host",
            labels={"crosswheel": "apt"},
        )
        try:
            container.start()
            self._wait(container)
            status = container.wait()["StatusCode"]
            output, errors = (container.logs(stdout=out, stderr=not out) for out in (True, False))
        finally:
            container.remove(force=True)
        return Ran(int(status), _text(output), _text(errors))

    def _wait(self, container: Any) -> None:
        while True:
            container.reload()
            if container.status in ("exited", "dead"):
                return
            if self._cancelled.is_set():
                raise Cancelled
            time.sleep(_POLL_SECONDS)

    def _engine(self) -> DockerClient:
        import docker
        import docker.errors

        with self._lock:
            if self._client is None:
                try:
                    client = docker.from_env()
                    try:
                        client.images.get(self._image)
                    except docker.errors.ImageNotFound:
                        client.images.pull(self._image)
                except docker.errors.DockerException as error:
                    raise MachineError(
                        f"This machine has no apt, and the image {self._image} in which apt would run cannot be used.",
                        why=str(error),
                        hint="Start Docker, or install apt (Fedora has it as a package), then try again.",
                    ) from error
                self._client = client
            return self._client

    def has(self, path: Path) -> bool:
        """See :class:`AptRunner`."""
        return self.run(("test", "-f", str(path)), ()).status == 0


def apt_runner(archives: Iterable[Archive], job: Job) -> AptRunner:
    """This machine's apt, else the apt of the first image that the archives name; ``MachineError`` if neither is."""
    if shutil.which("apt-get"):
        return HostApt(job.cancelled)
    for archive in archives:
        if archive.image:
            job.log(f"no apt on this machine: using that of the image {archive.image}")
            return ContainerApt(archive.image, job.cancelled)
    raise MachineError(
        "This machine has no apt-get, and the archives name no image in which it could run.",
        hint="Install apt (Fedora has it as a package), or give an archive in sysroots/archives.toml an `image`.",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and its children; they are a process group of their own, which lives until it is waited for."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


# --- what apt's words mean -------------------------------------------------------------------------------------------

_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"NO_PUBKEY|public key is not available",
        "{what} is signed with a key that the keyring does not hold.",
        "Check that {mirror} is a mirror of that archive; if its keys are new, upgrade {keyring_package}.",
    ),
    (
        r"BADSIG|signatures were invalid|EXPKEYSIG|REVKEYSIG|Clearsigned file isn't valid|NODATA",
        "{what} has a signature that is not valid.",
        "Do not use {mirror} until it is known why; try another mirror (apt_mirrors).",
    ),
    (
        r"File has unexpected size|Hash Sum mismatch|hash sum mismatch",
        "{what} has bytes that are not those that it signed.",
        "A mirror that is just being updated does this for some minutes; otherwise do not use {mirror}.",
    ),
    (
        r"is expired|not valid yet|invalid for another",
        "{what} has a Release file that is out of date.",
        "Check this machine's clock; if it is right, {mirror} is no longer updated: name another (apt_mirrors).",
    ),
    (
        r"is not signed",
        "{what} is not signed.",
        "Nothing unsigned is used. Name another mirror (apt_mirrors).",
    ),
    (
        r"does not have a Release file|404  Not Found|File not found",
        "{what} lacks a suite or a component that is needed.",
        "Name a mirror that has it (apt_mirrors), or take the suite out of the sysroot's file.",
    ),
    (
        r"Unable to locate package|has no installation candidate|Couldn't find any package",
        "{what} has no package of that name for that architecture.",
        "Correct the name where it is written down, or add the suite or component that has it.",
    ),
    (
        r"unmet dependencies|held broken packages",
        "{what} cannot satisfy what the packages need.",
        "The mirrors may be of different dates: try again later, or with other mirrors (apt_mirrors).",
    ),
    (
        r"Could not (resolve|connect)|Temporary failure resolving|Connection (failed|timed out)|Unable to connect",
        "{what} cannot be reached.",
        "Check the network and apt's proxy, or name another mirror (apt_mirrors).",
    ),
)


_ABSENT = re.compile(
    r"Could not (resolve|connect)|Temporary failure resolving|Connection (failed|timed out)|Unable to connect"
    r"|does not have a Release file|404  Not Found|File not found"
)
_REFUSED = re.compile(
    r"NO_PUBKEY|public key is not available|BADSIG|signatures were invalid|EXPKEYSIG|REVKEYSIG"
    r"|Clearsigned file isn't valid|NODATA|is not signed|unexpected size|[Hh]ash [Ss]um mismatch|is expired"
    r"|not valid yet"
)


def absent(ran: Ran, mirrors: Mapping[str, str]) -> list[str]:
    """The archives that a failed ``apt-get update`` did not find at their mirrors, where all that it says against
    them is that; none where anything was refused. ``mirrors`` are their URLs, by the archive."""
    lines = [line for line in (ran.errors + "\n" + ran.output).splitlines() if _COMPLAINT.match(line.strip())]
    if any(_REFUSED.search(line) for line in lines):
        return []
    bad = [line for line in lines if _ABSENT.search(line)]
    return [name for name, base in mirrors.items() if any(base.rstrip("/") in line for line in bad)]


def explain(ran: Ran, *, what: str, mirror: str, keyring_package: str, where: str) -> CrosswheelError:
    """What a failed apt command means, in a sentence, with apt's own lines as the evidence.

    ``what`` begins the sentence (``The mirror … of debian``)."""
    complaints = ran.complaints()
    evidence = "\n".join(complaints)
    if re.search("No space left on device", evidence):
        return MachineError("There is no space left on the disk.", where=where, why=evidence, hint="./x clean")
    values = {"what": what, "mirror": mirror, "keyring_package": keyring_package}
    for pattern, sentence, hint in _MEANINGS:
        if re.search(pattern, evidence):
            return FetchError(sentence.format(**values), where=where, why=evidence, hint=hint.format(**values))
    return FetchError(f"{what}: apt failed with status {ran.status}.", where=where, why=evidence)
