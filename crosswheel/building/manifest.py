"""What an artefact's ``out/`` holds: taken when a step ends, compared whenever the artefact is used.

Sizes of all files are compared on every use: one walk, so that a truncated or missing file is found at once. Contents
are hashed for small results alone (a wheel, a proof, a lock): hashing a root of a gigabyte on each use would cost more
than it tells.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crosswheel.digest import Json, sha256_file

HASHED_FILES = 64
"""A result of at most so many files has their sha256 in its manifest."""

CHECKED_BYTES = 64 * 2**20
"""A file up to this size is hashed again whenever its artefact is used."""

SEALED_FILES = 2000
"""A result of at most so many files is made read-only. A chmod of each file of a root would cost more than it saves:
roots are mounted read-only wherever they are used."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """``files`` maps a path relative to ``out/`` to its size in bytes and, for small results, its sha256; ``links``
    maps a symbolic link to its target. Folders and special files are not listed."""

    files: Mapping[str, tuple[int, str | None]]
    links: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(size for size, _ in self.files.values())

    def to_json(self) -> dict[str, Json]:
        """As it stands in ``meta.json``."""
        files: dict[str, Json] = {path: [size, digest] for path, (size, digest) in self.files.items()}
        return {"files": files, "links": dict(self.links)}

    @staticmethod
    def from_json(data: Mapping[str, object]) -> Manifest:
        """The reverse. ``ValueError`` where the data is not a manifest's."""
        files, links = data.get("files"), data.get("links")
        if not isinstance(files, dict) or not isinstance(links, dict):
            raise ValueError("it holds no list of files")
        return Manifest(files={path: (int(size), digest) for path, (size, digest) in files.items()}, links=links)


@dataclass(frozen=True)
class _Entry:
    path: str
    status: os.stat_result
    place: str


def _walk(place: str, prefix: str = "") -> Iterator[_Entry]:
    with os.scandir(place) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            yield _Entry(prefix + entry.name, status, entry.path)
            if stat.S_ISDIR(status.st_mode):
                yield from _walk(entry.path, f"{prefix}{entry.name}/")


def seal(out: Path) -> Manifest:
    """Makes a finished result the caller's own and, unless it is large, read-only; returns its manifest.

    A container may have run as another user (when the caller is root), and may have left folders that not even their
    owner can enter.
    """
    owner, group = os.geteuid(), os.getegid()
    files: list[_Entry] = []
    links: dict[str, str] = {}
    if owner == 0 and out.stat().st_uid != owner:
        os.chown(out, owner, group)
    for entry in _walk(str(out)):
        mode = entry.status.st_mode
        if owner == 0 and entry.status.st_uid != owner:
            os.chown(entry.place, owner, group, follow_symlinks=False)
        if stat.S_ISDIR(mode):
            # This happens before the walk goes into the folder.
            if mode & 0o700 != 0o700:
                Path(entry.place).chmod(stat.S_IMODE(mode) | 0o700)
        elif stat.S_ISLNK(mode):
            links[entry.path] = str(Path(entry.place).readlink())
        elif stat.S_ISREG(mode):
            files.append(entry)
    hashed, sealed = len(files) <= HASHED_FILES, len(files) <= SEALED_FILES
    listed: dict[str, tuple[int, str | None]] = {}
    for entry in files:
        if sealed and (entry.status.st_mode & 0o222 or not entry.status.st_mode & 0o400):
            Path(entry.place).chmod(stat.S_IMODE(entry.status.st_mode) & ~0o222 | 0o400)
        listed[entry.path] = (entry.status.st_size, sha256_file(Path(entry.place)) if hashed else None)
    return Manifest(files=listed, links=links)


def damage(out: Path, manifest: Manifest) -> str:
    """What is wrong with a result, as the end of a sentence; empty where nothing is. Files beyond the manifest's are
    not looked at."""
    try:
        found = {entry.path: entry.status for entry in _walk(str(out))}
    except FileNotFoundError:
        return "the folder out/ is missing"
    for path in manifest.links:
        if path not in found or not stat.S_ISLNK(found[path].st_mode):
            return f"the link out/{path} is missing"
    for path, (size, digest) in manifest.files.items():
        status = found.get(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            return f"out/{path} is missing"
        if status.st_size != size:
            return f"out/{path} has {status.st_size} bytes instead of {size}"
        if digest and size <= CHECKED_BYTES and sha256_file(out / path) != digest:
            return f"out/{path} has other contents than when it was made"
    return ""


def size_of(path: Path) -> int:
    """Size in bytes of a file, or of all files in a folder."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return status.st_size
    try:
        return sum(entry.status.st_size for entry in _walk(str(path)) if stat.S_ISREG(entry.status.st_mode))
    except (FileNotFoundError, PermissionError):
        # Being removed by another process, or a failed step's folder that not even its owner may enter.
        return 0
