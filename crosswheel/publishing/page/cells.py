"""Cells: what the matrix asked for and what became of it, from the history's nights and from the wheels with proofs.

A cell is a recipe's version for a target, a Python, a processor and features. The newest word counts: a night's, or the
proof of the wheel that lies there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase

from crosswheel.publishing.history import CellLine, Ended, History, Part
from crosswheel.publishing.page.marks import Marks
from crosswheel.publishing.page.text import block, counted, file_stem, night_words, plain
from crosswheel.publishing.page.wheels import Proved, Shelf
from crosswheel.spec.catalog import Catalog


class State(StrEnum):
    """What a cell is, as the table shows it."""

    BUILT = "built"
    FAILED = "failed"
    REFUSED = "refused"
    NEVER = "never tried"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A cell in one night. ``seconds`` is None where nothing ran, ``size`` where there is no wheel."""

    night: str
    outcome: str
    seconds: float | None
    size: int | None


Key = tuple[str, str, str, str | None, str | None, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell. ``cpu`` is None for the target's own; ``version`` and ``python`` are None where a refused cell left
    them to crosswheel. ``marks`` are the features that tell it from the plain wheel of its version. ``why`` are the
    reasons of a state that is not good, ``notes`` what else a reader must know. ``night`` and ``ended`` are of the
    night that tried it last. ``proved`` is the wheel and proof that lie there."""

    id: str
    recipe: str
    version: str | None
    target: str
    cpu: str | None
    python: str | None
    features: tuple[str, ...]
    marks: tuple[str, ...] = ()
    state: State
    why: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    night: str | None = None
    ended: Ended | None = None
    points: tuple[Point, ...] = ()
    proved: Proved | None = None

    @property
    def key(self) -> Key:
        return self.recipe, self.version or "", self.target, self.cpu, self.python, self.marks

    @property
    def page(self) -> str:
        """The file name of its page."""
        return f"{file_stem(self.id)}.html"

    @property
    def offered(self) -> bool:
        """Whether its wheel can be installed: it is there, is the one that was proved, and passed."""
        return self.proved is not None and self.proved.good and self.proved.proof.kind == "wheel"


@dataclass(frozen=True, kw_only=True)
class Night:
    """A night: how many of its cells ended how, how many have no line, and the seconds of all that ran. ``only`` is the
    pattern of the cells that it was to run; empty for all."""

    name: str
    matrix: str
    only: str
    started: datetime
    whole: bool
    counts: Mapping[str, int]
    seconds: float

    @property
    def words(self) -> str:
        return night_words(self.name)


def nights_of(history: History) -> tuple[Night, ...]:
    """The nights, oldest first."""
    found = []
    for name, parts in history.nights().items():
        counts = dict.fromkeys(("built", "cached", "failed", "refused", "not reached"), 0)
        for part in parts:
            for line in part.start.cells:
                ended = part.cells.get(line.id)
                if ended or _asked(part, line):
                    counts[_counted_as(line, ended)] += 1
        found.append(
            Night(
                name=name,
                matrix=plain(parts[0].start.matrix),
                only=plain(parts[0].start.only or ""),
                started=min(part.start.started for part in parts),
                whole=all(part.ended for part in parts),
                counts=counts,
                seconds=sum(ended.seconds for part in parts for ended in part.cells.values()),
            )
        )
    return tuple(found)


def _asked(part: Part, line: CellLine) -> bool:
    """Whether a night was to run a cell: all, or those that ``--only`` means."""
    only = part.start.only
    return only is None or only in (line.recipe, line.target) or fnmatchcase(line.id, only)


def _counted_as(line: CellLine, ended: Ended | None) -> str:
    if line.state == "refused":
        return "refused"
    if ended is None:
        return "not reached"
    return "failed" if ended.outcome == "failed" or ended.passed is False else ended.outcome


def cells_of(history: History, shelf: Shelf, catalog: Catalog) -> tuple[Cell, ...]:
    """All cells of the history, and one for each proof that is none of theirs."""
    own_cpu = {name: catalog.target(name).cpu for name in catalog.target_names}
    marks = Marks(catalog)
    told: dict[str, tuple[Part, CellLine]] = {}
    for part in history.parts:
        told.update({line.id: (part, line) for line in part.start.cells})
    points = _points(history)
    latest = history.latest()
    newest = {part.start.matrix: part.night for part in history.parts}
    cells = [
        _from_history(
            line, part, latest.get(line.id), tuple(points.get(line.id, ())), own_cpu, newest[part.start.matrix]
        )
        for part, line in told.values()
    ]
    own = {path: _marked(_from_proof(proved, own_cpu), marks) for path, proved in shelf.proved.items()}
    return tuple(_with_wheels([_marked(cell, marks) for cell in cells], shelf, own))


def _marked(cell: Cell, marks: Marks) -> Cell:
    of = marks.of_request if cell.state is State.REFUSED else marks.of_wheel
    return replace(cell, marks=of(cell.recipe, cell.version or "", cell.target, cell.features))


def _points(history: History) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for part in history.parts:
        for cell, ended in part.cells.items():
            failed = ended.outcome == "failed" or ended.passed is False
            point = Point(
                night=part.night,
                outcome="failed" if failed else ended.outcome,
                seconds=None if ended.outcome == "cached" else ended.seconds,
                size=None if failed else ended.size,
            )
            found.setdefault(cell, []).append(point)
    return found


def _from_history(
    line: CellLine,
    part: Part,
    latest: tuple[str, Ended] | None,
    points: tuple[Point, ...],
    own_cpu: Mapping[str, str],
    newest: str,
) -> Cell:
    night, ended = latest or (None, None)
    notes = []
    if part.night != newest:
        notes.append(f"The matrix has not had this cell since the night {night_words(part.night)}.")
    elif line.state == "planned" and night != part.night and _asked(part, line):
        of = f": this is of {night_words(night)}." if night else "."
        notes.append(f"The night {night_words(part.night)} was to run it, and did not come to it{of}")
    state, why = State.NEVER, tuple[str, ...]()
    if line.state == "refused":
        state, why = State.REFUSED, _lines(line.why)
    elif ended is not None and (ended.outcome == "failed" or ended.passed is False):
        state, why = State.FAILED, _failure(ended)
    elif ended is not None:
        state = State.BUILT
    target = plain(line.target)
    cpu = plain(line.cpu) if line.cpu else None
    return Cell(
        id=line.id,
        recipe=plain(line.recipe),
        version=plain(line.version) if line.version else None,
        target=target,
        cpu=None if cpu == own_cpu.get(target) else cpu,
        python=plain(line.python) if line.python else None,
        features=tuple(sorted(plain(each) for each in line.features)),
        state=state,
        why=why,
        notes=tuple(notes),
        night=night,
        ended=ended,
        points=points,
    )


def _lines(text: str) -> tuple[str, ...]:
    lines = (line.strip().removeprefix("- ") for line in block(text).split("\n"))
    return tuple(line for line in lines if line)


def _failure(ended: Ended) -> tuple[str, ...]:
    if ended.error is not None:
        return (plain(ended.error.what),)
    if ended.passed is False:
        return ("The wheel was built, and its proof failed.",)
    return (f"The step {plain(ended.step)} failed." if ended.step else "It failed.",)


# --- wheels --------------------------------------------------------------------------------------------------------


def _with_wheels(cells: Iterable[Cell], shelf: Shelf, own: Mapping[str, Cell]) -> Iterable[Cell]:
    """The cells with the wheels that are theirs, then those of ``own`` (a cell for each wheel) that are nobody's."""
    by_key = {cell.key: path for path, cell in own.items()}
    taken: set[str] = set()
    joined = []
    for cell in cells:
        path = _wheel_path(cell, shelf, by_key)
        if path is not None and path not in taken:
            taken.add(path)
            joined.append(_join(cell, shelf.proved[path]))
        else:
            joined.append(_without_wheel(cell))
    return [*joined, *(cell for path, cell in own.items() if path not in taken)]


def _wheel_path(cell: Cell, shelf: Shelf, by_key: Mapping[Key, str]) -> str | None:
    """The path is looked up among those that were found, and never joined to anything."""
    said = cell.ended.wheel if cell.ended else None
    for path in (said, cell.ended.proof.removesuffix(".proof.json") if cell.ended and cell.ended.proof else None):
        if path in shelf.proved:
            return path
    return by_key.get(cell.key)


def _from_proof(proved: Proved, own_cpu: Mapping[str, str]) -> Cell:
    """The cell of a wheel that no night speaks of."""
    policy = proved.proof.policy
    target = plain(policy.target)
    cpu = None if policy.cpu == own_cpu.get(target) else plain(policy.cpu)
    python = None if proved.proof.kind == "bundle" else policy.python
    features = proved.features
    parts = [f"{proved.recipe}-{proved.version}@{target}"]
    parts += [f"cp{python.replace('.', '')}"] if python else [proved.told("output", "bundle")]
    parts += [cpu] if cpu else []
    state, why = _judged(proved)
    return Cell(
        id="+".join([*parts, *features]),
        recipe=proved.recipe,
        version=proved.version,
        target=target,
        cpu=cpu,
        python=python,
        features=features,
        state=state,
        why=why,
        notes=_unavailable(proved),
        proved=proved,
    )


def _judged(proved: Proved) -> tuple[State, tuple[str, ...]]:
    if proved.trouble:
        return State.FAILED, (f"The wheel that lies there is not proved: {proved.trouble}.",)
    if not proved.proof.passed:
        count = counted(sum(finding.severity == "fail" for finding in proved.proof.findings), "finding")
        return State.FAILED, (f"The proof failed: {count} would keep the wheel from running.",)
    return State.BUILT, ()


def _join(cell: Cell, proved: Proved) -> Cell:
    notes = list(cell.notes)
    state, why = cell.state, cell.why
    said = cell.ended.sha256 if cell.ended else None
    same = said == proved.proof.sha256
    judged, reasons = _judged(proved)
    if judged is State.FAILED and (proved.trouble or same or state in (State.BUILT, State.NEVER)):
        state, why = judged, reasons
    elif judged is State.BUILT and state is State.NEVER:
        state = State.BUILT
        notes.append("The wheel that lies there was built outside the nights.")
    elif judged is State.BUILT and state in (State.FAILED, State.REFUSED):
        notes.append("An older wheel of it lies there, and passed its proof: that one can be installed.")
    elif said and not same:
        notes.append(
            "The wheel that lies there is not that night's, but of another build; what is said of it is of it."
        )
    return replace(cell, state=state, why=why, notes=(*notes, *_unavailable(proved)), proved=proved)


def _unavailable(proved: Proved) -> tuple[str, ...]:
    """Why a wheel that passed cannot be installed all the same."""
    if proved.trouble or not proved.proof.passed:
        return ()
    if not proved.there:
        return ("Its proof lies there, and the wheel does not: it cannot be installed from here.",)
    if proved.withheld:
        return (f"It is not to be installed from this index: {proved.withheld}.",)
    return ()


def _without_wheel(cell: Cell) -> Cell:
    if cell.state is not State.BUILT:
        return cell
    note = "Its wheel does not lie where this page was made from: it cannot be installed from here."
    return replace(cell, notes=(*cell.notes, note))
