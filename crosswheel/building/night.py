"""A night: the cells of a matrix on this machine, each step once, and what becomes of each cell told as it ends."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from crosswheel.building.artefacts import Artefact, Damaged, read_meta
from crosswheel.building.execute import ONE_AT_A_TIME, Listener, Runner, execute
from crosswheel.building.job import Settings
from crosswheel.building.store import Store
from crosswheel.errors import CrosswheelError, MachineError, StepError
from crosswheel.planning.cells import Cell
from crosswheel.planning.matrix import usual_minutes
from crosswheel.planning.plan import Plan
from crosswheel.planning.steps import Step
from crosswheel.spec.matrix import Cost

_GIB = 2**30
_MEASURED = frozenset({"run", "wheel", "proof"})
"""The kinds of steps that are a cell's own work; what brings sources and roots depends on the network."""

_ROOTS = frozenset({"lock", "root"})
_ROOT_SECONDS = 20.0
"""What resolving or assembling one root usually takes."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What became of a cell. ``wheel`` and ``proof`` are its artefacts, None where it failed before they were made:
    ``error`` says why, ``step`` is the one that failed. ``seconds`` is the time of the ``ran`` steps that ran for it:
    those that several cells share run for the first of them. ``found`` is how many it did not have to run."""

    cell: Cell
    started: datetime
    seconds: float
    total: int
    found: int
    ran: int
    wheel: Artefact | None = None
    proof: Artefact | None = None
    step: Step | None = None
    error: CrosswheelError | None = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a night is to do: the cells, what each is thought to take (seconds), and those that are tried again, after
    all others, because they failed before the night was interrupted."""

    cells: tuple[Cell, ...]
    estimates: Mapping[str, float]
    again: frozenset[str] = frozenset()


def plan_of(cell: Cell) -> Plan:
    """The plan of a cell that is not refused."""
    assert cell.plan is not None, f"{cell.id} is refused"
    return cell.plan


class Night:
    """The :class:`~crosswheel.building.goals.Course` of a night: the longest cells first, none beyond its cost."""

    def __init__(
        self,
        work: Work,
        cost: Cost,
        store: Store,
        ended: Callable[[Ending], None],
        *,
        where: str = "",
        keep_going: bool = False,
        free: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self.keep_going = keep_going
        self._cost = cost
        self._store = store
        self._ended = ended
        self._where = where
        self._free = free
        self._ranks: dict[str, float] = {}
        self._owners: dict[str, Cell] = {}
        self._goals: dict[str, list[Cell]] = {}
        self._open: dict[str, set[str]] = {}
        self._made: dict[str, dict[str, Artefact]] = {}
        self._found: dict[str, int] = {}
        self._started: dict[str, datetime] = {}
        self._seconds: dict[str, float] = {}
        self._worked: dict[str, float] = {}
        self._ran: dict[str, int] = {}
        self._take_in(work)

    def _take_in(self, work: Work) -> None:
        def first(cell: Cell) -> tuple[bool, float]:
            return cell.id in work.again, -work.estimates.get(cell.id, 0.0)

        there: dict[str, bool] = {}
        ordered = sorted(work.cells, key=first)
        for rank, cell in enumerate(reversed(ordered)):
            made = plan_of(cell)
            for step in made.steps:
                self._ranks[step.key] = max(rank, self._ranks.get(step.key, 0.0))
                there.setdefault(step.key, self._store.has(step.key))
            self._found[cell.id] = sum(there[step.key] for step in made.steps)
            self._open[cell.id] = {made.proof.key, made.output.key}
            self._made[cell.id] = {}
            for key in self._open[cell.id]:
                self._goals.setdefault(key, []).append(cell)
        for cell in ordered:
            for step in plan_of(cell).steps:
                self._owners.setdefault(step.key, cell)

    # --- what the executor asks ------------------------------------------------------------------------------------

    def rank(self, step: Step) -> float:
        return self._ranks[step.key]

    def held(self, step: Step) -> CrosswheelError | None:
        if self._cost.disk is None:
            return None
        folder = next(path for path in (self._store.root, *self._store.root.parents) if path.exists())
        free = self._free(folder) / _GIB
        if free >= self._cost.disk:
            return None
        return MachineError(
            f"Not begun: the disk of the store has {free:.1f} GiB free, and a cell may take {self._cost.disk:g} GiB.",
            where=step.name,
            why=str(self._store.root),
            hint=f"`./x clean` makes room; `disk` of [cost] in {self._where} says how much must be free.",
        )

    def limit(self, step: Step) -> tuple[float, CrosswheelError] | None:
        cell = self._owners[step.key]
        self._started.setdefault(cell.id, datetime.now(UTC))
        if self._cost.minutes is None or step.kind not in ONE_AT_A_TIME:
            return None
        left = self._cost.minutes * 60 - self._worked.get(cell.id, 0.0)
        return left, StepError(
            f"Stopped: it took longer than the {self._cost.minutes:g} minutes that a cell may cost.",
            where=step.name,
            why=f"{self._worked.get(cell.id, 0.0):.0f} seconds of {cell.id} had gone by when this step began",
            hint=f"`minutes` of [cost] in {self._where} says how many; what Bazel compiled is kept for the next try.",
        )

    # --- what the executor tells -----------------------------------------------------------------------------------

    def done(self, step: Step, seconds: float) -> None:
        cell = self._owners[step.key]
        self._seconds[cell.id] = self._seconds.get(cell.id, 0.0) + seconds
        if step.kind in ONE_AT_A_TIME:
            self._worked[cell.id] = self._worked.get(cell.id, 0.0) + seconds
        self._ran[cell.id] = self._ran.get(cell.id, 0) + (seconds > 0)

    def reached(self, goal: Step, artefact: Artefact) -> None:
        for cell in self._goals[goal.key]:
            self._made[cell.id][goal.key] = artefact
            waiting = self._open.get(cell.id)
            if waiting is not None:
                waiting.discard(goal.key)
                if not waiting:
                    self._end(cell)

    def lost(self, goal: Step, step: Step, error: CrosswheelError) -> None:
        for cell in self._goals[goal.key]:
            if cell.id in self._open:
                self._end(cell, step, error)

    def _end(self, cell: Cell, step: Step | None = None, error: CrosswheelError | None = None) -> None:
        del self._open[cell.id]
        made, plan = self._made[cell.id], plan_of(cell)
        ran = self._ran.get(cell.id, 0)
        total = len(plan.steps)
        self._ended(
            Ending(
                cell=cell,
                started=self._started.get(cell.id) or datetime.now(UTC),
                seconds=self._seconds.get(cell.id, 0.0),
                total=total,
                found=self._found[cell.id] if error else total - ran,
                ran=ran,
                wheel=made.get(plan.output.key),
                proof=made.get(plan.proof.key),
                step=step,
                error=error,
            )
        )


def run_night(
    night: Night,
    cells: Sequence[Cell],
    store: Store,
    settings: Settings,
    runners: Mapping[type[Step], Runner],
    listener: Listener,
    cost: Cost,
    sweep: Callable[[str], None] | None = None,
) -> None:
    """Runs the cells. Each is told to the night as it ends; nothing is raised for one that fails.

    ``KeyboardInterrupt`` is raised when it is interrupted, after all steps have stopped; what ended has been told."""
    _allow_open_files()
    if cost.memory is not None:
        settings = replace(settings, memory=min(settings.memory, int(cost.memory * 1024)))
    goals = [goal for cell in cells for goal in (plan_of(cell).proof, plan_of(cell).output)]
    if goals:
        execute(goals, store, settings, runners, listener, sweep=sweep, course=night)


def _allow_open_files() -> None:
    """A night holds a lock on each artefact that it uses, which are more files than a shell allows by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        wanted = 2**16 if hard == resource.RLIM_INFINITY else min(hard, 2**16)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


# --- what cells take -------------------------------------------------------------------------------------------------


def estimated(cells: Iterable[Cell], store: Store, earlier: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What each cell is thought to take, in seconds: nothing where its wheel and proof are stored; else the median of
    what it took before (``earlier``: cell → seconds of the nights that built it); else what other cells of its recipe
    took, in nights before or as the store says, or what is usual for its backend, and what its roots take that are
    neither stored nor another cell's."""
    known: dict[str, list[float]] = {}
    missing: list[Cell] = []
    found: dict[str, float] = {}
    for cell in cells:
        plan = plan_of(cell)
        if cell.id in earlier:
            known.setdefault(cell.recipe, []).append(median(earlier[cell.id]))
        if store.has(plan.proof.key) and store.has(plan.output.key):
            found[cell.id] = 0.0
            took = stored_seconds(plan, store) if cell.id not in earlier else None
            known.setdefault(cell.recipe, []).extend([took] if took else [])
        else:
            missing.append(cell)
    begun: set[str] = set()
    for cell in missing:
        others = known.get(cell.recipe)
        roots = {step.key for step in plan_of(cell).steps if step.kind in _ROOTS} - begun
        begun |= roots
        if cell.id in earlier:
            found[cell.id] = median(earlier[cell.id])
        else:
            own = median(others) if others else usual_minutes(cell) * 60
            found[cell.id] = own + _ROOT_SECONDS * sum(not store.has(key) for key in roots)
    return found


def stored_seconds(plan: Plan, store: Store) -> float | None:
    """What compiling, packing and proving took, as the store says; None where it does not know of compiling."""
    took = 0.0
    for step in (plan.output, plan.proof, *plan.output.inputs.values()):
        if step.kind not in _MEASURED:
            continue
        try:
            took += read_meta(store.path(step.key)).seconds
        except (FileNotFoundError, Damaged):
            if step.kind == "run":
                return None
    return took
