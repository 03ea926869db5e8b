"""Reads the progress of a build tool out of one line of its output."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """What a tool is doing. ``done`` of ``total`` where it says so; ``total`` is 100 for a percentage."""

    text: str
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        if not self.total:
            return self.text
        counted = f"{self.done} %" if self.total == 100 else f"{self.done:,} / {self.total:,}"
        return f"{counted}  {self.text}".rstrip()


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _counted(match: re.Match[str]) -> Progress:
    return Progress(match["text"].strip(), _number(match["done"]), _number(match["total"]))


def _percent(match: re.Match[str]) -> Progress:
    return Progress(match["text"].strip(), int(match["done"]), 100)


def _compiled(match: re.Match[str]) -> Progress:
    return Progress(f"compiling {match['file'].rsplit('/', 1)[-1]}")


def _sized(match: re.Match[str]) -> Progress:
    done, total = float(match["done"]), float(match["total"])
    text = f"{match['done']} of {match['total']} {match['unit']}"
    return Progress(text, round(100 * done / total), 100) if total else Progress(text)


def _as_it_is(match: re.Match[str]) -> Progress:
    return Progress(match["text"].strip())


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Progress]], ...] = (
    # Bazel: [123 / 456] Compiling tree/tree.cc; 3s local … (4 actions running); ninja: [12/345] Building CXX object …
    (re.compile(r"^\[(?P<done>[\d,]+) ?/ ?(?P<total>[\d,]+)\] ?(?P<text>.*)$"), _counted),
    # make and CMake: [ 45%] Building CXX object …; pytest: tree_test.py::test_x PASSED [ 45%]
    (re.compile(r"^\[ *(?P<done>\d{1,3})%\] (?P<text>.*)$"), _percent),
    (re.compile(r"^(?P<text>\S+::\S+|\S+\.py [.FEsxX]+).*\[ *(?P<done>\d{1,3})%\]$"), _percent),
    # pip: ━━━━━━━ 12.3/45.6 MB 8.1 MB/s; a download: 12.3 of 45.6 MB
    (re.compile(r"(?P<done>\d+(?:\.\d+)?) ?(?:/|of) ?(?P<total>\d+(?:\.\d+)?) ?(?P<unit>[kKMG]i?B)\b"), _sized),
    (re.compile(r"^ *(?P<text>(?:Collecting|Downloading|Installing|Building wheel|Preparing metadata).*)$"), _as_it_is),
    # Bazel before its first action, in both of its wordings
    (re.compile(r"^(?:INFO: )?(?P<text>(?:Loading|Analyzing|Analysing):? .*)$"), _as_it_is),
    # a compiler's own command line, as setuptools prints it
    (
        re.compile(r"^\S*(?:g?cc|[gc]\+\+|clang(?:\+\+)?)[-\d]* .*\s-c (?:.*\s)?(?P<file>\S+\.(?:cc|cpp|cxx|c|S))\b"),
        _compiled,
    ),
)


def progress_of(line: str) -> Progress | None:
    """The progress that ``line`` (made plain) tells of; None if it tells of none."""
    for form, read in _FORMS:
        if match := form.search(line):
            return read(match)
    return None
