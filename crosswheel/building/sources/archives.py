"""Reads the members of an archive one by one, without trusting it: tar (plain, gz, bz2, xz) and zip (wheels too)."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NoReturn, cast

from crosswheel.errors import InputError

if TYPE_CHECKING:
    import tarfile

Kind = Literal["file", "folder", "symlink", "hardlink", "other"]

_HEADER_LIMIT = 16 << 20
"""Bytes that one header of a tar may take. A longer one is a bomb: tarfile would read it into memory in one piece."""

LINK_LIMIT = 4096
"""Bytes of a link's target (Linux' PATH_MAX)."""

CHUNK = 1 << 20
"""Bytes that are read at once."""


@dataclass(frozen=True)
class Limits:
    """How much one archive may hold: ``members`` in number, ``size`` in bytes when unpacked.

    The largest source that the recipes know has some 40,000 files and 400 MB; these bounds leave room and stop a bomb
    before the disk is full.
    """

    members: int = 400_000
    size: int = 16 << 30


LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """One member. ``link`` is a link's target as written, ``what`` says in words what an ``other`` is."""

    name: str
    kind: Kind
    size: int
    executable: bool
    open: Callable[[], IO[bytes]]
    link: str = ""
    what: str = ""
    tar: tarfile.TarInfo | None = None


def refuse(archive: Path, member: str, why: str) -> NoReturn:
    """Raises the error of a member that must not be unpacked."""
    raise InputError(
        f"the archive {archive.name} is refused: member {member!r} {why}",
        where=str(archive),
        hint="nothing of it was unpacked; do not use this archive unless you know why it is built like this",
    )


def damaged(archive: Path, why: str) -> InputError:
    """The error of an archive that cannot be read to its end."""
    return InputError(
        f"the archive {archive.name} cannot be read",
        where=str(archive),
        why=why,
        hint="it may be cut off or be of another kind than it says; get it again",
    )


def safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """The parts of a member's path, ``()`` for the archive's top. ``InputError`` for a name that leads elsewhere."""
    bad = next((char for char in name if ord(char) < 32 or ord(char) == 127), None)
    if bad is not None:
        refuse(archive, name, f"has the control character {bad!r} in its name")
    if not name:
        refuse(archive, name, "has no name")
    if name.startswith("/"):
        refuse(archive, name, "has an absolute path")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        refuse(archive, name, "leads out of the archive by '..'")
    return parts


def kind_of_archive(path: Path) -> Literal["gz", "bz2", "xz", "tar", "zip"] | None:
    """What kind of archive a file is by its first bytes, ``None`` if it is none that is read here."""
    with path.open("rb") as stream:
        head = stream.read(265)
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    if head.startswith(b"BZh"):
        return "bz2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar":
        return "tar"
    return None


def read_members(archive: Path, limits: Limits = LIMITS) -> Generator[Member, None, None]:
    """Every member in the archive's order; a member's content can be read until the next one is asked for.

    Names are as the archive has them: see :func:`safe_parts`. ``InputError`` if the file is no archive, is damaged, or
    holds more than ``limits``.
    """
    kind = kind_of_archive(archive)
    if kind is None:
        raise InputError(
            f"{archive.name} is no archive that can be unpacked",
            where=str(archive),
            hint="tar (plain, .gz, .bz2, .xz), zip and whl are understood",
        )
    members = _zip_members(archive) if kind == "zip" else _tar_members(archive, kind, limits)
    for number, member in enumerate(members, start=1):
        if number > limits.members:
            refuse(archive, member.name, f"is one more than the {limits.members:,} members that are allowed")
        yield member


def copy_content(archive: Path, member: Member, target: IO[bytes], room: int) -> int:
    """Writes a member's content and returns its bytes; ``InputError`` if it is damaged or takes more than ``room``."""
    written = 0
    with _reading(archive), member.open() as source:
        while chunk := source.read(CHUNK):
            written += len(chunk)
            if written > room:
                refuse(archive, member.name, "makes the unpacked archive larger than is allowed (a bomb?)")
            target.write(chunk)
    if written != member.size:
        raise damaged(archive, f"member {member.name!r} has {written} of {member.size} bytes")
    return written


# --- tar -------------------------------------------------------------------------------------------------------------


class _Bounded:
    """What tarfile reads from: refuses a header of unlikely length, and more bytes than the archive may unpack to.

    ``last`` is the last block that was read where a header is expected: tarfile ends without a word at a damaged one.
    """

    def __init__(self, stream: IO[bytes], archive: Path, limits: Limits) -> None:
        self._stream = stream
        self._archive = archive
        # A plain member has one header of 512 bytes and up to 511 of padding; long names take a few blocks more.
        self._end = limits.size + limits.members * 4096
        self.last = b""

    def _check(self, position: int) -> None:
        if position > self._end:
            refuse(self._archive, "(after the last one)", "makes the unpacked archive larger than is allowed (a bomb?)")

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _HEADER_LIMIT:
            raise damaged(self._archive, f"a header says that it is {size} bytes long")
        data = self._stream.read(size)
        if size == 512:
            self.last = data
        self._check(self._stream.tell())
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        self._check(position)
        return self._stream.seek(position, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def drain(self) -> None:
        """Reads on to the end, where gzip, bzip2 and xz keep their checksum."""
        while self.read(CHUNK):
            pass


def _opened(archive: Path, kind: str) -> IO[bytes]:
    import bz2
    import gzip
    import lzma

    if kind == "gz":
        return cast(IO[bytes], gzip.open(archive, "rb"))
    if kind == "bz2":
        return cast(IO[bytes], bz2.open(archive, "rb"))
    if kind == "xz":
        return cast(IO[bytes], lzma.open(archive, "rb"))
    return archive.open("rb")


def _tar_members(archive: Path, kind: str, limits: Limits) -> Iterator[Member]:
    import tarfile

    with _reading(archive), _opened(archive, kind) as stream:
        bounded = _Bounded(stream, archive, limits)
        with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as tar:
            for info in tar:
                yield _tar_member(tar, info)
        if bounded.last.strip(b"\0"):
            raise damaged(archive, f"what should be a header before byte {bounded.tell():,} of the tar is none")
        bounded.drain()


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    def content() -> IO[bytes]:
        stream = tar.extractfile(info)
        if stream is None:
            raise TypeError(f"{info.name} is not a file")
        return stream

    kind: Kind = "other"
    what = ""
    if info.isreg():
        kind = "file"
    elif info.isdir():
        kind = "folder"
    elif info.issym():
        kind = "symlink"
    elif info.islnk():
        kind = "hardlink"
    elif info.isfifo():
        what = "a named pipe"
    elif info.isdev():
        what = "a device"
    else:
        what = f"an entry of the unknown type {info.type!r}"
    return Member(
        name=info.name,
        kind=kind,
        size=info.size if kind == "file" else 0,
        executable=bool(info.mode & 0o100),
        open=content,
        link=info.linkname if kind in ("symlink", "hardlink") else "",
        what=what,
        tar=info,
    )


# --- zip -------------------------------------------------------------------------------------------------------------


def _zip_members(archive: Path) -> Iterator[Member]:
    with _reading(archive), zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            yield _zip_member(archive, bundle, info)


def _zip_member(archive: Path, bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    # The upper half of external_attr is a Unix mode only where a Unix tool made the entry (create_system 3).
    mode = info.external_attr >> 16 if info.create_system == 3 else 0
    kind: Kind = "folder" if info.is_dir() else "file"
    link = what = ""
    if stat.S_ISLNK(mode):
        kind = "symlink"
        if info.file_size > LINK_LIMIT:
            refuse(archive, info.filename, f"is a link whose target is {info.file_size} bytes long")
        link = bundle.read(info).decode("utf-8", "surrogateescape")
    elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        kind, what = "other", "a device, a pipe or a socket"
    return Member(
        # zipfile cuts a name at a NUL; the name as written is what has to be judged.
        name=info.orig_filename if "\0" in info.orig_filename else info.filename,
        kind=kind,
        size=info.file_size if kind == "file" else 0,
        executable=bool(mode & 0o100),
        open=lambda: bundle.open(info),
        link=link,
        what=what,
    )


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turns what Python's readers raise on a damaged archive into an error to a person; not a failing disk's."""
    import lzma
    import tarfile
    import zlib

    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, UnicodeDecodeError) as error:
        raise damaged(archive, str(error)) from error
    except (RuntimeError, NotImplementedError) as error:  # an encrypted zip, or a compression that Python lacks
        raise damaged(archive, str(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise damaged(archive, str(error)) from error  # gzip and bz2 say so without an error number
