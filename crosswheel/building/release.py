"""Puts a judged wheel where users look for it: only a passing proof makes a released wheel."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from crosswheel.building.disk import write_at_once
from crosswheel.digest import sha256_file
from crosswheel.errors import MachineError

PROOF = ".proof.json"
"""What the file name of a proof ends with; what else lies beside a wheel is made by whoever releases it."""

Sidecars = Callable[[Path, Path, Mapping[str, Any]], Mapping[str, bytes | None]]
"""What is to lie beside a released wheel besides its proof: of the wheel as it was made, the place where it goes, and
the proof with its record, the bytes by ending; None for what must not lie there any more."""


def release(
    wheel: Path,
    proof: Path,
    build: Mapping[str, Any],
    *,
    passed: bool,
    out: Path,
    folder: str,
    sidecars: Sidecars,
    failed: str = "failed",
) -> Path:
    """Copies a wheel and its proof into ``out/<folder>``, or ``out/<failed>`` where the proof failed; returns the
    wheel.

    The proof is called ``<wheel>.proof.json``; ``build`` (see :func:`crosswheel.building.record.build_record`) is added
    to it, and what the former proof knew besides of the same wheel. A wheel that passed has its ``sidecars`` there,
    too. Each file is replaced in one move, the wheel last, so that a wheel is never seen without them; another wheel of
    that name goes first, so that none is seen with those of another. A wheel that failed takes an older released one of
    the same name with it: what stands in ``out/<folder>`` was proved by the newest build. Raises ``MachineError`` where
    it cannot be written there.
    """
    here = out / folder
    aside = out / failed
    place, other = (here, aside) if passed else (aside, here)
    released = place / wheel.name
    former = _former(released.with_name(released.name + PROOF))
    told = json.loads(proof.read_bytes())
    told["build"] = _remembering(build, told["sha256"], former)
    files = dict(sidecars(wheel, released, told)) if passed else {}
    there = released.is_file() and sha256_file(released) == sha256_file(wheel)
    if not there or told != former:
        files = {PROOF: (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode(), **files}
    try:
        place.mkdir(parents=True, exist_ok=True)
        _put(None if there else wheel, released, files)
        if not passed or other == aside:
            _remove(other, wheel.name)
    except OSError as error:
        what, hint = "this wheel cannot be written where it is released", "./x build … --out names another folder"
        raise MachineError(what, where=str(released), why=str(error), hint=hint) from error
    return released


def _former(path: Path) -> Any:
    """The proof that lies there, if it is one that can be read."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _remembering(build: Mapping[str, Any], sha256: str, old: Any) -> dict[str, Any]:
    """The record with what the former proof tells of roots that the store has lost since, where it is of the same wheel
    by the same plan: cleaning a store changes nothing of what a wheel was made of."""
    try:
        if (old["sha256"], old["build"]["plan"]) != (sha256, build["plan"]):
            return dict(build)
        roots = {name: _root(root, old["build"]["roots"].get(name)) for name, root in build["roots"].items()}
        packages = {**old["build"]["toolchain"]["packages"], **build["toolchain"]["packages"]}
    except (KeyError, TypeError, AttributeError):
        return dict(build)
    return {**build, "toolchain": {**build["toolchain"], "packages": packages}, "roots": roots}


def _root(now: Mapping[str, Any], former: Mapping[str, Any] | None) -> Mapping[str, Any]:
    lost = now["packages"] is None and now["lock_sha256"] in (None, former and former["lock_sha256"])
    return former if lost and former and former["packages"] else now


def _put(wheel: Path | None, released: Path, files: Mapping[str, bytes | None]) -> None:
    """Puts a wheel in its place, if it is not there, with ``files`` beside it by their endings. All of the wheel is
    there before anything is removed: on a full disk the former one stays."""
    partial = released.with_name(f".{released.name}.{os.getpid()}")
    try:
        if wheel:
            shutil.copyfile(wheel, partial)
            partial.chmod(0o644)
            _remove(released.parent, released.name)
        for suffix, data in files.items():
            path = released.with_name(released.name + suffix)
            if data is None:
                path.unlink(missing_ok=True)
            else:
                write_at_once(path, data)
        if wheel:
            partial.replace(released)
    finally:
        partial.unlink(missing_ok=True)


def _remove(folder: Path, name: str) -> None:
    """Removes a wheel and then what lies beside it: what is about no wheel here says nothing."""
    for path in (folder / name, *folder.glob(f"{escape(name)}.*")):
        path.unlink(missing_ok=True)
