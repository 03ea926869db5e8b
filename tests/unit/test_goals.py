"""Goals that fail one by one, of any plan: each is reached or lost, once, and nothing is lost that could be had."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from executing import Told, join, leaf
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswheel.building.artefacts import Artefact
from crosswheel.building.execute import execute
from crosswheel.building.goals import Stop
from crosswheel.building.job import Job, Settings
from crosswheel.building.store import Store
from crosswheel.errors import CrosswheelError, StepError
from crosswheel.planning.steps import FilesStep, Step, TreeStep

pytestmark = pytest.mark.unit


class Course:
    """Writes down what it is told. Steps in ``held`` must not start."""

    def __init__(self, *, keep_going: bool, held: frozenset[str] = frozenset()) -> None:
        self.keep_going = keep_going
        self.holds = held
        self.told: list[tuple[str, str]] = []
        self.culprits: dict[str, str] = {}

    def rank(self, step: Step) -> float:
        return len(step.name)

    def held(self, step: Step) -> CrosswheelError | None:
        return StepError("It is held back.") if step.name in self.holds else None

    def limit(self, _step: Step) -> None:
        return None

    def done(self, step: Step, _seconds: float) -> None:
        self.told.append(("done", step.name))

    def reached(self, goal: Step, _artefact: Artefact) -> None:
        self.told.append(("reached", goal.name))

    def lost(self, goal: Step, step: Step, _error: CrosswheelError) -> None:
        self.told.append(("lost", goal.name))
        self.culprits[goal.name] = step.name

    def names(self, what: str) -> list[str]:
        return [name for kind, name in self.told if kind == what]


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Step], list[Step], frozenset[str], frozenset[str], frozenset[str]]:
    """All steps, goals among them, and the names of those that fail, that are held back, and that are stored."""
    steps: list[Step] = []
    for number in range(draw(st.integers(1, 9))):
        inputs = draw(st.lists(st.sampled_from(steps), max_size=3, unique_by=lambda step: step.name)) if steps else []
        name = f"s{number}"
        steps.append(join(name, **{step.name: step for step in inputs}) if inputs else leaf(name))
    some = st.frozensets(st.sampled_from([step.name for step in steps]), max_size=3)
    goals = draw(st.lists(st.sampled_from(steps), min_size=1, max_size=4, unique_by=lambda step: step.name))
    return steps, goals, draw(some), draw(some), draw(some)


@settings(max_examples=120, deadline=None)
@given(plans(), st.booleans())
def test_each_goal_is_reached_or_lost_once(
    made: tuple[list[Step], list[Step], frozenset[str], frozenset[str], frozenset[str]], keep_going: bool
) -> None:
    steps, goals, failing, held, stored = made
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        there = _store(steps, stored, store)
        course, ran, told = Course(keep_going=keep_going, held=held), Counter[str](), Told()

        def work(step: Step, _inputs: Mapping[str, Path], job: Job) -> None:
            ran[step.name] += 1
            if step.name in failing:
                raise StepError("It was told to fail.")
            (job.out / "name").write_text(step.name)

        kinds = {FilesStep: work, TreeStep: work}
        execute(goals, store, Settings(store=store.root), kinds, told, sweep=lambda _: None, course=course)

        bad = (failing | held) - there
        lost = {goal.name for goal in goals if _needs(goal, bad, there)}
        assert Counter(course.names("lost")) == Counter(lost)
        assert Counter(course.names("reached")) == Counter({goal.name for goal in goals} - lost)
        assert all(store.has(goal.key) is (goal.name not in lost) for goal in goals)
        assert all(count == 1 for count in ran.values()) and not ran.keys() & (there | held)
        assert set(course.culprits.values()) <= bad
        assert Counter(course.names("done")) == ran
        if keep_going:  # all that can be done for a goal is
            could = {s.name for goal in goals for s in _wanted(goal, there) if not _needs_below(s, bad, there)}
            assert set(ran) == could - held


def _store(steps: list[Step], stored: frozenset[str], store: Store) -> set[str]:
    """Puts some steps into the store."""
    for step in steps:
        if step.name in stored:
            building = store.open_tmp(step)
            (building.out / "name").write_text(step.name)
            store.commit(building, step, 0.0)
    return set(stored)


def _wanted(goal: Step, there: set[str]) -> list[Step]:
    """What is to be made for a goal: below what is stored nothing is needed."""
    if goal.name in there:
        return []
    return [goal, *(step for needed in goal.inputs.values() for step in _wanted(needed, there))]


def _needs(goal: Step, bad: frozenset[str] | set[str], there: set[str]) -> bool:
    return any(step.name in bad for step in _wanted(goal, there))


def _needs_below(step: Step, bad: frozenset[str] | set[str], there: set[str]) -> bool:
    return any(_needs(needed, bad, there) for needed in step.inputs.values())


def test_a_stop_is_its_own_or_everybodys() -> None:
    everything = threading.Event()
    stop = Stop(everything)
    assert not stop.is_set() and not stop.wait(0.01)
    threading.Timer(0.05, everything.set).start()
    began = time.monotonic()
    assert stop.wait() and time.monotonic() - began < 10
    assert stop.over is None


def test_a_stop_after_a_time_has_its_error() -> None:
    stop = Stop(threading.Event())
    error = StepError("Too long.")
    with stop.after((0.01, error)):
        assert stop.wait(20)
    assert stop.over is error
    other = Stop(threading.Event())
    with other.after((60.0, error)):
        pass
    assert other.over is None and not other.is_set()
