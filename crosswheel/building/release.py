"""Puts a judged wheel where users look for it: only a passing proof makes a released wheel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from crosswheel.digest import sha256_file


def release(wheel: Path, proof: Path, *, passed: bool, out: Path, folder: str) -> Path:
    """Copies a wheel and its proof into ``out/<folder>``, or ``out/failed`` where the proof failed; returns the wheel.

    The proof is called ``<wheel>.proof.json``. Each file is replaced in one move, the wheel last, so that a wheel is
    never seen without its proof. A wheel that failed takes an older released one of the same name with it: what
    stands in ``out/<folder>`` was proved by the newest build.
    """
    here = out / folder
    failed = out / "failed"
    place, other = (here, failed) if passed else (failed, here)
    place.mkdir(parents=True, exist_ok=True)
    released = place / wheel.name
    for source, target in ((proof, place / f"{wheel.name}.proof.json"), (wheel, released)):
        _copy(source, target)
    for stale in (other / wheel.name, other / f"{wheel.name}.proof.json"):
        if not passed or stale.parent == failed:
            stale.unlink(missing_ok=True)
    return released


def _copy(source: Path, target: Path) -> None:
    """Copies a file in one move; what is there already with the same bytes stays as it is."""
    same_size = target.is_file() and target.stat().st_size == source.stat().st_size
    if same_size and sha256_file(target) == sha256_file(source):
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copyfile(source, partial)
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
