"""Instructions of x86_64 above a set of features, found without decoding all of a file.

Decoding is what takes the time (TensorFlow 2.20 has 80 million instructions), so that numpy first looks for bytes that
such an instruction must have: its opcode map and opcode, or its VEX, EVEX or XOP prefix. What they are is read from
the decoder's own tables, so that none is forgotten. Only functions with such bytes are decoded, each from its start on,
up to its first instruction above the features. Where the bytes were something else (half of an address, say), decoding
tells so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import iced_x86
import numpy as np
from iced_x86 import (
    Code,
    CpuidFeature,
    EncodingKind,
    Instruction,
    Mnemonic,
    OpCodeInfo,
    OpCodeTableKind,
)
from numpy.typing import NDArray

from crosswheel.proving.functions import Pieces
from crosswheel.proving.processor import Processor

Flags = NDArray[np.bool_]

_CHUNK = 4 * 2**20
"""Bytes of code that are looked at at once."""

_LONGEST = 15
"""An instruction's most bytes (Intel SDM, volume 2, 2.3.11)."""

_BYTES = np.arange(256, dtype=np.uint8)


def _names(enum: object) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int) and not name.startswith("_")}


FEATURES = _names(CpuidFeature)
"""iced's number of a feature of CPUID → its name, as ``cpus.toml`` has it (``SSE4_1``, ``AVX512VL``)."""


def _about(code: int) -> OpCodeInfo:
    return OpCodeInfo(code)  # type: ignore[arg-type]  # its numbers are integers at run time


@cache
def features(code: int) -> tuple[str, ...]:
    """The features that one of the decoder's codes needs."""
    wanted = Instruction()
    wanted.code = code  # type: ignore[assignment]
    return tuple(FEATURES[number] for number in wanted.cpuid_features())


class Decoder:
    """Tells of the decoder's codes for a processor."""

    def __init__(self, processor: Processor) -> None:
        self._features = processor.features
        self._mnemonics = _names(Mnemonic)
        self._told: dict[int, str] = {}
        self._lacking: dict[int, tuple[str, ...]] = {}

    def instruction(self, code: int) -> str:
        """The mnemonic: ``vmovdqu``."""
        found = self._told.get(code)
        if found is None:
            found = self._told[code] = self._mnemonics[_about(code).mnemonic].lower()
        return found

    def lacking(self, code: int) -> tuple[str, ...]:
        """The features that it needs and that the processor lacks."""
        found = self._lacking.get(code)
        if found is None:
            found = self._lacking[code] = tuple(each for each in features(code) if each not in self._features)
        return found


@dataclass(frozen=True)
class _Filter:
    """Which bytes an instruction of a set begins with, behind its prefixes.

    ``plain`` is by the opcode and the byte behind it, ``maps`` by the map of 0F, 0F38 and 0F3A, that opcode and the
    byte behind it; ``vex`` and ``evex`` by map, pp and opcode; ``xop`` by the opcode. ``pairs`` is what these say of
    the first two bytes, by the number that they are (little-endian): with it most places are dropped.
    """

    pairs: Flags
    plain: Flags
    maps: Flags
    vex: Flags
    evex: Flags
    xop: Flags


@lru_cache(maxsize=8)
def above(allowed: frozenset[str], harmless: frozenset[str]) -> frozenset[int]:
    """The decoder's codes of user mode that need a feature that is not in ``allowed`` and whose mnemonic is not in
    ``harmless``."""
    mnemonics, found = _names(Mnemonic), set()
    for code, _ in _names(Code).items():
        about = _about(code)
        if not about.mode64 or not about.is_instruction or about.must_be_cpl0 or about.encoding == EncodingKind.MVEX:
            continue
        if mnemonics[about.mnemonic].lower() not in harmless and not allowed.issuperset(features(code)):
            found.add(code)
    return frozenset(found)


@lru_cache(maxsize=8)
def _filter(codes: frozenset[int]) -> _Filter:
    sieve = _Filter(
        pairs=np.zeros(65536, np.bool_),
        plain=np.zeros((256, 256), np.bool_),
        maps=np.zeros((4, 256, 256), np.bool_),
        vex=np.zeros((32, 4, 256), np.bool_),
        evex=np.zeros((8, 4, 256), np.bool_),
        xop=np.zeros(256, np.bool_),
    )
    for code in codes:
        _note(sieve, _about(code))
    lead, one = np.arange(65536) & 0xFF, np.arange(65536) >> 8
    deeper = ((0x38, 2), (0x3A, 3))
    sieve.pairs[:] = sieve.plain[lead, one]
    sieve.pairs[:] |= (lead == 0x0F) & np.any(sieve.maps[1], axis=1)[one]
    sieve.pairs[:] |= (lead == 0x0F) & np.isin(one, [byte for byte, number in deeper if sieve.maps[number].any()])
    sieve.pairs[:] |= (lead == 0xC5) & np.any(sieve.vex[1], axis=1)[one & 3]
    sieve.pairs[:] |= (lead == 0xC4) & np.any(sieve.vex, axis=(1, 2))[one & 31]
    sieve.pairs[:] |= (lead == 0x62) & (one & 8 == 0) & np.any(sieve.evex, axis=(1, 2))[one & 7]
    sieve.pairs[:] |= (lead == 0x8F) & (one & 31 >= 8) & sieve.xop.any()
    return sieve


def _note(sieve: _Filter, about: OpCodeInfo) -> None:
    """Lets the instructions of one code through."""
    numbers = {OpCodeTableKind.NORMAL: 0, OpCodeTableKind.T0F: 1, OpCodeTableKind.T0F38: 2, OpCodeTableKind.T0F3A: 3}
    numbers |= {OpCodeTableKind.MAP5: 5, OpCodeTableKind.MAP6: 6}
    opcode, behind = about.op_code, _behind(about)
    if about.op_code_len == 2:
        opcode >>= 8
    if about.encoding in (EncodingKind.VEX, EncodingKind.EVEX):
        table = sieve.vex if about.encoding == EncodingKind.VEX else sieve.evex
        pp = {0: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}[_mandatory(about)]
        table[numbers[about.table], pp, opcode] = True
    elif about.encoding == EncodingKind.XOP:
        sieve.xop[opcode] = True
    elif about.encoding == EncodingKind.D3NOW:
        sieve.maps[1, 0x0F] = True
    elif about.table == OpCodeTableKind.NORMAL:
        sieve.plain[opcode] |= behind
    else:
        sieve.maps[numbers[about.table], opcode] |= behind


def _mandatory(about: OpCodeInfo) -> int:
    from iced_x86 import MandatoryPrefix

    return {MandatoryPrefix.P66: 0x66, MandatoryPrefix.PF3: 0xF3, MandatoryPrefix.PF2: 0xF2}.get(
        about.mandatory_prefix, 0
    )


def _behind(about: OpCodeInfo) -> Flags:
    """Which bytes may stand behind the opcode: the ModRM byte of a group says which of its instructions it is. Of those
    that are written with one such byte, some (``montmul``) have others as well, whose lowest three bits differ."""
    if about.op_code_len == 2:
        alike: Flags = np.equal(_BYTES >> 3, (about.op_code & 0xFF) >> 3)
        return alike
    if about.is_group:
        group: Flags = np.equal((_BYTES >> 3) & 7, about.group_index)
        return group
    return np.ones(256, np.bool_)


def find(data: memoryview, pieces: Pieces, processor: Processor, where: slice) -> Iterator[tuple[int, int, int]]:
    """(number, address, code) of each piece in the slice ``where`` that has an instruction which the processor lacks:
    the first that usual processors lack as well, else the first."""
    codes = above(processor.features, processor.harmless)
    worse = above(processor.features | processor.usual, processor.harmless)
    sieve = _filter(codes)
    for first, last in _chunks(pieces, where):
        base = int(pieces.offsets[first])
        end = int(pieces.offsets[last - 1] + pieces.ends[last - 1] - pieces.starts[last - 1])
        raw = bytes(data[base:end])
        places = _candidates(raw, sieve)
        if not len(places):
            continue
        numbers = np.searchsorted(pieces.offsets[first:last], places + base, "right") - 1 + first
        furthest = np.diff(numbers, append=last) > 0  # the last of those in the same piece
        for number, until in zip(numbers[furthest].tolist(), places[furthest].tolist(), strict=True):
            start = int(pieces.offsets[number]) - base
            size = int(pieces.ends[number] - pieces.starts[number])
            piece_of_code = raw[start : start + min(size, until - start + _LONGEST)]
            hit = _decode(piece_of_code, int(pieces.starts[number]), codes, worse)
            if hit is not None:
                yield number, *hit


def _chunks(pieces: Pieces, where: slice) -> Iterator[tuple[int, int]]:
    """Pieces that lie behind one another in the file, up to :data:`_CHUNK` bytes of them at once."""
    first, last, _ = where.indices(len(pieces.starts))
    sizes = pieces.ends - pieces.starts
    joined = pieces.offsets[1:] == pieces.offsets[:-1] + sizes[:-1]
    breaks = np.flatnonzero(~joined) + 1
    before = np.cumsum(sizes) - sizes
    while first < last:
        until = int(np.searchsorted(before, before[first] + _CHUNK, "right"))
        broken = int(np.searchsorted(breaks, first, "right"))
        until = min(until, last, int(breaks[broken]) if broken < len(breaks) else last)
        yield first, max(until, first + 1)
        first = max(until, first + 1)


def _candidates(raw: bytes, sieve: _Filter) -> NDArray[np.int64]:
    """Where one of the instructions may be: the places of its map, of its prefix or of its opcode."""
    padded = raw + bytes(8 + len(raw) % 2)
    found = np.empty(len(padded) - 2, np.bool_)
    for odd in (0, 1):
        found[odd::2] = sieve.pairs[np.frombuffer(padded, "<u2", len(found) // 2, odd)]
    code = np.frombuffer(padded, np.uint8)
    at = np.flatnonzero(found[: len(raw)])
    lead, one, two, three, four = (code[at + step] for step in range(5))
    passed = sieve.plain[lead, one]
    passed |= (lead == 0x0F) & _legacy(sieve, one, two, three)
    passed |= (lead == 0xC5) & sieve.vex[1, one & 3, two]
    passed |= (lead == 0xC4) & sieve.vex[one & 31, two & 3, three]
    passed |= (lead == 0x62) & (one & 8 == 0) & (two & 4 != 0) & sieve.evex[one & 7, two & 3, four]
    passed |= (lead == 0x8F) & (one & 31 >= 8) & sieve.xop[three]
    return at[passed]


def _legacy(sieve: _Filter, one: NDArray[np.uint8], two: NDArray[np.uint8], three: NDArray[np.uint8]) -> Flags:
    found: Flags = sieve.maps[1, one, two]
    found |= (one == 0x38) & sieve.maps[2, two, three]
    found |= (one == 0x3A) & sieve.maps[3, two, three]
    return found


def _decode(raw: bytes, address: int, codes: frozenset[int], worse: frozenset[int]) -> tuple[int, int] | None:
    """(address, code) of the first instruction among ``worse``, else of the first among ``codes``."""
    mild = None
    for decoded in iced_x86.Decoder(64, raw, ip=address):
        if decoded.code in codes:
            if decoded.code in worse:
                return decoded.ip, decoded.code
            mild = mild or (decoded.ip, decoded.code)
    return mild
