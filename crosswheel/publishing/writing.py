"""Files of a folder that others read meanwhile: each is written beside its place and moved there at once."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crosswheel.errors import InputError, MachineError

PARTIAL = re.compile(r"^\..+\.[0-9]+\.partial$")
"""What a killed writer leaves."""
_PIECE = 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT)


def put(target: Path, data: bytes) -> bool:
    """Writes ``data`` to ``target``; whether anything changed. What says the same already stays as it is."""
    if target.is_file() and target.read_bytes() == data:
        return False
    with _beside(target) as partial:
        partial.write_bytes(data)
    return True


def copy(source: Path, target: Path, sha256: str | None = None) -> None:
    """Copies a file whose bytes have this ``sha256``, if it is given. ``InputError`` where they no longer have it."""
    with _beside(target) as partial:
        digest = hashlib.sha256()
        with source.open("rb") as reader, partial.open("wb") as writer:
            while piece := reader.read(_PIECE):
                digest.update(piece)
                writer.write(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise InputError(
                "this file was changed while it was copied",
                where=str(source),
                why=f"its sha256 was {sha256}, and now it is {digest.hexdigest()}",
                hint="run the command again when nothing writes there",
            )


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """The path to write to, which becomes ``target`` in one move. ``MachineError`` where the disk is full."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.chmod(0o644)
        partial.replace(target)
    except OSError as error:
        if error.errno in _FULL:
            raise no_space(target, error) from error
        raise MachineError(
            "this file cannot be written", where=str(target), why=error.strerror or str(error)
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def no_space(target: Path, error: OSError) -> MachineError:
    """What to say when the disk is full on which ``target`` was to be written."""
    folder = next(path for path in target.parents if path.exists())
    free = shutil.disk_usage(folder).free
    return MachineError(
        f"there is no space left: this disk has {free / 2**20:,.0f} MiB free",
        where=str(target),
        why=f"{error.strerror}; what was there before is whole",
        hint="make room there and run the command again: what is written already is not written again",
    )


def clear_partials(folder: Path) -> None:
    """Removes what killed writers left below ``folder``. Nobody else may be writing there."""
    for here, _, files in os.walk(folder):
        for name in files:
            if PARTIAL.match(name):
                (Path(here) / name).unlink(missing_ok=True)
