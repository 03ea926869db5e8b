"""What a machine is, and how a need of a build is looked at. The needs themselves stand in ``needs.py``.

Each need is data: what it is, why it is wanted, how to see whether it is there, the packages that bring it and the
command that a person would type. Looking at all of them takes a few milliseconds: files, one ``statvfs`` and one
request to the Docker engine. Only ``doctor`` starts programs, for their versions.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from crosswheel.building.sandbox.engine import DEFAULT_HOST

Manager = Literal["apt", "dnf", "pacman"]
Status = Literal["ok", "missing", "optional", "low"]
Fix = Literal["none", "install", "start", "person"]

_INSTALL: Mapping[Manager, str] = {
    "apt": "apt-get install -y --no-install-recommends",
    "dnf": "dnf install -y",
    "pacman": "pacman -S --needed --noconfirm",
}


@dataclass(frozen=True, kw_only=True)
class System:
    """The operating system, as ``/etc/os-release`` tells it. ``manager`` is its package manager, where we know it."""

    id: str = ""
    title: str = "an unknown system"
    version: str = ""
    manager: Manager | None = None


def read_system(text: str) -> System:
    """What an ``os-release`` file says (its format: os-release(5))."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, sign, value = line.strip().partition("=")
        if sign and not name.startswith("#"):
            values[name] = re.sub(r"\\(.)", r"\1", value.strip().strip("\"'"))
    family = {values.get("ID", ""), *values.get("ID_LIKE", "").split()}
    manager: Manager | None = None
    if family & {"debian", "ubuntu"}:
        manager = "apt"
    elif family & {"fedora", "rhel", "centos"}:
        manager = "dnf"
    elif "arch" in family:
        manager = "pacman"
    title = values.get("PRETTY_NAME") or values.get("NAME") or System.title
    return System(id=values.get("ID", ""), title=title, version=values.get("VERSION_ID", ""), manager=manager)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to look. ``root`` is ``/`` but in tests; ``store`` is the folder of artefacts."""

    store: Path
    environ: Mapping[str, str]
    system: System
    uid: int
    root: Path = Path("/")

    @classmethod
    def here(cls, store: Path, environ: Mapping[str, str], root: Path = Path("/")) -> Machine:
        """This machine."""
        release = root / "etc/os-release"
        system = read_system(release.read_text(errors="replace")) if release.exists() else System()
        return cls(store=store, environ=environ, system=system, uid=os.geteuid(), root=root)

    @property
    def docker_host(self) -> str:
        """The engine's address, as the docker SDK takes it."""
        return self.environ.get("DOCKER_HOST") or DEFAULT_HOST

    @property
    def may_install(self) -> bool:
        """Whether crosswheel may install packages by itself: root, on Debian, Ubuntu and what descends from them."""
        return self.uid == 0 and self.system.manager == "apt" and self.find("apt-get") is not None

    def find(self, *names: str) -> Path | None:
        """The first of the programs that is on the path; ``sbin`` folders are looked at too."""
        sbin = [str(self.root / folder) for folder in ("usr/local/sbin", "usr/sbin", "sbin")]
        path = os.pathsep.join([self.environ.get("PATH", os.defpath), *sbin])
        for name in names:
            if found := shutil.which(name, path=path):
                return Path(found)
        return None

    def install_command(self, packages: Collection[str]) -> str:
        """What a person types to install ``packages``."""
        manager = self.system.manager
        if manager is None:
            return f"install {' '.join(packages)} (Debian's names) with your package manager"
        return self.as_root(f"{_INSTALL[manager]} {' '.join(packages)}")

    def as_root(self, command: str) -> str:
        """``command`` as this user has to type it."""
        return command if self.uid == 0 else f"sudo {command}"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What looking at a need gave. ``command`` stands in place of the one that installs the need's packages."""

    status: Status
    detail: str = ""
    version: str = ""
    fix: Fix = "none"
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something that a build wants of the machine. The first of ``programs`` that is there tells its version."""

    name: str
    why: str
    look: Callable[[Machine], Seen]
    packages: Mapping[Manager, tuple[str, ...]] = field(default_factory=dict)
    programs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A need and how this machine meets it. ``command`` is what to do, where something is to be done."""

    need: Need
    status: Status
    detail: str
    version: str
    fix: Fix
    command: str
    packages: tuple[str, ...]

    def described(self) -> dict[str, str]:
        """For ``--json``."""
        return {
            "name": self.need.name,
            "why": self.need.why,
            "status": self.status,
            "detail": self.detail,
            "version": self.version,
            "command": self.command,
        }


def look(machine: Machine, needs: Iterable[Need], *, versions: bool = False) -> list[Finding]:
    """How the machine meets each need. ``versions``: programs are asked for theirs."""
    findings = []
    for need in needs:
        seen = need.look(machine)
        packages = need.packages.get(machine.system.manager or "apt", ())
        command = seen.command
        if not command and seen.fix == "install" and packages:
            command = machine.install_command(packages)
        version = seen.version
        if versions and not version and seen.status == "ok":
            version = _ask_version(machine.find(*need.programs))
        findings.append(
            Finding(
                need=need,
                status=seen.status,
                detail=seen.detail,
                version=version,
                fix=seen.fix,
                command=command,
                packages=packages if seen.fix == "install" else (),
            )
        )
    return findings


def missing(machine: Machine, needs: Iterable[Need]) -> list[Finding]:
    """What is required and not there."""
    return [finding for finding in look(machine, needs) if finding.status == "missing"]


def read_version(text: str) -> str:
    """The first thing in ``text`` that looks like a version: ``git version 2.39.5`` → ``2.39.5``."""
    found = re.search(r"\d+(?:\.\d+)+[\w.+~-]*", text)
    return found.group().rstrip(".-") if found else ""


def _ask_version(program: Path | None) -> str:
    import subprocess

    if program is None:
        return ""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return read_version(result.stdout or result.stderr)
