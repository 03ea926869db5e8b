"""Static libraries: the members of an ``ar`` archive, on the assumption that whoever made it means harm.

Sources: ar(5) of 4.4BSD (names as ``#1/LENGTH``), the System V gABI and binutils' include/aout/ar.h (names that end in
``/``, long ones in the member ``//``, indexes in ``/`` and ``/SYM64/``).
"""

from __future__ import annotations

from collections.abc import Iterator

from crosswheel.proving.elf_tables import Garbled

MAGIC = b"!<arch>\n"
THIN = b"!<thin>\n"
"""A thin archive has only the names of its members, which lie elsewhere."""

MOST_MEMBERS = 100_000
"""As many members are read. LLVM's largest library has some hundreds."""

_HEADER = 60
_END = b"`\n"
_LONGEST = 4096


def members(data: memoryview) -> Iterator[tuple[str, memoryview]]:
    """The members of an archive with their names, in its order, without indexes of symbols. Names may be anything, and
    may repeat. Raises :class:`Garbled`; takes time bounded by the archive's size."""
    if bytes(data[: len(THIN)]) == THIN:
        raise Garbled("it is a thin archive: its members are not in it")
    place, long_names, count = len(MAGIC), memoryview(b""), 0
    while place < len(data):
        count += 1
        if count > MOST_MEMBERS:
            raise Garbled(f"it has more than {MOST_MEMBERS:,} members")
        header = bytes(data[place : place + _HEADER])
        if len(header) < _HEADER or header[58:] != _END:
            raise Garbled(f"there is no header of a member at {place:#x}")
        start, size = place + _HEADER, _number(header[48:58], "a size")
        if start + size > len(data):
            raise Garbled(f"the member at {place:#x} lies beyond its end")
        content, written = data[start : start + size], header[:16].rstrip(b" ")
        place = start + size + size % 2
        if written == b"//":
            long_names = content
        elif written not in (b"/", b"/SYM64/"):
            name, content = _named(written, content, long_names)
            if not name.startswith("__.SYMDEF"):
                yield name, content


def _named(written: bytes, content: memoryview, long_names: memoryview) -> tuple[str, memoryview]:
    """The name of a member and what is in it, after the name where that stands there."""
    if written.startswith(b"#1/"):
        length = _number(written[3:], "the length of a name")
        if length > min(len(content), _LONGEST):
            raise Garbled("the name of a member is longer than the member")
        return _text(bytes(content[:length]).rstrip(b"\0")), content[length:]
    if written.startswith(b"/"):
        at = _number(written[1:], "the place of a name")
        if at >= len(long_names):
            raise Garbled("the name of a member lies beyond the names")
        return _text(bytes(long_names[at : at + _LONGEST]).split(b"\n", 1)[0].removesuffix(b"/")), content
    return _text(written.removesuffix(b"/")), content


def _number(digits: bytes, what: str) -> int:
    text = digits.strip(b" ")
    if not text.isdigit():
        raise Garbled(f"{what} in it is no number")
    return int(text)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
