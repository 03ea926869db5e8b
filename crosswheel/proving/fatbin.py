"""The code for GPUs in a file: its fatbin containers, and for which GPUs each holds code.

nvcc puts the device code of every source file into a container in the section ``.nv_fatbin``; relocatable code
(``-rdc=true``), which the linker of device code has yet to link, into ``__nv_relfatbin``. A container has images: SASS
(a cubin, an ELF file for one architecture) or PTX (text that the driver compiles). Only headers are read: no image is
unpacked.

NVIDIA does not document the format. Sources: ``__fatBinC_Wrapper_t`` in CUDA's ``fatbinary_section.h``; the files that
CUDA 9.0, 12.4 and 13.0 write, compared with what ``cuobjdump -lelf -lptx`` says of them.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from crosswheel.proving.elf_tables import MAGIC as ELF_MAGIC
from crosswheel.proving.elf_tables import Buffer

MAGIC = b"\x50\xed\x55\xba"
"""A container's first bytes: 0xBA55ED50."""

START = MAGIC + b"\x01\x00\x10\x00"
"""With the version and the header's size, which are the same in all of them."""

MOST_CONTAINERS = 200_000
"""As many containers of a file are read. NVIDIA's largest library, cuBLASLt, has about 2,800."""

MOST_STARTS = 1_000_000
"""As many places where a container may begin are remembered."""

MOST_IMAGES = 5_000_000
"""As many images of a file are read."""

PTX, SASS = 1, 2
"""Kinds of images. NVVM's code (8), which is linked at run time, is another one."""

_SECTION, _RELOCATABLE = ".nv_fatbin", "__nv_relfatbin"

# A container: magic, version, header size, and the size of its images. An image: kind, (version), the sizes of its
# header and of its content, then at 28 its architecture and at 40 its flags. Its header has 64 bytes and more: options
# and the names of PTX lie behind them, and from sm_100 on what a cubin wants of the driver (96 or 112 bytes in all).
_HEAD = struct.Struct("<4sHHQ")
_IMAGE = struct.Struct("<H2xIQ12xI8xQ")
_LEAST_HEADER = 64
_STARTS = re.compile(re.escape(START))
_NOT_ZERO = re.compile(rb"[^\0]")
_ONE_GPU, _ONE_FAMILY = 1 << 20, 1 << 21
"""Flags of an image for ``sm_90a`` and ``sm_100f``; before sm_90, these bits mean nothing."""

_SECTION_HEADER = struct.Struct("<IIQQQQ24x")
_SHF_ALLOC = 2


@dataclass(frozen=True, kw_only=True)
class Container:
    """A fatbin container, or several that hold images of the same kinds for the same GPUs (``count``).

    ``sass`` and ``ptx`` are the compute capabilities that there is code for, as NVIDIA writes them: ``5.3``, with an
    ``a`` for code that runs on no other GPU (``9.0a``), with an ``f`` for code that runs on none of another family.
    ``others`` are kinds of images that are neither. ``blank`` says that nothing in it is to be loaded. ``relocatable``
    code is linked before it runs. ``trouble`` says why it cannot be read.
    """

    sass: tuple[str, ...] = ()
    ptx: tuple[str, ...] = ()
    others: tuple[int, ...] = ()
    blank: bool = False
    relocatable: bool = False
    trouble: str = ""
    count: int = 1


class _Garbled(Exception):
    """A container that contradicts itself."""


class Starts:
    """Where containers may begin (:data:`START`) in a file that is given piece by piece. Who sees its bytes anyway
    spares :func:`read_fatbins` the search, and a mapped file the memory for it: TensorFlow's largest has a gigabyte."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._done = 0
        self._before = b""

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes of the file."""
        data = self._before + piece
        if len(self._places) <= MOST_STARTS:
            offset = self._done - len(self._before)
            self._places += (offset + match.start() for match in _STARTS.finditer(data))
        self._done += len(piece)
        self._before = data[1 - len(START) :]

    @property
    def places(self) -> Sequence[int] | None:
        """All places, in order; None where there are more than anybody counts."""
        return self._places if len(self._places) <= MOST_STARTS else None


def read_fatbins(data: Buffer, *, starts: Sequence[int] | None = None) -> tuple[Container, ...]:
    """The containers in ``data``, an ELF file of the processor or a container by itself; equal ones counted as one.

    All bytes are searched and not the sections alone, which may be missing; none where it is known where containers may
    begin (``starts``, of :class:`Starts`). A section that should hold containers and has anything else in it is told as
    a container with ``trouble``. Takes time bounded by the file's size.
    """
    return tuple(_Reader(memoryview(data), starts).containers())


@dataclass(frozen=True)
class _Section:
    name: str
    start: int
    end: int


class _Reader:
    def __init__(self, data: memoryview, starts: Sequence[int] | None) -> None:
        self._data = data
        self._starts = starts
        self._sections = list(_fatbin_sections(data))
        self._images = 0

    def containers(self) -> Iterator[Container]:
        found: Counter[Container] = Counter()
        covered: list[tuple[int, int]] = []
        place = 0
        while (start := self._next(place)) is not None:
            try:
                if len(covered) == MOST_CONTAINERS or self._images > MOST_IMAGES:
                    raise _Garbled(f"it has more than {len(covered):,} of them, or images without end")
                end = self._end(start)
                container = self._container(start, end)
            except _Garbled as error:
                found[Container(trouble=f"the container of GPU code at {start:#x}: {error}")] += 1
                break
            found[container] += 1
            covered.append((start, end))
            place = end
        else:
            found.update(self._strangers(covered))
        for container, count in found.items():
            yield Container(**{**vars(container), "count": count})

    def _next(self, place: int) -> int | None:
        """Where the first container from ``place`` on begins."""
        if self._starts is None:
            match = _STARTS.search(self._data, place)
            return match.start() if match else None
        at = bisect_left(self._starts, place)
        return self._starts[at] if at < len(self._starts) else None

    def _end(self, start: int) -> int:
        section = self._section(start)
        limit = section.end if section else len(self._data)
        if limit - start < _HEAD.size:
            raise _Garbled("it is cut short")
        size = int(_HEAD.unpack_from(self._data, start)[3])
        if size > limit - start - _HEAD.size:
            raise _Garbled(f"it claims {size:,} bytes, and there are {limit - start - _HEAD.size:,}")
        return start + _HEAD.size + size

    def _section(self, place: int) -> _Section | None:
        return next((section for section in self._sections if section.start <= place < section.end), None)

    def _container(self, start: int, end: int) -> Container:
        found: dict[int, set[tuple[int, str]]] = {}
        blank = True
        place = start + _HEAD.size
        while place < end:
            self._images += 1
            if end - place < _LEAST_HEADER:
                raise _Garbled(f"its last image has {end - place} bytes")
            kind, header, size, arch, flags = _IMAGE.unpack_from(self._data, place)
            if header < _LEAST_HEADER or place + header + size > end or self._images > MOST_IMAGES:
                raise _Garbled(f"the sizes of its image at {place:#x} ({header:,} and {size:,} bytes) cannot be")
            found.setdefault(kind, set()).add(_capability(arch, flags))
            blank = blank and kind == SASS and _loads_nothing(self._data[place + header : place + header + size])
            place += header + size
        section = self._section(start)
        return Container(
            sass=_names(found.pop(SASS, set())),
            ptx=_names(found.pop(PTX, set())),
            others=tuple(sorted(found)),
            blank=blank,
            relocatable=section is not None and section.name == _RELOCATABLE,
        )

    def _strangers(self, covered: list[tuple[int, int]]) -> Iterator[Container]:
        """What lies between the containers of a section and is no padding; a container by itself that is none."""
        if self._data[: len(MAGIC)] == MAGIC and not covered:
            yield Container(trouble="the container of GPU code that it is: its version is none that is known")
        for section in self._sections:
            place = section.start
            inside = [(start, end) for start, end in covered if section.start <= start < section.end]
            for start, end in (*inside, (section.end, section.end)):
                match = _NOT_ZERO.search(self._data, place, start)
                if match:
                    yield Container(trouble=f"its {section.name} has bytes at {match.start():#x} that are no container")
                    break
                place = end


def _capability(arch: int, flags: int) -> tuple[int, str]:
    """The architecture, and how its capability is written: 53 is ``5.3``, 100 is ``10.0``."""
    if not 10 <= arch <= 999:
        raise _Garbled(f"it has an image for sm_{arch}, which cannot be")
    suffix = ""
    if arch >= 90:
        suffix = "a" if flags & _ONE_GPU else "f" if flags & _ONE_FAMILY else ""
    return arch, f"{arch // 10}.{arch % 10}{suffix}"


def _names(found: set[tuple[int, str]]) -> tuple[str, ...]:
    return tuple(name for _, name in sorted(found))


def _loads_nothing(cubin: memoryview) -> bool:
    """Whether it is a cubin with no section that is loaded: a source file without kernels leaves one, and so does the
    linker of device code that finds none. False where it is packed."""
    if cubin[:6] != ELF_MAGIC + b"\x02\x01":
        return False
    return not any(flags & _SHF_ALLOC for _, flags, _, _ in _section_rows(cubin, default=((0, _SHF_ALLOC, 0, 0),)))


Row = tuple[int, int, int, int]


def _section_rows(elf: memoryview, default: tuple[Row, ...] = ()) -> tuple[Row, ...]:
    """(name, flags, offset, size) of each section of a 64-bit little-endian ELF file; ``default`` where it has none
    that can be read."""
    if len(elf) < 64 or elf[:6] != ELF_MAGIC + b"\x02\x01":
        return default
    (offset,) = struct.unpack_from("<Q", elf, 40)
    entry, count = struct.unpack_from("<HH", elf, 58)
    if entry != _SECTION_HEADER.size or not count or offset + entry * count > len(elf):
        return default
    rows = _SECTION_HEADER.iter_unpack(elf[offset : offset + entry * count])
    return tuple((name, flags, start, size) for name, _, flags, _, start, size in rows)


def _fatbin_sections(elf: memoryview) -> Iterator[_Section]:
    rows = _section_rows(elf)
    names = struct.unpack_from("<H", elf, 62)[0] if rows else 0
    if names >= len(rows):
        return
    table = rows[names][2]
    for name, _, start, size in rows:
        for wanted in (_SECTION, _RELOCATABLE):
            text = wanted.encode() + b"\0"
            if elf[table + name : table + name + len(text)] == text and start < len(elf):
                yield _Section(wanted, start, min(start + size, len(elf)))
