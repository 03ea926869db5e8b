"""Where containers of GPU code may begin, found while a file is read piece by piece."""

from __future__ import annotations

import itertools
import re

import pytest
from fatbin_writer import container, gpu_elf
from hypothesis import given
from hypothesis import strategies as st

from crosswheel.proving import fatbin
from crosswheel.proving.fatbin import START, Starts, read_fatbins

pytestmark = pytest.mark.unit

TWO = gpu_elf(container(["53"], ["53"]) + container(["70"]), sections=False)


def starts_of(pieces: list[bytes]) -> list[int] | None:
    starts = Starts()
    for piece in pieces:
        starts.feed(piece)
    return None if starts.places is None else list(starts.places)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(edges)]


@given(st.lists(st.binary(max_size=9) | st.just(START) | st.sampled_from([START[:1], START[:3], START[1:]])))
def test_the_pieces_do_not_matter(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert starts_of(pieces) == [match.start() for match in re.finditer(re.escape(START), whole)]


@given(st.lists(st.integers(0, 10**6), max_size=12))
def test_with_them_the_same_containers_are_found(places: list[int]) -> None:
    found = starts_of(cut(TWO, places))
    assert found is not None and len(found) == 2
    assert read_fatbins(TWO, starts=found) == read_fatbins(TWO)
    assert len(read_fatbins(TWO)) == 2


def test_every_byte_by_itself() -> None:
    assert starts_of([TWO[at : at + 1] for at in range(len(TWO))]) == starts_of([TWO])


def test_more_than_anybody_counts_are_searched_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "MOST_STARTS", 2)
    assert starts_of([START, START]) == [0, len(START)]
    assert starts_of([START] * 3) is None
    assert starts_of([START * 100] * 100) is None
    monkeypatch.setattr(fatbin, "MOST_STARTS", 1)
    starts = Starts()
    starts.feed(TWO)
    assert read_fatbins(TWO, starts=starts.places) == read_fatbins(TWO)
