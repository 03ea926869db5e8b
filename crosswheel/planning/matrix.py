"""From a file of cells to plans: every cell, what several of them share, and every reason why one cannot be."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from crosswheel.errors import DataError, InputError
from crosswheel.planning.cells import Cell, excludes, resolved, wishes, with_reasons
from crosswheel.planning.cudnn import lacking
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import AVX
from crosswheel.planning.steps import Step
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.matrix import ALL, DEFAULT, NEWEST, Axes, Exclude, Matrix

MOST = 100_000
"""So many combinations a matrix may have: one with more is a mistake, or would take minutes to be looked at."""

_SHOWN = 40
"""So many problems of a matrix are told at once; a file with more has one cause for many."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """All cells of a matrix, in the order of its file."""

    matrix: Matrix
    all: tuple[Cell, ...]

    @property
    def planned(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.all if not cell.refused)

    @property
    def refused(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.all if cell.refused)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """``steps`` of all plans together, each counted once for each cell that has it; ``distinct`` of them are to be
    made, once each. ``shared`` are those that several cells have, with how many, the most wanted first."""

    steps: int
    distinct: int
    shared: tuple[tuple[Step, int], ...]


def plan_matrix(
    matrix: Matrix,
    catalog: Catalog,
    where: str,
    *,
    rules: Mapping[str, int],
) -> Cells:
    """The cells of a matrix, each with its plan or the reasons why it has none. ``rules`` are those of a wheel's proof;
    ``where`` is the matrix's file.

    Raises ``DataError`` with all problems at once: names that do not exist, values that no cell can use, cells of
    ``[[include]]`` that cannot work, exclusions that exclude nothing, and a matrix of which no cell is left.
    """
    problems = [*_unknown_names(matrix, catalog), *_too_many(matrix, catalog)]
    if problems:
        raise _told(problems, where)
    found: dict[str, Cell] = {}
    made: list[Cell] = []
    idle = set(range(len(matrix.exclude)))
    for name, axes in _entries(matrix):
        for wish in wishes(axes, name, catalog):
            cell = resolved(wish, catalog)
            out = [at for at, entry in enumerate(matrix.exclude) if name == AXES and excludes(entry, cell, catalog)]
            idle.difference_update(out)
            if not out:
                made.append(cell)
                found.setdefault(cell.id, cell)
    cells = tuple(_planned(found.values(), catalog, rules))
    problems = [
        *(f"exclude.{at + 1}: it excludes no cell" for at in sorted(idle)),
        *_unusable(matrix, made, {cell.id: cell for cell in cells}, catalog),
    ]
    if not problems and all(cell.refused for cell in cells):
        problems = ["no cell is left: each is refused or excluded", *_reasons(cells)]
    if problems:
        raise _told(problems, where)
    return Cells(matrix=matrix, all=cells)


AXES = "axes"
"""The entry that [[exclude]] takes cells from."""


def _entries(matrix: Matrix) -> Iterator[tuple[str, Axes]]:
    if matrix.axes:
        yield AXES, matrix.axes
    for number, axes in enumerate(matrix.include, start=1):
        yield f"include.{number}", axes


def _told(problems: Sequence[str], where: str) -> DataError:
    more = [f"- … and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    why = "\n".join([*(f"- {problem}" for problem in problems[:_SHOWN]), *more])
    return DataError(f"this matrix has {count}", where=where, why=why, hint="docs/matrix.md says what it may say")


# --- plans -----------------------------------------------------------------------------------------------------------


def _planned(cells: Iterable[Cell], catalog: Catalog, rules: Mapping[str, int]) -> Iterator[Cell]:
    """The cells with their plans. One that would be released as the same file as one before it is refused, or is that
    one where it is the same build."""
    files: dict[tuple[str, ...], Cell] = {}
    for cell in cells:
        if cell.resolution is None:
            yield cell
            continue
        made = plan(cell.resolution, catalog, rules=rules)
        if error := lacking(made.steps) if cell.resolution.cuda else None:
            yield with_reasons(cell, (f"{error.what}: {error.why}",))
            continue
        planned = replace(cell, plan=made)
        other = files.setdefault(_file(planned, made), planned)
        if other is planned:
            yield planned
        elif other.plan is None or other.plan.proof.key != made.proof.key:
            why = (
                f"it would be released as the same file as {other.id}; a matrix of its own, run with --out, keeps both"
            )
            yield with_reasons(cell, (why,))


def _file(cell: Cell, made: Plan) -> tuple[str, ...]:
    """What the name of a released wheel is made of."""
    wheel = made.wheel
    return cell.target, cell.cpu or "", wheel.distribution, wheel.version, wheel.tag


def sharing(plans: Iterable[Plan]) -> Sharing:
    """What plans have in common."""
    count: Counter[str] = Counter()
    steps: dict[str, Step] = {}
    for made in plans:
        for step in made.steps:
            count[step.key] += 1
            steps.setdefault(step.key, step)
    shared = tuple((steps[key], times) for key, times in count.most_common() if times > 1)
    return Sharing(steps=count.total(), distinct=len(count), shared=shared)


def balanced(cells: Iterable[Cell], shards: int, cost: Callable[[Cell], float]) -> tuple[tuple[Cell, ...], ...]:
    """The cells in so many shards, each cell in one: the most costly first, each into the shard that has the least. The
    same cells with the same costs always give the same shards, on every machine; the order within one is theirs."""
    given = list(cells)
    place = {cell.id: at for at, cell in enumerate(given)}
    loads = [0.0] * shards
    found: list[list[Cell]] = [[] for _ in range(shards)]
    for cell in sorted(given, key=lambda each: (-cost(each), each.id)):
        least = min(range(shards), key=lambda at: (loads[at], at))
        loads[least] += cost(cell)
        found[least].append(cell)
    return tuple(tuple(sorted(shard, key=lambda each: place[each.id])) for shard in found)


_MINUTES: Mapping[str, float] = {"bazel": 10.0, "cmake": 2.0, "meson": 8.0, "pep517": 3.0, "script": 5.0}
_WHOLE_BAZEL = 60.0


def usual_minutes(cell: Cell) -> float:
    """What a cell takes where nobody has measured it, by its backend, on two cores: from the builds of
    ``docs/proofs/measured.toml``. Nothing else is in it, so shards are the same on machines that share nothing."""
    if cell.resolution is None:
        return 0.0
    release = cell.resolution.release
    if release.bazel and release.bazel.outputs:
        return _WHOLE_BAZEL
    return _MINUTES[release.backend]


# --- problems --------------------------------------------------------------------------------------------------------


def _unknown_names(matrix: Matrix, catalog: Catalog) -> Iterator[str]:
    for name, entry in _entries(matrix):
        yield from _unknown(name, entry, catalog)
    for number, exclude in enumerate(matrix.exclude, start=1):
        yield from _unknown(f"exclude.{number}", exclude, catalog)


def _too_many(matrix: Matrix, catalog: Catalog) -> Iterator[str]:
    """Whether an entry has more combinations than anybody wants; of those with unknown names, too."""
    for name, axes in _entries(matrix):
        versions = {each: len(catalog.versions(each)) for each in axes.recipe if each in catalog.recipe_names}
        pythons = {each: len(catalog.target(each).systems) for each in axes.target if each in catalog.target_names}
        count = sum(len(axes.version) + (ALL in axes.version) * (versions.get(each, 1) - 1) for each in axes.recipe)
        count *= sum(len(axes.python) + (ALL in axes.python) * (pythons.get(each, 1) - 1) for each in axes.target)
        count *= len(axes.cpu) * len(axes.features)
        if count > MOST:
            yield f"{name}: it has up to {count:,} combinations, and {MOST:,} are the most that are looked at"


def _unknown(where: str, entry: Axes | Exclude, catalog: Catalog) -> Iterator[str]:
    """The values of an entry that name nothing that there is."""
    recipes = []
    for name in entry.recipe or catalog.recipe_names:
        try:
            recipes.append(catalog.recipe(name))
        except InputError as error:
            yield f"{where}.recipe: {error.what}; {error.why}"
    targets = [catalog.target(name) for name in entry.target or catalog.target_names if name in catalog.target_names]
    yield from _not_among(f"{where}.target", "target", entry.target or (), catalog.target_names)
    if recipes:
        versions = {version for recipe in recipes for version in catalog.versions(recipe.name)}
        of = " or ".join(recipe.name for recipe in recipes) if entry.recipe else "any recipe"
        yield from _not_among(f"{where}.version", f"release of {of}", entry.version or (), versions)
        features = {AVX, *(feature for recipe in recipes for feature in recipe.features)}
        asked = [name.removeprefix("no-") for one in entry.features or () for name in one]
        yield from _not_among(f"{where}.features", f"feature of {of}", dict.fromkeys(asked), features)
    if targets:
        pythons = {system.python for target in targets for system in target.systems}
        on = " or ".join(target.name for target in targets) if entry.target else "any target"
        yield from _not_among(f"{where}.python", f"CPython on {on}:", entry.python or (), pythons)
    yield from _not_among(f"{where}.cpu", "cpu", entry.cpu or (), catalog.cpus)


_WORDS = (DEFAULT, NEWEST, ALL)


def _not_among(where: str, kind: str, values: Iterable[str], known: Collection[str]) -> Iterator[str]:
    words = {"version": _WORDS, "python": (DEFAULT, ALL), "cpu": (DEFAULT,)}.get(where.rpartition(".")[2], ())
    for value in values:
        if value in known or value in words:
            continue
        near = difflib.get_close_matches(value, [*known, *words], n=3, cutoff=0.5)
        few = f"; there are: {', '.join(sorted(known))}" if len(known) <= 12 else ""
        yield f"{where}: there is no {kind} {value!r}" + (f"; did you mean {' or '.join(near)}?" if near else few)


def _unusable(matrix: Matrix, made: Sequence[Cell], cells: Mapping[str, Cell], catalog: Catalog) -> Iterator[str]:
    """Cells of ``[[include]]`` that are refused, and values of ``[axes]`` that no cell can use."""
    for cell in made:
        now = cells.get(cell.id)
        if cell.wish.entry != AXES and now is not None and now.refused and now.wish == cell.wish:
            yield f"{cell.wish.entry}: {cell.id}: {'; '.join(now.why)}"
    if matrix.axes is None:
        return
    mine = [cell for cell in made if cell.wish.entry == AXES]
    used = [cell for cell in mine if not cells.get(cell.id, cell).refused]
    if not used:
        return  # told as a whole
    axes = matrix.axes
    has: tuple[tuple[str, Iterable[str], Callable[[Cell], str]], ...] = (
        ("recipe", (catalog.recipe(name).name for name in axes.recipe), lambda cell: cell.recipe),
        ("target", axes.target, lambda cell: cell.target),
        ("version", (name for name in axes.version if name not in _WORDS), lambda cell: cell.wish.version),
        ("python", (name for name in axes.python if name not in _WORDS), lambda cell: cell.wish.python),
        ("cpu", (name for name in axes.cpu if name != DEFAULT), lambda cell: cell.wish.cpu),
        ("features", (" ".join(sorted(set(one))) for one in axes.features), lambda cell: " ".join(cell.wish.features)),
    )
    for axis, values, of in has:
        works = {of(cell) for cell in used}
        for value in values:
            if value not in works:
                those = [cell for cell in mine if of(cell) == value]
                # what is refused only because of another cell tells more than what could not be at all
                works_alone = [cells[cell.id] for cell in those if not cell.refused and cell.id in cells]
                why = _reasons(works_alone, 2) or _reasons(those, 2) or ["each is excluded"]
                yield f"{AXES}.{axis}: no cell can use {value!r}: {'; '.join(why)}"


def _reasons(cells: Iterable[Cell], most: int = 5) -> list[str]:
    """The reasons of refused cells, those of the most cells first."""
    count = Counter(reason for cell in cells for reason in cell.why)
    return [reason for reason, _ in count.most_common(most)]
