"""Puts a judged wheel where users look for it: only a passing proof makes a released wheel."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosswheel.building.disk import write_at_once
from crosswheel.building.store import Store
from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.planning.plan import Plan
from crosswheel.planning.steps import FetchStep, LockStep, TreeStep


def build_record(plan: Plan, store: Store) -> dict[str, Any]:
    """What a wheel was made of, for its proof: sources and patches by sha256, the packages of every root by version
    and the sha256 of the lock that names their bytes, the steps by key."""
    chosen = plan.resolution
    steps = plan.steps
    locks = [step for step in steps if isinstance(step, LockStep)]
    trees = [step for step in steps if isinstance(step, TreeStep)]
    return {
        "recipe": chosen.recipe.name,
        "version": chosen.release.version,
        "output": chosen.output,
        "backend": chosen.release.backend,
        "bazel": chosen.bazel.version if chosen.bazel else None,
        "features": sorted(chosen.features),
        "sources": {step.file: step.sha256 for step in steps if isinstance(step, FetchStep)},
        "patches": {patch.file: sha256_bytes(patch.text.encode()) for tree in trees for patch in tree.patches},
        "roots": {step.lock: _root_record(store.path(step.key) / "out" / "lock.json") for step in locks},
        "steps": {step.name: step.key for step in steps},
    }


def _root_record(lock: Path) -> dict[str, Any]:
    """The packages of a root; what is no longer in the store is said to be gone."""
    if not lock.is_file():
        return {"lock_sha256": None, "packages": None}
    text = lock.read_bytes()
    packages = {item["package"]: item["version"] for item in json.loads(text)["packages"]}
    return {"lock_sha256": sha256_bytes(text), "packages": packages}


def release(wheel: Path, proof: Path, build: Mapping[str, Any], *, passed: bool, out: Path, folder: str) -> Path:
    """Copies a wheel and its proof into ``out/<folder>``, or ``out/failed`` where the proof failed; returns the wheel.

    The proof is called ``<wheel>.proof.json``; ``build`` (see :func:`build_record`) is added to it. Each file is
    replaced in one move, the wheel last, so that a wheel is never seen without its proof. A wheel that failed takes an
    older released one of the same name with it: what stands in ``out/<folder>`` was proved by the newest build.
    """
    here = out / folder
    failed = out / "failed"
    place, other = (here, failed) if passed else (failed, here)
    place.mkdir(parents=True, exist_ok=True)
    released = place / wheel.name
    told = {**json.loads(proof.read_bytes()), "build": dict(build)}
    write_at_once(place / f"{wheel.name}.proof.json", (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())
    if not (released.is_file() and sha256_file(released) == sha256_file(wheel)):
        write_at_once(released, wheel.read_bytes())
    for stale in (other / wheel.name, other / f"{wheel.name}.proof.json"):
        if not passed or stale.parent == failed:
            stale.unlink(missing_ok=True)
    return released
