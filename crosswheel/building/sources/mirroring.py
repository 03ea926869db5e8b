"""Fills a mirror with everything that plans fetch: files, resolved locks, and the .debs of every lock.

A file enters under a name of its own and gets its sha256's name by one rename, so a run may be killed at any moment:
the next one verifies what is there and adds what is missing. The manifest is written at the end, by one rename as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from crosswheel.building.artefacts import Artefact
from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.fetch import origin_of
from crosswheel.building.sources.kept import keep
from crosswheel.building.sources.members import whole
from crosswheel.building.sources.mirror import MANIFEST, Manifest, MirroredFile, MirroredLock, held_at
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError, InputError, MachineError
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.steps import FetchStep, ImageStep, LocalStep, LockStep, Step
from crosswheel.spec.sysroots import Archive

_CHUNK = 1 << 20
_BUSY = ".filling"

Make = Callable[[Sequence[Step]], Mapping[str, Artefact]]
"""Makes steps, and gives their artefacts by key."""


@dataclass(kw_only=True)
class Filled:
    """What a run did: files and bytes that it ``added`` and that it found there and ``verified``; ``replaced`` are
    those that were wrong."""

    added: int = 0
    added_bytes: int = 0
    verified: int = 0
    verified_bytes: int = 0
    replaced: list[str] = field(default_factory=list)


def _files(steps: Sequence[Step]) -> Iterator[FetchStep]:
    """What plans fetch by its sha256; where they want members of a wheel, the whole of it."""
    for step in steps:
        if isinstance(step, FetchStep):
            yield step
        elif isinstance(step, MembersStep):
            yield whole(step)


@contextmanager
def filling(folder: Path, settings: Settings) -> Iterator[Filling]:
    """A mirror that is being filled: made if it is not there, and by one command at a time.

    ``InputError`` if there is something else, ``MachineError`` if it cannot be written or is being filled already.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        busy = (folder / _BUSY).open("w")
    except OSError as error:
        raise MachineError("the mirror cannot be written", where=str(folder), why=str(error)) from error
    with busy:
        try:
            fcntl.flock(busy, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            what = "another `mirror` is filling this folder"
            raise MachineError(what, where=str(folder), hint="wait until it has ended") from error
        for partial in folder.glob("sha256/*/.*.part"):
            partial.unlink()
        path = folder / MANIFEST
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        yield Filling(folder, settings, Manifest.parse(text, str(path)) if text else Manifest())
        (folder / _BUSY).unlink()


class Filling:
    """One run. ``filled`` counts what it did."""

    def __init__(self, folder: Path, settings: Settings, manifest: Manifest) -> None:
        self.filled = Filled()
        self._folder = folder
        self._settings = settings
        self._manifest = manifest
        self._good: set[str] = set()
        self._files: list[MirroredFile] = []
        self._locks: list[MirroredLock] = []
        self._guard = threading.Lock()

    def add(self, plans: Mapping[str, Sequence[Step]], make: Make, archives: Mapping[str, Archive]) -> None:
        """Everything that plans fetch; ``plans`` maps what is said of a file's purpose to the plan's steps.

        ``make`` is given the steps whose results are not in the mirror. ``FetchError`` if something cannot be had.
        """
        fetches = [(title, step) for title, steps in plans.items() for step in _files(steps)]
        locks = [(title, step) for title, steps in plans.items() for step in steps if isinstance(step, LockStep)]
        for steps in plans.values():
            _refuse_images(steps)
        known = {lock.key: lock.sha256 for lock in self._manifest.locks}
        missing: dict[str, Step] = {step.key: step for _, step in fetches if not self._held(step.sha256, step.file)}
        missing |= {
            step.key: step
            for _, step in locks
            if step.pinned is None
            and not (step.key in known and self._held(known[step.key], f"the lock of {step.name}"))
        }
        made = make(tuple(missing.values()))
        for title, step in fetches:
            self._add_fetched(step, f"{title}: {step.name.removeprefix('fetch ')}", made.get(step.key))
        for title, lock in locks:
            text = self._add_lock(lock, f"{title}: {lock.name}", made.get(lock.key), known.get(lock.key))
            self._add_packages(lock, text, f"{title}: {lock.name.removeprefix('resolve ')}", archives)

    def write(self) -> Filled:
        """The manifest, with what was added to it; what this run did."""
        text = self._manifest.merged(self._files, self._locks).text()
        path = self._folder / MANIFEST
        if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
            partial = path.with_name(f".{MANIFEST}.part")
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        return self.filled

    # --- one kind after the other ----------------------------------------------------------------------------------

    def _add_fetched(self, step: FetchStep, needed: str, artefact: Artefact | None) -> None:
        origin = step.places[0].uri
        if artefact is not None:
            self._take(artefact.path / step.file, step.sha256, step.file)
            log = artefact.path.parent / "log.txt"
            said = origin_of(log.read_text(encoding="utf-8", errors="replace"), step.file) if log.is_file() else None
            # A mirror's own place is a matter of the machine that asked it.
            origin = f"a mirror of {origin}" if said and said.startswith("the mirror ") else said or origin
        self._note(step.file, step.sha256, needed, origin)

    def _add_lock(self, step: LockStep, needed: str, artefact: Artefact | None, known: str | None) -> str:
        """The lock's text. One that is pinned is part of the written data, and need not be in the mirror."""
        if step.pinned is not None:
            return step.pinned
        if artefact is not None:
            file = artefact.path / "lock.json"
            known = sha256_file(file)
            self._take(file, known, "lock.json")
        assert known is not None
        self._note(f"{step.lock}.lock.json", known, needed, "resolved by apt")
        self._locks.append(MirroredLock(key=step.key, step=step.name, sha256=known))
        return (self._folder / held_at(known)).read_text(encoding="utf-8")

    def _add_packages(self, step: LockStep, text: str, needed: str, archives: Mapping[str, Archive]) -> None:
        from crosswheel.building.debian.aptrun import AptRunner, apt_runner
        from crosswheel.building.debian.debs import Search
        from crosswheel.building.debian.lock import Lock, LockedPackage

        lock = Lock.parse(text, where=step.name)
        missing = [package for package in lock.packages if not self._held(package.sha256, package.title)]

        def ready(package: LockedPackage, deb: Path) -> None:
            self._take(deb, package.sha256, package.title)

        with tempfile.TemporaryDirectory(prefix="crosswheel-mirror-") as work:
            job = self._job(step, Path(work))

            def runner() -> AptRunner:
                used = [archives[suite.archive] for suite in lock.suites if suite.archive in archives]
                return apt_runner(used, job)

            if missing:
                Search(
                    lock=lock.model_copy(update={"packages": tuple(missing)}),
                    job=job,
                    archives=archives,
                    runner=runner,
                    ready=ready,
                    where=step.name,
                    lock_name=step.lock,
                    snapshot=step.snapshot,
                    files=self._files_with_archives(step),
                ).run()
        for package in lock.packages:
            name = package.path.rpartition("/")[2]
            self._note(name, package.sha256, needed, f"{package.archive}: {package.path}")

    def _files_with_archives(self, step: LockStep) -> dict[str, Path]:
        """The packages in which archives of a lock lie: those that were fetched are in the mirror already."""
        found = {}
        for name, source in step.inputs.items():
            if isinstance(source, FetchStep):
                found[name] = self._folder / held_at(source.sha256)
            elif isinstance(source, LocalStep):
                found[name] = Path(source.path)
        return found

    def _job(self, step: LockStep, work: Path) -> Job:
        return Job(
            key=step.key,
            out=work / "out",
            work=work,
            settings=replace(self._settings, offline=False),
            log=lambda _line: None,
            cancelled=threading.Event(),
        )

    # --- files -----------------------------------------------------------------------------------------------------

    def _held(self, sha256: str, title: str) -> bool:
        """Whether the mirror holds a file and it is the one that its name says. A wrong one is set aside."""
        if sha256 in self._good:
            return True
        place = self._folder / held_at(sha256)
        if not place.is_file():
            return False
        if sha256_file(place) != sha256:
            keep(self._settings.store, place)
            self.filled.replaced.append(f"{title}: {held_at(sha256)}")
            return False
        self._good.add(sha256)
        self.filled.verified += 1
        self.filled.verified_bytes += place.stat().st_size
        return True

    def _take(self, file: Path, sha256: str, title: str) -> None:
        """Copies a file into the mirror; may be called from several threads. ``FetchError`` if its bytes are others."""
        with self._guard:
            if sha256 in self._good:
                return
            self._good.add(sha256)
        place = self._folder / held_at(sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f".{sha256}.part")
        digest = hashlib.sha256()
        with file.open("rb") as source, partial.open("wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != sha256:
            partial.unlink()
            found = digest.hexdigest()
            what = f"{title} has other bytes than it should"
            raise FetchError(what, where=str(file), why=f"sha256 {found} instead of {sha256}", hint="./x clean --all")
        partial.replace(place)
        with self._guard:
            self.filled.added += 1
            self.filled.added_bytes += place.stat().st_size

    def _note(self, name: str, sha256: str, needed: str, origin: str) -> None:
        size = (self._folder / held_at(sha256)).stat().st_size
        self._files.append(MirroredFile(name=name, sha256=sha256, size=size, needed=(needed,), origin=origin))


def _refuse_images(steps: Sequence[Step]) -> None:
    for step in steps:
        if isinstance(step, ImageStep):
            raise InputError(
                "an image is no file that a mirror can hold",
                where=f"--builder-from {step.image[:60]}",
                hint="mirror the plan without it; the builder is then made of Debian's packages",
            )
