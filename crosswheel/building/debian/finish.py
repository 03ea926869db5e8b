"""What the scripts of packages would have made, and a root cannot do without as an image or under an emulator."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.debian.deb import Alternative
from crosswheel.building.debian.hygiene import relative_target

_FOLDERS = (
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("var/tmp", 0o1777),
)
_ACCOUNTS = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
}
_SHELLS = ("dash", "bash")


@dataclass(frozen=True)
class Made:
    """Something that no package brought. ``path`` is below the root."""

    path: str
    why: str


def finish(root: Path, wishes: Iterable[Alternative]) -> list[Made]:
    """Makes what is missing; nothing that a package brought is changed. Gives what was made."""
    makers = (_folders(root), _accounts(root), _zone(root), _certificates(root), _links(root, wishes), _shell(root))
    return [made for maker in makers for made in maker]


def _folders(root: Path) -> Iterator[Made]:
    """Folders that containers mount onto or write to. Emulators and containers give /tmp no other mode."""
    for name, mode in _FOLDERS:
        path = root / name
        if not path.is_dir():
            path.mkdir(parents=True)
            yield Made(name, "a folder that a container or a program expects")
        path.chmod(mode)


def _accounts(root: Path) -> Iterator[Made]:
    """``/etc/passwd`` and ``/etc/group``, which base-passwd's postinst copies from its own masters."""
    for name, text in _ACCOUNTS.items():
        path = root / "etc" / name
        if path.exists():
            continue
        master = root / "usr/share/base-passwd" / f"{name}.master"
        if master.is_file():
            shutil.copyfile(master, path)
            yield Made(f"etc/{name}", "copied from base-passwd's master, as its postinst does")
        else:
            path.write_text(text)
            yield Made(f"etc/{name}", "root and nobody, as no package brought accounts")


def _zone(root: Path) -> Iterator[Made]:
    """``/etc/localtime``, which tzdata's postinst makes and a link of its own leads to."""
    path = root / "etc/localtime"
    if not os.path.lexists(path) and (root / "usr/share/zoneinfo/Etc/UTC").exists():
        path.symlink_to("../usr/share/zoneinfo/Etc/UTC")
        yield Made("etc/localtime", "-> UTC, as tzdata's postinst makes it")


def _certificates(root: Path) -> Iterator[Made]:
    """The bundle of certificates, which update-ca-certificates makes. pip of trixie does not start without it."""
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    parts = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    if parts and not bundle.exists():
        bundle.parent.mkdir(parents=True, exist_ok=True)
        bundle.write_bytes(b"".join(part.read_bytes().rstrip(b"\n") + b"\n" for part in parts))
        why = f"{len(parts)} certificates, as update-ca-certificates makes it"
        yield Made("etc/ssl/certs/ca-certificates.crt", why)


def _links(root: Path, wishes: Iterable[Alternative]) -> Iterator[Made]:
    """The alternatives with the highest priority, as direct links. What they lead to must be in the root."""
    best: dict[str, Alternative] = {}
    for wish in wishes:
        if (root / wish.path.lstrip("/")).exists() and wish.priority > best.get(wish.link, _NONE).priority:
            best[wish.link] = wish
    for link, wish in sorted(best.items()):
        path = root / _merged(link)
        if os.path.lexists(path):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(relative_target(_merged(link), wish.path))
        yield Made(_merged(link), f"-> {wish.path}, as update-alternatives makes it (priority {wish.priority})")


_NONE = Alternative("", "", -(1 << 31))


def _merged(link: str) -> str:
    """A path below the root, by its name in usr where that is merged."""
    return relative_target("x", link)


def _shell(root: Path) -> Iterator[Made]:
    """``/bin/sh``: up to bullseye dash's postinst makes it (by a diversion)."""
    path = root / "usr/bin/sh"
    if os.path.lexists(path):
        return
    for name in _SHELLS:
        if (root / "usr/bin" / name).exists():
            path.symlink_to(name)
            yield Made("usr/bin/sh", f"-> {name}, as its postinst makes it")
            return
