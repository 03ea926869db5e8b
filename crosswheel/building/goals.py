"""Goals that fail one by one: what a failed step takes with it, what goes on, and in which order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from crosswheel.building.artefacts import Artefact
from crosswheel.errors import CrosswheelError
from crosswheel.planning.steps import Step

_POLL_SECONDS = 0.1


class Course(Protocol):
    """How several goals are gone after where one that fails does not stop the others. All but ``limit`` is called by
    the thread that called :func:`crosswheel.building.execute.execute`."""

    keep_going: bool
    """Whether steps that only failed goals need are done all the same."""

    def rank(self, step: Step) -> float:
        """Of the steps that may start, the one with the highest rank starts first."""

    def held(self, step: Step) -> CrosswheelError | None:
        """Why a step must not start now; it then fails with this, and is not run."""

    def limit(self, step: Step) -> tuple[float, CrosswheelError] | None:
        """After how many seconds a step is stopped, and the error with which it then fails."""

    def done(self, step: Step, seconds: float) -> None:
        """A step ran, and failed or not."""

    def reached(self, goal: Step, artefact: Artefact) -> None:
        """A goal is in the store."""

    def lost(self, goal: Step, step: Step, error: CrosswheelError) -> None:
        """A goal cannot be had, because this step failed."""


class Stop(threading.Event):
    """Tells one step to stop: because everything stops, or because it alone has run too long. ``over`` is then the
    error with which it fails."""

    def __init__(self, everything: threading.Event) -> None:
        super().__init__()
        self._everything = everything
        self.over: CrosswheelError | None = None

    def is_set(self) -> bool:
        return super().is_set() or self._everything.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """As of any event; it looks at both several times a second."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self.is_set():
            left = _POLL_SECONDS if end is None else min(_POLL_SECONDS, end - time.monotonic())
            if left <= 0:
                break
            super().wait(left)
        return self.is_set()

    @contextmanager
    def after(self, limit: tuple[float, CrosswheelError] | None) -> Iterator[None]:
        """Sets it when so many seconds have gone by meanwhile, with the error."""
        if limit is None:
            yield
            return

        def end() -> None:
            self.over = limit[1]
            self.set()

        timer = threading.Timer(max(0.0, limit[0]), end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


class Goals:
    """What became of each goal. ``todo`` are the steps that are to run, ``have`` the artefacts that are there."""

    def __init__(
        self, goals: Sequence[Step], todo: Mapping[str, Step], course: Course, have: Mapping[str, Artefact]
    ) -> None:
        self._course = course
        self._have = have
        self._goals = {goal.key: goal for goal in goals}
        self._wanted_by: dict[str, list[str]] = {key: [] for key in todo}
        self._lost: dict[str, tuple[Step, CrosswheelError]] = {}
        for goal in self._goals.values():
            for step in _below(goal, todo):
                self._wanted_by[step.key].append(goal.key)

    def in_order(self, steps: Iterable[Step]) -> list[Step]:
        """The steps that may start, the one to start first before the others."""
        return sorted(steps, key=self._course.rank, reverse=True)

    def given_up(self, steps: Iterable[Step]) -> set[str]:
        """The keys of those that will not run: what they need failed, or nothing that is still to be had needs them."""
        gone: set[str] = set()
        for step in steps:
            failed = next((self._lost[each.key] for each in step.inputs.values() if each.key in self._lost), None)
            wanted = self._wanted_by[step.key]
            if failed is None and not self._course.keep_going and all(goal in self._lost for goal in wanted):
                failed = self._lost[wanted[0]]
            if failed:
                self._lost.setdefault(step.key, failed)
                gone.add(step.key)
        return gone

    def held(self, step: Step) -> CrosswheelError | None:
        """Why a step must not start; it has then failed."""
        error = self._course.held(step)
        if error:
            self._lose(step, error)
        return error

    def ended(self, step: Step, seconds: float, error: BaseException | None) -> None:
        """A step ended, by success or with a ``CrosswheelError``."""
        self._course.done(step, seconds)
        if isinstance(error, CrosswheelError):
            self._lose(step, error)
        elif step.key in self._goals:
            self._course.reached(self._goals[step.key], self._have[step.key])

    def _lose(self, step: Step, error: CrosswheelError) -> None:
        self._lost[step.key] = (step, error)
        for key in self._wanted_by[step.key]:
            if key == step.key or key not in self._lost:
                self._lost.setdefault(key, (step, error))
                self._course.lost(self._goals[key], step, error)


def _below(goal: Step, todo: Mapping[str, Step]) -> Iterator[Step]:
    """The goal and what it needs, of the steps that are to run, each once."""
    seen: set[str] = set()
    wanted = [goal]
    while wanted:
        step = wanted.pop()
        if step.key in todo and step.key not in seen:
            seen.add(step.key)
            wanted += step.inputs.values()
            yield step
