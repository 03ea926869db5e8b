"""A wheel's members, read from the zip without unpacking it, on the assumption that whoever made it means harm.

Nothing is joined to a path here. What cannot be a wheel at all raises ``InputError``; what is wrong with one member
raises :class:`Unreadable`, so that a rule can say so.
"""

from __future__ import annotations

import copy
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from isal import isal_zlib
from isal.igzip_lib import IsalError

from crosswheel.errors import InputError

MOST_MEMBERS = 200_000
"""The largest wheels on the package index (TensorFlow, PyTorch) have about 30,000 members."""

MOST_BYTES = 16 * 2**30
"""Unpacked, in all. PyTorch's CUDA wheels have about 2 GiB."""

MOST_RATIO = 200
"""Unpacked size over packed size beyond which it is a zip bomb. Deflate's own limit is 1032."""

FREE_BYTES = 64 * 2**20
"""Up to this unpacked size in all, no ratio is suspicious: a table of zeros packs well."""

_PIECE = 2**20
_LINK = 0o120000
_KIND = 0o170000
_ISAL: type[Exception] = IsalError  # type: ignore[assignment]  # an exception, which its stubs do not say
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    _ISAL,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # encrypted, or a compression that this Python lacks (NotImplementedError)
    ValueError,  # an offset before the file's beginning, a name that is no text
    OverflowError,
    IndexError,
    KeyError,
    MemoryError,
)


_CONTROL = re.compile(r"[\\\x00-\x1f\x7f]")


class Unreadable(Exception):
    """A member that cannot be read; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the zip's directory says of a member. ``size`` and ``packed`` are in bytes, ``mode`` is Unix's."""

    name: str
    size: int
    packed: int
    mode: int
    is_link: bool


class WheelArchive:
    """An open wheel. Use it in a ``with`` statement."""

    def __init__(self, path: Path) -> None:
        """Raises ``InputError`` where ``path`` is no zip, or one that nobody should unpack."""
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError as error:
            raise InputError("There is no such wheel.", where=str(path)) from error
        except (*_BROKEN, UnicodeError) as error:
            raise InputError(
                "This file is no wheel: it cannot be read as a zip archive.",
                where=str(path),
                why=str(error) or type(error).__name__,
                hint="It may be cut short: compare its size and sha256 with where it came from, and fetch it again.",
            ) from error
        try:
            self._infos = [info for info in self._zip.infolist() if not info.is_dir()]
            self._check_bounds()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _check_bounds(self) -> None:
        total = sum(info.file_size for info in self._infos)
        packed = self.path.stat().st_size
        if len(self._infos) > MOST_MEMBERS:
            self._refuse(f"It has {len(self._infos):,} members; the most that is read is {MOST_MEMBERS:,}.")
        if total > MOST_BYTES:
            self._refuse(f"Unpacked it would have {total:,} bytes; the most that is read is {MOST_BYTES:,}.")
        if total > FREE_BYTES and total > MOST_RATIO * packed:
            self._refuse(f"Its {packed:,} bytes would unpack to {total:,}: more than {MOST_RATIO} times as much.")

    def _refuse(self, why: str) -> None:
        raise InputError("This wheel is a zip bomb, or made like one; it is not read.", where=str(self.path), why=why)

    def entries(self) -> list[Entry]:
        """The members in the order of the zip's directory, without folders. Names may be anything, and may repeat."""
        return [
            Entry(
                name=info.filename,
                size=info.file_size,
                packed=info.compress_size,
                mode=(info.external_attr >> 16) & 0o7777,
                is_link=(info.external_attr >> 16) & _KIND == _LINK,
            )
            for info in self._infos
        ]

    def pieces(self, index: int) -> Iterator[bytes]:
        """The content of the member ``entries()[index]`` in pieces of at most 1 MiB. Raises :class:`Unreadable`."""
        info = self._infos[index]
        done = 0
        try:
            for piece in self._inflated(info) if info.compress_type == zipfile.ZIP_DEFLATED else self._read(info):
                done += len(piece)
                if done > info.file_size:  # by what the directory says, it was found to be no bomb
                    raise Unreadable(f"it has more bytes than the {info.file_size:,} that the zip's directory says")
                yield piece
        except _BROKEN as error:
            raise Unreadable(str(error) or type(error).__name__) from error
        if done != info.file_size:
            raise Unreadable(f"it has {done:,} bytes, and the zip's directory says {info.file_size:,}")

    def _read(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        with self._zip.open(info) as stream:
            while piece := stream.read(_PIECE):
                yield piece

    def _inflated(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """The content of a deflated member by ISA-L, which takes less than half of zlib's time. ``zipfile`` gives what
        is packed, as of a member that is not, and without a checksum, which is compared here."""
        packed = copy.copy(info)
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, info.compress_size
        del packed.CRC
        inflate, checksum = isal_zlib.decompressobj(-zlib.MAX_WBITS), 0
        for raw in self._read(packed):
            while raw and not inflate.eof:
                piece = inflate.decompress(raw, _PIECE)
                raw = inflate.unconsumed_tail
                checksum = isal_zlib.crc32(piece, checksum)
                yield piece
        yield inflate.flush()
        if not inflate.eof:
            raise EOFError("it ends before its end")
        if checksum != info.CRC:
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")


def unsafe_name(name: str) -> str:
    """Why a member of this name must not be unpacked; empty where it may."""
    parts = name.split("/")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "an absolute path"
    if ".." in parts:
        return "a path that leads out of the wheel"
    if "" in parts or "." in parts:
        return "a path with an empty part"
    if _CONTROL.search(name):
        return "a path with a backslash or a control character"
    if len(name) > 1000 or any(len(part.encode("utf-8", "replace")) > 255 for part in parts):
        return "a path too long for a file system"
    return ""
