"""Artefacts for the measurements: made where they are missing, and lent to a store of their own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crosswheel.building.job import Settings
from crosswheel.building.store import Store
from crosswheel.cli.executing import execute_all
from crosswheel.errors import StepError
from crosswheel.planning.steps import Step
from crosswheel.spec.catalog import Catalog


def made(goals: Iterable[Step], catalog: Catalog, settings: Settings) -> dict[str, Path]:
    """The folders of the goals' artefacts, by key. What is missing is made, and told on stderr."""
    wanted = tuple(goals)
    result = execute_all(wanted, catalog, Store(settings.store), settings, quiet=False)
    return {goal.key: result.artefacts[goal.key].path for goal in wanted}


def inputs_of(step: Step, catalog: Catalog, settings: Settings) -> dict[str, Path]:
    """The artefacts of a step's inputs, by role."""
    folders = made(step.inputs.values(), catalog, settings)
    return {role: folders[needed.key] for role, needed in step.inputs.items()}


def lend(keys: Iterable[str], settings: Settings, root: Path) -> None:
    """Makes a store at ``root`` that has these artefacts and no other: links to those of the store of ``settings``.
    What is built in it leaves no trace in the other."""
    whole, lent = Store(settings.store), Store(root)
    for key in keys:
        if whole.lookup(key) is None:
            raise StepError("An input of the benchmark has left the store.", where=key[:12])
        place = lent.path(key)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(whole.path(key), target_is_directory=True)
