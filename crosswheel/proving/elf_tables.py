"""The tables of an ELF file that say where everything is: its segments, its sections, its dynamic segment.

The reader is our own because a wheel is hostile input: pyelftools walks a garbled version table for as many rounds as
the file claims (2**32; a file made so kept it busy without end), and here every walk is bounded by the file's size.
The tests compare the two on real files. Sources: the System V gABI, chapters 4 and 5.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

Buffer = bytes | memoryview

MAGIC = b"\x7fELF"

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3

_DT_STRTAB, _DT_STRSZ = 5, 10
_LENGTHS = (256, 2**20)
_MOST_DYNAMIC = 2**18


class Garbled(Exception):
    """An ELF file that contradicts itself; the text says where."""


@dataclass(frozen=True)
class Segment:
    """A row of the program headers. ``size`` is in the file, in bytes."""

    kind: int
    flags: int
    offset: int
    address: int
    size: int


@dataclass(frozen=True)
class Section:
    """A row of the section headers. ``link`` is the number of the section that it goes with."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class ElfTables:
    """The tables of the ELF file ``data``. Raises :class:`Garbled` where they lead out of it, and ``struct.error``
    where one of them ends before it should."""

    def __init__(self, data: Buffer) -> None:
        self.data = memoryview(data)
        if self.data[:4] != MAGIC or len(self.data) < 52:
            raise Garbled("its header is not that of an ELF file")
        if self.data[4] not in (1, 2) or self.data[5] not in (1, 2):
            raise Garbled("its class or its byte order is none that exists")
        self.wide = self.data[4] == 2
        self.order = "<" if self.data[5] == 1 else ">"
        self._word = "Q" if self.wide else "I"
        header = struct.Struct(f"{self.order}HHI{3 * self._word}I6H")
        (self.kind, self.machine, _, _, phoff, self._shoff, self.flags, _, phentsize, phnum, shentsize, shnum, _) = (
            header.unpack_from(self.data, 16)
        )
        self._section_size, self._section_count = shentsize, shnum
        self.segments = self._read_segments(phoff, phentsize, phnum)
        self.dynamic = self._read_dynamic()
        self._strings = self._read_strings()

    def slice(self, offset: int, size: int, what: str) -> memoryview:
        """``size`` bytes from ``offset`` on; ``what`` they are, for the message where they are beyond the end."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise Garbled(f"its {what} lies beyond its end")
        return self.data[offset : offset + size]

    def offset(self, address: int, what: str) -> int:
        """Where in the file the byte lies that is loaded at ``address``."""
        for segment in self.segments:
            if segment.kind == PT_LOAD and segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        raise Garbled(f"its {what} lies in none of its segments")

    def all(self, tag: int) -> list[int]:
        """The values of a tag of the dynamic segment, in their order."""
        return self.dynamic.get(tag, [])

    def one(self, tag: int) -> int:
        """The value of a tag of the dynamic segment, the last of several; 0 where it has none."""
        values = self.all(tag)
        return values[-1] if values else 0

    def string(self, offset: int) -> str:
        """A string of the dynamic segment's table. TensorFlow 2.20 has a RUNPATH of 21,000 letters."""
        for length in _LENGTHS:
            text, end, _ = bytes(self._strings[offset : offset + length]).partition(b"\0")
            if end:
                return text.decode("utf-8", "backslashreplace")
        raise Garbled("one of its strings has no end")

    @property
    def sections_lost(self) -> bool:
        """Whether it says that it has section headers, and has none that can be read."""
        return bool(self._shoff and self._section_count and not self.sections)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The section headers; none where the file has none, or none that can be read."""
        layout = struct.Struct(f"{self.order}II{4 * self._word}II{2 * self._word}")
        end = self._shoff + layout.size * self._section_count
        if self._section_size != layout.size or self._shoff == 0 or end > len(self.data):
            return ()
        return tuple(
            Section(kind=row[1], flags=row[2], address=row[3], offset=row[4], size=row[5], link=row[6])
            for row in layout.iter_unpack(self.data[self._shoff : end])
        )

    def _read_segments(self, offset: int, entry: int, count: int) -> list[Segment]:
        if count == 0:
            return []
        layout = struct.Struct(f"{self.order}{'IIQQQQQQ' if self.wide else '8I'}")
        if entry != layout.size:
            raise Garbled("the size of its program headers is wrong")
        found = []
        for row in layout.iter_unpack(self.slice(offset, entry * count, "table of program headers")):
            if self.wide:
                kind, flags, start, address, _, size, _, _ = row
            else:
                kind, start, address, _, size, _, flags, _ = row
            if kind in (PT_LOAD, PT_DYNAMIC, PT_INTERP):
                self.slice(start, size, "segment")
            found.append(Segment(kind, flags, start, address, size))
        return found

    def _read_dynamic(self) -> dict[int, list[int]]:
        tags: dict[int, list[int]] = {}
        for segment in self.segments:
            if segment.kind != PT_DYNAMIC:
                continue
            layout = struct.Struct(f"{self.order}{2 * self._word}")
            if segment.size > _MOST_DYNAMIC:
                raise Garbled(f"its dynamic segment has {segment.size:,} bytes")
            size = segment.size - segment.size % layout.size
            for tag, value in layout.iter_unpack(self.slice(segment.offset, size, "dynamic segment")):
                if tag == 0:
                    break
                tags.setdefault(tag, []).append(value)
            break
        return tags

    def _read_strings(self) -> memoryview:
        address = self.one(_DT_STRTAB)
        if not address:
            return memoryview(b"")
        return self.slice(self.offset(address, "table of strings"), self.one(_DT_STRSZ), "table of strings")
