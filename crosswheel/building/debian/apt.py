"""Resolving packages in a private apt root: own state, cache, sources and keyring, an empty dpkg status.

Nothing of the machine's dpkg is read or written, and no root is needed. The machine's apt configuration (proxies,
credentials) holds, except for what would weaken the check of signatures or write outside the private root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote, unquote

from crosswheel.building.debian.aptrun import AptRunner, Ran, apt_runner, explain
from crosswheel.building.debian.lock import TIME_FORMAT, Lock, LockedPackage, LockedSuite
from crosswheel.building.debian.mirrors import Mirror, choose, machine_mirrors
from crosswheel.building.job import Job
from crosswheel.building.sources import kept
from crosswheel.building.sources.fetch import FILL, shown
from crosswheel.building.sources.mirror import mirrored_lock
from crosswheel.building.sources.places import PlaceError
from crosswheel.errors import DataError, FetchError, MachineError
from crosswheel.planning.steps import LockStep
from crosswheel.spec.sysroots import Archive, Suite

__all__ = ["KEYRINGS", "Lock", "LockedPackage", "LockedSuite", "run_lock"]

KEYRINGS = Path("/usr/share/keyrings")
"""Where Debian's and Ubuntu's packages put archive keyrings."""

_OUTSIDE = re.compile(r'["\n]')
_URI_LINE = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$")

_CONFIGURATION = """\
Dir::State "{root}";
Dir::State::lists "lists";
Dir::State::status "{root}/status";
Dir::State::extended_states "{root}/extended_states";
Dir::Cache "{root}";
Dir::Cache::archives "archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "{root}";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "{root}/empty";
Dir::Etc::preferences "{root}/none";
Dir::Etc::preferencesparts "{root}/empty";
Dir::Etc::trusted "{root}/none";
Dir::Etc::trustedparts "{root}/empty";
APT::Architecture "{architecture}";
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::GzipIndexes "false";
Acquire::PDiffs "false";
Acquire::Retries "2";
Acquire::ForceHash "SHA256";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Sandbox::User "root";
"""
# Why: pre- and post-invoke commands of the machine clean its own caches; the sandbox user _apt cannot enter a folder in
# somebody's home; indexes kept compressed (GzipIndexes, set by Docker's images) make the resolution slower.
_NO_CACHE = ("-o", "pkgCacheFile::Generate=false")
"""For ``apt-get update``: do not build a cache that nobody reads."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A suite, where it comes from, and the keyring that must have signed it."""

    suite: Suite
    mirror: Mirror
    keyring: Path

    def line(self, architecture: str) -> str:
        """The line of sources.list: no translations, no sources, no contents, only this keyring."""
        options = [f"arch={architecture}", "target=Packages", "lang=none", f"signed-by={self.keyring}"]
        if self.mirror.dated:
            options.append("check-valid-until=no")
        return f"deb [{' '.join(options)}] {self.mirror.base} {self.suite.name} {' '.join(self.suite.components)}"


@dataclass(frozen=True, kw_only=True)
class PrivateApt:
    """A private apt root in the folder ``root``."""

    root: Path
    runner: AptRunner

    @classmethod
    def make(cls, root: Path, architecture: str, sources: Sequence[Source], runner: AptRunner) -> PrivateApt:
        """Writes the root into an empty or missing folder."""
        if _OUTSIDE.search(str(root)):
            raise MachineError("apt cannot work in a folder whose name has a quote or a line break.", where=str(root))
        for name in ("lists/partial", "archives/partial", "empty"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        (root / "apt.conf").write_text(_CONFIGURATION.format(root=root, architecture=architecture))
        (root / "sources.list").write_text("".join(source.line(architecture) + "\n" for source in sources))
        return cls(root=root, runner=runner)

    def run(self, command: str, *arguments: str, folders: Sequence[Path] = ()) -> Ran:
        """Runs an apt command here. The configuration is given by ``-c``, so that it is read after the machine's."""
        return self.runner.run((command, "-c", str(self.root / "apt.conf"), *arguments), (self.root, *folders))


def run_lock(
    step: LockStep,
    inputs: Mapping[str, Path],
    job: Job,
    *,
    archives: Mapping[str, Archive],
    keyrings: Path = KEYRINGS,
) -> None:
    """Writes ``out/lock.json``: the step's pinned lock if there is one, else the user's mirror's, else what apt chooses
    now.

    ``FetchError`` where the mirror does not give what it should, ``MachineError`` where a keyring or apt is missing,
    ``DataError`` where the pinned lock is not one of this step.
    """
    if step.pinned is not None:
        lock = _checked(Lock.parse(step.pinned, where=step.name), step)
        job.log(f"{len(lock.packages)} packages, pinned on {lock.resolved}")
    else:
        lock = _mirrored(step, job) or resolve(step, job, archives, keyrings)
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


def resolve(step: LockStep, job: Job, archives: Mapping[str, Archive], keyrings: Path = KEYRINGS) -> Lock:
    """What apt chooses for the step's packages now. Errors: see :func:`run_lock`."""
    used = _used(step, archives)
    runner = apt_runner(used, job)
    _need_keyrings(used, keyrings, runner, step.name)
    mirrors = choose(used, job.settings, lambda: machine_mirrors(runner, job.work), step.snapshot)
    for mirror in mirrors.values():
        job.log(f"{mirror.archive}: {mirror.base} ({mirror.reason})")
    sources = [
        Source(suite=suite, mirror=mirrors[suite.archive], keyring=keyrings / archives[suite.archive].keyring)
        for suite in step.suites
    ]
    apt = PrivateApt.make(job.work / "apt", step.architecture, sources, runner)
    updated = apt.run("apt-get", *_NO_CACHE, "update", folders=local_folders(mirrors.values()))
    if updated.status != 0 or re.search(r"^(E:|W: (Failed|Some))", updated.errors, re.MULTILINE):
        _keep_failed(apt.root, job)
        raise _explained(updated, mirrors, archives, step.name)
    chosen = apt.run("apt-get", "install", "--yes", "--no-install-recommends", "--print-uris", *sorted(step.packages))
    if chosen.status != 0:
        raise _explained(chosen, mirrors, archives, step.name)
    lock = Lock(
        architecture=step.architecture,
        requested=tuple(sorted(set(step.packages))),
        suites=tuple(_locked_suite(source, apt) for source in sources),
        resolved=datetime.now(UTC).strftime(TIME_FORMAT),
        tool=apt.run("apt-get", "--version").output.partition("\n")[0],
        packages=parse_uris(chosen.output, mirrors),
    )
    job.log(f"{len(lock.packages)} packages, {sum(p.size for p in lock.packages) / 1e6:.1f} MB")
    return lock


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
        archive = next((name for name, mirror in mirrors.items() if uri.startswith(mirror.base)), None)
        if archive is None:
            raise FetchError("apt named a package outside the mirrors that it was given.", why=line)
        name, version, architecture = (unquote(part) for part in match["file"].removesuffix(".deb").split("_"))
        packages.append(
            LockedPackage(
                package=name,
                version=version,
                architecture=architecture,
                archive=archive,
                path=unquote(uri.removeprefix(mirrors[archive].base)),
                sha256=match["sha256"],
                size=int(match["size"]),
            )
        )
    return tuple(sorted(packages, key=lambda package: package.package))


def package_uri(mirror: Mirror, package: LockedPackage) -> str:
    """Where a mirror has a package."""
    return mirror.base + quote(package.path, safe="/~")


def local_folders(mirrors: Iterable[Mirror]) -> list[Path]:
    """The folders of this machine that mirrors lie in: a container must be shown them."""
    return [Path(unquote(m.base.removeprefix("copy:"))) for m in mirrors if m.base.startswith("copy:/")]


def _used(step: LockStep, archives: Mapping[str, Archive]) -> list[Archive]:
    names = list(dict.fromkeys(suite.archive for suite in step.suites))
    unknown = [name for name in names if name not in archives]
    if unknown:
        raise DataError(f"sysroots/archives.toml has no archive {', '.join(unknown)}.", where=step.name)
    return [archives[name] for name in names]


def _need_keyrings(archives: Sequence[Archive], folder: Path, runner: AptRunner, where: str) -> None:
    missing = {a.keyring: a for a in archives if not runner.has(folder / a.keyring)}
    if missing:
        packages = " ".join(sorted({archive.keyring_package for archive in missing.values()}))
        raise MachineError(
            f"The keyring {', '.join(str(folder / name) for name in missing)} is not on this machine: without it no"
            " signature can be checked.",
            where=where,
            hint=f"apt-get install {packages}",
        )


def _explained(ran: Ran, mirrors: Mapping[str, Mirror], archives: Mapping[str, Archive], where: str) -> Exception:
    """The error, about the mirror that apt's lines name."""
    evidence = "\n".join(ran.complaints())
    named = [m for m in mirrors.values() if m.base.rstrip("/") in evidence] or list(mirrors.values())
    bases = ", ".join(mirror.base for mirror in named)
    return explain(
        ran,
        what="; ".join(f"The mirror {mirror.base} of {mirror.archive} ({mirror.reason})" for mirror in named),
        mirror=bases,
        keyring_package=archives[named[0].archive].keyring_package,
        where=where,
    )


def _keep_failed(root: Path, job: Job) -> None:
    """Indexes that apt refused are kept aside for who wants to look at them."""
    for path in sorted((root / "lists" / "partial").glob("*.FAILED")):
        job.log(f"kept aside: {kept.keep(job.settings.store, path)}")


def _locked_suite(source: Source, apt: PrivateApt) -> LockedSuite:
    """The suite with the date of its Release file, as apt stored it after it checked the signature."""
    lists = sorted((apt.root / "lists").glob(f"*_dists_{_mangled(source.suite.name)}_*Release"))
    ours = [path for path in lists if _mangled(source.mirror.base) in path.name] or lists
    match = re.search(r"^Date: *(.+)$", ours[0].read_text(errors="replace"), re.MULTILINE) if ours else None
    if match is None:
        raise FetchError(f"The Release file of {source.suite.name} at {source.mirror.base} has no date.")
    date = parsedate_to_datetime(match[1]).astimezone(UTC)
    return LockedSuite(
        archive=source.suite.archive,
        name=source.suite.name,
        components=source.suite.components,
        date=date.strftime(TIME_FORMAT),
    )


def _mangled(uri: str) -> str:
    """A URI or a part of one as apt writes it in the names of its lists (``URItoFileName`` in apt-pkg/strutl.cc)."""
    rest = re.sub(r"^([a-z+]+:)?(//([^/@]*@)?)?/*", "", uri)
    return re.sub(r'[\\|{}\[\]<>"^~_=!@#$%&*]', lambda match: f"%{ord(match[0]):02x}", rest).replace("/", "_")
