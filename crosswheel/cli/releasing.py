"""Releases what was built and judged: the same for one build and for a night."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crosswheel.planning.plan import Plan

if TYPE_CHECKING:
    from crosswheel.building.artefacts import Artefact
    from crosswheel.building.store import Store
    from crosswheel.proving.prove import Proof


def folder_of(planned: Plan) -> str:
    """Where below the folder of released wheels a plan's output goes: by target, and by cpu where it is not the
    target's own."""
    chosen = planned.resolution
    own = chosen.cpu.name == chosen.target.cpu
    return chosen.target.name if own else f"{chosen.target.name}/{chosen.cpu.name}"


def release_output(
    planned: Plan, output: Artefact, judged: Artefact, store: Store, out: Path, *, failed: str = "failed"
) -> tuple[Path, Proof]:
    """The released wheel, or the failed one, and its proof. ``failed`` is the folder below ``out`` for the latter."""
    from crosswheel.building.record import build_record
    from crosswheel.building.release import release
    from crosswheel.proving.prove import Proof
    from crosswheel.publishing.sidecars import made_sidecars

    path = judged.path / "proof.json"
    proof = Proof.read(path)
    made = next(path for path in output.path.iterdir() if path.is_file())
    released = release(
        made,
        path,
        build_record(planned, store),
        passed=proof.passed,
        out=out,
        folder=folder_of(planned),
        failed=failed,
        sidecars=made_sidecars,
    )
    return released, proof
