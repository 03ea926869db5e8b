"""What a build needs of the machine, and how each need is looked at."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal

from crosswheel.building.machine import Machine, Need, Seen, Status, System
from crosswheel.building.sandbox.engine import DEFAULT_HOST, data_root, ping, start_command

GIB = 1 << 30
LEAST_DISK = 1 * GIB
"""Bytes: below this no build is begun."""
GOOD_DISK = 10 * GIB
"""Bytes: a builder, its image in the engine, two sysroots and the sources of the small recipes take some 4 GiB."""
GOOD_MEMORY = 4 * GIB
"""Bytes: Bazel's own server takes up to 1 GiB, and a C++ compiler up to 1 GiB for each job."""


def _program(*names: str, optional: str = "") -> Callable[[Machine], Seen]:
    """Looks for a program. ``optional`` says what its lack means, where it is no obstacle."""

    def look_for(machine: Machine) -> Seen:
        found = machine.find(*names)
        if found:
            return Seen(status="ok", detail=str(found))
        if optional:
            return Seen(status="optional", detail=optional, fix="install")
        return Seen(status="missing", detail="not installed", fix="install")

    return look_for


def _docker(machine: Machine) -> Seen:
    host = machine.docker_host
    engine = ping(host)
    if engine.state == "answers":
        return _snap(machine) or Seen(status="ok", detail=f"answers at {host}", version=engine.version)
    if engine.state == "unknown":
        return Seen(status="ok", detail=f"{host}: not looked at")
    if engine.state == "forbidden":
        return Seen(
            status="missing",
            detail=f"this user may not open {host}",
            fix="person",
            command='sudo usermod -aG docker "$USER", then log in again',
        )
    if engine.state == "silent":
        return Seen(
            status="missing",
            detail=f"{host} accepts the connection and does not answer",
            fix="person",
            command=machine.as_root("systemctl restart docker"),
        )
    return _docker_not_running(machine, host)


def _docker_not_running(machine: Machine, host: str) -> Seen:
    if host != DEFAULT_HOST:
        command = f"start the engine at {host}, or unset DOCKER_HOST"
        return Seen(status="missing", detail=f"nothing answers at {host} ($DOCKER_HOST)", fix="person", command=command)
    rootless = Path(machine.environ.get("XDG_RUNTIME_DIR", "/nowhere")) / "docker.sock"
    if rootless.exists() and ping(f"unix://{rootless}").state == "answers":
        command = f"export DOCKER_HOST=unix://{rootless}"
        return Seen(status="missing", detail="only a rootless engine runs here", fix="person", command=command)
    if machine.find("dockerd") is None:
        return _snap(machine, running=False) or Seen(status="missing", detail="not installed", fix="install")
    words = " ".join(start_command(machine.root))
    command = machine.as_root(words) + (" &" if words == "dockerd" else "")
    return Seen(status="missing", detail="installed, not running", fix="start", command=command)


def _snap(machine: Machine, *, running: bool = True) -> Seen | None:
    """A snap's engine sees no hidden folder of a home and no mounted file system: a container's mounts stay empty."""
    if not (machine.root / "var/snap/docker").exists():
        return None
    if running and not data_root(machine.docker_host).startswith("/var/snap"):
        return None
    get = machine.install_command(DOCKER.packages.get(machine.system.manager or "apt", ()))
    return Seen(
        status="missing",
        detail="Docker was installed as a snap, which cannot see the store",
        fix="person",
        command=f"{machine.as_root('snap remove docker')} && {get}",
    )


def _apparmor(machine: Machine) -> Seen:
    """Where the kernel uses AppArmor, dockerd loads its profile with ``apparmor_parser``, and no container starts
    without it (Docker's error: "docker-default profile could not be loaded")."""
    switch = machine.root / "sys/module/apparmor/parameters/enabled"
    if not switch.exists() or switch.read_text().strip() != "Y":
        return Seen(status="ok", detail="the kernel does not use AppArmor", version="not used")
    return _program("apparmor_parser")(machine)


def _apt(machine: Machine) -> Seen:
    helper = machine.root / "usr/lib/apt/apt-helper"
    lacking = [name for name in ("apt-get", "dpkg-deb") if machine.find(name) is None]
    lacking += [] if helper.exists() else ["apt-helper"]
    if not lacking:
        return Seen(status="ok", detail=str(machine.find("apt-get")))
    if machine.system.manager != "apt":
        return Seen(status="optional", detail="not here: packages are assembled inside a Debian image instead")
    return Seen(status="missing", detail=f"{', '.join(lacking)} not installed", fix="install")


def _keyring(machine: Machine) -> Seen:
    path = machine.root / "usr/share/keyrings/debian-archive-keyring.gpg"
    if path.exists():
        return Seen(status="ok", detail=str(path), version="installed")
    if machine.system.manager != "apt":
        return Seen(status="optional", detail="not here: the Debian image brings it")
    return Seen(status="missing", detail="not installed", fix="install")


def _disk(path: Callable[[Machine], Path]) -> Callable[[Machine], Seen]:
    def look_at(machine: Machine) -> Seen:
        folder = path(machine)
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        detail, amount = f"at {path(machine)}", f"{free / GIB:.1f} GiB free"
        if free >= GOOD_DISK:
            return Seen(status="ok", detail=detail, version=amount)
        command = f"have {GOOD_DISK // GIB} GiB free there: `./x clean --older-than 30d`, or another disk"
        status: Status = "missing" if free < LEAST_DISK else "low"
        return Seen(status=status, detail=f"only {amount} {detail}", version=amount, fix="person", command=command)

    return look_at


def _docker_folder(machine: Machine) -> Path:
    settings = machine.root / "etc/docker/daemon.json"
    default = machine.root / "var/lib/docker"
    if not settings.exists():
        return default
    import json

    try:
        value = json.loads(settings.read_text())
    except (OSError, ValueError):  # dockerd itself will say what is wrong with it
        return default
    return Path(value["data-root"]) if isinstance(value, dict) and "data-root" in value else default


def _memory(machine: Machine) -> Seen:
    found = re.search(r"^MemTotal:\s+(\d+) kB", (machine.root / "proc/meminfo").read_text(), re.MULTILINE)
    total = int(found.group(1)) * 1024 if found else 0
    amount = f"{total / GIB:.1f} GiB"
    if total >= GOOD_MEMORY:
        return Seen(status="ok", version=amount)
    command = "build with --jobs 1, or add swap"
    return Seen(status="low", detail=f"only {amount}", version=amount, fix="person", command=command)


def _cores(machine: Machine) -> Seen:
    return Seen(status="ok", version=f"{len(os.sched_getaffinity(0))} usable")


DOCKER = Need(
    name="Docker engine",
    why="builds run in containers",
    look=_docker,
    packages={"apt": ("docker.io", "iptables"), "dnf": ("moby-engine",), "pacman": ("docker",)},
)
APPARMOR = Need(
    name="AppArmor's parser",
    why="where the kernel uses AppArmor, Docker starts no container without it",
    look=_apparmor,
    packages={"apt": ("apparmor",), "pacman": ("apparmor",)},
)
APT = Need(
    name="apt and dpkg-deb",
    why="sysroots and builders are assembled from Debian's packages",
    look=_apt,
    packages={"apt": ("apt", "dpkg")},
    programs=("apt-get",),
)
KEYRING = Need(
    name="Debian's keyring",
    why="package indices are believed only with Debian's signature",
    look=_keyring,
    packages={"apt": ("debian-archive-keyring",)},
)
GIT = Need(
    name="git",
    why="applies the patches",
    look=_program("git"),
    packages={"apt": ("git",), "dnf": ("git",), "pacman": ("git",)},
    programs=("git",),
)
TAR = Need(
    name="tar",
    why="extracts Debian's packages",
    look=_program("tar"),
    packages={"apt": ("tar",), "dnf": ("tar",), "pacman": ("tar",)},
    programs=("tar",),
)
NPM = Need(
    name="npm",
    why="an older Bazel can be had from npm where upstream's URL is dead",
    look=_program("npm", optional="not installed: a build that needs it gets its own from the Python registry"),
    programs=("npm",),
)
QEMU = Need(
    name="qemu-user",
    why="runs a wheel's check on the emulated target",
    look=_program(
        "qemu-aarch64-static",
        "qemu-aarch64",
        optional="not installed: builds bring their own qemu; wanted only to try things by hand",
    ),
    packages={"apt": ("qemu-user",), "dnf": ("qemu-user",), "pacman": ("qemu-user",)},
    programs=("qemu-aarch64-static", "qemu-aarch64"),
)
STORE_DISK = Need(name="disk of the store", why="holds sources, roots and wheels", look=_disk(lambda m: m.store))
DOCKER_DISK = Need(name="disk of Docker", why="holds the builders' images", look=_disk(_docker_folder))
MEMORY = Need(name="memory", why="compilers take it", look=_memory)
CORES = Need(name="processor cores", why="compilers use them", look=_cores)

GPG = Need(
    name="gpg",
    why="the tests sign a repository of their own",
    look=_program("gpg"),
    packages={"apt": ("gpg", "gpg-agent")},
    programs=("gpg",),
)
APT_UTILS = Need(
    name="apt-utils",
    why="the tests make a repository of their own",
    look=_program("apt-ftparchive"),
    packages={"apt": ("apt-utils",)},
    programs=("apt-ftparchive",),
)
MMDEBSTRAP = Need(
    name="mmdebstrap",
    why="the sysroot's assembly is measured against it",
    look=_program("mmdebstrap"),
    packages={"apt": ("mmdebstrap",)},
    programs=("mmdebstrap",),
)

RSYNC = Need(
    name="rsync",
    why="publishes an index over ssh",
    look=_program("rsync"),
    packages={"apt": ("rsync",), "dnf": ("rsync",), "pacman": ("rsync",)},
    programs=("rsync",),
)
SSH = Need(
    name="ssh",
    why="rsync goes over it",
    look=_program("ssh"),
    packages={"apt": ("openssh-client",), "dnf": ("openssh-clients",), "pacman": ("openssh",)},
)
RCLONE = Need(
    name="rclone",
    why="publishes an index to a bucket",
    look=_program("rclone"),
    packages={"apt": ("rclone",), "dnf": ("rclone",), "pacman": ("rclone",)},
    programs=("rclone",),
)
FOR_PUBLISHING = {"rsync": RSYNC, "ssh": SSH, "rclone": RCLONE}
"""What the ways to publish need, by the names of their programs."""

FOR_TESTS = (GPG, APT_UTILS, RSYNC, SSH, RCLONE)
"""What the tests need besides what builds need."""

FOR_BENCHMARKS = (MMDEBSTRAP,)
"""What the benchmarks need besides what builds need."""

ALL = (DOCKER, APPARMOR, APT, KEYRING, GIT, TAR, NPM, QEMU, STORE_DISK, DOCKER_DISK, MEMORY, CORES)


def needs_of(kinds: Collection[str], *, sandbox: Literal["docker", "host"], system: System) -> tuple[Need, ...]:
    """What steps of these kinds need of the machine. ``kinds``: those of the steps that will really run."""
    if not kinds:
        return ()
    wanted = [STORE_DISK]
    packages = bool({"lock", "root"} & set(kinds))
    if packages and system.manager == "apt":
        wanted += [APT, KEYRING, TAR]
    elsewhere = packages and system.manager != "apt"  # then the assembler runs in a container
    if elsewhere or "image" in kinds or (sandbox == "docker" and {"run", "proof", "bundle-proof"} & set(kinds)):
        wanted += [DOCKER, APPARMOR, DOCKER_DISK]
    if "tree" in kinds:
        wanted.append(GIT)
    return tuple(wanted)
