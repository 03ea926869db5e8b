"""Writes small ELF64 libraries with machine code for the tests: functions, what tells of them, and who calls them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

X86_64, AARCH64 = 62, 183
BASE = 0x1000
"""The first function lies here."""

X86_RET, AVX, SSE3, LZCNT = b"\xc3", bytes.fromhex("c5fe6f07"), bytes.fromhex("660f7cc0"), bytes.fromhex("f3480fbdc7")
ARM_RET, LSE, HALF = bytes.fromhex("c0035fd6"), bytes.fromhex("410020b8"), bytes.fromhex("2028e21e")
OUTLINED = bytes.fromhex("1000009010024039500000b4").replace(bytes.fromhex("500000b4"), bytes.fromhex("50000034"))
"""``adrp x16; ldrb w16, [x16]; cbz w16``: gcc's outlined atomics ask so whether the processor has LSE."""

_SYMBOLIC = {X86_64: 1, AARCH64: 257}
_RELATIVE = {X86_64: 8, AARCH64: 1027}
_IRELATIVE = {X86_64: 37, AARCH64: 1032}
_CIE = struct.pack("<IIB3sBBBBB", 16, 0, 1, b"zR\0", 1, 0x78, 16, 1, 0x1B) + bytes(3)


@dataclass(frozen=True)
class Function:
    """A function. ``size`` is what its symbol says (default: the truth), ``frame`` whether unwind information tells of
    it; no name: no symbol. ``first`` says how the loader finds it."""

    name: str
    code: bytes
    weak: bool = False
    size: int | None = None
    frame: bool = True
    aliases: tuple[str, ...] = ()
    kind: int = 2
    first: Literal["", "bytes", "relative", "named", "irelative"] = ""


Symbol = tuple[str, int, int, int]
"""Name, info, address, size."""


def write_code(
    functions: Sequence[Function],
    *,
    machine: int = X86_64,
    names: Literal["linker", "loader", "none"] = "linker",
    sections: bool = True,
    wide: bool = False,
    more: Sequence[Symbol] = (),
) -> bytes:
    """A library of ``functions``, one behind the other at :data:`BASE`. ``names``: whose table of symbols it has.
    ``wide``: unwind information has absolute addresses of 8 bytes."""
    starts = addresses(functions)
    body = bytearray(BASE)
    for function in functions:
        body += function.code
    text_end = len(body)
    frames = [(at, len(each.code)) for at, each in zip(starts, functions, strict=True) if each.frame]
    header, header_size = _unwind(body, frames, wide)
    symbols = [bytes(24)]
    strings = bytearray(b"\0libc.so.6\0")
    rows = [row for at, each in zip(starts, functions, strict=True) for row in _rows(each, at)]
    for name, info, address, size in (*rows, *more):
        symbols.append(struct.pack("<IBBHQQ", len(strings), info, 0, 1, address, size))
        strings += name.encode("utf-8", "surrogateescape") + b"\0"
    strings_at, symbols_at = _add(body, bytes(strings)), _add(body, b"".join(symbols))
    tags = [(1, 1), (5, strings_at), (10, len(strings)), (6, symbols_at), (11, 24)]
    tags += _initialisers(body, functions, starts, machine, [row[2] for row in rows])
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in (*tags, (0, 0)))
    dynamic_at = _add(body, dynamic)
    headers = _add(body, b"")
    if sections:
        table = {"linker": 2, "loader": 11, "none": 0}[names]
        body += bytes(64) + _section(1, 6, BASE, text_end - BASE) + _section(3, 0, strings_at, len(strings))
        body += _section(table, 0, symbols_at, 24 * len(symbols), 2) if table else b""
    count = (len(body) - headers) // 64
    loaded = [(1, 5, 0, headers), (2, 6, dynamic_at, len(dynamic)), (0x6474E551, 6, 0, 0)]
    loaded += [(0x6474E550, 4, header, header_size)] if frames else []
    ident = b"\x7fELF" + bytes((2, 1, 1, 0)) + bytes(8)
    shape = (3, machine, 1, 0, 64, headers if sections else 0, 0, 64, 56, len(loaded), 64, count, 0)
    body[:64] = ident + struct.pack("<HHIQQQIHHHHHH", *shape)
    programs = (struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, 8) for kind, flags, at, size in loaded)
    rows_of_programs = b"".join(programs)
    body[64 : 64 + len(rows_of_programs)] = rows_of_programs
    return bytes(body)


def addresses(functions: Sequence[Function]) -> list[int]:
    """Where each of the functions begins."""
    return [BASE + sum(len(each.code) for each in functions[:number]) for number in range(len(functions))]


def _rows(function: Function, at: int) -> list[Symbol]:
    size = len(function.code) if function.size is None else function.size
    info = (2 if function.weak else 1) << 4 | function.kind
    called = (function.name, *function.aliases) if function.name else ()
    return [(name, info, at, size) for name in called]


def _add(body: bytearray, piece: bytes) -> int:
    body += bytes(-len(body) % 8)
    place = len(body)
    body += piece
    return place


def _section(kind: int, flags: int, at: int, size: int, link: int = 0) -> bytes:
    return struct.pack("<IIQQQQIIQQ", 0, kind, flags, at, at, size, link, 0, 1, 0)


def _unwind(body: bytearray, frames: Sequence[tuple[int, int]], wide: bool) -> tuple[int, int]:
    """Adds ``.eh_frame`` and ``.eh_frame_hdr``; the place and the size of the latter."""
    common = bytearray(_CIE)
    common[16] = 0x00 if wide else 0x1B
    entry = _add(body, bytes(common))
    places = []
    for start, size in frames:
        place = _add(body, b"")
        numbers = struct.pack("<QQ", start, size) if wide else struct.pack("<iI", start - place - 8, size)
        body += struct.pack("<II", 4 + len(numbers) + 4, place + 4 - entry) + numbers + bytes(4)
        places.append(place)
    _add(body, bytes(64))
    header = _add(body, b"")
    body += bytes((1, 0x1B, 3, 0x3B)) + struct.pack("<iI", entry - header - 4, len(frames))
    for (start, _), place in zip(frames, places, strict=True):
        body += struct.pack("<ii", start - header, place - header)
    return header, 12 + 8 * len(frames)


def _initialisers(
    body: bytearray, functions: Sequence[Function], starts: Sequence[int], machine: int, symbols: Sequence[int]
) -> list[tuple[int, int]]:
    """Adds ``.init_array`` and relocations; the tags that tell of them."""
    listed = [(at, each) for at, each in zip(starts, functions, strict=True) if each.first not in ("", "irelative")]
    values = [at if each.first == "bytes" else 0 for at, each in listed]
    array = _add(body, struct.pack(f"<{len(values)}Q", *values))
    rows = b""
    for number, (at, each) in enumerate(listed):
        if each.first == "relative":
            rows += struct.pack("<QIIq", array + 8 * number, _RELATIVE[machine], 0, at)
        elif each.first == "named":
            rows += struct.pack("<QIIq", array + 8 * number, _SYMBOLIC[machine], 1 + symbols.index(at), 0)
    jumps = [at for at, each in zip(starts, functions, strict=True) if each.first == "irelative"]
    chosen = b"".join(struct.pack("<QIIq", array, _IRELATIVE[machine], 0, at) for at in jumps)
    tags = [(25, array), (27, 8 * len(values))] if values else []
    tags += [(7, _add(body, rows)), (8, len(rows))] if rows else []
    return tags + ([(23, _add(body, chosen)), (2, len(chosen))] if chosen else [])
