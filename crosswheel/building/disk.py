"""Files and folders: written in one move, removed whatever they hold, and what to say when the disk is full."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from crosswheel.errors import MachineError


def no_space(root: Path, why: str) -> MachineError:
    """What to say when the disk of the store in ``root`` is full."""
    folder = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    return MachineError(
        f"There is no space left: the disk of the store has {free / 2**20:,.0f} MiB free.",
        where=str(root),
        why=why,
        hint="`./x clean` makes room; CROSSWHEEL_STORE names another place.",
    )


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there, even where folders in it are not writable (Bazel makes such), and
    where another process removes it, too."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(path, onerror=_unless_gone)
    except PermissionError:
        path.chmod(0o700)
        for folder, _, _ in os.walk(path):
            for name in (entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)):
                Path(name).chmod(0o700)
        shutil.rmtree(path, onerror=_unless_gone)


def _unless_gone(_function: object, _path: str, problem: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(problem[1], FileNotFoundError):
        raise problem[1]


def write_at_once(target: Path, data: bytes) -> None:
    """Writes a file in one move, so that nobody sees half of it. One that says the same already stays as it is."""
    if target.is_file() and target.read_bytes() == data:
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
