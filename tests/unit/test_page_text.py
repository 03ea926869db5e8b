"""Text of the page: whatever a wheel or a log says is shown, and nothing of it is obeyed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswheel.publishing.page.render import safe_json
from crosswheel.publishing.page.text import (
    block,
    file_stem,
    night_words,
    plain,
    short_title,
    size_words,
    time_words,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x1b]8;;https://evil.example\x07link\x1b]8;;\x07", "link"),
        ("\x1b]0;title", ""),
        ("\x1bPpayload\x1b\\after", "after"),
        ("bell\x07 nul\x00", "bell\\x07 nul\\x00"),
        ("turned \u202e round", "turned \\u202e round"),
        ("half \ud800", "half \\ud800"),
        ("zürich ✓ 板", "zürich ✓ 板"),
        ("one\ntwo", "one\\ntwo"),
    ],
)
def test_what_a_terminal_obeys_is_taken_out_and_the_rest_is_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_log_keeps_its_lines_and_a_line_that_was_overwritten_shows_its_end() -> None:
    assert block("10%\r50%\r100%\nnext\r\n\tindented\x1b[K") == "100%\nnext\n        indented"


@given(st.text())
def test_no_text_leaves_anything_that_is_not_printable(text: str) -> None:
    assert plain(text).isprintable()
    assert all(line.isprintable() for line in block(text).split("\n"))
    plain(text).encode("utf-8")


@given(st.text(), st.text())
def test_a_file_has_a_name_of_its_own_that_leads_nowhere_else(one: str, other: str) -> None:
    name = file_stem(one)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
    assert ".." not in name
    assert not name.startswith((".", "-"))
    assert len(name) < 100
    assert one == other or name != file_stem(other)


@given(st.text())
def test_json_in_a_script_never_ends_it(text: str) -> None:
    written = str(safe_json({"text": text, "nested": [text]}))
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"text": text, "nested": [text]}


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (42_215_214, "42.2 MB"),
        (2 * 10**12, "2,000.0 GB"),
    ],
)
def test_sizes(size: int, words: str) -> None:
    assert size_words(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times(seconds: float, words: str) -> None:
    assert time_words(seconds) == words


def test_a_night_that_is_a_moment_is_read_as_one() -> None:
    assert night_words("2026-11-21T23-00-00Z") == "2026-11-21 23:00"
    assert night_words("mine") == "mine"


@pytest.mark.parametrize(
    ("title", "short"),
    [
        ("NVIDIA Jetson Nano (Tegra X1, four Cortex-A57): JetPack 4.6, Ubuntu 18.04", "NVIDIA Jetson Nano"),
        (
            "NVIDIA Jetson AGX Orin, Orin NX and Orin Nano (Cortex-A78AE): JetPack 6",
            "NVIDIA Jetson AGX Orin, Orin NX and Orin Nano",
        ),
        ("Raspberry Pi 4, 64-bit Raspberry Pi OS or Debian 12", "Raspberry Pi 4"),
        ("plain", "plain"),
    ],
)
def test_a_board_is_called_as_people_call_it(title: str, short: str) -> None:
    assert short_title(title) == short
