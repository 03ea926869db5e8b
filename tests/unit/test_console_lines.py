"""Lines of programs, as a person sees them: made plain, and read for progress."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswheel.cli.lines import duration, encodable, plain
from crosswheel.cli.progress import progress_of

pytestmark = pytest.mark.unit

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# --- lines ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[1;31merror:\x1b[0m bad", "error: bad"),
        ("\x1b]0;a new title\x07text", "text"),
        ("\x1b]52;c;Y2xpcGJvYXJk\x1b\\text", "text"),
        ("\x1bP+q544e\x1b\\text", "text"),
        ("\x9b31mtext", "text"),
        ("\x9d0;title\x9ctext", "text"),
        ("\x1bctext", "text"),
        ("\x1b[2J\x1b[Htext", "text"),
        ("10%\r 50%\r100%\r\n", "100%"),
        ("a\tb", "a   b"),
        ("bell\x07 back\x08space\x00 del\x7f", "bell backspace del"),
        ("if \u202e} \u2066// admin\u2069 {", "if } // admin {"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("héllo ✓ 世界", "héllo ✓ 世界"),
        ("an unfinished \x1b]0;string", "an unfinished"),
        ("", ""),
    ],
)
def test_lines_are_made_plain(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text(alphabet=st.characters(max_codepoint=0x2100)))
def test_no_control_character_is_ever_left(text: str) -> None:
    assert not CONTROL.search(plain(text))
    assert "\n" not in plain(text)


def test_what_a_stream_cannot_write_becomes_a_question_mark() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    assert encodable("✓ fünf …", stream) == "? fünf ?"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# --- progress ---


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("[123 / 456] Compiling tree/tree.cc; 3s local", "123 / 456  Compiling tree/tree.cc; 3s local"),
        ("[1,234 / 5,678] 4 actions running", "1,234 / 5,678  4 actions running"),
        ("[12/345] Building CXX object t.dir/a.cc.o", "12 / 345  Building CXX object t.dir/a.cc.o"),
        ("[ 45%] Building CXX object a.cc.o", "45 %  Building CXX object a.cc.o"),
        ("tree_test.py::test_map PASSED      [ 45%]", "45 %  tree_test.py::test_map"),
        ("tests/test_a.py ....F..     [100%]", "100 %  tests/test_a.py ....F.."),
        ("   ━━━━━━━━ 12.3/45.6 MB 8.1 MB/s eta 0:00:04", "27 %  12.3 of 45.6 MB"),
        ("Collecting absl-py>=0.6", "Collecting absl-py>=0.6"),
        ("Analyzing: target //tree:_tree (12 packages loaded)", "Analyzing: target //tree:_tree (12 packages loaded)"),
        ("aarch64-linux-gnu-gcc -Wall -I/x -c src/wrapt/_wrappers.c -o build/x.o", "compiling _wrappers.c"),
        ("/usr/bin/aarch64-linux-gnu-g++-12 -O2 -c /a/b.cc", "compiling b.cc"),
    ],
)
def test_progress_is_recognised(line: str, shown: str) -> None:
    assert str(progress_of(line)) == shown


@pytest.mark.parametrize(
    "line",
    ["hello", "error: [ 45%", "gcc -shared a.o -o b.so", "[a/b] no numbers", "warning: 3/4 of it", "[12/", "0 of 0"],
)
def test_other_lines_are_no_progress(line: str) -> None:
    assert progress_of(line) is None


def test_a_download_of_nothing_is_no_division_by_zero() -> None:
    assert str(progress_of("0.0/0.0 MB")) == "0.0 of 0.0 MB"
