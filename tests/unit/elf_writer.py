"""Writes small ELF64 files for the tests: what the loader reads, and nothing that runs."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

_BASE = 64 + 4 * 56


def write_elf(
    *,
    machine: int = 183,
    osabi: int = 0,
    flags: int = 0,
    needed: Sequence[str] = ("libc.so.6",),
    soname: str = "",
    rpath: str | None = None,
    runpath: str | None = None,
    versions: Mapping[str, Mapping[str, Sequence[str]]] | None = None,
    interpreter: str = "",
    stack: int | None = 6,
    text_relocations: bool = False,
    relr: bool = False,
    text: bytes = b"",
    executable: bool = True,
) -> bytes:
    """A shared object. ``versions`` is library → version → symbols that want it; ``text`` lies in it somewhere.
    ``stack`` are the flags of its stack segment, None for no such segment. Nothing in it is code; where that matters,
    it is not ``executable``."""
    versions = {"libc.so.6": {"GLIBC_2.17": ["printf", "malloc"]}} if versions is None else versions
    strings = _Strings()
    body = _Body()
    symbols, indices, need = [bytes(24)], [0], _verneed(versions, strings)
    for index, (_, _, names) in enumerate(_flat(versions), 2):
        for name in names:
            symbols.append(struct.pack("<IBBHQQ", strings.add(name), 0x12, 0, 0, 0, 0))
            indices.append(index)
    tags = [(1, strings.add(name)) for name in needed]
    tags += [(14, strings.add(soname))] if soname else []
    tags += [(15, strings.add(rpath))] if rpath is not None else []
    tags += [(29, strings.add(runpath))] if runpath is not None else []
    tags += [(22, 0)] if text_relocations else []
    tags += [(6, body.add(b"".join(symbols))), (11, 24)]
    tags += [(4, body.add(struct.pack("<IIII", 1, len(symbols), 0, 0) + bytes(4 * len(symbols))))]
    if versions:
        tags += [(0x6FFFFFF0, body.add(struct.pack(f"<{len(indices)}H", *indices)))]
        tags += [(0x6FFFFFFE, body.add(need)), (0x6FFFFFFF, len(versions))]
    tags += [(36, body.add(bytes(8))), (35, 8), (37, 8)] if relr else []
    tags += [(5, body.add(strings.data)), (10, len(strings.data)), (0, 0)]
    place = body.add(interpreter.encode() + b"\0")
    body.add(text)
    dynamic = b"".join(struct.pack("<QQ", tag, value) for tag, value in tags)
    start = body.add(dynamic)
    end = _BASE + len(body.data)
    headers = [(1, 5 if executable else 4, 0, end), (2, 6, start, len(dynamic))]
    headers += [(0x6474E551, stack, 0, 0)] if stack is not None else []
    headers += [(3, 4, place, len(interpreter) + 1)] if interpreter else []
    return _header(machine, osabi, flags, len(headers)) + _programs(headers) + bytes(body.data)


def _header(machine: int, osabi: int, flags: int, programs: int) -> bytes:
    ident = b"\x7fELF" + bytes((2, 1, 1, osabi)) + bytes(8)
    return ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, flags, 64, 56, programs, 64, 0, 0)


def _programs(headers: Sequence[tuple[int, int, int, int]]) -> bytes:
    rows = b"".join(
        struct.pack("<IIQQQQQQ", kind, flags, at, at, at, size, size, 8) for kind, flags, at, size in headers
    )
    return rows.ljust(_BASE - 64, b"\0")


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        place = len(self.data)
        self.data += text.encode() + b"\0"
        return place


class _Body:
    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, piece: bytes) -> int:
        self.data += bytes(-len(self.data) % 8)
        place = _BASE + len(self.data)
        self.data += piece
        return place


def _flat(versions: Mapping[str, Mapping[str, Sequence[str]]]) -> list[tuple[str, str, Sequence[str]]]:
    return [(library, version, names) for library, rows in versions.items() for version, names in rows.items()]


def _verneed(versions: Mapping[str, Mapping[str, Sequence[str]]], strings: _Strings) -> bytes:
    table = b""
    index = 2
    for number, (library, rows) in enumerate(versions.items(), 1):
        following = 16 + 16 * len(rows) if number < len(versions) else 0
        table += struct.pack("<HHIII", 1, len(rows), strings.add(library), 16, following)
        for row, version in enumerate(rows, 1):
            table += struct.pack("<IHHII", 0, 0, index, strings.add(version), 16 if row < len(rows) else 0)
            index += 1
    return table
