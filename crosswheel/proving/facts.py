"""What is known of a wheel or of a bundle: its name, its members, a wheel's papers, and its ELF files, gathered in one
pass over the archive."""

from __future__ import annotations

import base64
import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.proving.archive import Entry, Unreadable, WheelArchive
from crosswheel.proving.build_paths import MOST_BYTECODE, BuildPaths, bytecode_path, shebang_path, writer_of
from crosswheel.proving.code import CodeFacts, forget, read_code
from crosswheel.proving.elf import ElfFacts, read_elf
from crosswheel.proving.elf_tables import MAGIC, Garbled
from crosswheel.proving.fatbin import MAGIC as FATBIN_MAGIC
from crosswheel.proving.fatbin import Container, Starts, read_fatbins
from crosswheel.proving.processor import Processor

MOST_PAPER = 64 * 2**20
"""METADATA, WHEEL and RECORD are read up to this size (bytes) each."""

IN_MEMORY = 64 * 2**20
"""An ELF file larger than this (bytes) is read through a temporary file."""

STRONG = ("sha256", "sha384", "sha512")
"""The algorithms that RECORD may use (PEP 427: sha256 or better), of those that hashlib always has."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of the wheel. ``digest`` is in RECORD's form, ``sha256=`` and URL-safe base64 without padding, with the
    algorithm that RECORD uses for it. ``trouble`` says why the content could not be read; then ``digest`` is empty."""

    name: str
    size: int
    mode: int
    is_link: bool
    digest: str
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """A line of RECORD, as written."""

    path: str
    digest: str
    size: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An archive of files for a machine.

    ``file`` is the file's name. ``garbled`` maps a member that begins like an ELF file and is none to the reason.
    ``paths`` maps the name of a file to the paths of a build that stand in it, ``fatbins`` the name of a file with
    code for NVIDIA's GPUs to its containers, ``code`` the name of an ELF file to what its machine code wants of the
    processor, where one was asked for. ``word`` is what people call such an archive, ``place`` where its files
    lie once installed, ``may_require`` whether something else that is installed with it may bring a library.
    """

    word: ClassVar[str]
    place: ClassVar[str]

    file: str
    sha256: str
    size: int
    members: tuple[Member, ...]
    elfs: tuple[ElfFacts, ...]
    garbled: Mapping[str, str]
    paths: Mapping[str, tuple[str, ...]]
    fatbins: Mapping[str, tuple[Container, ...]]
    code: Mapping[str, CodeFacts]

    def native(self) -> Iterator[ElfFacts]:
        """The ELF files for a processor: no GPU code."""
        return (elf for elf in self.elfs if not elf.for_device)

    def installed_name(self, member: str) -> str:
        """Where a member lies below ``place`` once installed."""
        return member

    @property
    def may_require(self) -> bool:
        return False

    @property
    def aliases(self) -> frozenset[str]:
        """Further names of its files: its symbolic links."""
        return frozenset()


@dataclass(frozen=True, kw_only=True)
class WheelFacts(Facts):
    """One wheel.

    ``distribution`` (normalised), ``version``, ``build`` and ``tags`` (each ``python-abi-platform``, sorted) are what
    its file's name says. ``metadata`` and ``wheel`` are the headers of METADATA and WHEEL by lower-case name, None
    where there is no such file. ``record`` is None where RECORD is missing or is no CSV.
    """

    word: ClassVar[str] = "wheel"
    place: ClassVar[str] = "site-packages"

    distribution: str
    version: str
    build: str
    tags: tuple[str, ...]
    metadata: Mapping[str, tuple[str, ...]] | None
    wheel: Mapping[str, tuple[str, ...]] | None
    record: tuple[RecordRow, ...] | None
    record_name: str

    @property
    def may_require(self) -> bool:
        return bool((self.metadata or {}).get("requires-dist"))

    def installed_name(self, member: str) -> str:
        """Where a member lies below site-packages once installed; other schemes (scripts, data) stay as they are."""
        head, _, rest = member.partition("/")
        if head.endswith(".data"):
            scheme, _, inner = rest.partition("/")
            if scheme in ("purelib", "platlib"):
                return inner
        return member


def read_wheel(path: Path, processor: Processor | None = None) -> WheelFacts:
    """The facts of the wheel at ``path``; those of its machine code are about what ``processor`` lacks, and none
    without one.

    Raises ``InputError`` where it is no wheel: a name that PEP 427 does not know, no zip archive, a zip bomb. What is
    wrong inside is a fact (``Member.trouble``, ``garbled``, ``record is None``). An ELF file of up to
    :data:`IN_MEMORY` bytes is held in memory, one at a time; a larger one is mapped from a temporary file.
    """
    distribution, version, build, tags = _name_parts(path)
    with WheelArchive(path) as archive:
        entries = archive.entries()
        dist_info = _dist_info(path, (entry.name for entry in entries))
        papers = {name: _paper(archive, entries, f"{dist_info}/{name}") for name in ("METADATA", "WHEEL", "RECORD")}
        record = _record(papers["RECORD"])
        algorithms = {row.path: row.digest.partition("=")[0] for row in record or ()}
        gathered = Gathered(algorithms, processor)
        for index, entry in enumerate(entries):
            gathered.add(entry, archive.pieces(index))
    return WheelFacts(
        file=path.name,
        sha256=sha256_file(path),
        size=path.stat().st_size,
        distribution=distribution,
        version=version,
        build=build,
        tags=tags,
        members=tuple(gathered.members),
        metadata=read_headers(papers["METADATA"]),
        wheel=read_headers(papers["WHEEL"]),
        record=record,
        record_name=f"{dist_info}/RECORD",
        elfs=tuple(gathered.elfs),
        garbled=gathered.garbled,
        paths=gathered.paths,
        fatbins=gathered.fatbins,
        code=gathered.code,
    )


def read_metadata(path: Path) -> Mapping[str, tuple[str, ...]] | None:
    """The headers of a wheel's METADATA alone, as in :class:`WheelFacts`; no other member is read. Raises
    ``InputError`` as :func:`read_wheel` does."""
    return read_headers(read_metadata_file(path))


def read_metadata_file(path: Path) -> bytes | None:
    """The bytes of a wheel's METADATA, as :func:`read_metadata` reads them."""
    _name_parts(path)
    with WheelArchive(path) as archive:
        entries = archive.entries()
        folder = _dist_info(path, (entry.name for entry in entries))
        return _paper(archive, entries, f"{folder}/METADATA")


def record_digest(algorithm: str, digest: bytes) -> str:
    """A digest as RECORD has it, such as ``sha256=47DEQpj8…`` (PEP 427: URL-safe base64 without padding)."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


# --- the name and the papers -----------------------------------------------------------------------------------------


def _name_parts(path: Path) -> tuple[str, str, str, tuple[str, ...]]:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, build, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise InputError(
            "This is no file name of a wheel.",
            where=str(path),
            why=str(error),
            hint="A wheel is called NAME-VERSION-PYTHON-ABI-PLATFORM.whl, and its name says what it is for: keep it.",
        ) from error
    return str(name), str(version), "".join(str(part) for part in build), tuple(sorted(str(tag) for tag in tags))


def _dist_info(path: Path, names: Iterable[str]) -> str:
    """The one ``*.dist-info`` folder; the one that the file name asks for where there are none or several."""
    found = {name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".dist-info")}
    name, version = path.name.split("-")[:2]
    return found.pop() if len(found) == 1 else f"{name}-{version}.dist-info"


def _paper(archive: WheelArchive, entries: list[Entry], name: str) -> bytes | None:
    """The content of METADATA, WHEEL or RECORD; None where it is missing, unreadable or beyond all measure."""
    index = next((index for index, entry in enumerate(entries) if entry.name == name), None)
    if index is None or entries[index].size > MOST_PAPER:
        return None
    try:
        return b"".join(archive.pieces(index))
    except Unreadable:
        return None


def read_headers(text: bytes | None) -> Mapping[str, tuple[str, ...]] | None:
    """The headers of METADATA or WHEEL by their lower-case names: e-mail headers in UTF-8. None for none."""
    if text is None:
        return None
    from email.errors import MessageError
    from email.parser import HeaderParser
    from email.policy import compat32

    try:
        message = HeaderParser(policy=compat32).parsestr(text.decode("utf-8", "replace"))
        found: dict[str, tuple[str, ...]] = {}
        for name, value in message.items():
            found[name.lower()] = (*found.get(name.lower(), ()), str(value).strip())
    except (MessageError, ValueError):
        return None
    return found


def _record(text: bytes | None) -> tuple[RecordRow, ...] | None:
    """The lines of RECORD; None where it is missing or is no table of three columns."""
    if text is None:
        return None
    try:
        rows = list(csv.reader(text.decode("utf-8").splitlines(), strict=True))
    except (csv.Error, UnicodeDecodeError):
        return None
    if any(len(row) != 3 for row in rows if row):
        return None
    return tuple(RecordRow(path=row[0], digest=row[1], size=row[2]) for row in rows if row)


# --- the members -----------------------------------------------------------------------------------------------------


class Gathered:
    """The facts of the members seen so far. ``algorithms`` maps a member's name to the one that RECORD uses;
    ``processor`` is the one for which machine code is read."""

    def __init__(self, algorithms: Mapping[str, str], processor: Processor | None) -> None:
        self.members: list[Member] = []
        self.elfs: list[ElfFacts] = []
        self.garbled: dict[str, str] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.fatbins: dict[str, tuple[Container, ...]] = {}
        self.code: dict[str, CodeFacts] = {}
        self._algorithms = algorithms
        self._processor = processor

    def add(self, entry: Entry, pieces: Iterator[bytes]) -> None:
        """Reads one member: its digest, and its facts where it is an ELF file or a container of GPU code."""
        algorithm = self._algorithms.get(entry.name, "")
        if algorithm not in STRONG:
            algorithm = "sha256"
        digest = hashlib.new(algorithm)
        trouble = ""
        try:
            first = next(pieces, b"")
            digest.update(first)
            if first.startswith(MAGIC):
                self._add_elf(entry, first, pieces, digest.update)
            elif first.startswith(FATBIN_MAGIC):
                with self._scanned(entry, first, pieces, digest.update) as data:
                    self._add_fatbins(entry.name, data)
            elif entry.name.endswith(".pyc") and entry.size <= MOST_BYTECODE:
                with _buffer(entry.size, first, pieces, digest.update) as data:
                    self._add_paths(entry.name, bytecode_path(entry.name, bytes(data)))
            else:
                self._add_text(entry.name, first, pieces, digest.update)
        except Unreadable as error:
            trouble = str(error)
        self.members.append(
            Member(
                name=entry.name,
                size=entry.size,
                mode=entry.mode,
                is_link=entry.is_link,
                digest="" if trouble else record_digest(algorithm, digest.digest()),
                trouble=trouble,
            )
        )

    def _add_elf(self, entry: Entry, first: bytes, pieces: Iterator[bytes], seen: Callable[[bytes], None]) -> None:
        paths, starts = BuildPaths(), Starts()
        paths.feed(first)
        starts.feed(first)

        def feed(piece: bytes) -> None:
            seen(piece)
            paths.feed(piece)
            starts.feed(piece)

        with _buffer(entry.size, first, pieces, feed) as data:
            self._read_elf(entry.name, data, starts.places)
        self._add_paths(entry.name, *paths.found())

    @contextmanager
    def _scanned(
        self, entry: Entry, first: bytes, pieces: Iterator[bytes], seen: Callable[[bytes], None]
    ) -> Iterator[memoryview]:
        """A file of tools as one buffer; paths of a build in it are found."""
        paths = BuildPaths()
        paths.feed(first)

        def feed(piece: bytes) -> None:
            seen(piece)
            paths.feed(piece)

        with _buffer(entry.size, first, pieces, feed) as data:
            yield data
        self._add_paths(entry.name, *paths.found())

    def _add_text(self, name: str, first: bytes, pieces: Iterator[bytes], seen: Callable[[bytes], None]) -> None:
        paths = BuildPaths(writer_of(name, first), text=True)
        paths.feed(first)
        for piece in pieces:
            seen(piece)
            paths.feed(piece)
        self._add_paths(name, *paths.found(), shebang_path(first))

    def _add_paths(self, name: str, *found: str) -> None:
        paths = tuple(sorted({path for path in found if path}))
        if paths:
            self.paths[name] = paths

    def _read_elf(self, name: str, data: memoryview, starts: Sequence[int] | None) -> None:
        try:
            elf = read_elf(name, data)
            self.elfs.append(elf)
            if not elf.for_device:
                self._add_fatbins(name, data, starts)
                forget(data)
            code = read_code(data, self._processor) if self._processor else None
            if code:
                self.code[name] = code
        except Garbled as error:
            self.garbled[name] = str(error)

    def _add_fatbins(self, name: str, data: memoryview, starts: Sequence[int] | None = None) -> None:
        found = read_fatbins(data, starts=starts)
        if found:
            self.fatbins[name] = found


@contextmanager
def _buffer(size: int, first: bytes, pieces: Iterator[bytes], seen: Callable[[bytes], None]) -> Iterator[memoryview]:
    """All pieces as one buffer, in memory or, where ``size`` is large, mapped. ``seen`` gets each but the first."""
    if size <= IN_MEMORY:
        data = bytearray(first)
        for piece in pieces:
            seen(piece)
            data += piece
        yield memoryview(data)
        return
    import mmap
    import tempfile

    with tempfile.TemporaryFile() as stream:
        stream.write(first)
        for piece in pieces:
            seen(piece)
            stream.write(piece)
        stream.flush()
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                yield view
            finally:
                view.release()
