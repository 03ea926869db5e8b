"""The table: a row for each version of a package, a column for each target and Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from crosswheel.errors import InputError
from crosswheel.planning.resolve import Request, resolve
from crosswheel.publishing.page.answers import version_order
from crosswheel.publishing.page.cells import Cell, State
from crosswheel.publishing.page.text import plain
from crosswheel.spec.catalog import Catalog

MOST_ASKED = 1000
"""Up to how many places without a cell are asked whether they could be built: one to six milliseconds each (measured).
Where there are more, all of them are never tried."""


@dataclass(frozen=True, order=True)
class Column:
    """A target with a Python; ``cpu`` where it is not the target's own. Empty text stands for none."""

    target: str
    cpu: str
    order: tuple[int, ...]
    python: str

    @property
    def words(self) -> str:
        return f"{self.place} · {f'Python {self.python}' if self.python else 'no Python'}"

    @property
    def place(self) -> str:
        return f"{self.target} ({self.cpu})" if self.cpu else self.target


@dataclass(frozen=True, kw_only=True)
class Place:
    """What stands where a row and a column meet; ``cell`` is None for what nothing is known of but that it was never
    tried."""

    state: State
    cell: Cell | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """A package's version, the ``marks`` that tell it from the plain one, and its places, one for each column."""

    recipe: str
    version: str
    marks: tuple[str, ...]
    places: tuple[Place, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """All features that a wheel in this row has, those by default as well."""
        cells = (place.cell for place in self.places if place.cell)
        return tuple(sorted({*self.marks, *(feature for cell in cells for feature in cell.features)}))

    @property
    def counts(self) -> Mapping[State, int]:
        return Counter(place.state for place in self.places)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Columns of one target and processor, side by side."""

    target: str
    words: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The whole table."""

    groups: tuple[Group, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def counts(self) -> Mapping[State, int]:
        return Counter(place.state for row in self.rows for place in row.places)


def grid_of(cells: Sequence[Cell], catalog: Catalog) -> Grid:
    """The table of cells: packages by name, each one's newest version first."""
    columns = tuple(sorted({_column(cell) for cell in cells}))
    by_row: dict[tuple[str, str, tuple[str, ...]], dict[Column, Cell]] = {}
    for cell in cells:
        row = by_row.setdefault((cell.recipe, cell.version or "", cell.marks), {})
        row[_column(cell)] = _better(row.get(_column(cell)), cell)
    keys = sorted(by_row, key=lambda key: (version_order(key[1]), tuple(key[2])), reverse=True)
    keys.sort(key=lambda key: key[0].casefold())
    gaps = sum(len(columns) - len(by_row[key]) for key in keys)
    asks = _Asks(catalog, asking=gaps <= MOST_ASKED)
    rows = [
        Row(
            recipe=key[0],
            version=key[1],
            marks=key[2],
            places=tuple(
                Place(state=cell.state, cell=cell) if cell else asks.place(key, column)
                for column in columns
                for cell in (by_row[key].get(column),)
            ),
        )
        for key in keys
    ]
    groups = [
        Group(target=same[0].target, words=words, columns=tuple(same))
        for words, found in groupby(columns, key=lambda column: column.place)
        for same in (list(found),)
    ]
    return Grid(groups=tuple(groups), columns=columns, rows=tuple(rows))


def _column(cell: Cell) -> Column:
    python = cell.python or ""
    order = tuple(int(part) for part in python.split(".") if part.isdecimal())
    return Column(target=cell.target, cpu=cell.cpu or "", order=order, python=python)


def _better(one: Cell | None, other: Cell) -> Cell:
    """Where two cells meet in one place, the one that has more to say stands there."""
    if one is None:
        return other
    order = (State.BUILT, State.FAILED, State.REFUSED, State.NEVER)
    return min(one, other, key=lambda cell: (not cell.offered, order.index(cell.state)))


class _Asks:
    """Says of places without a cell whether they could be built at all."""

    def __init__(self, catalog: Catalog, *, asking: bool) -> None:
        self._catalog = catalog
        self._versions = {
            name: {release.version for release in catalog.releases(name)} for name in catalog.recipe_names if asking
        }

    def place(self, key: tuple[str, str, tuple[str, ...]], column: Column) -> Place:
        """Refused with a cell that says why, or never tried."""
        recipe, version, marks = key
        never = Place(state=State.NEVER)
        if version not in self._versions.get(recipe, ()) or column.target not in self._catalog.target_names:
            return never
        known = {*self._catalog.recipe(recipe).features, "avx"}
        asked = {mark.removeprefix("no-"): not mark.startswith("no-") for mark in marks}
        if not column.python or column.cpu or not known.issuperset(asked):
            return never
        request = Request(recipe=recipe, version=version, target=column.target, python=column.python, features=asked)
        try:
            resolve(request, self._catalog)
        except InputError as error:
            lines = error.why.split("\n") if error.why else [error.what]
            cell = Cell(
                id="+".join([f"{recipe}-{version}@{column.target}+cp{column.python.replace('.', '')}", *marks]),
                recipe=recipe,
                version=version,
                target=column.target,
                cpu=None,
                python=column.python,
                features=(),
                marks=marks,
                state=State.REFUSED,
                why=tuple(plain(line.removeprefix("- ")) for line in lines),
            )
            return Place(state=State.REFUSED, cell=cell)
        return never
