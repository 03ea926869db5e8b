"""The members of a wheel or of a bundle: what is known of each, gathered while it is read once."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crosswheel.proving import ar
from crosswheel.proving.archive import Entry, Unreadable
from crosswheel.proving.build_paths import MOST_BYTECODE, BuildPaths, bytecode_path, shebang_path, writer_of
from crosswheel.proving.code import CodeFacts, forget, read_code
from crosswheel.proving.elf import ElfFacts, read_elf
from crosswheel.proving.elf_tables import MAGIC, Garbled
from crosswheel.proving.fatbin import MAGIC as FATBIN_MAGIC
from crosswheel.proving.fatbin import Container, Starts, read_fatbins
from crosswheel.proving.faults import escaped
from crosswheel.proving.processor import Processor

IN_MEMORY = 64 * 2**20
"""An ELF file larger than this (bytes) is read through a temporary file."""

MOST_OBJECTS = 50_000
"""As many ELF files are read, those in static libraries counted."""

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


def record_digest(algorithm: str, digest: bytes) -> str:
    """A digest as RECORD has it, such as ``sha256=47DEQpj8…`` (PEP 427: URL-safe base64 without padding)."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


class Gathered:
    """The facts of the members seen so far. ``algorithms`` maps a member's name to the one that RECORD uses;
    ``processor`` is the one for which machine code is read."""

    def __init__(self, algorithms: Mapping[str, str], processor: Processor | None) -> None:
        self.members: list[Member] = []
        self.elfs: list[ElfFacts] = []
        self.garbled: dict[str, str] = {}
        self.unread: dict[str, str] = {}
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
            elif first.startswith((ar.MAGIC, ar.THIN)):
                with self._scanned(entry, first, pieces, digest.update) as data:
                    self._add_library(entry.name, data)
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
            code = self._code(data) if self._processor and elf.machine == self._processor.machine else None
            if code:
                self.code[name] = code
        except Garbled as error:
            self.garbled[name] = str(error)

    def _code(self, data: memoryview) -> CodeFacts | None:
        assert self._processor is not None
        from crosswheel.proving.objects import located  # it needs numpy, which a build with nothing to do does not load

        try:
            linked = located(data)
        except (Garbled, struct.error, ValueError, IndexError, OverflowError) as error:
            return CodeFacts(trouble=str(error) or type(error).__name__)
        return read_code(linked, self._processor)

    def _add_library(self, name: str, data: memoryview) -> None:
        """The objects of a static library, each under a name of its own."""
        others, names = 0, Counter[str]()
        try:
            for said, content in ar.members(data):
                if content[: len(MAGIC)] != MAGIC:
                    others += 1
                elif len(self.elfs) > MOST_OBJECTS:
                    raise Garbled(f"with it, more than {MOST_OBJECTS:,} files of machine code would have to be read")
                else:
                    called = escaped(said)
                    names[called] += 1
                    number = f"#{names[called]}" if names[called] > 1 else ""
                    self._read_elf(f"{name}({called}{number})", content, None)
        except Garbled as error:
            self.unread[name] = str(error)
            return
        if others:
            self.unread[name] = f"members of it that are no ELF files (of another compiler, or bitcode): {others}"

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
