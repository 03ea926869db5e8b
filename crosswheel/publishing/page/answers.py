"""What there is for a board and a Python, package by package: the lines, or honestly why there is none and what is
nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from crosswheel.errors import InputError
from crosswheel.planning.resolve import Request, resolve
from crosswheel.publishing.page.cells import Cell, State
from crosswheel.publishing.page.install import Install, Installer
from crosswheel.publishing.page.text import plain, short_title
from crosswheel.spec.catalog import Catalog


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A wheel that can be installed, and how."""

    cell: Cell
    install: Install


@dataclass(frozen=True, kw_only=True)
class Near:
    """What is nearest to something that is not there: a sentence, and the board and Python that it is of."""

    text: str
    target: str
    python: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What there is of a package for a board and a Python: ``offers``, the newest first; else ``state``, a sentence
    ``said``, the reasons ``why``, the ``cell`` that tells more, the command that would ``build`` it, and what is
    ``near``."""

    package: str
    offers: tuple[Offer, ...] = ()
    state: State = State.NEVER
    said: str = ""
    why: tuple[str, ...] = ()
    cell: Cell | None = None
    build: str = ""
    near: tuple[Near, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Board:
    """A target as people know it: its title, a short one, and the answers by Python, those of its systems first."""

    name: str
    title: str
    short: str
    pythons: Mapping[str, tuple[Answer, ...]]


def boards_of(catalog: Catalog, cells: Sequence[Cell], installer: Installer) -> tuple[Board, ...]:
    """All targets of the catalog, and those that cells alone speak of, by their titles."""
    packages = sorted({cell.recipe for cell in cells if cell.python} | _wheel_recipes(catalog))
    by_place: dict[tuple[str, str | None], list[Cell]] = {}
    for cell in cells:
        by_place.setdefault((cell.target, cell.python), []).append(cell)
    offers = {cell.id: Offer(cell=cell, install=how) for cell in cells if (how := installer.of(cell)) is not None}
    names = dict.fromkeys([*catalog.target_names, *sorted({cell.target for cell in cells})])
    titles = {name: plain(catalog.target(name).title) if name in catalog.target_names else name for name in names}
    shorts = Counter(short_title(title) for title in titles.values())
    boards = []
    for name, title in titles.items():
        known = name in catalog.target_names
        short = short_title(title) if shorts[short_title(title)] == 1 else title
        asked = _Asked(catalog=catalog, offers=offers, by_place=by_place, known=known)
        pythons = {
            python: tuple(asked.answer(name, python, package) for package in packages)
            for python in _pythons(catalog, name, by_place)
        }
        boards.append(Board(name=name, title=title, short=short, pythons=pythons))
    return tuple(sorted(boards, key=lambda board: (board.short.casefold(), board.name)))


def _wheel_recipes(catalog: Catalog) -> set[str]:
    return {name for name in catalog.recipe_names if catalog.recipe(name).distribution}


def _pythons(catalog: Catalog, name: str, places: Iterable[tuple[str, str | None]]) -> tuple[str, ...]:
    """The Pythons of a board's systems, in their order, then those that cells alone speak of."""
    own = [system.python for system in catalog.target(name).systems] if name in catalog.target_names else []
    more = sorted({python for target, python in places if target == name and python}, key=version_order)
    return tuple(dict.fromkeys([*own, *more]))


def version_order(version: str) -> tuple[int, Version | str]:
    """For sorting versions; what is none comes first, as text."""
    try:
        return 1, Version(version)
    except InvalidVersion:
        return 0, version


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Answers questions. ``known``: the board is one of the catalog's."""

    catalog: Catalog
    offers: Mapping[str, Offer]
    by_place: Mapping[tuple[str, str | None], list[Cell]]
    known: bool

    def answer(self, target: str, python: str, package: str) -> Answer:
        cells = [cell for cell in self.by_place.get((target, python), ()) if cell.recipe == package]
        cells.sort(key=_newest_first)
        offers = tuple(self.offers[cell.id] for cell in cells if cell.id in self.offers)
        if offers:
            return Answer(package=package, offers=offers, state=State.BUILT)
        near = tuple(self._near(target, python, package))
        for state in (State.FAILED, State.BUILT):
            for cell in cells:
                if cell.state is state:
                    return self._tried(package, cell, near)
        return self._untried(target, python, package, cells, near)

    def _tried(self, package: str, cell: Cell, near: tuple[Near, ...]) -> Answer:
        name = f"{package} {cell.version or ''}".strip()
        if cell.state is State.FAILED:
            said = f"{name} was tried and failed."
            return Answer(package=package, state=cell.state, said=said, why=cell.why, cell=cell, near=near)
        said = f"{name} was built, and its wheel is not where this page was made from."
        return Answer(package=package, state=cell.state, said=said, why=(), cell=cell, near=near)

    def _untried(self, target: str, python: str, package: str, cells: Sequence[Cell], near: tuple[Near, ...]) -> Answer:
        told = next((cell for cell in cells if cell.state is State.REFUSED), None)
        planned = next((cell for cell in cells if cell.state is State.NEVER), None)
        said = f"{package} cannot be built for this board with Python {python}."
        if told and not planned:
            return Answer(package=package, state=State.REFUSED, said=said, why=told.why, cell=told, near=near)
        why = self._refusal(target, python, package)
        if why is None or planned:
            build = f"crosswheel build {package} --target {target} --python {python}" if why is None else ""
            never = f"{package} was never built for this board with Python {python}."
            return Answer(package=package, said=never, build=build, cell=planned, near=near)
        return Answer(package=package, state=State.REFUSED, said=said, why=why, near=near)

    def _refusal(self, target: str, python: str, package: str) -> tuple[str, ...] | None:
        """Why no release of a package can be built; None where one can be, or where nobody knows."""
        if not self.known or package not in self.catalog.recipe_names:
            return None
        try:
            resolve(Request(recipe=package, target=target, python=python), self.catalog)
        except InputError as error:
            lines = error.why.split("\n") if error.why else [error.what]
            return tuple(plain(line.removeprefix("- ")) for line in lines)
        return None

    def _near(self, target: str, python: str, package: str) -> Iterable[Near]:
        """The same package on the same board with another Python; else on other boards of the same architecture, with
        the same Python."""
        own = [
            offer
            for offer in self.offers.values()
            if offer.cell.recipe == package and offer.cell.target == target and offer.cell.python != python
        ]
        for offer in sorted(own, key=lambda offer: version_order(offer.cell.python or ""), reverse=True):
            text = f"{package} {offer.cell.version} is there for this board with Python {offer.cell.python}"
            yield Near(text=text, target=target, python=offer.cell.python or "")
        if own or not self.known:
            return
        arch = self.catalog.target(target).arch
        for offer in list(self.offers.values()):
            cell = offer.cell
            if (
                cell.recipe == package
                and cell.python == python
                and cell.proved
                and cell.proved.proof.policy.arch == arch
            ):
                text = f"{package} {cell.version} is there for {cell.target}, and was not proved for this board"
                yield Near(text=text, target=cell.target, python=python)
                return


def _newest_first(cell: Cell) -> tuple[bool, tuple[int, Version | str], int, str]:
    """For sorting in descending order of versions, plain wheels before those for another processor or with features."""
    order = version_order(cell.version or "")
    return bool(cell.cpu), _Descending(order), len(cell.marks), cell.id  # type: ignore[return-value]


@dataclass(frozen=True)
class _Descending:
    order: tuple[int, Version | str]

    def __lt__(self, other: _Descending) -> bool:
        return other.order < self.order
