"""Builders that the user wants ``FROM`` an image of theirs: Docker builds the image, and its files become a root.

From there on the builder is a root like every other: it lies in the store, and containers are made of it.
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sandbox import docker_errors
from crosswheel.building.sandbox.docker_engine import KEY_LABEL, STORE_LABEL, store_label
from crosswheel.errors import FetchError, MachineError, StepError
from crosswheel.planning.steps import ImageStep

_NOT_FILES = ("dev", "proc", "sys")
_SECONDS = 600


def run_image(step: ImageStep, inputs: Mapping[str, Path], job: Job, *, host: str | None = None) -> None:
    """Builds the step's Dockerfile and takes the image's files as the root.

    Raises ``FetchError`` where the image cannot be had, ``StepError`` where a command of the Dockerfile fails,
    ``MachineError`` where Docker does not do it. The Dockerfile's ``RUN`` commands have the network: they install
    packages.
    """
    api = connect(host)
    labels = {KEY_LABEL: job.key, STORE_LABEL: store_label(job.settings.store)}
    image = _build(api, step, labels, job)
    try:
        with _container(api, image, labels) as container, docker_errors.translated("reading the image's files"):
            extract_image(api.export(container), job.out, job)
    finally:
        with docker_errors.translated("removing the image"):
            api.remove_image(image, force=True)


def connect(host: str | None) -> Any:
    """The engine's API."""
    from docker import APIClient
    from docker.utils import kwargs_from_env

    from crosswheel.building.sandbox.engine import DEFAULT_HOST, ping

    address = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    docker_errors.check_engine(ping(address))
    with docker_errors.translated("connecting to it"):
        return APIClient(**{**kwargs_from_env(), "base_url": address}, version="auto", timeout=_SECONDS)


def _build(api: Any, step: ImageStep, labels: Mapping[str, str], job: Job) -> str:
    """The id of the image."""
    said: list[str] = []
    image = ""
    tag = f"crosswheel/from:{job.key[:24]}"
    with docker_errors.translated("building the builder's image"):
        dockerfile = io.BytesIO(step.dockerfile.encode())
        for item in api.build(fileobj=dockerfile, tag=tag, rm=True, forcerm=True, labels=dict(labels), decode=True):
            if job.cancelled.is_set():
                raise Cancelled
            for line in str(item.get("stream", "")).splitlines():
                if line.strip():
                    said.append(line)
                    job.log(line)
            image = item.get("aux", {}).get("ID", image)
            if "error" in item:
                raise _failed(step, str(item["error"]), said)
    if not image:
        raise MachineError("Docker built no image, and did not say why.", why="\n".join(said[-10:]))
    return tag


def _failed(step: ImageStep, error: str, said: list[str]) -> StepError | FetchError:
    unreachable = ("pull access denied", "manifest unknown", "not found", "no such host", "dial tcp", "i/o timeout")
    if not any(line.startswith("Step 2") for line in said) and any(word in error.lower() for word in unreachable):
        return FetchError(
            "The image that the builder is to be made FROM cannot be had.",
            where=step.image,
            why=error,
            hint="Leave out --builder-from: the builder is then made of packages, with no image registry.",
        )
    why = "\n".join([*said[-8:], error])
    return StepError("Docker could not build the builder's image.", where=step.image, why=why)


@contextmanager
def _container(api: Any, image: str, labels: Mapping[str, str]) -> Iterator[str]:
    """A container that never runs: only such a thing's files can be read."""
    with docker_errors.translated("reading the image's files"):
        made = api.create_container(image, command=["none"], labels=dict(labels))["Id"]
    try:
        yield made
    finally:
        with docker_errors.translated("removing a container"):
            api.remove_container(made, force=True, v=True)


def extract_image(pieces: Iterator[bytes], out: Path, job: Job) -> None:
    """Extracts the image's files, owned by the caller, and makes them fit to be a root."""
    from crosswheel.building.debian.finish import finish
    from crosswheel.building.debian.hygiene import merge_usr, tidy

    excluded = [f"--exclude={name}/*" for name in _NOT_FILES]
    argv = ("tar", "--extract", "--no-same-owner", "--no-same-permissions", *excluded, "--directory", str(out))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, umask=0o022) as tar:
        assert tar.stdin and tar.stderr
        _pour(pieces, tar.stdin.write, tar, job)
        tar.stdin.close()
        said = tar.stderr.read().decode(errors="replace").strip()
    if tar.returncode:
        raise StepError("The image's files cannot be extracted.", why=said[-2000:])
    merge_usr(out)
    tidy(out, job.log)
    for item in finish(out, ()):
        job.log(f"made {item.path}: {item.why}")
    _link_merged(out)


def _pour(pieces: Iterator[bytes], write: Callable[[bytes], object], tar: subprocess.Popen[bytes], job: Job) -> None:
    try:
        for piece in pieces:
            if job.cancelled.is_set():
                tar.kill()
                raise Cancelled
            write(piece)
    except BrokenPipeError:
        return  # tar has ended, and says why


def _link_merged(out: Path) -> None:
    from crosswheel.building.debian.hygiene import MERGED

    for name in MERGED:
        if (out / "usr" / name).is_dir() and not (out / name).exists():
            (out / name).symlink_to(f"usr/{name}")
