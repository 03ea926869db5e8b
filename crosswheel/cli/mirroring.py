"""The task `mirror`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from crosswheel.cli.asking import Asked, package_task
from crosswheel.cli.build import make_plan
from crosswheel.cli.command import as_typed
from crosswheel.cli.executing import execute_all
from crosswheel.cli.settings import read_settings, the_catalog
from crosswheel.errors import InputError
from crosswheel.planning.roots import debugger_step
from crosswheel.planning.steps import LocalStep, Step

if TYPE_CHECKING:
    from crosswheel.building.artefacts import Artefact
    from crosswheel.building.sources.mirroring import Filled


@package_task(
    many=True,
    help={"to": "The folder to fill; it is made if it is not there, and added to if it is."},
)
def mirror(_context: Context, asked: Sequence[Asked], to: str | None = None) -> None:
    """Fill a folder with everything that builds fetch, so that `build --mirror DIR --offline` needs no network."""
    from crosswheel.building.sources.mirroring import filling
    from crosswheel.building.store import Store

    if to is None:
        raise InputError(
            "`mirror` wants to know which folder to fill", hint="./x mirror dm-tree --target rpi4 --to DIR"
        )
    settings = read_settings(apt_mirrors={name: path for each in asked for name, path in each.mirrors.items()})
    catalog = the_catalog()
    store = Store(settings.store)
    plans: dict[str, Sequence[Step]] = {}
    for each in asked:
        planned = make_plan(catalog, each)
        chosen = planned.resolution
        plans[f"{chosen.recipe.name} {chosen.release.version} for {chosen.target.name}"] = planned.steps
    if plans:  # no plan has it; a build without a network may want it nevertheless
        plans["gdb, by which faults are traced"] = tuple(debugger_step(catalog).walk())

    def make(steps: Sequence[Step]) -> Mapping[str, Artefact]:
        return execute_all(steps, catalog, store, settings, quiet=False).artefacts if steps else {}

    folder = Path(to).expanduser().absolute()
    with filling(folder, settings) as run:
        try:
            run.add(plans, make, catalog.archives)
        finally:
            filled = run.write()
    _tell(folder, filled, [step for steps in plans.values() for step in steps])


def given_paths(steps: Sequence[Step]) -> list[str]:
    """The files and folders that the user gave. A recipe's own folder is none of them: it comes with the recipe."""
    given = {step.path for step in steps if isinstance(step, LocalStep)}
    return sorted(path for path in given if not any(map(Path(path).is_relative_to, the_catalog().layers.folders)))


def _tell(folder: Path, filled: Filled, steps: Sequence[Step]) -> None:
    for title in filled.replaced:
        print(f"was wrong, and is replaced: {title}")
    for path in given_paths(steps):
        print(f"not mirrored, since it is yours: {path}; give it with --source there, too")
    print(
        f"{folder}: {filled.added} files added ({filled.added_bytes / 1e6:.1f} MB), "
        f"{filled.verified} were there and are right ({filled.verified_bytes / 1e6:.1f} MB)"
    )
    print(as_typed(f"→ ./x build PACKAGE --mirror {folder} --offline"))
