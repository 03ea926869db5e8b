"""Publishes an index: its files go where a :class:`~crosswheel.publishing.carriers.Carrier` brings them.

Wheels go first, then what lies beside them, then the pages of packages, then those that list them. So whoever reads
meanwhile, or after a publish that was killed, meets the old index or the new one, and no link that leads nowhere. What
is there with the same hash is not sent. A wheel that is there with other bytes stays, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from crosswheel.errors import InputError
from crosswheel.publishing.carriers import Carrier, Difference
from crosswheel.publishing.index import check_wheels
from crosswheel.publishing.ledger import FILE, Ledger, parse_ledger, read_ledger
from crosswheel.publishing.sidecars import SIGNATURES, STATEMENT
from crosswheel.publishing.stages import Stages, foreign, locked, stages
from crosswheel.publishing.yanks import Yanks, read_yanks
from crosswheel.spec.catalog import Catalog

_MOST = 10
"""So many wheels are named."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publish did. ``sent`` are the paths of the files that were sent, ``size`` is theirs in bytes, ``same`` how
    many were there with the same hash, ``removed`` what is no more: pages, and signatures of former statements."""

    sent: tuple[str, ...]
    size: int
    same: int
    removed: tuple[str, ...]
    notes: tuple[str, ...]


def publish(
    folder: Path, carrier: Carrier, catalog: Catalog, *, also: Sequence[str] = (), drop: bool = False
) -> Published:
    """Publishes the index in ``folder``; ``also`` are folders in it that are not of the index and go with it.

    Raises, before anything is sent, ``InputError`` for an index that is not whole, for a wheel that is there with other
    bytes, and, without ``drop``, for wheels that are listed there and not here.
    """
    with locked(folder):
        ledger = read_ledger(folder)
        found = stages(folder, ledger, catalog, read_yanks(folder))
        more = _also(folder, also)
        notes = _whole(folder, found, ledger, frozenset(more))
        there = _there(carrier)
        _refuse_others(ledger, there, carrier, drop=drop)
        order = (*found.every[:-1], more, found.records)
        difference = carrier.compare(folder, [path for stage in order for path in stage])
        _refuse_changed(found, difference, carrier)
        unsigned = _signatures_of_others(found, difference)
        if unsigned:
            carrier.remove(unsigned)
        sent: list[str] = []
        for stage in order:
            wanted = [path for path in stage if path in difference.wanted]
            if wanted:
                carrier.send(folder, wanted)
                sent += wanted
        stale = _stale(folder, there, found, catalog)
        if stale:
            carrier.remove(stale)
    size = sum((folder / path).stat().st_size for path in sent)
    same = sum(len(stage) for stage in order) - len(sent)
    return Published(sent=tuple(sent), size=size, same=same, removed=(*unsigned, *stale), notes=notes)


def _whole(folder: Path, found: Stages, ledger: Ledger, also: frozenset[str]) -> tuple[str, ...]:
    """Notes about foreign files that are not sent. ``InputError`` where a file of the index is not there as its list of
    wheels says."""
    stale, notes = foreign(folder, found, also)
    check_wheels(folder, ledger)
    wrong = [path for path in found.beside if not (folder / path).is_file()]
    for path, text in found.pages.items():
        place = folder / path
        if not place.is_file() or place.read_bytes() != text:
            wrong.append(path)
    if wrong or stale:
        raise InputError(
            "this index is not whole: some of its files are not as its wheels want them",
            where=str(folder),
            why=", ".join([*wrong, *stale][:_MOST]),
            hint=f"a build of it was killed, or the written data changed: ./x index build {folder}",
        )
    return notes


def _also(folder: Path, also: Sequence[str]) -> tuple[str, ...]:
    """The files in the folders that go with the index. ``InputError`` for what is no such folder."""
    found: list[str] = []
    for name in also:
        place = folder / name
        if not place.is_dir() or folder.resolve() not in place.resolve().parents:
            raise InputError("this is no folder in the index's", where=f"--also {name}", hint="such as --also page")
        found += sorted(path.relative_to(folder).as_posix() for path in place.rglob("*") if path.is_file())
    return tuple(found)


def _there(carrier: Carrier) -> Ledger | None:
    """What is published there; None where nothing is."""
    text = carrier.read(FILE)
    return None if text is None else parse_ledger(text, f"{carrier.place}/{FILE}")


def _refuse_others(ledger: Ledger, there: Ledger | None, carrier: Carrier, *, drop: bool) -> None:
    if there is None:
        return
    here = ledger.places
    changed = [place for place, wheel in there.places.items() if place in here and here[place].sha256 != wheel.sha256]
    if changed:
        raise _other(changed, carrier)
    lost = [place for place in there.places if place not in here]
    if lost and not drop:
        raise InputError(
            f"wheels are published here that are not in this index (how many: {len(lost)})",
            where=carrier.place,
            why=_named(lost),
            hint="it would take them off its pages: build on a copy of what is published, or say --drop",
        )


def _refuse_changed(found: Stages, difference: Difference, carrier: Carrier) -> None:
    changed = [path for path in found.wheels if path in difference.changed]
    if changed:
        raise _other(changed, carrier)


def _other(places: list[str], carrier: Carrier) -> InputError:
    return InputError(
        f"other wheels are published here under names of this index (how many: {len(places)}); nothing was sent",
        where=carrier.place,
        why=_named(places),
        hint="a published wheel never changes: give the new one another version or build tag",
    )


def _named(places: Sequence[str]) -> str:
    more = f", and {len(places) - _MOST} more" if len(places) > _MOST else ""
    return f"{', '.join(sorted(places)[:_MOST])}{more}"


def _signatures_of_others(found: Stages, difference: Difference) -> tuple[str, ...]:
    """The signatures that may lie there beside statements that are renewed, and that the new ones have not."""
    renewed = [path.removesuffix(STATEMENT) for path in found.beside if path.endswith(STATEMENT)]
    return tuple(
        f"{wheel}{suffix}"
        for wheel in renewed
        if f"{wheel}{STATEMENT}" in difference.changed
        for suffix in SIGNATURES
        if f"{wheel}{suffix}" not in found.beside
    )


def _stale(folder: Path, there: Ledger | None, found: Stages, catalog: Catalog) -> tuple[str, ...]:
    """The pages there that the index no longer has."""
    if there is None:
        return ()
    old: Mapping[str, bytes] = stages(folder, there, catalog, Yanks()).pages
    return tuple(path for path in old if path not in found.pages)
