"""What is known of a wheel or of a bundle: its name, its members, a wheel's papers, and its ELF files, gathered in one
pass over the archive."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.proving.archive import Entry, Unreadable, WheelArchive
from crosswheel.proving.code import CodeFacts
from crosswheel.proving.elf import ElfFacts
from crosswheel.proving.fatbin import Container
from crosswheel.proving.members import Gathered, Member
from crosswheel.proving.processor import Processor

MOST_PAPER = 64 * 2**20
"""METADATA, WHEEL and RECORD are read up to this size (bytes) each."""


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """A line of RECORD, as written."""

    path: str
    digest: str
    size: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An archive of files for a machine.

    ``file`` is the file's name. ``elfs`` has the objects of static libraries, too, as ``LIBRARY(OBJECT)``.
    ``garbled`` maps a member that begins like an ELF file and is none to the reason, ``unread`` a static library to
    why not all of it could be read.
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
    unread: Mapping[str, str]
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
        unread=gathered.unread,
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
