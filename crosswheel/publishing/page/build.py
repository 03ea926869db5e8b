"""`report build` as one function: reads proofs and history, lays the pages out, and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crosswheel.publishing.history import read_history
from crosswheel.publishing.page.answers import boards_of
from crosswheel.publishing.page.cells import cells_of, nights_of
from crosswheel.publishing.page.grid import grid_of
from crosswheel.publishing.page.install import Installer, index_base
from crosswheel.publishing.page.render import Site, pages_of
from crosswheel.publishing.page.text import counted, plain
from crosswheel.publishing.page.wheels import read_shelf
from crosswheel.publishing.page.writing import Written, write_pages
from crosswheel.spec.catalog import Catalog

_MOST_NOTES = 20


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a build of the page did. ``counts`` are the places of the table by state; ``notes`` are sentences about what
    a person may not expect."""

    counts: dict[str, int]
    nights: int
    written: Written
    notes: tuple[str, ...]

    @property
    def words(self) -> str:
        states = ", ".join(f"{count:,} {state}" for state, count in self.counts.items() if count) or "nothing yet"
        files = f"{self.written.written:,} files written, {self.written.same:,} as they were"
        removed = f", {self.written.removed:,} removed" if self.written.removed else ""
        return f"{states}; {counted(self.nights, 'night')}; {files}{removed}"

    def as_json(self, folder: str) -> dict[str, Any]:
        return {
            "page": str(Path(folder) / "index.html"),
            "cells": self.counts,
            "nights": self.nights,
            "written": self.written.written,
            "same": self.written.same,
            "removed": self.written.removed,
            "notes": list(self.notes),
        }


def build_page(folder: Path, catalog: Catalog, *, wheels: Path, history: Path, index_url: str = "") -> Done:
    """Writes the page into ``folder``, from the wheels and proofs in ``wheels`` and the nights in ``history``; either
    may be missing.

    ``InputError`` for an address that is none, and for files of others in the way; ``MachineError`` where the folder
    cannot be written. What cannot be read of proofs and history is left out, and said on the page.
    """
    base = index_base(index_url) if index_url else ""
    told = read_history(history)
    shelf = read_shelf(wheels)
    grid = grid_of(cells_of(told, shelf, catalog), catalog)
    # With those that the table adds: combinations that cannot be built, with the reasons.
    cells = [place.cell for row in grid.rows for place in row.places if place.cell]
    recipes = {name: catalog.recipe(name) for name in catalog.recipe_names}
    runtime = {name: each.runtime for name, each in recipes.items()}
    installer = Installer(base=base, cells=cells, runtime=runtime)
    nights = nights_of(told)
    problems = tuple(_below(plain(each), history) for each in (*told.problems, *shelf.problems))
    site = Site(
        grid=grid,
        boards=boards_of(catalog, cells, installer),
        nights=nights,
        installer=installer,
        problems=problems,
    )
    written = write_pages(folder, dict(pages_of(site)))
    return Done(
        counts={state.value: count for state, count in sorted(grid.counts.items())},
        nights=len(nights),
        written=written,
        notes=(*_notes(problems), *_kept(written)),
    )


def _below(problem: str, folder: Path) -> str:
    """A sentence without the path of this machine: the page goes to others."""
    return problem.replace(f"{plain(folder)}/", "")


def _notes(problems: tuple[str, ...]) -> tuple[str, ...]:
    more = len(problems) - _MOST_NOTES
    return (*problems[:_MOST_NOTES], *((f"and {more} more, which the page names",) if more > 0 else ()))


def _kept(written: Written) -> tuple[str, ...]:
    return tuple(f"{plain(path)} is of an older page, was changed since, and stays" for path in written.kept)
