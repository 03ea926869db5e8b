"""Archives that lie in a package, such as NVIDIA's ``cuda-repo-…-local``: read where they are, without installing it.

Such an archive is believed like every other: by its signature. Where it has none, as NVIDIA's first ones, its bytes
must have been named by their sha256: in the written data, or by the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from crosswheel.building.debian.deb import take
from crosswheel.building.debian.lock import LockedPackage
from crosswheel.building.debian.mirrors import Mirror
from crosswheel.building.job import Job
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.planning.steps import LockStep
from crosswheel.spec.sysroots import Suite

_INDICES = ("Packages", "Packages.gz", "Packages.xz", "Packages.bz2", "Release", "Release.gpg", "InRelease")
_KEYS = (".pub", ".asc", ".gpg", ".key")


@dataclass(frozen=True, kw_only=True)
class GivenArchive:
    """An archive's indices and keys, unpacked. ``folder`` holds the keys that lie beside it."""

    mirror: Mirror
    folder: Path
    vouched: bool


def given_archives(step: LockStep, inputs: Mapping[str, Path], job: Job) -> dict[str, GivenArchive]:
    """The archives that lie in the inputs of a lock step, by their names.

    ``InputError`` for a file that holds no such archive, or an unsigned one that nobody vouches for.
    """
    found: dict[str, GivenArchive] = {}
    for name, result in inputs.items():
        suites = [suite for suite in step.suites if suite.archive == name]
        if suites:
            found[name] = _given(name, package_in(result), suites, name in step.vouched, job)
    return found


def package_in(result: Path) -> Path:
    """The file that a fetched or given package is, in the result of its step."""
    return next(path for path in sorted(result.iterdir()) if path.is_file())


def _given(name: str, deb: Path, suites: Sequence[Suite], vouched: bool, job: Job) -> GivenArchive:
    folder = job.work / "archives" / name
    taken = take(deb, lambda path: PurePosixPath(path).name in _INDICES or path.endswith(_KEYS), folder)
    base = _base(taken, suites[0])
    if base is None:
        raise InputError(
            f"this package holds no archive with the suite {suites[0].name!r}",
            where=f"--source {name}=…{deb.name}",
            hint="NVIDIA's are called cuda-repo-…-local_….deb",
        )
    releases = base if suites[0].flat else base / "dists" / suites[0].name
    signed = any((releases / file).is_file() for file in ("InRelease", "Release.gpg"))
    if not signed and not vouched:
        raise InputError(
            f"the archive in {deb.name} is not signed, so its bytes must be named",
            where=f"--source {name}=…{deb.name}",
            hint=f"if you trust this file: --source {name}=…{deb.name}#sha256={sha256_file(deb)}",
        )
    reason = f"in {deb.name}, " + ("believed by its sha256" if vouched else "signed")
    mirror = Mirror(archive=name, base=f"copy:/{quote(str(base).lstrip('/'), safe='/~+')}/", dated=True, reason=reason)
    return GivenArchive(mirror=mirror, folder=base, vouched=vouched)


def _base(taken: Iterable[Path], suite: Suite) -> Path | None:
    """The folder that stands for the archive's URL; the highest of several."""
    bases = []
    for path in taken:
        if not path.name.startswith("Packages"):
            continue
        if suite.flat:
            bases.append(path.parent)
        elif f"/dists/{suite.name}/" in path.as_posix():
            bases.append(Path(path.as_posix().partition(f"/dists/{suite.name}/")[0]))
    return min(bases, key=lambda base: (len(base.parts), str(base)), default=None)


def take_packages(deb: Path, packages: Iterable[LockedPackage], folder: Path) -> dict[str, Path]:
    """The packages of a lock that lie in ``deb``, by their names, unpacked into ``folder``; unchecked."""
    names = {PurePosixPath(package.path).name: package.package for package in packages}
    taken = take(deb, lambda path: PurePosixPath(path).name in names, folder)
    return {names[path.name]: path for path in taken}
