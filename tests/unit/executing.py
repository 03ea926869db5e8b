"""Steps for the executor whose runners write small files, and a listener that remembers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crosswheel.building.execute import Result, execute
from crosswheel.building.job import Job, Settings
from crosswheel.building.store import Store
from crosswheel.errors import CrosswheelError
from crosswheel.planning.steps import FetchStep, FilesStep, RenderedFile, RunStep, Step, TreeStep
from tests.waiting import emptied

DEADLINE = 20.0
Work = Callable[[Any, Mapping[str, Path], Job], None]


def leaf(name: str) -> FilesStep:
    return FilesStep(name=name, files={"name": RenderedFile(text=name)})


def join(name: str, **inputs: Step) -> TreeStep:
    return TreeStep(name=name, inputs=inputs, files={"name": name})


def heavy(name: str, **inputs: Step) -> RunStep:
    return RunStep(name=name, inputs=inputs, commands=((name,),), env={}, cwd="/", mounts={}, copies={}, outputs=())


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.lines: list[str] = []

    def plan(self, steps: Sequence[Step]) -> None:
        self.events.append(("plan", " ".join(step.name for step in steps)))

    def started(self, step: Step) -> None:
        self.events.append(("started", step.name))

    def line(self, step: Step, text: str) -> None:
        self.lines.append(f"{step.name}: {text}")

    def waiting(self, step: Step) -> None:
        self.events.append(("waiting", step.name))

    def finished(self, step: Step, seconds: float, cached: bool) -> None:
        self.events.append(("cached" if cached else "made", step.name))

    def damaged(self, step: Step, what: str) -> None:
        self.events.append(("damaged", f"{step.name}: {what}"))

    def failed(self, step: Step, error: CrosswheelError) -> None:
        self.events.append(("failed", step.name))

    def names(self, event: str) -> list[str]:
        return [name for kind, name in self.events if kind == event]


def write_name(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
    """The result holds the names of the step and of all below it."""
    below = [(path / "name").read_text() for _, path in sorted(inputs.items())]
    job.log(f"writing {step.name}")
    (job.out / "name").write_text(f"{step.name}({','.join(below)})")


def run(
    goal: Step | Sequence[Step],
    root: Path,
    work: Work = write_name,
    told: Told | None = None,
    *,
    keep_failed: bool = False,
    sweep: Callable[[str], None] | None = None,
) -> Result:
    settings = Settings(store=root, keep_failed=keep_failed)
    runners = {FilesStep: work, TreeStep: work, RunStep: work, FetchStep: work}
    return execute(goal, Store(root), settings, runners, told or Told(), sweep=sweep)


def is_clean(root: Path) -> bool:
    return emptied(root / "tmp")
