"""Upstream tarballs of Debian's source packages, from the archive's pool, through apt's own client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.debian.aptrun import HELPER, AptRunner, apt_runner
from crosswheel.building.debian.mirrors import choose, dated, machine_mirrors
from crosswheel.building.job import Job
from crosswheel.building.sources.places import MAX_BYTES, PlaceError
from crosswheel.errors import CrosswheelError
from crosswheel.spec.sysroots import Archive

ARCHIVE = "debian"
"""The archive whose pool is meant, by its name in the written data."""

_SPEC = re.compile(
    r"^(?P<name>[a-z0-9][a-z0-9+.-]+)=(?P<version>[A-Za-z0-9.+:~-]+)(@(?P<date>\d{8}T\d{6}Z))?(#(?P<file>[^\s/]+))?$"
)
_COMPRESSIONS = ("gz", "xz", "bz2")


@dataclass(frozen=True)
class SourcePackage:
    """``NAME=VERSION``, with ``@DATE`` of a snapshot that has it and ``#FILE`` where its file has an unusual name."""

    name: str
    version: str
    date: str | None
    file: str | None

    def paths(self, wanted: str) -> tuple[str, ...]:
        """Where its upstream tarball may lie in an archive; ``wanted`` (a file name) says which compression first."""
        folder = self.name[:4] if self.name.startswith("lib") else self.name[0]
        pool = f"pool/main/{folder}/{self.name}"
        if self.file is not None:
            return (f"{pool}/{self.file}",)
        version = self.version.partition(":")[2] or self.version
        upstream, _, revision = version.rpartition("-")
        if not upstream:  # a native package: Debian is its upstream
            return (f"{pool}/{self.name}_{revision}.tar.xz", f"{pool}/{self.name}_{revision}.tar.gz")
        order = sorted(_COMPRESSIONS, key=lambda ending: not wanted.endswith(f".{ending}"))
        return tuple(f"{pool}/{self.name}_{upstream}.orig.tar.{ending}" for ending in order)


def parse(spec: str) -> SourcePackage:
    """Reads ``NAME=VERSION[@DATE][#FILE]``; ``PlaceError`` if it is something else."""
    match = _SPEC.match(spec)
    if match is None:
        raise PlaceError("not of the form NAME=VERSION, NAME=VERSION@SNAPSHOT or NAME=VERSION#FILE")
    return SourcePackage(match["name"], match["version"], match["date"], match["file"])


def from_debian(spec: str, wanted: str, dest: Path, job: Job, archives: Mapping[str, Archive]) -> None:
    """Brings a source package's upstream tarball to ``dest``.

    The mirror is the one that the user set, else the one of this machine's apt, else the snapshot; the snapshot also
    where the mirror no longer has that version. ``PlaceError`` names each file that was asked for.
    """
    package = parse(spec)
    archive = archives.get(ARCHIVE)
    if archive is None:
        raise PlaceError(f"no archive {ARCHIVE!r} is known")
    try:
        runner = apt_runner([archive], job)
        bases = _bases(package, archive, runner, job)
    except CrosswheelError as error:
        raise PlaceError(str(error)) from error
    if not bases:
        raise PlaceError("no mirror of the archive is set or used by apt here, and the place names no snapshot (@DATE)")
    reasons = []
    for base in bases:
        for path in package.paths(wanted):
            reason = _download(base + path, dest, runner)
            if not reason:
                return
            reasons.append(f"{base}{path}: {reason}")
    raise PlaceError("\n".join(reasons))


def _bases(package: SourcePackage, archive: Archive, runner: AptRunner, job: Job) -> tuple[str, ...]:
    work = job.work / "mirrors"
    work.mkdir(exist_ok=True)
    chosen = choose([archive], job.settings, lambda: machine_mirrors(runner, work), package.date or "")[archive.name]
    bases = [] if chosen.dated else [chosen.base]
    snapshot = dated(archive, package.date) if package.date is not None else None
    if snapshot is not None:
        bases.append(snapshot.base)
    return tuple(dict.fromkeys(bases))


def _download(uri: str, dest: Path, runner: AptRunner) -> str:
    """Empty if it worked, else why not. No hash is given to apt: the bytes are judged by the caller, who keeps them."""
    options = ("-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=60")
    ran = runner.run((HELPER, *options, "download-file", uri, str(dest)), (dest.parent,))
    if ran.status == 0 and dest.is_file():
        if dest.stat().st_size > MAX_BYTES:
            dest.unlink()
            return f"the file is longer than {MAX_BYTES:,} bytes"
        return ""
    dest.unlink(missing_ok=True)
    said = [line for line in ran.complaints(3) if line.startswith(("E:", "Err:"))] or ran.complaints(1)
    return "; ".join(line.removeprefix("E: ") for line in said) or f"apt-helper ended with status {ran.status}"
