"""The facts of an ELF file that decide whether the target's loader takes it.

What the loader reads is read, and nothing else: program headers and the dynamic segment, not the section headers,
which may be missing or say something different. The one exception is named in ``_symbol_count``.

Sources: the System V gABI, chapters 4 and 5; the Linux Standard Base 5.0, "Symbol Versioning"; glibc's elf/dl-load.c
for what is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crosswheel.proving.elf_tables import PT_INTERP, Buffer, ElfTables, Garbled

MACHINES: Mapping[int, str] = {
    3: "x86 (32-bit)",
    8: "MIPS",
    20: "PowerPC (32-bit)",
    21: "PowerPC64",
    22: "S/390",
    40: "ARM (32-bit)",
    62: "x86_64",
    183: "aarch64",
    190: "CUDA",
    224: "AMDGPU",
    243: "RISC-V",
    247: "BPF",
    258: "LoongArch",
}
DEVICE_MACHINES = frozenset({190, 224, 247})
"""Code for a GPU or for the kernel's BPF machine: no code of the target's processor."""

TYPES: Mapping[int, str] = {1: "object", 2: "executable", 3: "shared", 4: "core"}
MOST_NAMES = 12
"""As many symbols of one version are kept, for messages."""

_LONGEST = 4096
_MOST_SYMBOLS = 5_000_000
_MOST_VERSIONS = 100_000
_PT_GNU_STACK = 0x6474E551
_DT_NEEDED, _DT_HASH, _DT_SYMTAB = 1, 4, 6
_DT_SONAME, _DT_RPATH, _DT_TEXTREL, _DT_RUNPATH, _DT_FLAGS, _DT_RELR = 14, 15, 22, 29, 30, 36
_DT_GNU_HASH, _DT_VERSYM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFE, 0x6FFFFFFF
_DF_TEXTREL, _VER_FLG_WEAK = 4, 2
_SHT_DYNSYM = 11


@dataclass(frozen=True, kw_only=True)
class VersionNeed:
    """A symbol version that a file wants of a library, such as ``GLIBC_2.34`` of ``libc.so.6``.

    ``symbols`` are the first of the undefined symbols that are bound to it, ``count`` is how many there are. A
    ``weak`` version may be missing on the target.
    """

    library: str
    version: str
    weak: bool
    symbols: tuple[str, ...]
    count: int


@dataclass(frozen=True, kw_only=True)
class ElfFacts:
    """One ELF file. ``name`` is the member's name; ``bits`` 32 or 64; ``machine`` is ``e_machine``.

    ``rpath`` and ``runpath`` are the entries as written, between the colons. ``exec_stack`` says
    whether it asks for an executable stack, None where it says nothing. ``relr``: it has relative relocations in the
    packed form that glibc understands since 2.36. ``dynamic``: the loader has something to do with it at all.
    """

    name: str
    bits: int
    little_endian: bool
    osabi: int
    kind: str
    machine: int
    flags: int
    interpreter: str
    needed: tuple[str, ...]
    soname: str
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    versions: tuple[VersionNeed, ...]
    exec_stack: bool | None
    text_relocations: bool
    relr: bool
    dynamic: bool

    @property
    def machine_name(self) -> str:
        """The machine for people."""
        return MACHINES.get(self.machine, f"machine {self.machine}")

    @property
    def for_device(self) -> bool:
        """Whether it is code for a GPU or BPF, and none for the target's processor."""
        return self.machine in DEVICE_MACHINES


def read_elf(name: str, data: Buffer) -> ElfFacts:
    """The facts of the ELF file ``data``. Raises :class:`Garbled`; takes time bounded by the file's size."""
    try:
        return _Reader(data).facts(name)
    except struct.error as error:
        raise Garbled("a table of it ends before it should") from error


class _Reader:
    def __init__(self, data: Buffer) -> None:
        self._tables = ElfTables(data)
        self._data = self._tables.data
        self._wide, self._order = self._tables.wide, self._tables.order
        self._all, self._one, self._string = self._tables.all, self._tables.one, self._tables.string
        self._slice, self._offset = self._tables.slice, self._tables.offset

    def facts(self, name: str) -> ElfFacts:
        flags = self._one(_DT_FLAGS)
        stacks = [segment.flags for segment in self._tables.segments if segment.kind == _PT_GNU_STACK]
        return ElfFacts(
            name=name,
            bits=64 if self._wide else 32,
            little_endian=self._order == "<",
            osabi=self._data[7],
            kind=TYPES.get(self._tables.kind, f"type {self._tables.kind}"),
            machine=self._tables.machine,
            flags=self._tables.flags,
            interpreter=self._interpreter(),
            needed=tuple(self._string(offset) for offset in self._all(_DT_NEEDED)),
            soname=next((self._string(offset) for offset in self._all(_DT_SONAME)), ""),
            rpath=self._paths(_DT_RPATH),
            runpath=self._paths(_DT_RUNPATH),
            versions=tuple(self._version_needs()),
            exec_stack=any(flag & 1 for flag in stacks) if stacks else None,
            text_relocations=bool(self._all(_DT_TEXTREL)) or bool(flags & _DF_TEXTREL),
            relr=bool(self._one(_DT_RELR)),
            dynamic=bool(self._tables.dynamic),
        )

    def _paths(self, tag: int) -> tuple[str, ...]:
        return tuple(entry for offset in self._all(tag) for entry in self._string(offset).split(":"))

    def _interpreter(self) -> str:
        for segment in self._tables.segments:
            if segment.kind == PT_INTERP:
                text = bytes(self._slice(segment.offset, min(segment.size, _LONGEST), "interpreter"))
                return text.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return ""

    # --- versions --------------------------------------------------------------------------------------------------

    def _version_needs(self) -> Iterator[VersionNeed]:
        rows = list(self._version_rows())
        names: dict[int, list[str]] = {index: [] for _, _, _, index in rows}
        counts = dict.fromkeys(names, 0)
        for position, index in enumerate(self._version_indices()):
            if index in names:
                counts[index] += 1
                if len(names[index]) < MOST_NAMES:
                    names[index].append(self._symbol_name(position))
        for library, version, weak, index in rows:
            yield VersionNeed(
                library=library, version=version, weak=weak, symbols=tuple(names[index]), count=counts[index]
            )

    def _version_rows(self) -> Iterator[tuple[str, str, bool, int]]:
        """(library, version, weak, index) of each wanted version. Both lists only ever go forward."""
        address = self._one(_DT_VERNEED)
        if not address:
            return
        offset = self._offset(address, "table of wanted versions")
        need = struct.Struct(f"{self._order}HHIII")
        aux = struct.Struct(f"{self._order}IHHII")
        steps = 0
        for _ in range(self._one(_DT_VERNEEDNUM)):
            steps += 1
            _, count, file, first, following = need.unpack_from(self._data, offset)
            library = self._string(file)
            place = offset + first
            for _ in range(count):
                steps += 1
                if steps > _MOST_VERSIONS:
                    raise Garbled("its table of wanted versions has no end")
                _, flags, index, name, after = aux.unpack_from(self._data, place)
                yield library, self._string(name), bool(flags & _VER_FLG_WEAK), index & 0x7FFF
                if not after:
                    break
                place += after
            if not following:
                break
            offset += following

    def _version_indices(self) -> Iterator[int]:
        """For each dynamic symbol, from the first on, the index of its version."""
        address = self._one(_DT_VERSYM)
        if not address or not self._one(_DT_VERNEED):
            return
        count = self._symbol_count()
        table = self._slice(self._offset(address, "table of symbol versions"), 2 * count, "table of symbol versions")
        for (index,) in struct.iter_unpack(f"{self._order}H", table):
            yield index & 0x7FFF

    def _symbol_count(self) -> int:
        """How many dynamic symbols there are: DT_HASH says it, or the end of DT_GNU_HASH's last chain.

        A file that defines none has a DT_GNU_HASH without a chain, which says nothing of the undefined ones; then the
        section header of the symbols is asked, where there is one. Only names in messages hang on it: the versions
        themselves come from DT_VERNEED.
        """
        count = 0
        if self._one(_DT_HASH):
            place = self._offset(self._one(_DT_HASH), "hash table")
            (count,) = struct.unpack_from(f"{self._order}4xI", self._data, place)
        elif self._one(_DT_GNU_HASH):
            count = self._gnu_hash_end(self._offset(self._one(_DT_GNU_HASH), "hash table"))
        count = int(count) or self._symbols_by_section()
        if count > _MOST_SYMBOLS:
            raise Garbled(f"it claims {count:,} dynamic symbols")
        return count

    def _gnu_hash_end(self, place: int) -> int:
        """The number of the last symbol of a DT_GNU_HASH, and one; 0 where it has no symbol."""
        buckets, first, bloom = struct.unpack_from(f"{self._order}III", self._data, place)
        place += 16 + bloom * (8 if self._wide else 4)
        starts = struct.iter_unpack(f"{self._order}I", self._slice(place, 4 * buckets, "hash table"))
        last = max((start for (start,) in starts), default=0)
        if last < first or last == 0:
            return 0
        chains = place + 4 * buckets
        while last <= _MOST_SYMBOLS:
            (value,) = struct.unpack_from(f"{self._order}I", self._data, chains + 4 * (last - first))
            last += 1
            if value & 1:
                break
        return int(last)

    def _symbols_by_section(self) -> int:
        size = next((section.size for section in self._tables.sections if section.kind == _SHT_DYNSYM), 0)
        return min(size, len(self._data)) // (24 if self._wide else 16)

    def _symbol_name(self, position: int) -> str:
        place = self._offset(self._one(_DT_SYMTAB), "table of symbols") + position * (24 if self._wide else 16)
        (name,) = struct.unpack_from(f"{self._order}I", self._data, place)
        return self._string(name)
