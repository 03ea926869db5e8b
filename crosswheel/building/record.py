"""The record of a build: what a wheel was made of and with, as its proof has it under ``build``.

Everything in it follows from the plan and from what the store holds of it: no time, no host path and no number of jobs,
so that equal inputs give equal records.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from crosswheel.building.artefacts import Damaged, read_meta
from crosswheel.building.locks_used import NOTE as LOCKS
from crosswheel.building.locks_used import LocksUsed
from crosswheel.building.store import Store
from crosswheel.digest import sha256_bytes
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.plan import Plan
from crosswheel.planning.purposes import Purpose, purposes_of
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import FetchStep, ImageStep, LocalStep, LockStep, RunStep, Step, TreeStep


def build_record(plan: Plan, store: Store) -> dict[str, Any]:
    """What a wheel was made of, for its proof: the request with nothing left out, inputs and patches by sha256, the
    packages of every root by version and sha256 with the sha256 of the lock that names them, the steps by key.

    ``plan`` is the key of the proof: it is the digest of all written data that this build reads.
    """
    chosen = plan.resolution
    steps = plan.steps
    purposes = purposes_of(plan)
    locks, used = [step for step in steps if isinstance(step, LockStep)], LocksUsed(steps, store)
    trees = [step for step in steps if isinstance(step, TreeStep)]
    roots = {name: _root(step, purposes[step.key], used) for name, step in _named(locks).items()}
    return {
        "recipe": chosen.recipe.name,
        "version": chosen.release.version,
        "output": chosen.output,
        "backend": chosen.release.backend,
        "bazel": chosen.bazel.version if chosen.bazel else None,
        "features": sorted(chosen.features),
        "crosswheel": version("crosswheel"),
        "plan": plan.proof.key,
        "request": _request(chosen),
        "toolchain": {"name": chosen.toolchain.name, "packages": _packages(chosen, roots)},
        "sources": {step.file: step.sha256 for step in steps if isinstance(step, FetchStep)},
        "inputs": [entry for step in steps for entry in _input(step, purposes[step.key], trees)],
        "patches": {patch.file: sha256_bytes(patch.text.encode()) for tree in trees for patch in tree.patches},
        "roots": roots,
        "steps": {step.name: step.key for step in steps},
        **_notes(steps, store),
    }


def _notes(steps: tuple[Step, ...], store: Store) -> dict[str, dict[str, Any]]:
    """What runs said of themselves when they were made, by the note's name and the step's: ``remote`` is there where
    one reached a cache or an executor, so that not all of it was compiled here."""
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        if isinstance(step, RunStep):
            try:
                notes = read_meta(store.path(step.key)).notes
            except (FileNotFoundError, Damaged):
                continue  # it is in the store no more
            for name, value in notes.items():
                if name == LOCKS:
                    continue  # the roots tell them
                found.setdefault(name, {})[step.name] = value
    return found


def _request(chosen: Resolution) -> dict[str, Any]:
    """What was asked, with every default filled in; ``no-NAME`` is a feature that is on by default, and off here."""
    known = {name for name, data in chosen.recipe.features.items() if data.default}
    return {
        "recipe": chosen.recipe.name,
        "version": chosen.release.version,
        "output": chosen.output,
        "target": chosen.target.name,
        "system": chosen.system.name,
        "sysroot": chosen.sysroot.name,
        "python": chosen.python,
        "cpu": chosen.cpu.name,
        "features": sorted([*chosen.features, *(f"no-{name}" for name in known - chosen.features)]),
        "capabilities": list(chosen.cuda.capabilities) if chosen.cuda else [],
        "bazel": chosen.bazel.version if chosen.bazel else None,
        "builder_from": chosen.builder_from,
        "apt_force": chosen.apt_force,
    }


def _packages(chosen: Resolution, roots: dict[str, Any]) -> dict[str, str]:
    """The packages that the toolchain asks for, by version, as the builder's lock has them."""
    toolchain = chosen.toolchain
    named = {name.partition("=")[0] for name in (*toolchain.packages, *toolchain.cross[chosen.target.arch])}
    builders = [root["packages"] or {} for root in roots.values() if root["purpose"] == Purpose.BUILDER.word]
    return {name: text for packages in builders for name, text in sorted(packages.items()) if name in named}


def _input(step: Step, purpose: Purpose, trees: list[TreeStep]) -> Iterator[dict[str, Any]]:
    """A file or folder that came from outside, with the patches that its tree gets."""
    told: dict[str, Any]
    if isinstance(step, FetchStep | MembersStep):
        # A place with a member has the file in something else, of another name and version.
        places = [place.uri for place in step.places if place.member is None]
        told = {"file": step.file, "sha256": step.sha256, "places": places}
    elif isinstance(step, LocalStep):
        # Its path is a fact of the machine on which it was given.
        name = step.name.removeprefix("take ")
        told = {"file": step.file or name, "sha256": step.sha256, "given": "folder" if step.folder else "file"}
    elif isinstance(step, ImageStep):
        told = {"file": step.image, "sha256": step.image.rpartition(":")[2], "given": "image"}
    else:
        return
    patches = [patch.file for tree in trees if step in tree.inputs.values() for patch in tree.patches]
    yield {**told, "purpose": purpose.word, **({"patches": list(dict.fromkeys(patches))} if patches else {})}


def _named(locks: list[LockStep]) -> dict[str, LockStep]:
    """The locks by their names. Two may have one name, where packages are wanted with and without what they depend on;
    then a part of the key tells them apart."""
    names = [step.lock for step in locks]
    return {step.lock if names.count(step.lock) == 1 else f"{step.lock} {step.key[:8]}": step for step in locks}


def _root(step: LockStep, purpose: Purpose, locks: LocksUsed) -> dict[str, Any]:
    """The packages of a root; what is no longer in the store is said to be gone. ``files`` has, of each package, its
    .deb's sha256, architecture, and whose it is."""
    sha256, text = locks.of(step)
    if text is None:
        return {"purpose": purpose.word, "lock_sha256": sha256, "packages": None, "files": None}
    packages = json.loads(text)["packages"]
    return {
        "purpose": purpose.word,
        "lock_sha256": sha256,
        "packages": {item["package"]: item["version"] for item in packages},
        "files": {
            item["package"]: {
                "sha256": item["sha256"],
                "architecture": item["architecture"],
                "vendor": step.vendors.get(item["archive"]),
            }
            for item in packages
        },
    }
