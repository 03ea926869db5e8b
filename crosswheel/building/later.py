"""Makes what a step turns out to need while it runs: no plan has it, so that nobody else pays for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crosswheel.building.emulation import watching
from crosswheel.building.job import Cancelled, Job
from crosswheel.errors import CrosswheelError, StepError
from crosswheel.planning.steps import Step

Runners = Mapping[type[Step], Callable[[Any, Mapping[str, Path], Job], None]]


def made_later(step: Step, job: Job, runners: Runners, *, seconds: float) -> Path:
    """The folder of the artefact of ``step``, which is made if the store does not have it, within ``seconds``. What is
    done goes to the log of ``job``. Raises what :func:`crosswheel.building.execute.execute` raises, ``StepError`` where
    it takes longer, and :class:`Cancelled` where the build is."""
    from crosswheel.building.execute import execute
    from crosswheel.building.store import Store

    with watching(job.cancelled, seconds) as watch:
        try:
            done = execute(step, Store(job.settings.store), job.settings, runners, _Told(job), cancelled=watch.stop)
        except Cancelled:
            if not watch.expired or job.cancelled.is_set():
                raise
            raise StepError(f"It took longer than {seconds:.0f} s.", where=step.name) from None
    return done.artefacts[step.key].path


class _Told:
    """Tells a step's log what is made for it."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def plan(self, steps: Sequence[Step]) -> None: ...

    def started(self, step: Step) -> None:
        self._job.log(f"{step.name} …")

    def line(self, step: Step, text: str) -> None:
        self._job.log(f"{step.name}: {text}")

    def waiting(self, step: Step) -> None:
        self._job.log(f"{step.name}: another build makes it")

    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...

    def damaged(self, step: Step, what: str) -> None:
        self._job.log(f"{step.name}: it is made anew: {what}")

    def failed(self, step: Step, error: CrosswheelError) -> None: ...
