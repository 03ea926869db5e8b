"""Runs a plan: looks up what is there, runs what is not, several steps at once where the plan allows it.

Only what the goal needs is done: below an artefact that is in the store nothing is looked at. A step runs under its
key's lock in a folder of its own, and its result enters the store by one rename. So a build may be killed at any moment
and resumes at the step that was killed, and two builds that share a store make each artefact once.
"""

from __future__ import annotations

import errno
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from crosswheel.building.artefacts import Artefact, Building
from crosswheel.building.disk import no_space, remove
from crosswheel.building.goals import Course, Goals, Stop
from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.locks_used import locks_noted
from crosswheel.building.sandbox import sandbox_for
from crosswheel.building.store import Store
from crosswheel.digest import Json
from crosswheel.errors import CrosswheelError, StepError
from crosswheel.planning.steps import FetchStep, Step

if TYPE_CHECKING:
    from concurrent.futures import Future

PARALLEL = 4
"""So many steps run at once, besides those that fetch."""

FETCHES = 8
"""So many steps of the kind ``fetch`` run at once: they wait for servers more than they work."""

ONE_AT_A_TIME = frozenset({"run", "proof", "bundle-proof"})
"""Kinds of steps that use the whole processor: one of them runs at a time."""

Runner = Callable[[Any, Mapping[str, Path], Job], None]
"""Does the work of one kind of step; see :mod:`crosswheel.building.job`."""

_Value = TypeVar("_Value")


class Listener(Protocol):
    """Is told what happens; never by two threads at once."""

    def plan(self, steps: Sequence[Step]) -> None:
        """All steps, inputs first."""

    def started(self, step: Step) -> None: ...

    def line(self, step: Step, text: str) -> None:
        """A line of the step's log."""

    def waiting(self, step: Step) -> None:
        """Another build makes this artefact; its result will be taken."""

    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...

    def damaged(self, step: Step, what: str) -> None:
        """The artefact in the store is not what was put there; it is made anew."""

    def failed(self, step: Step, error: CrosswheelError) -> None: ...


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What became of a step. ``cached``: it was in the store, or not needed. ``seconds`` is what this build spent."""

    name: str
    kind: str
    key: str
    cached: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """``steps`` are all of the plan, inputs first. ``artefacts`` has those of the goals, and of whatever else was made
    or used, by key."""

    steps: tuple[StepResult, ...]
    artefacts: Mapping[str, Artefact]


def execute(
    goal: Step | Sequence[Step],
    store: Store,
    settings: Settings,
    runners: Mapping[type[Step], Runner],
    listener: Listener,
    *,
    sweep: Callable[[str], None] | None = None,
    cancelled: threading.Event | None = None,
    course: Course | None = None,
) -> Result:
    """Makes the goals' artefacts, or finds them in the store.

    ``sweep`` removes what a killed build left running for a key; by default the sandbox of ``settings`` does it.
    ``cancelled``, once set, stops all, and ``Cancelled`` is raised; a failure sets it, too. The
    first step that fails stops the others, and its error is raised: ``StepError``, or whichever of
    :mod:`crosswheel.errors` the runner raised; ``MachineError`` where a disk is full. ``KeyboardInterrupt`` is raised
    after all steps have stopped. With a ``course`` a failed step fails the goals that need it and no others; nothing is
    raised for it, and the result lacks the artefacts of these goals.
    """
    goals = (goal,) if isinstance(goal, Step) else tuple(goal)
    return _Execution(goals, store, settings, runners, listener, sweep, cancelled, course).run()


class _Execution:
    def __init__(
        self,
        goals: Sequence[Step],
        store: Store,
        settings: Settings,
        runners: Mapping[type[Step], Runner],
        listener: Listener,
        sweep: Callable[[str], None] | None,
        cancelled: threading.Event | None,
        course: Course | None,
    ) -> None:
        self._goals = goals
        self._store = store
        self._settings = settings
        self._runners = runners
        self._listener = listener
        self._sweep = sweep or sandbox_for(settings).sweep
        self._cancelled = cancelled or threading.Event()
        self._course = course
        self._telling = threading.RLock()
        self._failure: CrosswheelError | None = None
        self._told: dict[str, CrosswheelError] = {}
        self._have: dict[str, Artefact] = {}
        self._seconds: dict[str, float] = {}

    def run(self) -> Result:
        plan = list({step.key: step for goal in self._goals for step in goal.walk()}.values())
        self._tell(self._listener.plan, plan)
        with ExitStack() as uses:
            todo: dict[str, Step] = {}
            for goal in self._goals:
                self._find_missing(goal, todo, uses)
            if self._course:
                for goal in (goal for goal in self._goals if goal.key in self._have):
                    self._course.reached(goal, self._have[goal.key])
            if todo:
                self._make_all(todo)
            steps = tuple(
                StepResult(
                    name=step.name,
                    kind=step.kind,
                    key=step.key,
                    cached=step.key not in self._seconds,
                    seconds=round(self._seconds.get(step.key, 0.0), 3),
                )
                for step in plan
            )
            return Result(steps=steps, artefacts=dict(self._have))

    # --- what there is to do ---------------------------------------------------------------------------------------

    def _find_missing(self, step: Step, todo: dict[str, Step], uses: ExitStack) -> None:
        """Fills ``todo``, inputs first. What is used stays in use, so that no other process cleans it away."""
        if step.key in self._have or step.key in todo:
            return
        uses.enter_context(self._store.use(step.key))
        artefact = self._store.lookup(step.key, lambda what: self._tell(self._listener.damaged, step, what))
        if artefact:
            self._found(step, artefact)
            return
        if type(step) not in self._runners:
            raise TypeError(f"nobody runs a {type(step).__name__}")
        for needed in step.inputs.values():
            self._find_missing(needed, todo, uses)
        todo[step.key] = step

    def _found(self, step: Step, artefact: Artefact) -> None:
        self._store.touch(step.key)
        self._have[step.key] = artefact
        self._tell(self._listener.finished, step, 0.0, True)

    # --- doing it --------------------------------------------------------------------------------------------------

    def _make_all(self, todo: Mapping[str, Step]) -> None:
        from concurrent.futures import ThreadPoolExecutor

        try:
            with ThreadPoolExecutor(max_workers=PARALLEL + FETCHES) as pool:  # it waits for all steps at the end
                try:
                    self._drive(todo, lambda step: pool.submit(self._make, step))
                except BaseException:
                    self._cancelled.set()
                    raise
        except (Cancelled, CrosswheelError):
            if self._failure:
                raise self._failure from self._failure.__cause__
            raise

    def _drive(self, todo: Mapping[str, Step], submit: Callable[[Step], Future[None]]) -> None:
        from concurrent.futures import FIRST_COMPLETED, wait

        sorter = TopologicalSorter(
            {key: [needed.key for needed in step.inputs.values() if needed.key in todo] for key, step in todo.items()}
        )
        sorter.prepare()
        goals = Goals(self._goals, todo, self._course, self._have) if self._course else None
        ready: list[Step] = []
        running: dict[Future[None], Step] = {}
        while sorter.is_active():
            new = [todo[key] for key in sorter.get_ready()]
            if goals:
                gone = goals.given_up([*ready, *new])
                ready = goals.in_order(step for step in [*ready, *new] if step.key not in gone)
                sorter.done(*gone)
            else:
                ready += new
            for step in list(ready):
                if not _may_start(step, running.values()):
                    continue
                ready.remove(step)
                if goals and (held := goals.held(step)):
                    self._tell(self._listener.failed, step, held)
                    sorter.done(step.key)
                else:
                    running[submit(step)] = step
            if not running:
                continue
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                step = running.pop(future)
                error = future.exception()
                if goals and (error is None or isinstance(error, CrosswheelError)):
                    goals.ended(step, self._seconds.get(step.key, 0.0), error)
                else:
                    future.result()
                sorter.done(step.key)

    def _make(self, step: Step) -> None:
        """In a thread of the pool."""
        try:
            with self._store.hold(
                step.key, waiting=lambda: self._tell(self._listener.waiting, step), cancelled=self._cancelled
            ):
                if self._cancelled.is_set():
                    raise Cancelled
                artefact = self._store.lookup(step.key)
                if artefact:  # another build made it while this one waited
                    self._found(step, artefact)
                    return
                self._remove_leftovers(step)
                self._run(step)
        except Cancelled:
            raise
        except Exception as error:
            raise self._failed(step, error, None) from error

    def _remove_leftovers(self, step: Step) -> None:
        leftovers = self._store.leftovers(step.key)
        if leftovers and step.kind in ONE_AT_A_TIME:
            self._sweep(step.key)
        for leftover in leftovers:
            self._store.discard(leftover)

    def _run(self, step: Step) -> None:
        self._tell(self._listener.started, step)
        start = time.monotonic()
        building = self._store.open_tmp(step)
        stop = Stop(self._cancelled)
        try:
            with stop.after(self._course.limit(step) if self._course else None):
                notes = self._work(step, building, stop)
            if self._cancelled.is_set():
                raise Cancelled
            artefact = self._store.commit(building, step, time.monotonic() - start, notes)
        except Exception as error:
            self._seconds[step.key] = time.monotonic() - start
            if stop.over and not self._cancelled.is_set():
                raise self._failed(step, stop.over, building) from None
            if isinstance(error, Cancelled):
                remove(building.folder)
                raise
            if self._cancelled.is_set():  # most likely a consequence of stopping; in any case not the first failure
                remove(building.folder)
                raise Cancelled from error
            raise self._failed(step, error, building) from error
        self._have[step.key] = artefact
        self._seconds[step.key] = time.monotonic() - start
        self._tell(self._listener.finished, step, self._seconds[step.key], False)

    def _work(self, step: Step, building: Building, stop: Stop) -> Mapping[str, Json]:
        """Runs the step until it ends or is stopped; returns what it says of itself."""
        # Line by line, so that the log of a running or killed step can be read.
        with building.log.open("w", buffering=1, encoding="utf-8", errors="backslashreplace") as stream:

            def log(line: str) -> None:
                with self._telling:
                    stream.write(line + "\n")
                    self._listener.line(step, line)

            job = Job(
                key=step.key,
                out=building.out,
                work=building.work,
                settings=self._settings,
                log=log,
                cancelled=stop,
            )
            inputs = {role: self._have[needed.key].path for role, needed in step.inputs.items()}
            job.notes.update(locks_noted(step, inputs))
            self._runners[type(step)](step, inputs, job)
            return job.notes

    # --- failing ---------------------------------------------------------------------------------------------------

    def _failed(self, step: Step, error: Exception, building: Building | None) -> CrosswheelError:
        """Keeps what helps to find out why, and returns the error as the user sees it. Without a course, stops the
        others."""
        if isinstance(error, CrosswheelError) and error is self._told.get(step.key):
            return error
        told = _explained(step, error, self._store, kept=building is not None and self._settings.keep_failed)
        with self._telling:
            self._told[step.key] = told
            if self._course is None:
                self._failure = self._failure or told
                self._cancelled.set()
        if building:
            self._keep(building, told)
        self._tell(self._listener.failed, step, told)
        return told

    def _keep(self, building: Building, error: CrosswheelError) -> None:
        try:
            folder = self._store.fail(building, keep_work=self._settings.keep_failed)
            with (folder / "log.txt").open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(f"\n{error}\n")
        except OSError as problem:
            if problem.errno not in _FULL:
                raise
            # Nothing more can be kept on a full disk; the error itself says that it is full.
            remove(building.folder)

    def _tell(self, method: Callable[..., _Value], *arguments: object) -> _Value:
        with self._telling:
            return method(*arguments)


def _may_start(step: Step, running: Iterable[Step]) -> bool:
    kinds = [other.kind for other in running]
    fetching = kinds.count(FetchStep.kind)
    if step.kind == FetchStep.kind:
        return fetching < FETCHES
    busy = step.kind in ONE_AT_A_TIME and not ONE_AT_A_TIME.isdisjoint(kinds)
    return not busy and len(kinds) - fetching < PARALLEL


_FULL = (errno.ENOSPC, errno.EDQUOT)


def _explained(step: Step, error: Exception, store: Store, *, kept: bool) -> CrosswheelError:
    """The error with the step as its place and, for a failed step, the commands to try next."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return no_space(store.root, f"{step.name}: {error}")
    if not isinstance(error, CrosswheelError):
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        error = StepError(
            f"The step stopped with an error that crosswheel does not expect: {type(error).__name__}.",
            why="\n".join(lines[-12:]),
            hint="This is a fault of crosswheel; please report it with these lines.",
        )
    error.where = error.where or step.name
    if isinstance(error, StepError):
        key = step.key[:12]
        commands = [f"`./x log {key}` shows the whole log"]
        if step.kind == "run":
            commands.append(
                f"`./x shell {key}` opens its container"
                if kept
                else "with `--keep-failed`, `./x shell` opens its container"
            )
        error.hint = "\n".join([error.hint, "; ".join(commands) + "."]).lstrip("\n")
    return error
