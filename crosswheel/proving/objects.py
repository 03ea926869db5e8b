"""Object files (ET_REL), as if they were linked: each section at the address at which it lies in the file.

The functions of an object have no addresses yet, only places in their sections; with these, their code is read as that
of any other file. What the linker would fill in (where a call leads) does not change what an instruction is. Source:
the System V gABI, chapter 4 ("Section Header", "Symbol Table").
"""

from __future__ import annotations

import numpy as np

from crosswheel.proving.elf_tables import ElfTables, Garbled

OBJECT = 1
"""ET_REL"""

_SHARED = 3
_SHT_SYMTAB, _SHF_ALLOC = 2, 2
_FIRST_RESERVED = 0xFF00
_SYMBOL = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("at", "<u2"), ("value", "<u8"), ("size", "<u8")])


def located(data: memoryview) -> memoryview:
    """A 64-bit little-endian object file as a library whose sections lie where they lie in the file; ``data`` itself,
    if it is another file. Raises :class:`Garbled`, ``struct.error``."""
    tables = ElfTables(data)
    if tables.kind != OBJECT or not tables.wide or tables.order != "<":
        return data
    if tables.sections_lost:
        raise Garbled("its section headers lie beyond its end")
    copy = bytearray(data)
    copy[16:18] = _SHARED.to_bytes(2, "little")
    copy[32:40] = bytes(8)  # an object has no segments
    copy[56:58] = bytes(2)
    headers = int.from_bytes(copy[40:48], "little")
    places = np.zeros(len(tables.sections), dtype=np.uint64)
    for number, section in enumerate(tables.sections):
        if section.flags & _SHF_ALLOC:
            places[number] = section.offset
            at = headers + 64 * number + 16
            copy[at : at + 8] = section.offset.to_bytes(8, "little")
    for section in tables.sections:
        if section.kind == _SHT_SYMTAB:
            size = section.size - section.size % _SYMBOL.itemsize
            tables.slice(section.offset, size, "table of symbols")
            _move(memoryview(copy)[section.offset : section.offset + size], places)
    return memoryview(copy)


def _move(table: memoryview, places: np.typing.NDArray[np.uint64]) -> None:
    """Moves symbols by the places of their sections. One in a section with a number that does not fit in the table is
    taken for undefined: it names nothing."""
    rows = np.frombuffer(table, dtype=_SYMBOL)
    rows["at"][rows["at"] >= min(len(places), _FIRST_RESERVED)] = 0
    rows["value"] += places[rows["at"]]
