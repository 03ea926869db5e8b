"""Bytes that must not be used, kept where a person can look at them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from crosswheel.digest import sha256_file


def keep(store: Path, path: Path) -> Path:
    """Moves a file with wrong bytes to ``<store>/kept/<first digits of its sha256>-<name>``, and gives that path."""
    folder = store / "kept"
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{sha256_file(path)[:12]}-{path.name.removesuffix('.FAILED')}"
    move(path, place)
    return place


def move(path: Path, place: Path) -> None:
    """Puts a file at ``place`` in one move, also from another file system; what was there is replaced."""
    try:
        path.replace(place)
    except OSError:
        beside = place.with_name(f".{place.name}.{os.getpid()}")
        shutil.copyfile(path, beside)
        beside.replace(place)
        path.unlink()
