"""An index of proved wheels as a folder that any static server gives, and that pip reads from the disk as well.

``DIR/wheels/<target>[/<cpu>]/`` has the wheels with what lies beside them, ``DIR/simple/`` and
``DIR/<target>[/<cpu>]/simple/`` the pages (:mod:`crosswheel.publishing.levels` says of what). A wheel in it never
changes: the same again is nothing new, another one of its name is refused. Files are written one by one, each in one
move, a page after all that it leads to; so a killed build leaves an index that is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.errors import CrosswheelError, InputError
from crosswheel.proving.facts import read_headers, read_metadata_file
from crosswheel.publishing.gathering import Candidate, all_of, at_once, gather
from crosswheel.publishing.ledger import FILE, METADATA, WHEELS, Ledger, Listed, now, read_ledger
from crosswheel.publishing.levels import Listing
from crosswheel.publishing.sidecars import SIGNATURES, STATEMENT, SUFFIXES, sidecar, sidecars_of
from crosswheel.publishing.stages import foreign, locked, stages
from crosswheel.publishing.writing import clear_partials, copy, put
from crosswheel.publishing.yanks import FILE as YANKED
from crosswheel.publishing.yanks import Yanks, read_yanks
from crosswheel.spec.catalog import Catalog


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build of an index did. ``added`` are the places of new wheels, ``written`` the files that changed, by
    their paths in the index. ``notes`` are sentences about what a person may not expect."""

    listings: tuple[Listing, ...]
    added: tuple[str, ...]
    written: tuple[str, ...]
    notes: tuple[str, ...]


def build_index(
    folder: Path, wheels: Path, catalog: Catalog, *, when: datetime | None = None, forget: bool = False
) -> Built:
    """Brings the proved wheels below ``wheels`` into the index in ``folder``, which is made if it is not there.

    ``when`` is the time of their entry (default: now). With ``forget``, wheels that are listed and gone are taken off
    the list, and what lay beside them is removed.

    Raises ``InputError``, before anything is written, for wheels that cannot enter or are not those of their names in
    the index, for one that is gone or damaged there, and for foreign files among its own; ``MachineError`` where the
    disk is full.
    """
    candidates = gather(wheels)
    _make(folder)
    with locked(folder):
        clear_partials(folder)
        old = read_ledger(folder)
        if forget:
            old = _without_gone(folder, old)
        check_wheels(folder, old)
        new = _new(folder, candidates, old)
        ledger = Ledger.of((*old.wheels, *_listed(new, when or now())))
        return _write(folder, ledger, catalog, candidates, frozenset(each.place for each in new))


def rewrite_index(folder: Path, catalog: Catalog, yanks: Yanks | None = None) -> Built:
    """Writes the pages of an index anew, with other ``yanks`` where they are given."""
    with locked(folder):
        clear_partials(folder)
        return _write(folder, read_ledger(folder), catalog, yanks=yanks)


@dataclass(frozen=True)
class _Metadata:
    text: bytes
    requires_python: str | None


def _make(folder: Path) -> None:
    """Makes an empty index where there is nothing. ``InputError`` where there is something else."""
    try:
        if (folder / FILE).is_file():
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                "this is no index, and no empty folder to make one in",
                where=str(folder),
                why=f"there is no {FILE} in it",
                hint="name an empty folder, or one that is not there",
            )
        put(folder / FILE, Ledger().text())
    except OSError as error:
        raise InputError("no index can be made here", where=str(folder), why=error.strerror or str(error)) from error


# --- what enters -----------------------------------------------------------------------------------------------------


def check_wheels(folder: Path, ledger: Ledger) -> None:
    """``InputError`` for wheels of the ledger that are gone, or are other bytes by now."""

    def trouble(wheel: Listed) -> CrosswheelError | None:
        path = folder / wheel.path
        hint = "bring it back from where the index was published to"
        if not path.is_file():
            gone = f"{hint}; or take it off the list: ./x index build {folder} --forget"
            return InputError("this wheel of the index is gone", where=str(path), hint=gone)
        if path.stat().st_size == wheel.size and (digest := sha256_file(path)) == wheel.sha256:
            return None
        digest = sha256_file(path)
        why = f"its sha256 is {digest}, and {FILE} says {wheel.sha256}"
        return InputError("this wheel of the index was changed", where=str(path), why=why, hint=hint)

    troubles = [each for each in at_once(trouble, ledger.wheels) if each]
    if troubles:
        raise all_of("of the index are gone or were changed", troubles)


def _new(folder: Path, candidates: Iterable[Candidate], old: Ledger) -> list[Candidate]:
    """Those of which the index has none yet. ``InputError`` for others of the same names."""
    new: list[Candidate] = []
    troubles: list[CrosswheelError] = []
    for each in candidates:
        path = folder / WHEELS / each.place
        known = old.places.get(each.place)
        there = known.sha256 if known else sha256_file(path) if path.is_file() else None
        if there is not None and there != each.sha256:
            troubles.append(
                InputError(
                    "the index has another wheel of this name",
                    where=str(each.path),
                    why=f"its sha256 is {each.sha256}, and that of {path} is {there}",
                    hint="a published wheel never changes: give the new one another version or build tag, "
                    "or build it as the old one was",
                )
            )
        elif known is None:
            new.append(each)
    if troubles:
        raise all_of("are not those that the index has by their names", troubles)
    return new


def _listed(new: Sequence[Candidate], when: datetime) -> Iterator[Listed]:
    for each, metadata in zip(new, at_once(_metadata, new), strict=True):
        try:
            yield Listed(
                file=each.path.name,
                folder=each.folder,
                target=each.target,
                cpu=each.cpu,
                sha256=each.sha256,
                size=each.size,
                metadata_sha256=sha256_bytes(metadata.text),
                requires_python=metadata.requires_python,
                entered=when,
            )
        except ValidationError as error:
            raise InputError(
                "the name of this wheel or of its folder has characters that none of ours has",
                where=ascii(str(each.path))[1:-1],
                why=", ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()),
            ) from error


def _metadata(wheel: Candidate) -> _Metadata:
    text = read_metadata_file(wheel.path)
    headers = read_headers(text)
    if text is None or headers is None:
        raise InputError("the METADATA of this wheel cannot be read", where=str(wheel.path), hint="build it again")
    return _Metadata(text, " ".join(headers.get("requires-python", ("",))[0].split()) or None)


def _without_gone(folder: Path, ledger: Ledger) -> Ledger:
    for wheel in ledger.wheels:
        if not (folder / wheel.path).exists():
            for ending in (*SUFFIXES, METADATA):
                sidecar(folder / wheel.path, ending).unlink(missing_ok=True)
    return Ledger.of(wheel for wheel in ledger.wheels if (folder / wheel.path).exists())


# --- writing ---------------------------------------------------------------------------------------------------------


def _write(
    folder: Path,
    ledger: Ledger,
    catalog: Catalog,
    candidates: Iterable[Candidate] = (),
    new: frozenset[str] = frozenset(),
    yanks: Yanks | None = None,
) -> Built:
    """Writes what differs, in the order of :class:`Stages`, and takes away pages of packages that are no more."""
    told = read_yanks(folder) if yanks is None else yanks
    lying = {wheel.place: wheel for wheel in candidates}
    for known in ledger.wheels:
        if known.place in lying:
            _remove_stale_signatures(folder / known.path, lying[known.place])
    beside = {place: frozenset(sidecars_of(wheel.path)) for place, wheel in lying.items()}
    found = stages(folder, ledger, catalog, told, beside)
    stale, notes = foreign(folder, found)
    written: list[str] = []
    for wheel in ledger.wheels:
        here = lying.get(wheel.place)
        if here and wheel.place in new and not (folder / wheel.path).exists():
            copy(here.path, folder / wheel.path, wheel.sha256)
            written.append(wheel.path)
    for wheel in ledger.wheels:
        written += _put_beside(folder, wheel, lying.get(wheel.place))
    records = {FILE: ledger.text(), **({YANKED: told.text()} if yanks is not None else {})}
    for texts in (records, found.projects, found.roots):
        written += [path for path, text in texts.items() if put(folder / path, text)]
    for path in stale:
        (folder / path).unlink()
        written.append(path)
    _remove_empty(folder, stale)
    return Built(
        listings=found.listings,
        added=tuple(sorted(new)),
        written=tuple(written),
        notes=(*notes, *_apart(found.listings)),
    )


def _put_beside(folder: Path, wheel: Listed, found: Candidate | None) -> Iterator[str]:
    """What lies beside a wheel: its METADATA, and what lies beside it where it was found."""
    place = folder / wheel.path
    metadata = sidecar(place, METADATA)
    if not metadata.is_file() or sha256_file(metadata) != wheel.metadata_sha256:
        put(metadata, read_metadata_file(place) or b"")
        yield f"{wheel.path}{METADATA}"
    for suffix, path in (sidecars_of(found.path) if found else {}).items():
        if put(sidecar(place, suffix), path.read_bytes()):
            yield f"{wheel.path}{suffix}"


def _remove_stale_signatures(place: Path, found: Candidate) -> None:
    """Where another statement comes, what signed the former one signs nothing any more."""
    beside, old = sidecars_of(found.path), sidecar(place, STATEMENT)
    if STATEMENT in beside and old.is_file() and sha256_file(old) != sha256_file(beside[STATEMENT]):
        for suffix in set(SIGNATURES) - beside.keys():
            sidecar(place, suffix).unlink(missing_ok=True)


def _remove_empty(folder: Path, removed: Iterable[str]) -> None:
    """Removes the folders of pages that are no more, and those above them that are empty now."""
    for path in removed:
        for parent in list(PurePosixPath(path).parents)[:-1]:
            if (folder / parent).is_dir():
                if any((folder / parent).iterdir()):
                    break
                (folder / parent).rmdir()


def _apart(found: Iterable[Listing]) -> Iterator[str]:
    files = {file: folders for listing in found for file, folders in listing.apart.items()}
    if files:
        first, folders = next(iter(files.items()))
        more = f", and {len(files) - 1} more such files" if len(files) > 1 else ""
        yield (
            f"not in simple/, because each target has another wheel of this name: {first} "
            f"({', '.join(folders)}){more}; they are in the indexes of their targets"
        )
