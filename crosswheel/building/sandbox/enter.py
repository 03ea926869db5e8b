"""Runs inside new namespaces: puts a root together, gives up all privileges, and becomes the command.

It is a program of its own (``python sandbox_enter.py SPEC``), started by :mod:`crosswheel.building.sandbox.host`
through ``unshare``; it imports nothing of crosswheel. Mounts are the constants of <sys/mount.h>, made by libc because
mount(8) may be absent from a container. Exit status: the command's; 125 where the sandbox could not be set up, 127
where the command is not in the root.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any, NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 1, 2, 4, 8, 32, 4096, 16384
MS_NOATIME, MS_NODIRATIME, MS_RELATIME = 1024, 2048, 2097152
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
NOT_SET_UP, NOT_FOUND = 125, 127

_KEPT = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME

_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2); ``OSError`` with the target where it fails."""
    if _libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot mount {source} ({os.strerror(number)})", str(target))


def bind(source: str, target: Path, *, writable: bool) -> None:
    """Shows ``source`` at ``target``, with all that is mounted in it."""
    mount(source, target, flags=MS_BIND | MS_REC)
    if not writable:
        # In a user namespace the flags that the mount already has must be repeated.
        flags = os.statvfs(target).f_flag & _KEPT
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY | flags)


def raise_loopback() -> None:
    """A new network namespace has its loopback device down; Bazel talks to its server over it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        name = b"lo".ljust(16, b"\0")
        request = fcntl.ioctl(probe, SIOCGIFFLAGS, name + bytes(24))
        (flags,) = struct.unpack_from("h", request, 16)
        fcntl.ioctl(probe, SIOCSIFFLAGS, name + struct.pack("h", flags | IFF_UP) + bytes(22))


def limit_core(size: int) -> None:
    """At most ``size`` bytes for the core file of a process that dies; no more than this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    size = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_CORE, (size, size))


def assemble(spec: dict[str, Any]) -> Path:
    """The root with all mounts in it, read-only but for what is writable."""
    stage = Path(spec["stage"]) / "mounts"
    stage.mkdir(exist_ok=True)
    mount("tmpfs", stage, "tmpfs", 0, "mode=755")
    for name in ("upper", "work", "root"):
        (stage / name).mkdir()
    lower = spec["root"].replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")
    options = f"lowerdir={lower},upperdir={stage}/upper,workdir={stage}/work"
    root = stage / "root"
    mount("overlay", root, "overlay", 0, options + (",userxattr" if spec["namespaced_user"] else ""))
    for name in ("proc", "dev", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for source, target, _ in spec["mounts"]:
        _mount_point(Path(source), root / target.lstrip("/"))
    mount("none", root, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)
    if spec["own_processes"]:
        mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    else:
        bind("/proc", root / "proc", writable=True)
    bind("/dev", root / "dev", writable=True)
    for name in ("tmp", "var/tmp"):
        mount("tmpfs", root / name, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for source, target, writable in spec["mounts"]:
        bind(source, root / target.lstrip("/"), writable=writable)
    return root


def _mount_point(source: Path, target: Path) -> None:
    """Makes what a mount needs to lie on: a folder, or a file for a file. Inside another mount it is there already."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


def become(user: int, group: int, *, namespaced: bool, root: Path) -> None:
    """Enters ``root`` as an ordinary user with no capability and no way to gain one."""
    if namespaced:
        # So far root of this namespace, which is the caller outside; a namespace below gives the caller's own number
        # back, so that programs do not think that they may do what root may.
        if _libc.unshare(CLONE_NEWUSER) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot make a user namespace ({os.strerror(number)})")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} 0 1")
        Path("/proc/self/gid_map").write_text(f"{group} 0 1")
        os.chroot(root)
    else:
        os.chroot(root)
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    die_with_parent()


def die_with_parent() -> None:
    """`unshare --kill-child` had asked for this; the kernel forgets it when a process changes its user."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def start(argv: list[str], env: dict[str, str]) -> int:
    """Runs the command as a child, reaps what it orphans, and returns its status. The first process of a namespace
    cannot be the command itself: signals that it sends itself would not reach it."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        try:
            os.execvpe(argv[0], argv, env)
        except OSError as error:
            print(f"cannot run {argv[0]}: {error.strerror}", file=sys.stderr, flush=True)
            os._exit(NOT_FOUND)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main(path: str) -> NoReturn:
    """``path`` is the JSON file that says what to do."""
    spec = json.loads(Path(path).read_text())
    try:
        raise_loopback()
        limit_core(spec["core"])
        root = assemble(spec)
        become(spec["user"], spec["group"], namespaced=spec["namespaced_user"], root=root)
        os.chdir(spec["cwd"])
    except OSError as error:
        print(f"the sandbox cannot be set up: {error}", file=sys.stderr)
        sys.exit(NOT_SET_UP)
    os.umask(0o022)
    sys.exit(start(spec["argv"], spec["env"]))


if __name__ == "__main__":
    main(sys.argv[1])
