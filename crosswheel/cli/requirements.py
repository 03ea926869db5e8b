"""What `verify` and `build` do about a wheel's requirements: they ask what there is, once the proof is there.

A proof is a step without a network, and what an index has changes by the day. So the answer is on the screen and in
``--json``, and not in the store.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from crosswheel.building.store import Store
from crosswheel.planning.wheelhouse import named
from crosswheel.proving.facts import read_metadata
from crosswheel.proving.prove import Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy
from crosswheel.spec.requirements import machine_of
from crosswheel.spec.targets import System, Target

OUT = Path("dist")
"""Where released wheels lie, by the names of their targets."""


def with_requirements(
    proofs: Sequence[tuple[Path, Proof]], catalog: Catalog, store: Store, *, quiet: bool
) -> list[Proof]:
    """The proofs of wheels, each with what there is of its requirements. Nothing is asked where none has any."""
    from crosswheel.building.offered import offered
    from crosswheel.building.own_wheels import OwnWheels
    from crosswheel.building.sources.package_index import PackageIndex

    answered = []
    with PackageIndex() as index:
        for wheel, proof in proofs:
            metadata = read_metadata(wheel)
            policy, python = proof.policy, proof.run.used.get("python") if proof.run else None
            if not quiet and (metadata or {}).get("requires-dist"):
                print(f"asking what there is of the requirements of {wheel.name} …", file=sys.stderr)
            own = OwnWheels(
                catalog=catalog,
                store=store,
                target=catalog.target(policy.target),
                system=_system(catalog.target(policy.target), policy),
                cpu=catalog.cpu(policy.cpu),
                machine=machine_of(policy, python),
                folders=_folders(wheel, policy),
                root=named(proof.file),
            )
            found = offered(proof.file, metadata, policy, python, index=index, own=own)
            answered.append(proof.asked(metadata, found))
    return answered


def _system(target: Target, policy: Policy) -> System:
    return next(each for each in target.systems if (each.python, each.sysroot) == (policy.python, policy.sysroot))


def _folders(wheel: Path, policy: Policy) -> tuple[Path, ...]:
    """Where wheels for the target may lie: beside this one, and where builds for the target leave them."""
    out = OUT / policy.target
    folders = (
        wheel.absolute().parent,
        wheel.absolute().parent / "wheelhouse",
        out.absolute(),
        out.absolute() / policy.cpu,
    )
    return tuple(dict.fromkeys(folder for folder in folders if folder.is_dir()))
