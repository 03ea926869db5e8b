"""Instructions of aarch64 above a set of features.

An instruction is a word of 32 bits, and in nearly all of them the lowest ten name registers. So words are told apart by
the others alone: TensorFlow 2.20 has 65 million words and 200 thousand such classes. One word of each class that there
is, is given to the decoder (capstone, whose tables are LLVM's), which names the features; then each word of a class
that is above is decoded by itself. Source for the encodings: Arm Architecture Reference Manual for A-profile, C4.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from capstone import CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN, Cs
from numpy.typing import NDArray

from crosswheel.proving.functions import Pieces
from crosswheel.proving.processor import Processor

_CHUNK = 2**22
"""Words that are looked at at once."""

_REGISTERS = 10
"""So many low bits name registers, except in system instructions, where they tell one from another."""

_SYSTEM = 0b1101010100
"""The highest ten bits of system instructions."""

_ASKS = np.array((0x90000010, 0x39400210, 0x34000010), np.uint32)
_ASKS_MASK = np.array((0x9F00001F, 0xFFC003FF, 0xFF00001F), np.uint32)
"""``adrp x16``, ``ldrb w16, [x16]`` and ``cbz w16``, whatever their addresses."""

_FINE, _LOOK = 0, 1
"""Of a class: none of its words is above the features; each is to be decoded by itself."""

Words = NDArray[np.uint32]


class Decoder:
    """Decodes words for a processor, each once."""

    def __init__(self, processor: Processor) -> None:
        self._features, self._harmless = processor.features, processor.harmless
        self._capstone = Cs(CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN)
        self._capstone.detail = True
        self._known: dict[int, tuple[str, tuple[str, ...]]] = {}

    def instruction(self, word: int) -> str:
        """The mnemonic: ``ldadd``; empty for what is no instruction."""
        return self._decoded(word)[0]

    def lacking(self, word: int) -> tuple[str, ...]:
        """The features that it needs and that the processor lacks, by LLVM's names (``LSE``, ``FullFP16``)."""
        return self._decoded(word)[1]

    def _decoded(self, word: int) -> tuple[str, tuple[str, ...]]:
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = self._decode(word)
        return found

    def _decode(self, word: int) -> tuple[str, tuple[str, ...]]:
        for decoded in self._capstone.disasm(word.to_bytes(4, "little"), 0, 1):
            if decoded.mnemonic in self._harmless:
                return decoded.mnemonic, ()
            wanted = (_feature(self._capstone, group) for group in decoded.groups)
            return decoded.mnemonic, tuple(feature for feature in wanted if feature and not self._has(feature))
        return "", ()

    def _has(self, feature: str) -> bool:
        """``SVEorSME`` is had where either of the two is."""
        return feature in self._features or ("or" in feature and not self._features.isdisjoint(feature.split("or")))


@lru_cache(maxsize=512)
def _feature(capstone: Cs, group: int) -> str:
    """The feature for which a group of the decoder stands: ``HasLSE`` → ``LSE``; empty where it stands for none."""
    name = capstone.group_name(group) or ""
    return name.removeprefix("Has").replace("_or_Has", "or") if name.startswith("Has") else ""


def find(data: memoryview, pieces: Pieces, processor: Processor, where: slice) -> Iterator[tuple[int, int, int]]:
    """(number, address, word) of each piece in the slice ``where`` that has an instruction which the processor lacks:
    the first that usual processors lack as well, else the first."""
    decoder = Decoder(processor)
    runs = list(_runs(pieces, where))
    look = _classes((_words(data, run) for run in runs), decoder)
    found: dict[int, tuple[int, int]] = {}
    for run in runs:
        words = _words(data, run)
        for at in np.flatnonzero(look[words >> _REGISTERS] == _LOOK).tolist():
            word, address = int(words[at]), run[1] + 4 * at
            lacking = decoder.lacking(word)
            if not lacking or pieces.is_data(address) or _is_outlined(words[max(at - 3, 0) : at], lacking):
                continue
            number = int(np.searchsorted(pieces.starts, address, "right")) - 1
            before = found.get(number)
            if before is None or (
                processor.usual.issuperset(decoder.lacking(before[1])) and not processor.usual.issuperset(lacking)
            ):
                found[number] = address, word
    yield from ((number, *hit) for number, hit in found.items())


def _is_outlined(before: Words, lacking: tuple[str, ...]) -> bool:
    """Whether an instruction is the one of an outlined atomic operation, behind the three that ask whether the
    processor has LSE: ``adrp x16, …; ldrb w16, [x16, …]; cbz w16, …`` (gcc's -moutline-atomics and LLVM's:
    libgcc/config/aarch64/lse.S, compiler-rt/lib/builtins/aarch64/lse.S)."""
    return lacking == ("LSE",) and len(before) == 3 and bool((before & _ASKS_MASK == _ASKS).all())


def _classes(chunks: Iterator[Words], decoder: Decoder) -> NDArray[np.uint8]:
    """For each class of words whether its words are to be decoded one by one."""
    example = np.zeros(2 ** (32 - _REGISTERS), np.uint32)
    for words in chunks:
        example[words >> _REGISTERS] = words
    look = np.zeros(len(example), np.uint8)
    for number in np.flatnonzero(example).tolist():
        word = int(example[number])
        if decoder.lacking(word) or not decoder.instruction(word) or number >> (22 - _REGISTERS) == _SYSTEM:
            look[number] = _LOOK
    return look


Run = tuple[int, int, int]
"""Code without a gap: its offset in the file, its address, its size in words."""


def _runs(pieces: Pieces, where: slice) -> Iterator[Run]:
    first, last, _ = where.indices(len(pieces.starts))
    starts, ends, offsets = pieces.starts[first:last], pieces.ends[first:last], pieces.offsets[first:last]
    if not len(starts):
        return
    breaks = np.flatnonzero((starts[1:] != ends[:-1]) | (offsets[1:] - offsets[:-1] != starts[1:] - starts[:-1])) + 1
    for begin, until in zip((0, *breaks.tolist()), (*breaks.tolist(), len(starts)), strict=True):
        address, offset = int(starts[begin]), int(offsets[begin])
        skipped = -address % 4
        size = (int(ends[until - 1]) - address - skipped) // 4
        for done in range(0, size, _CHUNK):
            at = skipped + 4 * done
            yield offset + at, address + at, min(_CHUNK, size - done)


def _words(data: memoryview, run: Run) -> Words:
    offset, _, size = run
    return np.frombuffer(data[offset : offset + 4 * size], dtype="<u4")
