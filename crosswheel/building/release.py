"""Puts a judged wheel where users look for it: only a passing proof makes a released wheel."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from glob import escape
from pathlib import Path
from typing import Any

from crosswheel.building.disk import write_at_once
from crosswheel.digest import sha256_file

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
    to it. A wheel that passed has its ``sidecars`` there, too. Each file is replaced in one move, the wheel last, so
    that a wheel is never seen without them; another wheel of that name goes first, so that none is seen with those of
    another. A wheel that failed takes an older released one of the same name with it: what stands in ``out/<folder>``
    was proved by the newest build.
    """
    here = out / folder
    aside = out / failed
    place, other = (here, aside) if passed else (aside, here)
    place.mkdir(parents=True, exist_ok=True)
    released = place / wheel.name
    told = {**json.loads(proof.read_bytes()), "build": dict(build)}
    beside = sidecars(wheel, released, told) if passed else {}
    there = released.is_file() and sha256_file(released) == sha256_file(wheel)
    if not there:
        _remove(place, wheel.name)
    write_at_once(place / f"{wheel.name}{PROOF}", (json.dumps(told, indent=1, ensure_ascii=False) + "\n").encode())
    for suffix, data in beside.items():
        if data is None:
            (place / f"{wheel.name}{suffix}").unlink(missing_ok=True)
        else:
            write_at_once(place / f"{wheel.name}{suffix}", data)
    if not there:
        write_at_once(released, wheel.read_bytes())
    if not passed or other == aside:
        _remove(other, wheel.name)
    return released


def _remove(folder: Path, name: str) -> None:
    """Removes a wheel and then what lies beside it: what is about no wheel here says nothing."""
    for path in (folder / name, *folder.glob(f"{escape(name)}.*")):
        path.unlink(missing_ok=True)
