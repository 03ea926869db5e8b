"""A container in which packages are installed: its root can be written, and its files become a root again.

Unlike the container of a build it runs as root, because dpkg does. It has no network either.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from crosswheel.building.job import Cancelled, Container, Job, Mount
from crosswheel.building.sandbox import Lines, docker_errors
from crosswheel.building.sandbox.docker_engine import KEY_LABEL, STORE_LABEL, DockerSandbox, store_label
from crosswheel.building.sandbox.images import connect, extract_image

_NEEDED = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID")
"""Capabilities: dpkg gives files their owners and modes."""

_WAIT = ("/bin/sh", "-c", "while :; do read line || exit 0; done")
"""What runs while commands are run beside it: it ends with its input, which stays open."""

_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
}


class Installer:
    """The container, from entering to leaving. ``packages`` is seen, read-only, at ``seen_at``."""

    def __init__(self, root: Path, root_key: str, packages: Path, seen_at: str, job: Job) -> None:
        self._job = job
        self._mount = Mount(source=packages, target=seen_at)
        self._container = Container(
            root=root,
            root_key=root_key,
            argv=_WAIT,
            env=_ENVIRONMENT,
            cwd="/",
            mounts=(),
            memory=job.settings.memory,
        )
        self._stack = ExitStack()
        self._api: Any = None
        self._ident = ""

    def __enter__(self) -> Installer:
        sandbox = DockerSandbox(self._job.settings.store)
        sandbox.sweep(self._job.key)  # what a killed build left
        image = sandbox.image_of(self._container, self._job.log, self._job.cancelled)
        self._api = connect(None)
        with docker_errors.translated("making a container"):
            from docker.types import Mount as Bind

            bind = Bind(target=self._mount.target, source=str(self._mount.source), type="bind", read_only=True)
            config = self._api.create_host_config(
                network_mode="none",
                cap_drop=["ALL"],
                cap_add=list(_NEEDED),
                security_opt=["no-new-privileges"],
                mounts=[bind],
                mem_limit=f"{self._container.memory}m",
                memswap_limit=f"{self._container.memory}m",
                pids_limit=self._container.pids,
                init=True,
            )
            labels = {KEY_LABEL: self._job.key, STORE_LABEL: store_label(self._job.settings.store)}
            made = self._api.create_container(
                image,
                list(_WAIT),
                user="0:0",
                environment=dict(_ENVIRONMENT),
                working_dir="/",
                stdin_open=True,
                host_config=config,
                labels=labels,
            )
        self._ident = str(made["Id"])
        self._stack.callback(self._remove)
        with docker_errors.translated("starting a container"):
            self._api.start(self._ident)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _remove(self) -> None:
        with docker_errors.translated("removing a container"):
            self._api.remove_container(self._ident, force=True, v=True)

    def put(self, folder: Path, place: str) -> None:
        """Copies a folder's files to ``place``, owned by root."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            archive.add(folder, place.lstrip("/"), filter=_of_root)
        with docker_errors.translated("copying files into a container"):
            self._api.put_archive(self._ident, "/", data.getvalue())

    def write(self, place: str, text: str) -> None:
        """Writes one file."""
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as archive:
            member = tarfile.TarInfo(place.lstrip("/"))
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
        with docker_errors.translated("copying files into a container"):
            self._api.put_archive(self._ident, "/", data.getvalue())

    def run(self, argv: Sequence[str], log: Callable[[str], None]) -> int:
        """Runs a command as root, and gives its exit status. ``Cancelled`` when the build is being stopped."""
        with docker_errors.translated("running a command in a container"):
            made = self._api.exec_create(self._ident, list(argv), environment=dict(_ENVIRONMENT), workdir="/")["Id"]
            lines = Lines(log)
            for piece in self._api.exec_start(made, stream=True):
                if self._job.cancelled.is_set():
                    raise Cancelled
                lines.feed(piece)
            lines.end()
            return int(self._api.exec_inspect(made)["ExitCode"])

    def take(self, out: Path) -> None:
        """Extracts the container's files, as a root."""
        with docker_errors.translated("reading the container's files"):
            extract_image(self._api.export(self._ident), out, self._job)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
