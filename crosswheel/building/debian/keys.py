"""OpenPGP keys of archives that no package brings: read packet by packet, known by their full fingerprints.

A key that is fetched may come from anywhere, because only packets of the wanted fingerprints are taken from the file:
the primary key, its names, and the subkeys that the written data lists. RFC 4880 says how packets (4.2, 4.3), armor
(6.2) and fingerprints (12.2) look.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.debian.deb import take
from crosswheel.building.job import Job
from crosswheel.building.sources.places import PlaceError
from crosswheel.errors import FetchError
from crosswheel.spec.sysroots import Archive, ArchiveKey

_PRIMARY, _SUBKEY = 6, 14
_MAX_BYTES = 1 << 20
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\s*?\n(?:[^\n]+: [^\n]*\n)*\s*\n(?P<body>.*?)-----END", re.DOTALL
)
_ENDINGS = (".gpg", ".asc", ".pub", ".key")


@dataclass(frozen=True)
class Packet:
    """An OpenPGP packet: what it is, all its bytes, and those of its body."""

    tag: int
    whole: bytes
    body: bytes

    @property
    def fingerprint(self) -> str:
        """Of a key of version 4; empty for anything else."""
        if self.tag not in (_PRIMARY, _SUBKEY) or self.body[:1] != b"\x04":
            return ""
        # SHA-1 is what the format says; a second file of the same fingerprint has never been made
        head = b"\x99" + len(self.body).to_bytes(2, "big")
        return hashlib.sha1(head + self.body, usedforsecurity=False).hexdigest().upper()


def packets(data: bytes) -> Iterator[Packet]:
    """The packets of a file, armored or not. ``ValueError`` if it is no OpenPGP file."""
    data = _unarmored(data)
    position = 0
    while position < len(data):
        start, head = position, data[position]
        if not head & 0x80:
            raise ValueError("it is no OpenPGP file")
        new = bool(head & 0x40)
        tag = head & 0x3F if new else head >> 2 & 0x0F
        position, length = _new_length(data, position + 1) if new else _old_length(data, position + 1, head & 3)
        end = position + length
        if end > len(data):
            raise ValueError("its last packet is cut short")
        yield Packet(tag, data[start:end], data[position:end])
        position = end


def _unarmored(data: bytes) -> bytes:
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    blocks = []
    for match in _ARMOR.finditer(data.replace(b"\r\n", b"\n")):
        lines = [line for line in match["body"].split(b"\n") if line and not line.startswith(b"=")]
        try:
            blocks.append(base64.b64decode(b"".join(lines), validate=True))
        except binascii.Error as error:
            raise ValueError(f"its armor is damaged: {error}") from error
    return b"".join(blocks)


def _new_length(data: bytes, position: int) -> tuple[int, int]:
    first = data[position] if position < len(data) else 255
    if first < 192:
        return position + 1, first
    if first < 224:
        return position + 2, (first - 192 << 8) + int.from_bytes(data[position + 1 : position + 2], "big") + 192
    if first == 255:
        return position + 5, int.from_bytes(data[position + 1 : position + 5], "big")
    raise ValueError("it has a packet in pieces, which no key has")


def _old_length(data: bytes, position: int, kind: int) -> tuple[int, int]:
    if kind == 3:
        raise ValueError("it has a packet without a length, which no key has")
    size = 1 << kind
    return position + size, int.from_bytes(data[position : position + size], "big")


def chosen(data: bytes, key: ArchiveKey) -> bytes:
    """The packets of one key; empty if the file does not hold it. Subkeys that the written data does not list are
    left out with their signatures, and so is every other key. ``ValueError`` if it is no OpenPGP file."""
    taken = b""
    ours = keep = False
    for packet in packets(data):
        if packet.tag == _PRIMARY:
            ours = keep = packet.fingerprint == key.fingerprint
        elif packet.tag == _SUBKEY:
            keep = ours and packet.fingerprint in key.subkeys
        if keep:
            taken += packet.whole
    return taken


def keyring_of(archive: Archive, folders: Sequence[Path], job: Job) -> Path:
    """A keyring of the archive's ``keys`` in the work folder. Each comes from the store, from a file in one of
    ``folders``, or from one of its places; ``FetchError`` tells what each of these said."""
    ring = job.work / "keys" / f"{archive.name}.gpg"
    ring.parent.mkdir(exist_ok=True)
    ring.write_bytes(b"".join(_key(key, archive, folders, job) for key in archive.keys))
    return ring


def kept_key(store: Path, key: ArchiveKey) -> Path:
    """Where the store keeps a key that was fetched; one that is put there by hand is taken as well."""
    return store / "keys" / f"{key.fingerprint}.gpg"


def _key(key: ArchiveKey, archive: Archive, folders: Sequence[Path], job: Job) -> bytes:
    place = kept_key(job.settings.store, key)
    for path in (place, *_key_files(folders)):
        if data := _wanted(path, key):
            return data
    said: Mapping[str, str] = {} if job.settings.offline else _fetched(key, place, job)
    if data := _wanted(place, key):
        return data
    raise FetchError(
        f"The key {key.fingerprint} of the archive {archive.name} cannot be had, and without it no signature can be"
        " checked.",
        where=archive.name,
        why="\n".join(f"{uri}: {reason}" for uri, reason in said.items()) or "The build is offline.",
        hint=f"Put a file with this key at {place}; its fingerprint is checked.",
    )


def _wanted(path: Path, key: ArchiveKey) -> bytes:
    try:
        return chosen(path.read_bytes(), key) if path.is_file() and path.stat().st_size <= _MAX_BYTES else b""
    except ValueError:
        return b""


def _key_files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.suffix in _ENDINGS)


def _found(file: Path, key: ArchiveKey) -> bytes:
    """The key in what came: a file with keys, or a package with keyrings, such as ``ubuntu-keyring``."""
    data = file.read_bytes()
    if not data.startswith(b"!<arch>"):
        return chosen(data, key)
    rings = take(file, lambda path: path.endswith(".gpg"), file.with_name(f"{file.name}.files"))
    return next((found for ring in sorted(rings) if (found := chosen(ring.read_bytes(), key))), b"")


def _fetched(key: ArchiveKey, place: Path, job: Job) -> dict[str, str]:
    """Writes the key to ``place`` from the first URL that gives it; what each other URL said."""
    from crosswheel.building.sources.places.http import download

    said: dict[str, str] = {}
    scratch = job.work / f"{key.fingerprint}.key"
    for uri in key.places:
        try:
            download(uri, scratch, job.cancelled, max_bytes=_MAX_BYTES)
            data = _found(scratch, key)
        except (PlaceError, ValueError, FetchError) as error:
            said[uri] = str(error)
            continue
        if not data:
            said[uri] = "it gave another key"
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(data)
        scratch.replace(place)
        job.log(f"the key {key.fingerprint} from {uri}")
        return said
    return said
