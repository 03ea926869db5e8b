"""What a step's work sees of the machine: the settings, a place to work, a log, a way to be told to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from crosswheel.digest import Json

if TYPE_CHECKING:
    from crosswheel.building.remote.endpoints import Remote


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user and the machine say. Nothing of it is in a key.

    ``store`` is the folder of artefacts. ``apt_mirrors`` maps an archive's name (``debian``) to a URL. ``mirror`` is
    the folder or URL that holds sources by sha256. ``memory`` is the limit of a container in MiB. ``remote`` is the
    user's remote cache, which Bazel's steps alone reach.
    """

    store: Path
    apt_mirrors: Mapping[str, str] = field(default_factory=dict)
    mirror: str | None = None
    offline: bool = False
    jobs: int = 2
    memory: int = 4096
    sandbox: Literal["docker", "host"] = "docker"
    keep_failed: bool = False
    remote: Remote | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of one step.

    ``out`` is an empty folder that becomes the artefact's ``out/``. ``work`` is an empty scratch folder that is
    removed afterwards. ``log`` takes one line (no newline) for the step's log and the screen. ``cancelled`` is set
    when the build is being stopped: long work looks at it and ends with :class:`Cancelled`. ``notes`` is what the run
    says of itself for the artefact's meta.json.
    """

    key: str
    out: Path
    work: Path
    settings: Settings
    log: Callable[[str], None]
    cancelled: threading.Event
    notes: dict[str, Json] = field(default_factory=dict)


class Cancelled(Exception):
    """The build was told to stop."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder of this machine seen in a container."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, kw_only=True)
class Container:
    """What runs in a container, and in which root.

    ``root`` is the extracted root that the image is made of, ``root_key`` the key of the step that made it: the image
    is imported into the engine once and tagged with it. ``memory`` is in MiB, ``core`` in bytes: a core file of a
    process that dies may be so large.
    """

    root: Path
    root_key: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    mounts: tuple[Mount, ...]
    memory: int
    pids: int = 4096
    core: int = 0
