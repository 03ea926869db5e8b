"""The machine code of an ELF file: which of its functions have instructions that the target's processor lacks."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from crosswheel.proving.elf_tables import Garbled
from crosswheel.proving.processor import MACHINES, Processor

if TYPE_CHECKING:
    from crosswheel.proving.functions import Pieces

_WORTH = 16 * 2**20
"""From so many bytes of code on, several processes share the work."""

Hits = Sequence[tuple[int, int, int]]
"""(number of the piece, address, the decoder's code or word) of the first instruction of a piece that is above."""


class Above(NamedTuple):
    """A function with an instruction that the processor lacks.

    ``instruction`` is the first one that no usual processor has, else the first; it needs ``features``. ``names`` are
    the function's (mangled), none where nothing names it; ``weak`` says that the linker may have dropped other copies
    of it. ``first`` says that the loader calls it by itself, ``known`` that it is known to be a function.
    """

    address: int
    names: tuple[str, ...]
    weak: bool
    first: bool
    known: bool
    instruction: str
    features: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CodeFacts:
    """What was read of a file's machine code: how many ``functions``, how many bytes (``size``), whether the linker's
    table of symbols was there (``named``), and the functions that are ``above``. ``trouble`` says why it could not be
    read."""

    functions: int = 0
    size: int = 0
    named: bool = False
    above: tuple[Above, ...] = ()
    trouble: str = ""


def read_code(data: memoryview, processor: Processor, processes: int | None = None) -> CodeFacts | None:
    """The facts of the machine code of an ELF file; None where it has none of the processor's machine. At most
    ``processes`` share the work (default: as many as there are processors)."""
    from crosswheel.proving.functions import read_pieces

    try:
        pieces = read_pieces(data)
        if pieces is None or pieces.machine != processor.machine:
            return None
        hits = _search(data, pieces, processor, processes or len(os.sched_getaffinity(0)))
        forget(data)
        return CodeFacts(
            functions=int(pieces.known.sum()),
            size=int((pieces.ends - pieces.starts).sum()),
            named=pieces.symbols.whole,
            above=_told(pieces, hits, processor),
        )
    except (Garbled, struct.error, ValueError, IndexError, OverflowError) as error:
        return CodeFacts(trouble=str(error) or type(error).__name__)


def forget(data: memoryview) -> None:
    """Gives back the memory of what was read so far of a mapped file; it is read again where it is asked for."""
    import mmap

    if isinstance(data.obj, mmap.mmap):
        data.obj.madvise(mmap.MADV_DONTNEED)


def _told(pieces: Pieces, hits: Hits, processor: Processor) -> tuple[Above, ...]:
    from crosswheel.proving import aarch64, x86

    tell = aarch64.Decoder(processor) if processor.machine == MACHINES["aarch64"] else x86.Decoder(processor)
    names = pieces.symbols.at([address for _, address, _ in hits])
    numbers = [number for number, _, _ in hits]
    starts, known = pieces.starts[numbers].tolist(), pieces.known[numbers].tolist()
    return tuple(
        Above(
            address=address,
            names=called,
            weak=weak,
            first=start in pieces.first,
            known=is_known,
            instruction=tell.instruction(code),
            features=tell.lacking(code),
        )
        for (_, address, code), (called, weak), start, is_known in zip(hits, names, starts, known, strict=True)
    )


# --- the search -------------------------------------------------------------------------------------------------------


def _search(data: memoryview, pieces: Pieces, processor: Processor, processes: int) -> Hits:
    size = int((pieces.ends - pieces.starts).sum())
    if processes < 2 or size < _WORTH:
        return _find(data, pieces, processor, slice(None))
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # What is read is inherited, not copied: a pipe would take longer than the search.
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, forked, initializer=_take, initargs=(data, pieces, processor)) as pool:
        parts = pool.map(_part, _shares(pieces, 4 * processes))
        return [hit for part in parts for hit in part]


def _shares(pieces: Pieces, count: int) -> list[slice]:
    """The pieces in so many slices of about the same number of bytes."""
    import numpy as np

    done = np.cumsum(pieces.ends - pieces.starts)
    bounds = np.searchsorted(done, np.linspace(0, int(done[-1]), count + 1)[1:-1])
    edges = [0, *sorted({int(bound) for bound in bounds} - {0}), len(done)]
    return [slice(first, last) for first, last in itertools.pairwise(edges) if first < last]


_taken: list[tuple[memoryview, Pieces, Processor]] = []
"""What a process of the pool works on."""


def _take(data: memoryview, pieces: Pieces, processor: Processor) -> None:
    _taken[:] = [(data, pieces, processor)]


def _part(where: slice) -> Hits:
    return _find(*_taken[0], where)


def _find(data: memoryview, pieces: Pieces, processor: Processor, where: slice) -> Hits:
    from crosswheel.proving import aarch64, x86

    find = aarch64.find if processor.machine == MACHINES["aarch64"] else x86.find
    return list(find(data, pieces, processor, where))
