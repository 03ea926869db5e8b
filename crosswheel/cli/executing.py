"""Executes steps for a task: sets the machine up first, asks for what can be reached, and shows what happens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from crosswheel.planning.steps import Step
from crosswheel.spec.catalog import Catalog

if TYPE_CHECKING:
    from crosswheel.building.execute import Result
    from crosswheel.building.job import Settings
    from crosswheel.building.store import Store


def execute_all(goals: Sequence[Step], catalog: Catalog, store: Store, settings: Settings, *, quiet: bool) -> Result:
    """Executes steps on this machine, which is set up first where something is lacking and the user agrees."""
    from crosswheel.building.execute import execute
    from crosswheel.building.runners import runners
    from crosswheel.cli.console import Screen

    if settings.remote:
        from crosswheel.building.remote.opening import refuse_executor

        refuse_executor((step for goal in goals for step in goal.walk() if not store.has(step.key)), settings.remote)
    missing = prepare(goals, store, settings)
    if not settings.offline and missing & {"lock", "root"}:
        from crosswheel.building.debian.reach import refuse_unreachable

        refuse_unreachable(goals, store, catalog.archives, settings)
    with Screen(quiet=quiet) as screen:
        return execute(goals, store, settings, runners(catalog, settings), screen)


def prepare(goals: Sequence[Step], store: Store, settings: Settings) -> set[str]:
    """Sets this machine up for the steps that are missing, where the user agrees; returns their kinds. Does nothing
    where all goals are stored."""
    if all(store.has(goal.key) for goal in goals):
        return set()
    from crosswheel.building.execute import ONE_AT_A_TIME
    from crosswheel.cli.doctor import prepare_for_build

    steps = {step.key: step.kind for goal in goals for step in goal.walk()}
    missing = {kind for key, kind in steps.items() if not store.has(key)}
    if settings.offline:
        missing -= {"fetch", "lock", "root"}  # the mirror's files are read, and no client of an archive runs
    prepare_for_build(settings, missing)
    if settings.sandbox == "host" and missing & ONE_AT_A_TIME:
        from crosswheel.building.sandbox.host import WARNING

        print(WARNING, file=sys.stderr)
    return missing
