"""A container's output as the lines of a log: cut where lines end, without escape sequences."""

from __future__ import annotations

import pytest

from crosswheel.building.sandbox import Lines

pytestmark = pytest.mark.unit


def cut(*pieces: bytes) -> list[str]:
    log: list[str] = []
    lines = Lines(log.append)
    for piece in pieces:
        lines.feed(piece)
    lines.end()
    return log


def test_lines_are_cut_wherever_the_pieces_end() -> None:
    assert cut(b"a\nb", b"c\n", b"\n", b"d") == ["a", "bc", "", "d"]
    assert cut("ä".encode()[:1], "ä".encode()[1:] + b"\n") == ["ä"]
    assert cut(b"\xff\n") == ["\ufffd"]


def test_of_a_progress_bar_the_last_state_counts() -> None:
    assert cut(b"10%\r", b"50%\r100%\n") == ["100%"]
    assert cut(b"dos\r\n") == ["dos"]
    assert cut(b"half\rwhole") == ["whole"]


def test_escape_sequences_are_dropped() -> None:
    assert cut(b"\x1b[1;31merror:\x1b[0m bad\x1b[K\n") == ["error: bad"]
    assert cut(b"\x1b]8;;https://gcc.gnu.org\x07-Wall\x1b]8;;\x07\n") == ["-Wall"]


def test_very_long_lines_are_cut_and_counted() -> None:
    (line,) = cut(*([b"x" * 10_000] * 100), b"\n")
    assert len(line) < 5000 and line.endswith("… (996000 more)")
    assert cut(b"y" * 5000) == ["y" * 4000 + "… (1000 more)"]
