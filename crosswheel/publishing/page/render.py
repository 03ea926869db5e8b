"""Fills the templates. Every value is escaped by Jinja (``autoescape``), for every template, whatever its name.

Nothing of a page depends on the clock or on this machine: the same proofs and history give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crosswheel.digest import sha256_bytes
from crosswheel.publishing.page.answers import Answer, Board, Offer, version_order
from crosswheel.publishing.page.cells import Cell, Night, State
from crosswheel.publishing.page.details import beside_of, error_of, facts_of, findings_of, log_of, over_most
from crosswheel.publishing.page.grid import Grid
from crosswheel.publishing.page.install import Install, Installer
from crosswheel.publishing.page.text import anchor, counted, file_stem, night_words, plain, size_words, time_words
from crosswheel.publishing.page.trends import nights_curve, size_curve, time_curve

_HERE = Path(__file__).resolve().parent

CSP = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src data:; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'"
)
"""Nothing but the page's own files, and no script makes HTML out of text. ``file:`` is for a page that is opened from a
disk, which has no ``'self'`` in every browser; a page that a server gives cannot load from there."""

SYMBOLS = {"built": "✓", "failed": "✗", "refused": "⊘", "never tried": "○"}
CLASSES = {"built": "built", "failed": "failed", "refused": "refused", "never tried": "never"}
_COUNTED = ("built", "cached", "failed", "refused", "not reached")
_MOST_OFFERS = 3
"""How many versions of a package the question on the first page shows; the board's page has all."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """All that the pages say."""

    grid: Grid
    boards: tuple[Board, ...]
    nights: tuple[Night, ...]
    installer: Installer
    problems: tuple[str, ...]


def pages_of(site: Site) -> Iterator[tuple[str, bytes]]:
    """The files of the page by their paths, what others link to first and the index last."""
    return _Pages(site).all()


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            undefined=StrictUndefined,
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(size_words=size_words, time_words=time_words, managed=managed, anchor=anchor)
        self._environment.globals.update(
            csp=CSP,
            assets={name: path for name, (path, _) in self._assets.items()},
            symbols=SYMBOLS,
            classes=CLASSES,
            states=tuple(State),
            board_pages={board.name: _board_page(board) for board in site.boards},
            foot=_foot(site.nights),
        )

    @cached_property
    def _assets(self) -> Mapping[str, tuple[str, bytes]]:
        """Name → (file name with a digest in it, content): an old page and a new one each find their own."""
        found = {}
        for name, file in (("css", "page.css"), ("js", "page.js"), ("theme", "theme.js")):
            data = (_HERE / "static" / file).read_bytes()
            stem, _, ending = file.partition(".")
            found[name] = (f"{stem}-{sha256_bytes(data)[:10]}.{ending}", data)
        return found

    @cached_property
    def _boards(self) -> Mapping[str, Board]:
        return {board.name: board for board in self._site.boards}

    def all(self) -> Iterator[tuple[str, bytes]]:
        for path, data in self._assets.values():
            yield f"assets/{path}", data
        cells = {
            place.cell.page: place.cell
            for row in self._site.grid.rows
            for place in row.places
            if place.cell is not None
        }
        for page, cell in cells.items():
            yield f"cells/{page}", self._cell(cell)
        for board in self._site.boards:
            yield f"boards/{_board_page(board)}", self._render("board.html.j2", root="../", board=board)
        yield "index.html", self._index()

    def _render(self, template: str, **values: Any) -> bytes:
        return self._environment.get_template(template).render(**values).encode("utf-8", "backslashreplace")

    def _cell(self, cell: Cell) -> bytes:
        how = self._site.installer.of(cell)
        proved = cell.proved
        curves = [curve for curve in (size_curve(cell.points), time_curve(cell.points)) if curve]
        return self._render(
            "cell.html.j2",
            root="../",
            cell=cell,
            name=" ".join(part for part in (cell.recipe, cell.version) if part),
            board=self._boards.get(cell.target),
            how=how,
            error=error_of(cell),
            log=log_of(cell),
            facts=facts_of(cell),
            beside=beside_of(proved, self._site.installer.base) if proved else (),
            findings=findings_of(proved.proof) if proved else (),
            more_findings=over_most(proved.proof) if proved else "",
            curves=curves,
        )

    def _index(self) -> bytes:
        site, grid = self._site, self._site.grid
        targets = dict.fromkeys(column.target for column in grid.columns)
        shorts = {name: self._boards[name].short for name in targets}
        pythons = sorted({column.python for column in grid.columns if column.python}, key=version_order)
        asked = sorted({python for board in site.boards for python in board.pythons}, key=version_order)
        packages = dict.fromkeys(
            answer.package for board in site.boards for answers in board.pythons.values() for answer in answers
        )
        return self._render(
            "index.html.j2",
            root="",
            boards=site.boards,
            pythons=asked,
            packages=list(packages),
            grid=grid,
            grid_boards=sorted(shorts.items(), key=lambda item: (item[1].casefold(), item[0])),
            grid_pythons=pythons,
            grid_features=sorted({feature for row in grid.rows for feature in row.features}),
            shorts=shorts,
            lead=_lead(site),
            nights=site.nights[-_MOST_NIGHTS:],
            nights_curve=nights_curve(site.nights),
            counted_names=_COUNTED,
            board_words={board.name: _board_words(board) for board in site.boards},
            problems=site.problems,
            data=safe_json(
                {"symbols": SYMBOLS, "classes": CLASSES, "boards": [_as_data(each) for each in site.boards]}
            ),
        )


_MOST_NIGHTS = 120


def safe_json(value: Any) -> Markup:
    """JSON that may stand in a ``<script>``: nothing in it ends the element, begins a comment or ends a line (HTML,
    "Restrictions for contents of script elements")."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # escaped above, for JSON and not for HTML


def managed(python: str) -> bool:
    """Whether distributions keep pip from installing for this Python outside of an environment (PEP 668: Debian 12 and
    Ubuntu 23.04 were the first, with Python 3.11)."""
    major, _, minor = python.partition(".")
    return (int(major), int(minor)) >= (3, 11) if major.isdecimal() and minor.isdecimal() else False


def _board_page(board: Board) -> str:
    return f"{file_stem(board.name)}.html"


def _board_words(board: Board) -> str:
    found = []
    for python, answers in board.pythons.items():
        count = sum(bool(answer.offers) for answer in answers)
        if count:
            found.append(f"Python {python}: {counted(count, 'package')}")
    return "; ".join(found) or f"no wheels yet (Python {', '.join(board.pythons)})"


def _lead(site: Site) -> str:
    boards = len({column.target for column in site.grid.columns})
    size = f"{counted(len(site.grid.rows), 'package version')} on {counted(boards, 'board')}"
    if not site.nights:
        return f"{size}, from the proofs of wheels."
    newest = site.nights[-1]
    state = "" if newest.whole else ", which has not ended"
    return f"{size}, as of the night {newest.words}{state}. Follow a cell to its wheel, its proof or its reasons."


def _foot(nights: Sequence[Night]) -> str:
    made = "Made by crosswheel from proofs and history"
    return f"{made}, as of the night {night_words(nights[-1].name)}." if nights else f"{made}."


# --- the data of the question ----------------------------------------------------------------------------------------


def _as_data(board: Board) -> dict[str, Any]:
    """A board for the script; the keys of what stands there often are short."""
    return {
        "id": board.name,
        "short": board.short,
        "page": f"boards/{quote(_board_page(board))}",
        "pythons": list(board.pythons),
        "managed": [python for python in board.pythons if managed(python)],
        "answers": {python: [_answer(each) for each in answers] for python, answers in board.pythons.items()},
    }


def _answer(answer: Answer) -> dict[str, Any]:
    if answer.offers:
        return {"p": answer.package, "o": [_offer(each) for each in answer.offers[:_MOST_OFFERS]]}
    return {
        "p": answer.package,
        "o": [],
        "s": answer.state.value,
        "t": answer.said,
        "w": list(answer.why),
        "h": f"cells/{answer.cell.page}" if answer.cell else "",
        "b": answer.build,
        "n": [{"t": near.text, "b": near.target, "p": near.python} for near in answer.near],
    }


def _offer(offer: Offer) -> dict[str, Any]:
    cell, how = offer.cell, offer.install
    return {
        "v": plain(cell.version or ""),
        "f": list(cell.marks),
        "c": cell.cpu or "",
        "z": size_words(cell.proved.proof.size) if cell.proved else "",
        "h": f"cells/{cell.page}",
        **_how(how),
    }


def _how(how: Install) -> dict[str, Any]:
    return {"a": how.system, "l": how.line, "s": list(how.said)}
