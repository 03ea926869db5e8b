"""The machine code of an ELF file in pieces: where each function begins and ends, what it is called, and which of them
the loader calls by itself.

Instructions of x86 have no fixed length, so whoever starts to read at a wrong byte reads nonsense. A piece starts where
a function does: ``.eh_frame_hdr`` has a sorted table of them, which ``strip`` leaves alone, because exceptions are
unwound by it; the table of symbols has those that were written in assembly without unwind information. Sources: the
System V gABI, chapters 4 and 5; the Linux Standard Base 5.0, "Exception Frames"; ELF for the Arm 64-bit Architecture,
"Mapping symbols"; the processor supplements for the numbers of relocations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crosswheel.proving.elf_tables import PT_LOAD, ElfTables, Garbled, Section, Segment

Numbers = NDArray[np.int64]
"""Addresses, offsets or sizes in bytes."""

MOST_ROWS = 8_000_000
"""As many rows of a table are read. The largest file of TensorFlow 2.20 has 736 thousand functions, 2.3 million symbols
and 4.9 million relocations."""

X86_64, AARCH64 = 62, 183

_LOADED = (2, 3)
"""ET_EXEC and ET_DYN; the functions of an object file have no addresses yet."""

_PT_GNU_EH_FRAME, _PF_X = 0x6474E550, 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_DYNSYM, _SHF_EXECINSTR = 1, 2, 11, 4
_HIGHEST = 2**62
"""No address of a process on these machines is so high; higher ones do not fit in the numbers that are used here."""

_STT_FUNC, _STT_GNU_IFUNC, _STB_WEAK = 2, 10, 2
_DT_PLTRELSZ, _DT_SYMTAB, _DT_RELA, _DT_RELASZ, _DT_INIT, _DT_JMPREL = 2, 6, 7, 8, 12, 23
_ARRAYS = ((25, 27), (32, 33))
"""DT_INIT_ARRAY and DT_PREINIT_ARRAY, each with the tag of its size."""

_RELATIVE = {X86_64: 8, AARCH64: 1027}
_IRELATIVE = {X86_64: 37, AARCH64: 1032}
_SYMBOLIC = {X86_64: 1, AARCH64: 257}
"""The number of a relocation by the address where the file is loaded, by a function that chooses, and by a symbol."""

_HEADER = bytes((1, 0x1B, 0x03, 0x3B))
"""``.eh_frame_hdr`` as linkers write it: version 1, a 4-byte pointer relative to itself, a 4-byte count, and a table of
pairs of 4-byte numbers relative to the header."""

_SYMBOL = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("at", "<u2"), ("value", "<i8"), ("size", "<i8")])
_RELOCATION = np.dtype([("offset", "<i8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_NONE: Numbers = np.zeros(0, dtype=np.int64)
_NO_AREA: Numbers = np.zeros((0, 3), dtype=np.int64)
_LONGEST = 4096


@dataclass(frozen=True, kw_only=True)
class Symbols:
    """The functions that a table of symbols names, in the order of their addresses. ``names`` are offsets in
    ``strings``; ``whole`` says that the table is that of the linker, which names all, and not that of the loader.
    ``choosers`` are the addresses of those that choose an implementation (IFUNC)."""

    starts: Numbers
    ends: Numbers
    names: Numbers
    weak: NDArray[np.bool_]
    strings: memoryview
    whole: bool
    choosers: frozenset[int]

    def at(self, addresses: Sequence[int]) -> list[tuple[tuple[str, ...], bool]]:
        """For each address the names of the function in which it lies, sorted, and whether one of them is weak."""
        places = np.array(addresses, dtype=np.int64)
        last = np.searchsorted(self.starts, places, "right")
        starts = self.starts[np.maximum(last - 1, 0)] if len(self.starts) else places
        first = np.searchsorted(self.starts, starts, "left")
        if int((last - first).sum()) > MOST_ROWS:
            raise Garbled("too many of its symbols lie over one another")
        count = last - first
        hit = np.repeat(np.arange(len(places)), count)
        rows = np.arange(len(hit)) + np.repeat(first - (np.cumsum(count) - count), count)
        inside = places[hit] < self.ends[rows]
        rows, hit = rows[inside], hit[inside]
        found: list[tuple[tuple[str, ...], bool]] = [((), False)] * len(places)
        for number, offset, weak in zip(hit.tolist(), self.names[rows].tolist(), self.weak[rows].tolist(), strict=True):
            names, was_weak = found[number]
            name = self._name(offset)
            found[number] = (tuple(sorted({*names, name})) if names else (name,)), weak or was_weak
        return found

    def _name(self, offset: int) -> str:
        """The name at an offset: most are short, so that little is copied first."""
        for length in (256, _LONGEST):
            name, end, _ = bytes(self.strings[offset : offset + length]).partition(b"\0")
            if end:
                break
        return name.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """The machine code of a file, cut where functions begin and end.

    ``starts`` and ``ends`` are addresses, in their order; ``offsets`` is where each piece begins in the file. ``known``
    says that a function is there: unwind information or a symbol tells it; what is not known may be padding, a table,
    or assembly that nothing tells of. ``first`` are the addresses of functions that the loader calls by itself: those
    of ``.init_array`` and its kin, and those that choose an implementation (IFUNC). ``tables`` are the (start, end) of
    constants among the code, where mapping symbols tell of them (aarch64's ``$d``).
    """

    machine: int
    starts: Numbers
    ends: Numbers
    offsets: Numbers
    known: NDArray[np.bool_]
    first: frozenset[int]
    symbols: Symbols
    tables: tuple[Numbers, Numbers]

    def is_data(self, address: int) -> bool:
        """Whether a constant lies there, and no instruction."""
        starts, ends = self.tables
        last = int(np.searchsorted(starts, address, "right")) - 1
        return last >= 0 and address < int(ends[last])


def read_pieces(data: memoryview) -> Pieces | None:
    """The pieces of a 64-bit little-endian ELF file that is loaded; None where it is another or has no code. Raises
    :class:`Garbled`, ``struct.error``."""
    tables = ElfTables(data)
    if not tables.wide or tables.order != "<" or tables.machine not in _RELATIVE or tables.kind not in _LOADED:
        return None
    if tables.sections_lost:
        raise Garbled("its section headers lie beyond its end, and with them all that tells where its functions are")
    rows: Iterable[Segment | Section] = (*tables.segments, *tables.sections)
    if any(row.address >= _HIGHEST or row.size >= _HIGHEST for row in rows):
        raise Garbled("its addresses are higher than any of a process")
    executable = [s for s in tables.sections if s.kind == _SHT_PROGBITS and s.flags & _SHF_EXECINSTR and s.size]
    starts, ends = _frames(tables)
    symbols = _symbols(tables)
    areas = _areas(tables, executable, starts, ends)
    if not len(areas):
        return None
    bounds = np.sort(np.concatenate((starts, ends, symbols.starts, symbols.ends, areas[:, 0], areas[:, 1])))
    bounds = bounds[np.diff(bounds, prepend=-1) > 0]
    area = np.searchsorted(areas[:, 0], bounds, "right") - 1
    inside = (area >= 0) & (bounds < areas[np.maximum(area, 0), 1])
    pieces, area = bounds[inside], area[inside]
    following = np.append(pieces[1:], np.iinfo(np.int64).max)
    return Pieces(
        machine=tables.machine,
        starts=pieces,
        ends=np.minimum(following, areas[area, 1]),
        offsets=pieces - areas[area, 0] + areas[area, 2],
        known=_covered(pieces, starts, ends) | _covered(pieces, symbols.starts, symbols.ends),
        first=symbols.choosers | _called_first(tables),
        symbols=symbols,
        tables=_constants(tables) if tables.machine == AARCH64 else (_NONE, _NONE),
    )


def _areas(tables: ElfTables, executable: list[Section], starts: Numbers, ends: Numbers) -> Numbers:
    """(address, end, offset) of what holds code, in the order of the addresses. Without section headers, that are the
    functions of which the unwind information tells, because old linkers put constants into the same segment; without
    that as well, all of the segment."""
    if executable:
        rows = []
        for section in executable:
            tables.slice(section.offset, section.size, "section of code")
            rows.append((section.address, section.address + section.size, section.offset))
        areas = np.array(sorted(rows), dtype=np.int64)
    else:
        areas = np.concatenate([_NO_AREA, *(_in_segment(segment, starts, ends) for segment in tables.segments)])
    if (areas[1:, 0] < areas[:-1, 1]).any():
        raise Garbled("parts of its code overlap")
    return areas


def _in_segment(segment: Segment, starts: Numbers, ends: Numbers) -> Numbers:
    """The ranges that lie in a segment of code, as (address, end, offset); all of it where there are none."""
    if segment.kind != PT_LOAD or not segment.flags & _PF_X or not segment.size:
        return _NO_AREA
    if not len(starts):
        return np.array([(segment.address, segment.address + segment.size, segment.offset)], dtype=np.int64)
    inside = (starts >= segment.address) & (ends <= segment.address + segment.size)
    at, to = starts[inside], ends[inside]
    return np.stack((at, to, at - segment.address + segment.offset), axis=1)


def _covered(at: Numbers, starts: Numbers, ends: Numbers) -> NDArray[np.bool_]:
    """Which of the addresses lie in one of the ranges, which are sorted by their starts and may be nested."""
    if not len(starts):
        return np.zeros(len(at), dtype=np.bool_)
    last = np.searchsorted(starts, at, "right") - 1
    reach = np.maximum.accumulate(ends)
    covered: NDArray[np.bool_] = (last >= 0) & (at < reach[np.maximum(last, 0)])
    return covered


# --- unwind information ----------------------------------------------------------------------------------------------


def _frames(tables: ElfTables) -> tuple[Numbers, Numbers]:
    """The starts and ends of the functions in ``.eh_frame_hdr``, sorted; none where a file has no such table, or one of
    another form than linkers write."""
    header = next((segment for segment in tables.segments if segment.kind == _PT_GNU_EH_FRAME), None)
    if header is None:
        return _NONE, _NONE
    raw = tables.slice(header.offset, header.size, "table of unwind information")
    if bytes(raw[:4]) != _HEADER or len(raw) < 12:
        return _NONE, _NONE
    count = int.from_bytes(raw[8:12], "little")
    if count > MOST_ROWS or 12 + 8 * count > len(raw):
        raise Garbled(f"its table of unwind information claims {count:,} functions")
    rows = np.frombuffer(raw, dtype="<i4", offset=12, count=2 * count).reshape(count, 2).astype(np.int64)
    starts, places = rows[:, 0] + header.address, rows[:, 1] + header.address
    order = np.argsort(starts, kind="stable")
    starts, places = starts[order], places[order]
    ends = starts + _lengths(tables, places)
    following = np.append(starts[1:], np.iinfo(np.int64).max)
    ends = np.minimum(np.where(ends > starts, ends, starts), following)
    return starts, ends


def _lengths(tables: ElfTables, places: Numbers) -> Numbers:
    """How long the function is of which each frame description entry tells, in bytes."""
    if not len(places):
        return _NONE
    base = next(
        (s for s in tables.segments if s.kind == PT_LOAD and s.address <= int(places[0]) < s.address + s.size), None
    )
    if base is None:
        raise Garbled("its unwind information lies in none of its segments")
    loaded = np.frombuffer(tables.slice(base.offset, base.size, "segment"), dtype=np.uint8)
    at = places - base.address
    if int(at.min()) < 0 or int(at.max()) + 24 > len(loaded):
        raise Garbled("a part of its unwind information lies beyond its segment")
    common = at + 4 - _numbers(loaded, at + 4, 4)
    found = np.zeros(len(at), dtype=np.int64)
    for entry in sorted(set(common.tolist())):
        width = _width(loaded, entry)
        here = common == entry
        found[here] = _numbers(loaded, at[here] + 8 + width, width)
    return found


def _numbers(loaded: NDArray[np.uint8], at: Numbers, width: int) -> Numbers:
    """The little-endian numbers of ``width`` bytes (4, unsigned, or 8) at each of the places."""
    rows = loaded[at[:, None] + np.arange(width)]
    return np.ascontiguousarray(rows).view("<u4" if width == 4 else "<i8")[:, 0].astype(np.int64)


def _width(loaded: NDArray[np.uint8], entry: int) -> int:
    """How many bytes an address has in the entries that go with a common information entry: 4 or 8."""
    if not 0 <= entry <= len(loaded) - 32:
        raise Garbled("a part of its unwind information lies beyond its segment")
    raw = loaded[entry + 9 : entry + 64].tobytes()
    augmentation, end, rest = raw.partition(b"\0")
    if not end or not augmentation.startswith(b"z"):
        return 8
    numbers = _after(rest, 3)  # alignment of code, of data, and the register of the return address: LEB128, as is the
    numbers = _after(numbers, 1)  # length of what the letters stand for
    for letter in augmentation[1:].decode("latin-1"):
        if letter == "R":
            return 8 if not numbers or numbers[0] & 0x0F in (0x00, 0x04, 0x0C) else 4
        skipped = {"L": 1, "P": 1, "S": 0, "B": 0}.get(letter)
        if skipped is None or not numbers:
            break
        if letter == "P":
            skipped += 8 if numbers[0] & 0x0F in (0x00, 0x04, 0x0C) else 4
        numbers = numbers[skipped:]
    return 4


def _after(raw: bytes, count: int) -> bytes:
    """What follows ``count`` LEB128 numbers."""
    for _ in range(count):
        while raw and raw[0] & 0x80:
            raw = raw[1:]
        raw = raw[1:]
    return raw


# --- symbols ---------------------------------------------------------------------------------------------------------


def _table_of_symbols(tables: ElfTables) -> tuple[NDArray[np.void], memoryview, bool]:
    """The rows of the linker's table of symbols, else of the loader's, its names, and whether it is the linker's."""
    table = next((s for s in tables.sections if s.kind == _SHT_SYMTAB), None)
    whole = table is not None
    table = table or next((s for s in tables.sections if s.kind == _SHT_DYNSYM), None)
    if table is None or table.link >= len(tables.sections):
        return np.zeros(0, dtype=_SYMBOL), memoryview(b""), False
    names = tables.sections[table.link]
    if table.size // _SYMBOL.itemsize > MOST_ROWS:
        raise Garbled(f"its table of symbols has {table.size:,} bytes")
    raw = tables.slice(table.offset, table.size - table.size % _SYMBOL.itemsize, "table of symbols")
    return np.frombuffer(raw, dtype=_SYMBOL), tables.slice(names.offset, names.size, "table of names"), whole


def _sorted(rows: NDArray[np.void], kept: NDArray[np.bool_]) -> NDArray[np.void]:
    """The kept symbols that are defined, in the order of their addresses."""
    rows = rows[kept & (rows["at"] != 0) & (rows["value"] >= 0) & (rows["value"] < _HIGHEST) & (rows["size"] >= 0)]
    return rows[np.argsort(rows["value"], kind="stable")]


def _symbols(tables: ElfTables) -> Symbols:
    rows, strings, whole = _table_of_symbols(tables)
    kind = rows["info"] & 0x0F
    rows = _sorted(rows, (kind == _STT_FUNC) | (kind == _STT_GNU_IFUNC))
    ends = rows["value"] + np.minimum(rows["size"], _HIGHEST)
    if whole and len(rows):  # one without a size, from assembly, goes on to the next
        starts = np.unique(rows["value"])
        following = np.append(starts[1:], _HIGHEST)[np.searchsorted(starts, rows["value"])]
        ends = np.where(rows["size"] == 0, following, ends)
    return Symbols(
        starts=rows["value"],
        ends=ends,
        names=rows["name"].astype(np.int64),
        weak=(rows["info"] >> 4) == _STB_WEAK,
        strings=strings,
        whole=whole,
        choosers=frozenset(rows["value"][(rows["info"] & 0x0F) == _STT_GNU_IFUNC].tolist()),
    )


def _constants(tables: ElfTables) -> tuple[Numbers, Numbers]:
    """Where the mapping symbols say that constants begin and end: from each ``$d`` to the next ``$x``."""
    rows, strings, _ = _table_of_symbols(tables)
    text = np.frombuffer(bytes(strings) + b"\0\0", dtype=np.uint8)
    at = np.minimum(rows["name"].astype(np.int64), len(text) - 2)
    mapping = (text[at] == ord("$")) & ((text[at + 1] == ord("d")) | (text[at + 1] == ord("x")))
    rows = _sorted(rows, mapping & (rows["info"] == 0))
    at = np.minimum(rows["name"].astype(np.int64), len(text) - 2)
    data = text[at + 1] == ord("d")
    following = np.append(rows["value"][1:], _HIGHEST)
    return rows["value"][data], following[data]


# --- what the loader calls -------------------------------------------------------------------------------------------


def _called_first(tables: ElfTables) -> frozenset[int]:
    found = {tables.one(_DT_INIT)}
    arrays = [(tables.one(at), tables.one(size)) for at, size in _ARRAYS if tables.one(at)]
    for address, size in arrays:
        raw = tables.slice(tables.offset(address, "list of initialisers"), size - size % 8, "list of initialisers")
        found.update(np.frombuffer(raw, dtype="<i8").tolist())
    relocations = ((tables.one(_DT_RELA), tables.one(_DT_RELASZ)), (tables.one(_DT_JMPREL), tables.one(_DT_PLTRELSZ)))
    for address, size in relocations:
        if not address:
            continue
        size -= size % _RELOCATION.itemsize
        if size // _RELOCATION.itemsize > MOST_ROWS:
            raise Garbled(f"its table of relocations has {size:,} bytes")
        raw = tables.slice(tables.offset(address, "table of relocations"), size, "table of relocations")
        rows = np.frombuffer(raw, dtype=_RELOCATION)
        listed = np.zeros(len(rows), dtype=np.bool_)
        for start, length in arrays:
            listed |= (rows["offset"] >= min(start, _HIGHEST)) & (rows["offset"] < min(start + length, _HIGHEST))
        wanted = (rows["kind"] == _IRELATIVE[tables.machine]) | (listed & (rows["kind"] == _RELATIVE[tables.machine]))
        found.update(rows["addend"][wanted].tolist())
        named = rows[listed & (rows["kind"] == _SYMBOLIC[tables.machine])]
        found.update((_values(tables, named["symbol"].astype(np.int64)) + named["addend"]).tolist())
    return frozenset(found - {0, -1})


def _values(tables: ElfTables, symbols: Numbers) -> Numbers:
    """The addresses of functions that others may replace (global ones in a library), which the loader finds by their
    symbols; 0 for one that the file itself does not define."""
    if not len(symbols):
        return _NONE
    place = tables.offset(tables.one(_DT_SYMTAB), "table of symbols")
    raw = tables.slice(place, (int(symbols.max()) + 1) * _SYMBOL.itemsize, "table of symbols")
    values: Numbers = np.frombuffer(raw, dtype=_SYMBOL)["value"][symbols]
    return values
