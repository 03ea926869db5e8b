"""Takes members out of a wheel whose RECORD is pinned: every member is compared with the sha256 that stands there."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

MOST_BYTES = 2 << 30
"""The largest member that is taken, in bytes. cuBLAS' largest library has 0.45 GB."""

_CHUNK = 1 << 20


class Mismatch(Exception):
    """A RECORD or a member that is not the one that is pinned; the text says which."""


def take_members(wheel: ZipFile, record: str, patterns: Sequence[str], dest: Path) -> None:
    """Writes the members that match a pattern below ``dest``, and the RECORD.

    ``record`` is the sha256 of the RECORD. :class:`Mismatch` if it or a member has another one, if a pattern matches
    nothing, or if a member's path leads out; then nothing that was written is to be used.
    """
    name = next((name for name in wheel.namelist() if name.endswith(".dist-info/RECORD")), None)
    if name is None:
        raise Mismatch("the wheel has no RECORD")
    text = wheel.read(name)
    found = hashlib.sha256(text).hexdigest()
    if found != record:
        raise Mismatch(f"the sha256 of its RECORD is {found} instead of {record}")
    pins = _pins(text.decode())
    for pattern in patterns:
        if not any(fnmatchcase(member, pattern) for member in pins):
            raise Mismatch(f"no member matches {pattern}")
    for member, pin in pins.items():
        if any(fnmatchcase(member, pattern) for pattern in patterns):
            _take(wheel, member, pin, dest)
    _write(dest, name, text)


def _pins(text: str) -> Mapping[str, str]:
    """The sha256 of each member, as RECORD writes it (PEP 376: URL-safe base64 without padding)."""
    rows = [row for row in csv.reader(io.StringIO(text)) if len(row) == 3]
    return {path: digest.removeprefix("sha256=") for path, digest, _ in rows if digest.startswith("sha256=")}


def _take(wheel: ZipFile, member: str, pin: str, dest: Path) -> None:
    try:
        info = wheel.getinfo(member)
    except KeyError:
        raise Mismatch(f"RECORD lists {member}, and the wheel does not have it") from None
    if info.file_size > MOST_BYTES:
        raise Mismatch(f"{member} has {info.file_size:,} bytes; at most {MOST_BYTES:,} are taken")
    path = _inside(dest, member)
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with wheel.open(info) as source, path.open("wb") as target:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            target.write(chunk)
    if base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode() != pin:
        raise Mismatch(f"{member} is not what RECORD says")


def _write(dest: Path, name: str, text: bytes) -> None:
    path = _inside(dest, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)


def _inside(dest: Path, member: str) -> Path:
    path = PurePosixPath(member)
    if path.is_absolute() or ".." in path.parts:
        raise Mismatch(f"the member {member!r} leads out of the folder")
    return dest / path
