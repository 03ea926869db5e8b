"""Getting the .debs of a lock by sha256: from the store, the mirror folder, the archive's mirror, its snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

from crosswheel.building.debian.apt import package_uri
from crosswheel.building.debian.aptrun import HELPER, AptRunner
from crosswheel.building.debian.given import take_packages
from crosswheel.building.debian.lock import Lock, LockedPackage
from crosswheel.building.debian.mirrors import Mirror, candidates, dated, machine_mirrors, snapshot_date
from crosswheel.building.debian.privateapt import local_folders
from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sources import kept
from crosswheel.building.sources.fetch import FILL, shown
from crosswheel.building.sources.mirror import ask_mirror, held_at, is_url, mirror_folder
from crosswheel.building.sources.places import PlaceError
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError
from crosswheel.spec.sysroots import Archive

Ready = Callable[[LockedPackage, Path], None]
"""Told of each .deb as soon as it is here and has its sha256; may be called from several threads."""

_PARALLEL = 3
_GROUP = 8
"""Files per call of apt-helper: within a call they come one after the other over one connection."""


@dataclass(kw_only=True)
class Search:
    """Gets the .debs of one lock. ``files`` are packages in which archives lie, by the archives' names. ``failures``
    collects, per package, what each place said, ``wrong`` which gave wrong bytes."""

    lock: Lock
    job: Job
    archives: Mapping[str, Archive]
    runner: Callable[[], AptRunner]
    ready: Ready
    where: str
    lock_name: str
    snapshot: str | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Calls ``ready`` for every package of the lock; ``FetchError`` names those that cannot be had."""
        missing = [package for package in self.lock.packages if not self._stored(package)]
        missing = self._from_files(self._from_mirror(missing))
        if missing and not self.job.settings.offline:
            for mirrors in self._places(missing):
                known = [package for package in missing if package.archive in mirrors]
                left = self._download(known, partial(_uri, mirrors), mirrors)
                missing = sorted([*left, *(p for p in missing if p not in known)], key=lambda p: p.package)
                self._refuse_wrong()
                if not missing:
                    break
        if missing:
            raise self._gone(missing)

    # --- what is here already --------------------------------------------------------------------------------------

    def _stored(self, package: LockedPackage) -> bool:
        path = deb_path(self.job.settings.store, package.sha256)
        if not path.is_file():
            return False
        if sha256_file(path) != package.sha256:
            place = kept.keep(self.job.settings.store, path)
            self.job.log(f"{package.title}: damaged in the store, kept as {place}; it is fetched again")
            return False
        self.ready(package, path)
        return True

    def _from_mirror(self, missing: list[LockedPackage]) -> list[LockedPackage]:
        """Takes what the user's mirror of files by sha256 has; gives what is still missing."""
        mirror = self.job.settings.mirror
        if not mirror or not missing:
            return missing
        if not is_url(mirror):
            return [package for package in missing if not self._in_folder(package, mirror_folder(mirror))]
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="mirror") as pool:
            held = list(pool.map(partial(self._at_url, mirror), missing))
        self._refuse_wrong()
        return [package for package, here in zip(missing, held, strict=True) if not here]

    def _from_files(self, missing: list[LockedPackage]) -> list[LockedPackage]:
        """Takes what lies in packages that are archives themselves; gives what is still missing."""
        for archive, deb in self.files.items():
            wanted = [package for package in missing if package.archive == archive]
            taken = take_packages(deb, wanted, self.job.work / "archives" / archive) if wanted else {}
            for package in wanted:
                path = taken.get(package.package)
                if path is None:
                    self._note(package, f"not in {deb.name}")
                elif sha256_file(path) != package.sha256:
                    place = kept.keep(self.job.settings.store, path)
                    self.wrong.append(f"{deb.name}: {package.title}: not sha256 {package.sha256}; kept as {place}")
                else:
                    self._adopt(package, path)
                    missing = [other for other in missing if other is not package]
        self._refuse_wrong()
        return missing

    def _at_url(self, mirror: str, package: LockedPackage) -> bool:
        path = self._scratch(package)
        try:
            ask_mirror(mirror, held_at(package.sha256), path, self.job.cancelled)
        except PlaceError as error:
            self._note(package, f"{shown(mirror)}/{held_at(package.sha256)}: {error}")
            return False
        if sha256_file(path) != package.sha256:
            place = kept.keep(self.job.settings.store, path)
            self.wrong.append(
                f"{shown(mirror)}/{held_at(package.sha256)}: {package.title}: other bytes, kept as {place}"
            )
            return False
        self._adopt(package, path)
        return True

    def _in_folder(self, package: LockedPackage, folder: Path) -> bool:
        path = folder / held_at(package.sha256)
        if not path.is_file():
            self._note(package, f"{folder} does not hold {held_at(package.sha256)}")
            return False
        found = sha256_file(path)
        if found != package.sha256:
            copy = self.job.work / f"{package.package}.deb"
            copy.write_bytes(path.read_bytes())
            place = kept.keep(self.job.settings.store, copy)
            raise FetchError(
                f"The mirror folder holds wrong bytes for {package.title}.",
                where=str(path),
                why=f"sha256 {found}, kept as {place}",
                hint=f"remove the file, and {FILL}",
            )
        self.ready(package, path)
        return True

    # --- downloads -------------------------------------------------------------------------------------------------

    def _places(self, missing: Sequence[LockedPackage]) -> Iterable[Mapping[str, Mirror]]:
        """The mirrors of the archives, then the other URLs where upstream has them, then their snapshots: of the time
        of the lock's Release files (a mirror may be older than the lock), of the time it was resolved, and a day later
        (what was new then is in it for sure)."""
        names = [name for name in dict.fromkeys(package.archive for package in missing) if name not in self.files]
        unknown = [name for name in names if name not in self.archives]
        if unknown:
            raise FetchError(f"The lock names an unknown archive: {', '.join(unknown)}.", where=self.where)
        archives = [self.archives[name] for name in names]
        resolved = self.lock.resolved_time()
        first = self.snapshot or snapshot_date(resolved)
        found = candidates(archives, self.job.settings, lambda: machine_mirrors(self.runner(), self.job.work), first)
        rounds = [
            {name: mirrors[number] for name, mirrors in found.items() if number < len(mirrors)}
            for number in range(max((len(mirrors) for mirrors in found.values()), default=0))
        ]
        later = snapshot_date(resolved + timedelta(days=1))
        for date in (self.snapshot or self._release_date, self._release_date, snapshot_date(resolved), later):
            snapshots = [dated(archive, date if isinstance(date, str) else date(archive.name)) for archive in archives]
            rounds.append({mirror.archive: mirror for mirror in snapshots if mirror})
        tried: set[str] = set()
        for mirrors in rounds:
            new = {name: mirror for name, mirror in mirrors.items() if mirror.base not in tried}
            if not new:
                continue
            if tried:
                self.job.log("not there any more: trying " + ", ".join(mirror.base for mirror in new.values()))
            tried |= {mirror.base for mirror in new.values()}
            yield new

    def _release_date(self, archive: str) -> str:
        times = self.lock.suite_times(archive)
        return snapshot_date(times[0] if times else self.lock.resolved_time())

    def _download(
        self, missing: Sequence[LockedPackage], uri: Callable[[LockedPackage], str], mirrors: Mapping[str, Mirror]
    ) -> list[LockedPackage]:
        """Downloads, largest first, several at once; gives what could not be had."""
        runner = self.runner()
        ordered = sorted(missing, key=lambda package: -package.size)
        count = max(1, -(-len(ordered) // _GROUP), min(_PARALLEL, len(ordered)))
        groups = [ordered[start::count] for start in range(count)]
        folders = [self.job.work, *local_folders(mirrors.values())]
        left: list[LockedPackage] = []
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="apt") as pool:
            calls = [pool.submit(self._group, runner, group, uri, folders) for group in groups]
            try:
                for call in as_completed(calls):
                    left += call.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return sorted(left, key=lambda package: package.package)

    def _group(
        self,
        runner: AptRunner,
        group: Sequence[LockedPackage],
        uri: Callable[[LockedPackage], str],
        folders: Sequence[Path],
    ) -> list[LockedPackage]:
        if self.job.cancelled.is_set():
            raise Cancelled
        argv = [HELPER, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "download-file"]
        for package in group:
            argv += [uri(package), str(self._scratch(package)), f"SHA256:{package.sha256}"]
        ran = runner.run(argv, folders)
        complaints = ran.complaints(3 * len(group))
        left = []
        for package in group:
            path = self._scratch(package)
            failed = path.with_name(path.name + ".FAILED")
            if path.is_file() and sha256_file(path) == package.sha256:
                self._adopt(package, path)
                continue
            for bad in (path, failed):
                if bad.is_file():
                    place = kept.keep(self.job.settings.store, bad)
                    self.wrong.append(f"{uri(package)}: not sha256 {package.sha256}; kept as {place}")
            said = [line for line in complaints if uri(package).lower() in line.lower()] or complaints[:1]
            self._note(package, *(said or [f"{uri(package)}: not downloaded"]))
            left.append(package)
        return left

    def _scratch(self, package: LockedPackage) -> Path:
        return self.job.work / f"{package.package}_{quote(package.version, safe='+~')}_{package.architecture}.deb"

    def _adopt(self, package: LockedPackage, path: Path) -> None:
        place = deb_path(self.job.settings.store, package.sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        kept.move(path, place)
        self.ready(package, place)

    # --- errors ----------------------------------------------------------------------------------------------------

    def _note(self, package: LockedPackage, *lines: str) -> None:
        self.failures.setdefault(package.package, []).extend(lines)

    def _refuse_wrong(self) -> None:
        if self.wrong:
            raise FetchError(
                "A package was given with bytes that are not those of the lock.",
                where=self.where,
                why="\n".join(self.wrong),
                hint="Nothing of it was used. Name another mirror (apt_mirrors), and tell who runs this one.",
            )

    def _gone(self, missing: Sequence[LockedPackage]) -> FetchError:
        said = {p.title: dict.fromkeys(self.failures.get(p.package, ["not in the store"])) for p in missing}
        why = [f"{title}: {'; '.join(lines)}" for title, lines in said.items()]
        if self.job.settings.offline:
            return FetchError(
                f"{len(missing)} packages of the lock are not on this machine, and the build is offline.",
                where=self.where,
                why="\n".join(why[:20]),
                hint=f"{FILL}; then name it with --mirror.",
            )
        names = ", ".join(package.title for package in missing[:10])
        return FetchError(
            f"{len(missing)} packages of the lock are at no mirror any more: {names}",
            where=self.where,
            why="\n".join(why[:20]),
            hint=f"Renew the lock: ./x sysroot lock {self.lock_name}",
        )


def deb_path(store: Path, sha256: str) -> Path:
    """Where the store keeps a .deb."""
    return store / "debs" / sha256[:2] / sha256


def _uri(mirrors: Mapping[str, Mirror], package: LockedPackage) -> str:
    return package_uri(mirrors[package.archive], package)
