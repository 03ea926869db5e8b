"""Archives that lie in packages: the steps that bring these packages to the locks and roots that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from crosswheel.errors import InputError
from crosswheel.planning.sources import LocalSource, fetch_step
from crosswheel.planning.steps import LocalStep, LockStep, RootStep, Step
from crosswheel.spec.sysroots import Archive

S = TypeVar("S", bound=Step)


def with_archives(
    goal: S, archives: Mapping[str, Archive], given: Mapping[str, LocalSource], done: dict[str, Step] | None = None
) -> S:
    """``goal`` with the packages in which its locks' archives lie as inputs: those that the user gave, else those that
    the written data pins. Everything else stays as it is. ``done`` is shared by goals that share steps."""
    done = {} if done is None else done
    if goal.key not in done:
        inputs = {role: with_archives(step, archives, given, done) for role, step in goal.inputs.items()}
        lock = inputs.get("lock")
        new: Step = goal
        if isinstance(goal, LockStep) and goal.pinned is None:
            found = _brought(goal, archives, given)
            vouched = tuple(name for name in found if _vouched(archives[name], given.get(name)))
            new = replace(goal, inputs=found, vouched=vouched) if found else goal
        elif isinstance(goal, RootStep) and isinstance(lock, LockStep):
            # a pinned lock names packages that may lie in an archive's file as well
            found = dict(lock.inputs) if lock.pinned is None else _brought(lock, archives, given)
            new = replace(goal, inputs={**inputs, **found}) if found else goal
        elif any(step is not goal.inputs[role] for role, step in inputs.items()):
            new = replace(goal, inputs=inputs)
        done[goal.key] = new
    # the same kind of step as `goal`, because it was made by `replace`
    return done[goal.key]  # type: ignore[return-value]


def _brought(lock: LockStep, archives: Mapping[str, Archive], given: Mapping[str, LocalSource]) -> dict[str, Step]:
    """The steps that bring the packages in which archives of a lock lie, by the archives' names."""
    found: dict[str, Step] = {}
    for name in dict.fromkeys(suite.archive for suite in lock.suites):
        archive, local = archives.get(name), given.get(name)
        if local:
            found[name] = LocalStep(name=f"take {name}", path=local.path, sha256=local.sha256, folder=False)
        elif archive and archive.file:
            found[name] = fetch_step(archive.file, name=f"{name} ({archive.file.file})")
    return found


def _vouched(archive: Archive, local: LocalSource | None) -> bool:
    pinned = archive.file.sha256 if archive.file else None
    return local is None or local.named or local.sha256 == pinned


def refuse_unused(steps: Iterable[Step], given: Iterable[str]) -> None:
    """``InputError`` for archives that the user gave and that no step of a plan reads."""
    names = tuple(given)
    if not names:
        return
    used = {suite.archive for step in steps if isinstance(step, LockStep) for suite in step.suites}
    for name in names:
        if name not in used:
            raise InputError(
                f"this build takes nothing from the archive {name!r}",
                where=f"--source {name}=…",
                hint=f"it takes from: {', '.join(sorted(used))}",
            )
