"""The sandbox that is a Docker container.

The builder's root is imported into the engine once, as an image. A container has no network, no capabilities, a
read-only root, an ordinary user, and limits on memory and processes. It is labelled with the key of its step and with
the store, so that what a killed build left behind is found again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from crosswheel.building.diagnose import OUT_OF_MEMORY
from crosswheel.building.job import Cancelled, Container
from crosswheel.building.sandbox import ORDINARY_USER, Lines, docker_errors, environment, hand_over
from crosswheel.digest import sha256_bytes
from crosswheel.errors import MachineError

REPOSITORY = "crosswheel/root"
KEY_LABEL = "crosswheel.key"
STORE_LABEL = "crosswheel.store"
ROOT_LABEL = "crosswheel.root"

_ANSWER_SECONDS = 60
_WATCH_SECONDS = 0.2
_PIECE = 2**18
_SCRATCH = ("tmp", "var/tmp")
_HEADER = struct.Struct(">BxxxL")


def store_label(store: Path) -> str:
    """The value of :data:`STORE_LABEL` for a store's folder."""
    return sha256_bytes(str(store.absolute()).encode())[:16]


def image_name(root: Path, root_key: str) -> str:
    """The name under which the engine has the image of an extracted root, once a step has run in it."""
    return f"{REPOSITORY}:{root_key[:24]}-{_fingerprint(root)}"


class DockerSandbox:
    """See :class:`crosswheel.building.sandbox.Sandbox`. ``store`` is the store's folder, ``host`` the engine's
    address, by default what the environment says (``DOCKER_HOST``), else the local socket. ``seconds`` is how long to
    wait for an answer."""

    def __init__(self, store: Path, *, host: str | None = None, seconds: int = _ANSWER_SECONDS) -> None:
        self._store = store.absolute()
        self._host = host
        self._seconds = seconds
        self._lock = threading.Lock()
        self._mounts_seen = False
        self._swept: set[str] = set()
        self._store_label = store_label(store)

    # --- the engine ------------------------------------------------------------------------------------------------

    @cached_property
    def _api(self) -> Any:
        from crosswheel.building.sandbox.engine import DEFAULT_HOST, ping

        host = self._host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        docker_errors.check_engine(ping(host))
        from docker import APIClient
        from docker.utils import kwargs_from_env

        with docker_errors.translated("connecting to it"):
            options = {**kwargs_from_env(), "base_url": host}
            return APIClient(**options, version="auto", timeout=self._seconds)

    @cached_property
    def _info(self) -> dict[str, Any]:
        with docker_errors.translated("asking what it is"):
            info: dict[str, Any] = self._api.info()
        docker_errors.check_root_dir(str(info.get("DockerRootDir", "")))
        return info

    def _has(self, option: str) -> bool:
        return any(f"name={option}" in text for text in self._info.get("SecurityOptions") or ())

    @property
    def _owner(self) -> int:
        """Who the processes in the container are, as this machine sees them."""
        return os.geteuid() or ORDINARY_USER

    @property
    def _user(self) -> str:
        if self._has("rootless"):
            return "0:0"  # there, root in a container is the caller and nobody else
        return f"{self._owner}:{os.getegid() if os.geteuid() else ORDINARY_USER}"

    # --- images ----------------------------------------------------------------------------------------------------

    def _image(self, container: Container, log: Callable[[str], None], cancelled: threading.Event) -> str:
        """The tag of the image that is made of the container's root; it is imported if the engine lacks it."""
        from docker.errors import ImageNotFound
        from filelock import FileLock

        name = image_name(container.root, container.root_key)
        tag = name.rpartition(":")[2]
        locks = self._store / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"image-{tag}.lock"), docker_errors.translated("importing a root"):
            try:
                self._api.inspect_image(name)
            except ImageNotFound:
                log("importing the root into Docker (once)")
                self._import(container.root, tag, container.root_key, cancelled)
        return name

    def _import(self, root: Path, tag: str, root_key: str, cancelled: threading.Event) -> None:
        """Streams ``root`` to the engine. The tag is given last, so that an image cut short never has it."""
        import json

        scratch = [f"--exclude=./{name}" for name in _SCRATCH]
        owner = ("--numeric-owner", "--owner=0", "--group=0")
        argv = ("tar", "--create", *owner, "--anchored", *scratch, "--directory", str(root), ".")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as tar:
            assert tar.stdout and tar.stderr
            stream = tar.stdout

            def pieces() -> Iterator[bytes]:
                yield _scratch_members()
                while piece := stream.read(_PIECE):
                    if cancelled.is_set():
                        raise Cancelled
                    yield piece

            try:
                answer = self._api.import_image_from_data(
                    pieces(), changes=[f"LABEL {ROOT_LABEL}={root_key}", f"LABEL {STORE_LABEL}={self._store_label}"]
                )
            finally:
                tar.stdout.close()
            complaint = tar.stderr.read().decode(errors="replace")
            status = tar.wait()
        last = json.loads(answer.strip().splitlines()[-1])
        if "error" in last:
            docker_errors.refuse("importing a root", str(last["error"]))
        if status != 0:
            self._api.remove_image(last["status"])
            raise MachineError("The builder's root could not be packed.", where=str(root), why=complaint.strip())
        self._api.tag(last["status"], REPOSITORY, tag)

    def remove_images(self, has: Callable[[str], bool]) -> int:
        """Removes the images that were made for this store of roots that it no longer ``has``; returns how many. One
        that is in use stays."""
        from docker.errors import APIError

        removed = 0
        with docker_errors.translated("removing images"):
            for image in self._api.images(filters={"label": f"{STORE_LABEL}={self._store_label}"}):
                if has(image["Labels"][ROOT_LABEL]):
                    continue
                try:
                    self._api.remove_image(image["Id"], force=True)
                    removed += 1
                except APIError as error:
                    if error.status_code != 409:  # 409: a container runs in it
                        raise
        return removed

    # --- containers ------------------------------------------------------------------------------------------------

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        """See :class:`crosswheel.building.sandbox.Sandbox`."""
        image = self._prepare(container, log, cancelled)
        if label_key not in self._swept:
            # A build whose engine went away leaves a container and no folder by which the executor would know.
            self.sweep(label_key)
            self._swept.add(label_key)
        with docker_errors.translated("running a step"), self._created(container, image, label_key, log=log) as ident:
            if cancelled.is_set():
                raise Cancelled
            output = self._api.attach_socket(ident, params={"stdout": 1, "stderr": 1, "stream": 1})
            try:
                self._api.start(ident)
                _read(output, Lines(log), cancelled)
            finally:
                output.close()
            state = self._ended(ident, cancelled)
        if state["OOMKilled"]:
            log(f"{OUT_OF_MEMORY} of {container.memory} MiB, and a process was killed")
        return int(state["ExitCode"])

    def shell(self, container: Container) -> int:
        """See :class:`crosswheel.building.sandbox.Sandbox`."""
        from crosswheel.building.sandbox.terminal import give_terminal

        image = self._prepare(container, print, threading.Event())
        with (
            docker_errors.translated("opening a shell"),
            self._created(container, image, "", log=print, tty=True) as ident,
        ):
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            connection = self._api.attach_socket(ident, params=params)
            self._api.start(ident)
            give_terminal(connection, lambda rows, columns: self._api.resize(ident, rows, columns))
            connection.close()
            return int(self._ended(ident, threading.Event())["ExitCode"])

    def sweep(self, key: str) -> None:
        """Removes the containers that a killed build left for the step ``key`` of this store."""
        labels = [f"{KEY_LABEL}={key}", f"{STORE_LABEL}={self._store_label}"]
        with docker_errors.translated("listing its containers"):
            for container in self._api.containers(all=True, filters={"label": labels}):
                self._remove(container["Id"])

    def image_of(self, container: Container, log: Callable[[str], None], cancelled: threading.Event) -> str:
        """The name of the image of a container's root, for a container of another kind than a step's."""
        return self._prepare(container, log, cancelled)

    def _prepare(self, container: Container, log: Callable[[str], None], cancelled: threading.Event) -> str:
        with self._lock:  # two threads of this process connect once
            _ = self._info
        image = self._image(container, log, cancelled)
        with self._lock:
            if not self._mounts_seen:
                self._check_mounts(image)
                self._mounts_seen = True
        if os.geteuid() == 0 and not self._has("rootless"):
            for mount in container.mounts:
                if mount.writable:
                    hand_over(mount.source, self._owner)
        return image

    @contextmanager
    def _created(
        self, container: Container, image: str, key: str, *, log: Callable[[str], None], tty: bool = False
    ) -> Iterator[str]:
        created = self._api.create_container(
            image,
            list(container.argv),
            name=f"crosswheel-{key[:12] or 'shell'}-{uuid.uuid4().hex[:8]}",
            environment=environment(container),
            working_dir=container.cwd,
            user=self._user,
            labels={KEY_LABEL: key, STORE_LABEL: self._store_label},
            network_disabled=True,
            tty=tty,
            stdin_open=tty,
            host_config=self._host_config(container),
        )
        ident = str(created["Id"])
        try:
            yield ident
        finally:
            try:
                with docker_errors.translated("removing a container"):
                    self._remove(ident)
            except MachineError as error:
                self._swept.discard(key)
                log(f"crosswheel: the container {ident[:12]} could not be removed, the next build does it: {error}")

    def _host_config(self, container: Container) -> Any:
        from docker.types import LogConfig, Mount, Ulimit

        options = ["no-new-privileges"]
        if self._has("selinux"):
            options.append("label=disable")  # else SELinux hides the store, unless all of it were relabelled
        mounts = [
            Mount(target=m.target, source=str(m.source), type="bind", read_only=not m.writable)
            for m in container.mounts
        ]
        # An engine without root's rights cannot raise a limit, and gives its own.
        core = [] if container.core and self._has("rootless") else [container.core]
        return self._api.create_host_config(
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=options,
            read_only=True,
            tmpfs={"/tmp": "rw,exec,nosuid,nodev,mode=1777", "/var/tmp": "rw,exec,nosuid,nodev,mode=1777"},
            shm_size="256m",
            mounts=mounts,
            mem_limit=f"{container.memory}m",
            memswap_limit=f"{container.memory}m",
            pids_limit=container.pids,
            ulimits=[Ulimit(name="core", soft=most, hard=most) for most in core],
            init=True,
            userns_mode="host" if self._has("userns") else None,
            # The output is read as it comes; a copy of it under Docker's root would only fill that disk.
            log_config=LogConfig(type="none"),
        )

    def _ended(self, ident: str, cancelled: threading.Event) -> dict[str, Any]:
        """The container's last state. A process may close its output long before it ends."""
        while True:
            state: dict[str, Any] = self._api.inspect_container(ident)["State"]
            if not state["Running"]:
                return state
            if cancelled.wait(_WATCH_SECONDS / 4):
                raise Cancelled

    def _remove(self, ident: str) -> None:
        from docker.errors import APIError, NotFound

        try:
            self._api.remove_container(ident, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # 409: somebody else removes it at this moment
                raise

    def _check_mounts(self, image: str) -> None:
        """Whether the engine sees this machine's files: one that runs elsewhere, or was installed by snap, does not."""
        import io
        import tarfile
        import tempfile

        from docker.errors import NotFound
        from docker.types import Mount

        token = uuid.uuid4().hex
        area = self._store / "tmp"
        area.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="probe.", dir=area) as folder, docker_errors.translated("mounting"):
            (Path(folder) / "token").write_text(token)
            mount = Mount(target="/mnt", source=folder, type="bind", read_only=True)
            config = self._api.create_host_config(mounts=[mount], network_mode="none")
            labels = {KEY_LABEL: "probe", STORE_LABEL: self._store_label}
            ident = self._api.create_container(image, ["/nothing"], host_config=config, labels=labels)["Id"]
            try:
                stream, _ = self._api.get_archive(ident, "/mnt/token")
                with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
                    member = archive.extractfile("token")
                    seen = member.read().decode() if member else ""
            except NotFound:
                seen = ""
            finally:
                self._remove(ident)
        if seen != token:
            raise docker_errors.blind(str(area))


def _scratch_members() -> bytes:
    """The beginning of the archive: /tmp and /var/tmp, which anybody may write to. The engine gives the memory that it
    mounts there the mode of the folders below, and a root made without root's rights may have another."""
    import tarfile

    members = []
    for name in _SCRATCH:
        member = tarfile.TarInfo(f"./{name}")
        member.type, member.mode = tarfile.DIRTYPE, 0o1777
        members.append(member.tobuf())
    return b"".join(members)


def _read(connection: Any, lines: Lines, cancelled: threading.Event) -> None:
    """Reads a container's output until it ends. Raises ``Cancelled`` soon after ``cancelled`` is set.

    Pieces come behind eight bytes each: the stream, three zeros, and the length
    (https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach).
    """
    stream = getattr(connection, "_sock", connection)  # the SDK wraps a plain socket so that it has no time-out
    stream.settimeout(_WATCH_SECONDS)
    buffer = bytearray()
    while True:
        if cancelled.is_set():
            raise Cancelled
        try:
            data = stream.recv(65536)
        except TimeoutError:
            continue
        if not data:
            return lines.end()
        buffer += data
        while len(buffer) >= _HEADER.size:
            _, length = _HEADER.unpack_from(buffer)
            if len(buffer) < _HEADER.size + length:
                break
            lines.feed(bytes(buffer[_HEADER.size : _HEADER.size + length]))
            del buffer[: _HEADER.size + length]


def _fingerprint(root: Path) -> str:
    """Tells roots of one key apart: a key says what was asked for, and an archive may have answered differently at
    another time or for another store."""
    for path in (root / ".crosswheel" / "lock.json", root.parent / "meta.json"):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return "plain"
