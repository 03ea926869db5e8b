"""Puts the page's files in place: written beside, then swapped in one by one, so that a killed run leaves a whole page.

The folder may hold files of others (an index, a host's own files). Which files are the page's stands in
``crosswheel-report.json`` there: only those are ever replaced or removed.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.errors import InputError, MachineError

LIST = "crosswheel-report.json"
"""The list of the page's files: path → sha256 of its content, or of all that it may have while files are swapped."""

_BESIDE = ".crosswheel-report.new"
_LOCK = ".crosswheel-report.lock"
_MOST_LIST = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Written:
    """How many files were written, were the same already, and were removed; and those that should have been removed
    and were changed by somebody."""

    written: int
    same: int
    removed: int
    kept: tuple[str, ...]


def write_pages(folder: Path, files: Mapping[str, bytes]) -> Written:
    """Makes ``folder`` hold ``files`` (paths below it), in their order: what others link to first, the index last.

    Raises ``InputError`` where a file of somebody else stands in the way; then nothing was changed. ``MachineError``
    where the folder cannot be written; then the page that was there still is.
    """
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / _LOCK, timeout=0):
                return _write(folder, files)
        except Timeout:
            raise InputError("another `report build` is writing this page", where=str(folder)) from None


def _write(folder: Path, files: Mapping[str, bytes]) -> Written:
    known = _known(folder)
    digests = {path: sha256_bytes(data) for path, data in files.items()}
    changed = [path for path in files if _digest(folder / path) != digests[path]]
    _refuse_foreign(folder, [path for path in changed if path not in known])
    beside = folder / _BESIDE
    shutil.rmtree(beside, ignore_errors=True)
    for path in changed:
        place = beside / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[path])
    both = {
        path: sorted({*known.get(path, ()), *([digests[path]] if path in digests else [])})
        for path in sorted({*known, *digests})
    }
    if changed or set(known) - set(digests):
        _list(folder, both)
    for path in changed:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (beside / path).replace(folder / path)
    shutil.rmtree(beside, ignore_errors=True)
    stale = sorted(set(known) - set(digests))
    kept = tuple(path for path in stale if not _removed(folder, path, known[path]))
    _list(folder, {path: [digest] for path, digest in sorted(digests.items())})
    return Written(written=len(changed), same=len(files) - len(changed), removed=len(stale) - len(kept), kept=kept)


def _known(folder: Path) -> dict[str, list[str]]:
    """The page's files as the list has them; a list that cannot be read is none. What is no path below the folder is
    left out."""
    try:
        if (folder / LIST).stat().st_size > _MOST_LIST:
            return {}
        value = json.loads((folder / LIST).read_bytes())
        files = value["files"] if isinstance(value, dict) else {}
        items = files.items() if isinstance(files, dict) else ()
    except (OSError, ValueError, KeyError, RecursionError):
        return {}
    return {
        path: [str(each) for each in digests] for path, digests in items if _is_ours(path) and isinstance(digests, list)
    }


def _is_ours(path: str) -> bool:
    """Whether a path is one that this module could have written: of a page, below the folder."""
    parts = PurePosixPath(path).parts
    return (
        1 <= len(parts) <= 2
        and "\0" not in path
        and not path.startswith("/")
        and all(part not in ("..", ".") for part in parts)
        and (len(parts) == 1 or parts[0] in ("assets", "boards", "cells"))
        and path.endswith((".html", ".css", ".js"))
    )


def _digest(path: Path) -> str | None:
    return sha256_file(path) if path.is_file() and not path.is_symlink() else None


def _refuse_foreign(folder: Path, new: list[str]) -> None:
    """A file that is there, and that no list calls ours, is somebody's."""
    foreign = [path for path in new if (folder / path).is_symlink() or (folder / path).exists()]
    taken = sorted({path.split("/")[0] for path in new if "/" in path and _not_folder(folder / path.split("/")[0])})
    if foreign or taken:
        names = [*foreign, *taken]
        raise InputError(
            "there are files in the way that `report build` did not write",
            where=str(folder),
            why="\n".join(names[:10]) + (f"\nand {len(names) - 10} more" if len(names) > 10 else ""),
            hint="name another folder, or move them away",
        )


def _not_folder(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not path.is_dir())


def _removed(folder: Path, path: str, digests: list[str]) -> bool:
    """Removes a file of an older page, unless somebody changed it."""
    place = folder / path
    if not place.is_file() or place.is_symlink():
        return True
    if _not_folder(place.parent) or sha256_file(place) not in digests:
        return False
    place.unlink()
    return True


def _list(folder: Path, files: Mapping[str, list[str]]) -> None:
    text = json.dumps({"schema": 1, "files": dict(files)}, indent=1, sort_keys=True) + "\n"
    place = folder / LIST
    if place.is_file() and place.read_bytes() == text.encode():
        return
    fresh = folder / f".{LIST}.new"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(place)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The system's errors as sentences."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise MachineError(
            "There is no space left for the page." if full else "The page cannot be written.",
            where=str(error.filename or folder),
            why=error.strerror or str(error),
            hint="make room, and run the same command again: the page that was there still is"
            if full
            else "name another folder",
        ) from error
