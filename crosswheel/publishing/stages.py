"""The files of an index in the order in which they are written and sent, and those in its folder that are not of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from crosswheel.errors import InputError, MachineError
from crosswheel.publishing.ledger import FILE, METADATA, WHEELS, Ledger
from crosswheel.publishing.levels import Listing, listings
from crosswheel.publishing.pages import SIMPLE, ours, project_pages, root_pages
from crosswheel.publishing.sidecars import SUFFIXES, sidecars_of
from crosswheel.publishing.writing import PARTIAL
from crosswheel.publishing.yanks import FILE as YANKED
from crosswheel.publishing.yanks import Yanks, reasons
from crosswheel.spec.catalog import Catalog

LOCK = ".lock"
VARIANTS = "variants"
"""The folder of what :mod:`crosswheel.publishing.variants` makes. It is an experiment, and not of the index."""
_MOST = 10
"""So many files are named in a note."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """All files of an index by their paths in it. Each leads only to those of the stages before its own: ``wheels``,
    what is ``beside`` them, the pages of ``projects``, the ``roots`` that list those, and the ``records``. Pages come
    with their texts."""

    listings: tuple[Listing, ...]
    wheels: tuple[str, ...]
    beside: tuple[str, ...]
    projects: Mapping[str, bytes]
    roots: Mapping[str, bytes]
    records: tuple[str, ...]

    @property
    def every(self) -> tuple[tuple[str, ...], ...]:
        """The paths, stage by stage."""
        return self.wheels, self.beside, tuple(self.projects), tuple(self.roots), self.records

    @property
    def pages(self) -> Mapping[str, bytes]:
        return {**self.projects, **self.roots}


def stages(
    folder: Path,
    ledger: Ledger,
    catalog: Catalog,
    yanks: Yanks,
    more: Mapping[str, frozenset[str]] | None = None,
) -> Stages:
    """What the index of ``ledger`` in ``folder`` is made of. ``more`` are endings of files, by the places of wheels,
    that will lie beside them besides those that do."""
    coming = more or {}
    beside = {
        wheel.place: frozenset(sidecars_of(folder / wheel.path)) | coming.get(wheel.place, frozenset())
        for wheel in ledger.wheels
    }
    yanked = reasons(yanks, ledger, folder)
    found = listings(ledger, catalog)
    return Stages(
        listings=found,
        wheels=tuple(wheel.path for wheel in ledger.wheels),
        beside=tuple(
            f"{wheel.path}{ending}"
            for wheel in ledger.wheels
            for ending in (METADATA, *(suffix for suffix in SUFFIXES if suffix in beside[wheel.place]))
        ),
        projects={path: text for listing in found for path, text in project_pages(listing, yanked, beside)},
        roots={path: text for listing in found for path, text in root_pages(listing)},
        records=(*((YANKED,) if yanks.yanked or (folder / YANKED).is_file() else ()), FILE),
    )


def foreign(
    folder: Path, found: Stages, known: frozenset[str] = frozenset()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Pages of ours that are no longer of the index, and notes about files that never were, but for ``known`` ones.

    ``InputError`` for those among its own pages and wheels: a server would give them as if they were of it.
    """
    own = {path for stage in found.every for path in stage} | {LOCK, YANKED}
    stale: list[str] = []
    wrong: list[str] = []
    other: list[str] = []
    for path in _files(folder):
        if path in own or path in known or path.startswith(f"{VARIANTS}/"):
            continue
        page = SIMPLE in PurePosixPath(path).parts
        if page and not (folder / path).is_symlink() and ours(path, (folder / path).read_bytes()):
            stale.append(path)
        elif page or path.startswith(f"{WHEELS}/"):
            wrong.append(path)
        else:
            other.append(path)
    if wrong:
        raise InputError(
            "files among those of the index are not of it, and would be published with it",
            where=str(folder),
            why=_named(wrong),
            hint="nothing was written; move them out of this folder, or, if they are wheels of a killed build, "
            "build with the --from that has them",
        )
    notes = [f"{len(other)} files in {folder} are not of the index; they stay: {_named(_tops(other))}"] if other else []
    return tuple(stale), tuple(notes)


def _tops(paths: list[str]) -> list[str]:
    """The files at the top, and of the rest the folder at the top that each lies in."""
    return list(dict.fromkeys(top + ("/" if rest else "") for top, _, rest in (path.partition("/") for path in paths)))


def _files(folder: Path) -> Iterator[str]:
    """All that is no folder, by its path, and folders that are links; without what writers leave."""
    for here, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        for name in sorted([*files, *links]):
            if not PARTIAL.match(name):
                yield (Path(here) / name).relative_to(folder).as_posix()


def _named(paths: list[str]) -> str:
    more = f", and {len(paths) - _MOST} more" if len(paths) > _MOST else ""
    return f"{', '.join(ascii(path)[1:-1] for path in paths[:_MOST])}{more}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the index. ``InputError`` where there is none, and then nothing is left there; ``MachineError`` where
    another command holds it, or where nothing can be written."""
    if not (folder / FILE).is_file():
        raise InputError(
            "this is no index",
            where=str(folder),
            why=f"there is no {FILE} in it" if folder.is_dir() else "there is no such folder",
            hint=f"./x index build {folder}",
        )
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise MachineError("another command is at work on this index", where=str(folder), hint="wait for it") from error
    except OSError as error:
        raise MachineError(
            "nothing can be written here", where=str(folder), why=error.strerror or str(error)
        ) from error
    try:
        yield
    finally:
        lock.release()
