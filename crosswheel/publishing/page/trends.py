"""Curves over nights, and bars of nights, as numbers for the templates: each curve is an SVG of ours with a title, a
description and the same numbers as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crosswheel.publishing.page.cells import Night, Point
from crosswheel.publishing.page.text import night_words, size_words, time_words

WIDTH, HEIGHT = 640.0, 180.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 14.0, 14.0, 26.0
MOST_NIGHTS = 120
"""How many nights a curve shows: the newest."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A value at a place of the drawing; ``words`` are the night and the value."""

    x: float
    y: float
    night: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve: ``name`` for ids, ``title`` and ``description`` in words, ``marks`` on the axis (y, text)."""

    name: str
    title: str
    description: str
    dots: tuple[Dot, ...]
    marks: tuple[tuple[float, str], ...]
    first: str
    last: str

    @property
    def path(self) -> str:
        """The points of the line, for SVG."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)


def size_curve(points: Sequence[Point]) -> Curve | None:
    """The wheel's size over the nights; None where there was none."""
    values = [(point.night, float(point.size)) for point in points if point.size is not None]
    return _curve("size", "Size of the wheel", values, lambda value: size_words(round(value)))


def time_curve(points: Sequence[Point]) -> Curve | None:
    """How long it took, in the nights in which something ran for it and it was built."""
    values = [
        (point.night, point.seconds) for point in points if point.seconds is not None and point.outcome == "built"
    ]
    return _curve("time", "Time to build", values, time_words)


def nights_curve(nights: Sequence[Night]) -> Curve | None:
    """How long all that ran in each night took."""
    values = [(night.name, night.seconds) for night in nights]
    return _curve("nights", "Time of all that ran in a night", values, time_words)


def _curve(name: str, title: str, values: Sequence[tuple[str, float]], words: Callable[[float], str]) -> Curve | None:
    if not values:
        return None
    shown = values[-MOST_NIGHTS:]
    top = max(value for _, value in shown) or 1.0
    across = (WIDTH - _LEFT - _RIGHT) / max(len(shown) - 1, 1)
    height = HEIGHT - _TOP - _BOTTOM
    middle = _LEFT + (WIDTH - _LEFT - _RIGHT) / 2
    dots = tuple(
        Dot(
            x=_LEFT + across * index if len(shown) > 1 else middle,
            y=_TOP + height * (1 - value / (top * 1.1)),
            night=night_words(night),
            words=words(value),
        )
        for index, (night, value) in enumerate(shown)
    )
    marks = tuple((_TOP + height * (1 - part / 1.1), words(top * part)) for part in (0.0, 0.5, 1.0))
    return Curve(
        name=name,
        title=title,
        description=_described(shown, words),
        dots=dots,
        marks=marks,
        first=dots[0].night,
        last=dots[-1].night if len(dots) > 1 else "",
    )


def _described(values: Sequence[tuple[str, float]], words: Callable[[float], str]) -> str:
    first, last = values[0], values[-1]
    if len(values) == 1:
        return f"{words(first[1])} in the night {night_words(first[0])}, the only one so far."
    low, high = min(value for _, value in values), max(value for _, value in values)
    return (
        f"From {words(first[1])} in the night {night_words(first[0])} to {words(last[1])} in the night "
        f"{night_words(last[0])}; {len(values)} nights, between {words(low)} and {words(high)}."
    )
