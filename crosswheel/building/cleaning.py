"""Removes what a store need not keep."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from crosswheel.building.artefacts import Damaged, read_meta
from crosswheel.building.disk import remove
from crosswheel.building.manifest import size_of
from crosswheel.building.store import Store

_CACHES = "caches"
_LEFTOVERS = ("failed", "kept", "debs", _CACHES)
_IN_USE = ("debs", _CACHES)
"""Those that a running build may be using."""


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed: an artefact (``key`` and ``name`` are set) or a leftover. ``bytes`` is its size."""

    path: Path
    bytes: int
    key: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    what: Removed
    used: float


def clean(store: Store, older_than: timedelta | None, max_bytes: int | None, now: float) -> tuple[Removed, ...]:
    """Removes what was last used more than ``older_than`` before ``now`` (seconds since 1970), then the least recently
    used until the store has at most ``max_bytes``; what killed builds left in ``tmp/`` always. Without either limit
    failed steps, kept files and downloaded packages go too; artefacts and build tools' caches do not. What a running
    build makes or uses stays. Returns what was removed."""
    from filelock import FileLock

    with FileLock(store.made("locks") / "clean.lock"):
        return tuple(_clean(store, older_than, max_bytes, now))


def _clean(store: Store, older_than: timedelta | None, max_bytes: int | None, now: float) -> list[Removed]:
    removed = list(_stale(store))
    artefacts, leftovers = list(_artefacts(store)), list(_others(store, building=_building(store)))
    if older_than is None and max_bytes is None:
        return [*removed, *_gone(store, [item for item in leftovers if item.what.path.parent.name != _CACHES])]
    candidates = sorted([*artefacts, *leftovers], key=lambda candidate: (candidate.used, candidate.what.path))
    left: list[_Candidate] = []
    for candidate in candidates:
        old = older_than is not None and candidate.used < now - older_than.total_seconds()
        done = list(_gone(store, [candidate])) if old else []
        removed += done
        if not done:
            left.append(candidate)
    excess = sum(candidate.what.bytes for candidate in left) - max_bytes if max_bytes is not None else 0
    for candidate in left:
        if excess <= 0:
            break
        for done_one in _gone(store, [candidate]):
            removed.append(done_one)
            excess -= done_one.bytes
    return removed


def total_bytes(store: Store) -> int:
    """Size of the store in bytes: artefacts and leftovers, without logs and locks."""
    return sum(candidate.what.bytes for candidate in (*_artefacts(store), *_others(store, building=False)))


def _artefacts(store: Store) -> Iterator[_Candidate]:
    for folder in (store.root / "artefacts").glob("*/*"):
        try:
            meta = read_meta(folder)
            size, name, used = meta.bytes, meta.name, (folder / "meta.json").stat().st_mtime
        except FileNotFoundError:
            continue  # another process has just removed it
        except Damaged:
            size, name, used = size_of(folder), "(damaged)", 0.0
        yield _Candidate(what=Removed(path=folder, bytes=size, key=folder.name, name=name), used=used)


def _building(store: Store) -> bool:
    """Whether a build is running. :func:`_stale` has removed all that is in ``tmp/`` and in nobody's use."""
    return any((store.root / "tmp").glob("*"))


def _others(store: Store, *, building: bool) -> Iterator[_Candidate]:
    for area in _LEFTOVERS:
        if building and area in _IN_USE:
            continue
        for path in (store.root / area).glob("*"):
            key = path.name if area == "failed" else ""
            yield _Candidate(what=Removed(path=path, bytes=size_of(path), key=key), used=path.lstat().st_mtime)


def _stale(store: Store) -> Iterator[Removed]:
    for path in (store.root / "tmp").glob("*"):
        with ExitStack() as stack:
            if not store.unused(path.name.partition(".")[0], stack):
                continue
            size = size_of(path)
            remove(path)
            yield Removed(path=path, bytes=size)


def _gone(store: Store, candidates: list[_Candidate]) -> Iterator[Removed]:
    for candidate in candidates:
        what = candidate.what
        with ExitStack() as stack:
            if what.key and not store.unused(what.key, stack):
                continue
            if not what.path.exists() and not what.path.is_symlink():
                continue
            # It leaves its place in one move, so that no other process sees half of it.
            grave = Path(tempfile.mkdtemp(prefix="removed.", dir=store.made("tmp")))
            what.path.rename(grave / what.path.name)
        remove(grave)
        yield what
