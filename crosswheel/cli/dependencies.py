"""What `build --with-dependencies` does after the build: it makes the wheelhouse whole, and shows it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crosswheel.building.dependencies import serve
from crosswheel.building.record import build_record
from crosswheel.building.release import release
from crosswheel.building.shelf import Brought, TargetShelf
from crosswheel.building.store import Store
from crosswheel.building.wheelhouse import FOLDER, Wheelhouse, lay_out
from crosswheel.cli.asking import Asked
from crosswheel.planning.plan import Plan
from crosswheel.planning.steps import Step
from crosswheel.proving.prove import RULES, Proof
from crosswheel.publishing.sidecars import made_sidecars
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.requirements import machine_of

if TYPE_CHECKING:
    from crosswheel.building.artefacts import Artefact
    from crosswheel.building.job import Settings


def make_wheelhouse(
    planned: Plan,
    wheel: Path,
    proof: Path,
    asked: Asked,
    catalog: Catalog,
    store: Store,
    settings: Settings,
    *,
    quiet: bool,
) -> Wheelhouse:
    """Builds or fetches all that a released ``wheel`` requires, and lays it out in ``wheelhouse/`` beside it. What is
    built is released beside ``wheel`` as well, with its proof."""
    from crosswheel.cli.executing import execute_all

    def make(steps: Sequence[Step]) -> Mapping[str, Artefact]:
        if all(store.has(step.key) for step in steps):  # what is there is not told once more for each wheel
            found = {step.key: store.lookup(step.key) for step in steps}
            if all(found.values()):
                return {key: item for key, item in found.items() if item}
        return execute_all(steps, catalog, store, settings, quiet=quiet).artefacts

    known = Proof.read(proof)
    machine = machine_of(known.policy, known.run.used.get("python") if known.run else None)
    shelf = TargetShelf(
        root=planned,
        wheel=wheel,
        proof=proof,
        request=asked.request,
        catalog=catalog,
        machine=machine,
        rules=RULES,
        make=make,
        offline=settings.offline,
    )
    if not quiet:
        print(f"resolving what {wheel.name} requires on {planned.resolution.target.name} …", file=sys.stderr)
    served = serve(shelf.asked, shelf, machine)
    brought = {str(offer.name): shelf.bring(offer) for offer in served.offers}
    for offer in served.offers:
        if offer.origin == "recipe":
            _release(brought[offer.name], store, wheel.parent)
    return lay_out(wheel.parent / FOLDER, served, brought, planned.resolution)


def _release(item: Brought, store: Store, folder: Path) -> None:
    assert item.planned is not None and item.proof is not None, "what a recipe built has a plan and a proof"
    record = build_record(item.planned, store)
    release(
        item.wheel,
        item.proof,
        record,
        passed=True,
        out=folder.parent,
        folder=folder.name,
        sidecars=made_sidecars,
    )


def show_wheelhouse(house: Wheelhouse) -> None:
    """The wheels of a wheelhouse, what they want of the distribution, and whether it is whole."""
    from crosswheel.cli.console import show_table

    rows = [
        (name, str(told["from"]), str(told["judged"]), str(told["sha256"])[:12])
        for name, told in sorted(house.files.items())
    ]
    show_table(str(house.folder), ("wheel", "from", "judged", "sha256"), rows)
    if house.packages:
        print(f"On the target, first: apt-get install {' '.join(house.packages)}")
    finding = house.finding
    mark = {"pass": "✓", "fail": "✗"}[finding.severity.value]
    print(f"{mark} {finding.rule}: {finding.message}")
    for line in finding.hint.splitlines():
        print(f"  {line}")
    print(f"→ pip install --no-index --find-links {house.folder} {house.folder / house.wheel}")
