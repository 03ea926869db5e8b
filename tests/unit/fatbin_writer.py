"""Writes containers of GPU code for the tests, in both layouts of an image's header, and ELF files that hold them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from elf_writer import write_elf

PTX, SASS, NVVM = 1, 2, 8
_SUFFIXES = {"": 0, "a": 1 << 20, "f": 1 << 21}


def cubin(loads: bool = True) -> bytes:
    """A cubin: with a section that is loaded, or with none."""
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 190, 1, 0, 0, 64, 0, 64, 0, 0, 64, 2, 0)
    )
    return header + bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 1, 6 if loads else 0, 0, 0, 0, 0, 0, 0, 0)


def image(kind: int, sm: str, content: bytes | None = None, *, header: int | None = None) -> bytes:
    """An image for ``sm`` (``53``, ``90a``). From sm_100 on, the header of a cubin has 112 bytes; PTX's has 80."""
    arch, suffix = (sm[:-1], sm[-1]) if sm[-1] in "af" else (sm, "")
    if content is None:
        content = cubin() if kind == SASS else b"packed text of PTX, with no meaning".ljust(40, b"\0")
    header = header or (80 if kind != SASS else 112 if int(arch) >= 100 else 64)
    flags = 0x11 | _SUFFIXES[suffix] | (1 << 24 if kind == SASS and int(arch) >= 100 else 0)
    begin = struct.pack("<HHIQIIHHIIIQQQ", kind, 0x101, header, len(content), 0, 0, 7, 1, int(arch), 0, 0, flags, 0, 0)
    return begin + bytes(header - 64) + content


def container(sass: Sequence[str] = (), ptx: Sequence[str] = (), more: bytes = b"") -> bytes:
    """A container with code for these architectures, and ``more`` images."""
    images = b"".join([*(image(SASS, sm) for sm in sass), *(image(PTX, sm) for sm in ptx), more])
    return b"\x50\xed\x55\xba" + struct.pack("<HHQ", 1, 16, len(images)) + images


def gpu_elf(fatbin: bytes = b"", relocatable: bytes = b"", *, sections: bool = True) -> bytes:
    """An extension with GPU code, linked and relocatable; without ``sections`` it is stripped of their headers."""
    if not sections:
        return write_elf(text=fatbin + relocatable)
    return with_sections(write_elf(), {".nv_fatbin": fatbin, "__nv_relfatbin": relocatable})


def with_sections(elf: bytes, contents: Mapping[str, bytes]) -> bytes:
    """``elf`` with sections at its end."""
    names = b"\0"
    rows = [bytes(64)]
    data = bytearray(elf)
    for name, content in {**{name: text for name, text in contents.items() if text}, ".shstrtab": b""}.items():
        data += bytes(-len(data) % 8)
        place = len(data)
        offset = len(names)
        names += name.encode() + b"\0"
        data += content or names
        rows.append(struct.pack("<IIQQQQIIQQ", offset, 1, 2, 0, place, len(data) - place, 0, 0, 8, 0))
    struct.pack_into("<Q", data, 40, len(data))
    struct.pack_into("<HHH", data, 58, 64, len(rows), len(rows) - 1)
    return bytes(data) + b"".join(rows)
