"""Writes object files and static libraries for the tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from code_writer import X86_64, Function


def write_object(functions: Sequence[Function], *, machine: int = X86_64, apart: bool = True) -> bytes:
    """An object file of ``functions``, each in a section of its own where they are kept ``apart``."""
    texts = [each.code for each in functions] if apart else [b"".join(each.code for each in functions)]
    places = [(1 + number, 0) for number in range(len(functions))]
    if not apart:
        places = [(1, sum(len(each.code) for each in functions[:number])) for number in range(len(functions))]
    body, rows = bytearray(64), [bytes(64)]
    for text in texts:
        body += bytes(-len(body) % 16)
        rows.append(struct.pack("<IIQQQQIIQQ", 0, 1, 6, 0, len(body), len(text), 0, 0, 16, 0))
        body += text
    symbols, strings = [bytes(24)], b"\0"
    for each, (section, value) in zip(functions, places, strict=True):
        info = (2 if each.weak else 1) << 4 | each.kind
        symbols.append(struct.pack("<IBBHQQ", len(strings), info, 0, section, value, len(each.code)))
        strings += each.name.encode() + b"\0"
    body += bytes(-len(body) % 8)
    table = b"".join(symbols)
    rows.append(struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, len(body), len(table), len(rows) + 1, 1, 8, 24))
    body += table
    rows.append(struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, len(body), len(strings), 0, 0, 1, 0))
    body += strings
    body += bytes(-len(body) % 8)
    header = struct.pack("<HHIQQQIHHHHHH", 1, machine, 1, 0, 0, len(body), 0, 64, 0, 0, 64, len(rows), 0)
    body[:64] = b"\x7fELF\x02\x01\x01" + bytes(9) + header
    return bytes(body) + b"".join(rows)


def write_library(members: Sequence[tuple[str, bytes]], *, bsd: bool = False) -> bytes:
    """A static library, as GNU's ar or as BSD's writes it, with an index of symbols."""
    found = b"!<arch>\n"
    if bsd:
        found += _member(b"__.SYMDEF SORTED", bytes(8))
        for name, content in members:
            padded = name.encode() + bytes(-len(name) % 4)
            found += _member(f"#1/{len(padded)}".encode(), padded + content)
        return found
    long_names = b"".join(name.encode() + b"/\n" for name, _ in members if len(name) > 15)
    found += _member(b"/", bytes(4)) + (_member(b"//", long_names) if long_names else b"")
    for name, content in members:
        at = long_names.find(name.encode() + b"/\n")
        found += _member(f"/{at}".encode() if len(name) > 15 else name.encode() + b"/", content)
    return found


def _member(name: bytes, content: bytes) -> bytes:
    header = name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) + b"0".ljust(6) + b"644".ljust(8)
    return header + str(len(content)).encode().ljust(10) + b"`\n" + content + b"\n" * (len(content) % 2)
