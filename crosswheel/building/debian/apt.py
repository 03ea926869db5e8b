"""Resolving packages in a private apt root (:mod:`.privateapt`): what apt chooses becomes a lock."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote, unquote

from crosswheel.building.debian.aptrun import Ran, absent, apt_runner, explain
from crosswheel.building.debian.given import given_archives
from crosswheel.building.debian.keys import keyring_of
from crosswheel.building.debian.lock import TIME_FORMAT, Lock, LockedPackage, LockedSuite
from crosswheel.building.debian.mirrors import Mirror, candidates, machine_mirrors
from crosswheel.building.debian.privateapt import NO_CACHE, PrivateApt, Source, local_folders
from crosswheel.building.job import Job
from crosswheel.building.sources import kept
from crosswheel.building.sources.fetch import FILL, shown
from crosswheel.building.sources.mirror import mirrored_lock
from crosswheel.building.sources.places import PlaceError
from crosswheel.errors import CrosswheelError, DataError, FetchError, MachineError
from crosswheel.planning.steps import LockStep
from crosswheel.spec.sysroots import Archive

__all__ = ["KEYRINGS", "Lock", "LockedPackage", "LockedSuite", "Source", "run_lock"]

KEYRINGS = Path("/usr/share/keyrings")
"""Where Debian's and Ubuntu's packages put archive keyrings."""

_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")


def run_lock(
    step: LockStep,
    inputs: Mapping[str, Path],
    job: Job,
    *,
    archives: Mapping[str, Archive],
    keyrings: Path = KEYRINGS,
) -> None:
    """Writes ``out/lock.json``: the step's pinned lock if there is one, else the user's mirror's, else what apt chooses
    now. ``inputs`` are packages with archives in them, by the archives' names.

    ``FetchError`` where the mirror does not give what it should, ``MachineError`` where a keyring or apt is missing,
    ``DataError`` where the pinned lock is not one of this step.
    """
    if step.pinned is not None:
        lock = _checked(Lock.parse(step.pinned, where=step.name), step)
        job.log(f"{len(lock.packages)} packages, pinned on {lock.resolved}")
    else:
        lock = _mirrored(step, job) or resolve(step, job, archives, keyrings, inputs)
    (job.out / "lock.json").write_text(lock.text())


def _mirrored(step: LockStep, job: Job) -> Lock | None:
    """The lock that the user's mirror holds for this step. ``FetchError`` if it holds none and the build is offline."""
    mirror = job.settings.mirror
    why = "no mirror is set: name one with --mirror"
    if mirror is not None:
        try:
            lock = _checked(Lock.parse(mirrored_lock(mirror, step.key, job), where=f"the mirror {shown(mirror)}"), step)
        except PlaceError as error:
            why = f"the mirror {shown(mirror)}: {error}"
            job.log(why)
        else:
            job.log(f"{len(lock.packages)} packages, as the mirror {shown(mirror)} has it of {lock.resolved}")
            return lock
    if not job.settings.offline:
        return None
    raise FetchError(
        "Packages cannot be resolved offline.",
        where=step.name,
        why=why,
        hint=f"{FILL}; or pin them: ./x sysroot lock {step.lock}",
    )


def _checked(lock: Lock, step: LockStep) -> Lock:
    wrong = []
    if lock.architecture != step.architecture:
        wrong.append(f"it is for {lock.architecture}, and {step.architecture} is wanted")
    if set(lock.requested) != set(step.packages):
        missing = ", ".join(sorted(set(step.packages) - set(lock.requested))) or "nothing"
        extra = ", ".join(sorted(set(lock.requested) - set(step.packages))) or "nothing"
        wrong.append(f"of the packages it lacks {missing}, and has {extra} besides")
    if {(s.archive, s.name, s.components) for s in lock.suites} != {
        (s.archive, s.name, s.components) for s in step.suites
    }:
        wrong.append("it was made from other suites: " + ", ".join(f"{s.archive} {s.name}" for s in lock.suites))
    if wrong:
        raise DataError(
            "The lock is not what the written data asks for.",
            where=step.name,
            why="\n".join(wrong),
            hint=f"Make it anew: ./x sysroot lock {step.lock}",
        )
    return lock


def resolve(
    step: LockStep,
    job: Job,
    archives: Mapping[str, Archive],
    keyrings: Path = KEYRINGS,
    inputs: Mapping[str, Path] | None = None,
) -> Lock:
    """What apt chooses for the step's packages now. Errors: see :func:`run_lock`."""
    updated = _Updating(step, job, archives, keyrings, inputs or {}).run()
    # `download` looks at no dependency, and prints the same lines
    verb = ("install", "--yes", "--no-install-recommends") if step.dependencies else ("download",)
    apt = updated.apt
    chosen = apt.run("apt-get", *verb, "--print-uris", *sorted(step.packages), folders=updated.folders)
    if chosen.status != 0:
        raise _explained(chosen, updated.mirrors, archives, step.name)
    now = datetime.now(UTC).strftime(TIME_FORMAT)
    lock = Lock(
        architecture=step.architecture,
        requested=tuple(sorted(set(step.packages))),
        suites=tuple(_locked_suite(source, apt, now) for source in updated.sources),
        resolved=now,
        tool=apt.run("apt-get", "--version").output.partition("\n")[0],
        packages=parse_uris(chosen.output, updated.mirrors),
    )
    job.log(f"{len(lock.packages)} packages, {sum(p.size for p in lock.packages) / 1e6:.1f} MB")
    return lock


@dataclass(frozen=True, kw_only=True)
class _Updated:
    """A private apt root with the lists of all suites; ``folders`` are those that it reads besides itself."""

    apt: PrivateApt
    sources: Sequence[Source]
    mirrors: Mapping[str, Mirror]
    folders: Sequence[Path]


class _Updating:
    """``apt-get update``, with the next of an archive's candidates where one cannot be reached or lacks the suite.
    A signature or a hash that is wrong is no reason to go on: it is an error at once."""

    def __init__(
        self,
        step: LockStep,
        job: Job,
        archives: Mapping[str, Archive],
        keyrings: Path,
        inputs: Mapping[str, Path],
    ) -> None:
        self._step = step
        self._job = job
        self._archives = archives
        self._keyrings = keyrings
        self._used = _used(step, archives)
        self._runner = apt_runner(self._used, job)
        self._given = given_archives(step, inputs, job)
        self._rings = {archive.name: self._ring(archive) for archive in self._used}

    def run(self) -> _Updated:
        """``FetchError`` where an archive cannot be had, or not as it was signed."""
        left = {name: list(mirrors) for name, mirrors in self._candidates().items()}
        tried: list[str] = []
        while True:
            mirrors = {name: found[0] for name, found in left.items()}
            for mirror in mirrors.values():
                self._job.log(f"{mirror.archive}: {mirror.base} ({mirror.reason})")
            updated = self._updated(mirrors, f"apt-{len(tried)}")
            ran = updated.apt.run("apt-get", *NO_CACHE, "update", folders=updated.folders)
            if ran.status == 0 and not re.search(r"^(E:|W: (Failed|Some))", ran.errors, re.MULTILINE):
                return updated
            _keep_failed(updated.apt.root, self._job)
            bases = {name: mirror.base for name, mirror in mirrors.items()}
            failed = [name for name in absent(ran, bases) if len(left[name]) > 1]
            if not failed:
                error = _explained(ran, mirrors, self._archives, self._step.name)
                error.why = "\n".join([*tried, error.why])
                raise error
            for name in failed:
                tried.append(f"{name}: {left[name].pop(0).base} does not serve")
                self._job.log(f"{tried[-1]}: trying {left[name][0].base}")

    def _candidates(self) -> dict[str, tuple[Mirror, ...]]:
        asked = [archive for archive in self._used if archive.name not in self._given]
        machine = partial(machine_mirrors, self._runner, self._job.work)
        found = candidates(asked, self._job.settings, machine, self._step.snapshot)
        nowhere = [name for name, mirrors in found.items() if not mirrors]
        if nowhere:
            raise FetchError(
                f"The archive {', '.join(nowhere)} lies in a package, which was not given.",
                where=self._step.name,
                hint=f"--source {nowhere[0]}=FILE.deb",
            )
        return found | {name: (given.mirror,) for name, given in self._given.items()}

    def _updated(self, mirrors: Mapping[str, Mirror], folder: str) -> _Updated:
        sources = [
            Source(suite=suite, mirror=mirrors[suite.archive], keyring=self._rings[suite.archive])
            for suite in self._step.suites
        ]
        apt = PrivateApt.make(self._job.work / folder, self._step.architecture, sources, self._runner)
        keys = {ring.parent for ring in self._rings.values() if ring and ring.is_relative_to(self._job.work)}
        folders = [*local_folders(mirrors.values()), *keys]
        return _Updated(apt=apt, sources=sources, mirrors=mirrors, folders=folders)

    def _ring(self, archive: Archive) -> Path | None:
        """The keyring that must have signed an archive; None for a given one whose bytes are vouched for."""
        given = self._given.get(archive.name)
        if given and given.vouched:
            return None
        if archive.keyring and self._runner.has(self._keyrings / archive.keyring):
            return self._keyrings / archive.keyring
        if archive.keys:
            user = self._job.settings.apt_mirrors.get(archive.name, "").removeprefix("file:")
            beside = [given.folder] if given else [Path(user)] if user.startswith("/") else []
            return keyring_of(archive, beside, self._job)
        what = f"The keyring {self._keyrings / (archive.keyring or archive.name)} is not on this machine"
        raise MachineError(
            f"{what}: without it no signature can be checked.",
            where=self._step.name,
            hint=f"apt-get install {archive.keyring_package}" if archive.keyring_package else "",
        )


def parse_uris(output: str, mirrors: Mapping[str, Mirror]) -> tuple[LockedPackage, ...]:
    """The packages in the output of ``apt-get install --print-uris``, sorted by name."""
    packages = []
    for line in output.splitlines():
        match = _URI_LINE.match(line)
        if match is None:
            if line.startswith("'"):
                raise FetchError("apt named a package without a sha256.", why=line)
            continue
        uri = match["uri"]
        within = [name for name, mirror in mirrors.items() if uri.startswith(mirror.base)]
        if not within:
            raise FetchError("apt named a package outside the mirrors that it was given.", why=line)
        archive = max(within, key=lambda name: len(mirrors[name].base))
        name, version, architecture = (unquote(part) for part in match["file"].removesuffix(".deb").split("_"))
        packages.append(
            LockedPackage(
                package=name,
                version=version,
                architecture=architecture,
                archive=archive,
                path=unquote(uri.removeprefix(mirrors[archive].base)).removeprefix("./"),
                sha256=match["sha256"],
                size=int(match["size"]),
            )
        )
    return tuple(sorted(packages, key=lambda package: package.package))


def package_uri(mirror: Mirror, package: LockedPackage) -> str:
    """Where a mirror has a package."""
    return mirror.base + quote(package.path, safe="/~")


def _used(step: LockStep, archives: Mapping[str, Archive]) -> list[Archive]:
    names = list(dict.fromkeys(suite.archive for suite in step.suites))
    unknown = [name for name in names if name not in archives]
    if unknown:
        raise DataError(f"sysroots/archives.toml has no archive {', '.join(unknown)}.", where=step.name)
    return [archives[name] for name in names]


def _explained(ran: Ran, mirrors: Mapping[str, Mirror], archives: Mapping[str, Archive], where: str) -> CrosswheelError:
    """The error, about the mirror that apt's lines name."""
    evidence = "\n".join(ran.complaints())
    named = [m for m in mirrors.values() if m.base.rstrip("/") in evidence] or list(mirrors.values())
    bases = ", ".join(mirror.base for mirror in named)
    return explain(
        ran,
        what="; ".join(f"The mirror {mirror.base} of {mirror.archive} ({mirror.reason})" for mirror in named),
        mirror=bases,
        keyring_package=archives[named[0].archive].keyring_package or "its keys in sysroots/archives.toml",
        where=where,
    )


def _keep_failed(root: Path, job: Job) -> None:
    """Indexes that apt refused are kept aside for who wants to look at them."""
    for path in sorted((root / "lists" / "partial").glob("*.FAILED")):
        job.log(f"kept aside: {kept.keep(job.settings.store, path)}")


def _locked_suite(source: Source, apt: PrivateApt, now: str) -> LockedSuite:
    """The suite with the date of its Release file, as apt stored it after it checked the signature. An archive that is
    believed by the hash of its file may have none; then it is of ``now``."""
    suite = source.suite
    if suite.flat:
        place = _mangled(source.mirror.base + suite.name.strip("/")).strip("_")
        ours = sorted((apt.root / "lists").glob(f"*{glob.escape(place)}_*Release"))
    else:
        lists = sorted((apt.root / "lists").glob(f"*_dists_{_mangled(suite.name)}_*Release"))
        ours = [path for path in lists if _mangled(source.mirror.base) in path.name] or lists
    match = re.search(r"^Date: *(.+)$", ours[0].read_text(errors="replace"), re.MULTILINE) if ours else None
    if match is None and source.keyring is not None:
        raise FetchError(f"The Release file of {suite.name} at {source.mirror.base} has no date.")
    date = parsedate_to_datetime(match[1]).astimezone(UTC).strftime(TIME_FORMAT) if match else now
    return LockedSuite(archive=suite.archive, name=suite.name, components=suite.components, date=date)


def _mangled(uri: str) -> str:
    """A URI or a part of one as apt writes it in the names of its lists (``URItoFileName`` in apt-pkg/strutl.cc)."""
    rest = re.sub(r"^([a-z+]+:)?(//([^/@]*@)?)?/*", "", uri)
    return re.sub(r'[\\|{}\[\]<>"^~_=!@#$%&*]', lambda match: f"%{ord(match[0]):02x}", rest).replace("/", "_")
