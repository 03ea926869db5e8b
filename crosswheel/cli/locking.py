"""What `sysroot lock` does: resolves packages afresh and pins them in the written data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crosswheel.building.job import Settings
from crosswheel.cli.settings import to_write
from crosswheel.errors import CrosswheelError, InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.roots import debugger_step
from crosswheel.planning.steps import LockStep
from crosswheel.spec.catalog import Catalog, unknown


def renew_locks(catalog: Catalog, settings: Settings, name: str | None, target: str | None) -> None:
    """Writes ``sysroots/locks/<name>.json`` for one lock, or for all that a target's builds use."""
    if (name is None) == (target is None):
        raise InputError(
            "name one lock, or a target whose locks are all renewed",
            hint="./x sysroot lock debian-12-arm64-development, or ./x sysroot lock --target rpi4",
        )
    targets = catalog.target_names if target is None else (catalog.target(target).name,)
    steps = {step.lock: step for each in targets for step in lock_steps(catalog, each)}
    if name is not None and name not in steps:
        raise unknown("lock", name, steps, list_command="./x plan PACKAGE --target T")
    chosen = steps.values() if name is None else [steps[name]]
    for step in chosen:
        _renew(catalog, settings, step)


def lock_steps(catalog: Catalog, target: str) -> Iterator[LockStep]:
    """The lock steps of every recipe's newest build for a target, in each of its Pythons, and that of the debugger,
    as if nothing were pinned."""
    for recipe in catalog.recipe_names:
        for system in catalog.target(target).systems:
            wanted = Request(recipe=recipe, target=target, python=system.python, system=system.name)
            try:
                resolution = resolve(wanted, catalog)
            except CrosswheelError:
                continue  # this recipe does not serve the target
            for step in plan(resolution, catalog, rules={}).steps:
                if isinstance(step, LockStep):
                    yield replace(step, pinned=None)
    lock = debugger_step(catalog).inputs["lock"]
    assert isinstance(lock, LockStep)
    yield replace(lock, pinned=None)


def _renew(catalog: Catalog, settings: Settings, step: LockStep) -> None:
    import tempfile
    import threading
    from pathlib import Path

    from crosswheel.building.debian.apt import run_lock
    from crosswheel.building.job import Job

    path = to_write(catalog, "sysroots", "locks", f"{step.lock}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="crosswheel-lock-") as folder:
        out, work = Path(folder, "out"), Path(folder, "work")
        out.mkdir()
        work.mkdir()
        job = Job(
            key=step.key,
            out=out,
            work=work,
            settings=replace(settings, mirror=None),  # resolved afresh, not as the mirror has it
            log=lambda _line: None,
            cancelled=threading.Event(),
        )
        run_lock(step, {}, job, archives=catalog.archives)
        text = (out / "lock.json").read_text(encoding="utf-8")
    partial = path.with_name(f".{path.name}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    print(f"wrote {catalog.layers.shown(path)}")
