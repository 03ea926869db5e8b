"""Drafts a recipe from a source archive of the package index: what can be read is read, and what cannot is said."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from crosswheel.building.job import Job, Settings
from crosswheel.building.offered import Index, for_a_build
from crosswheel.building.sources.package_index import Page
from crosswheel.building.sources.places import PlaceError
from crosswheel.building.sources.sdist import SdistFacts, read_sdist
from crosswheel.building.sources.unpack import unpack
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError, InputError
from crosswheel.planning.wheelhouse import IndexFile, named
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.requirements import LATEST, Machine, holding

_UNKNOWN = "0" * 64
"""Asked for where the index tells no sha256: the file is then taken by its name."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A wheel that the build requires, and the range of Pythons that it is for (empty: all of the release's)."""

    file: str
    sha256: str
    place: str
    python: str


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A recipe with one release, as it is to be written. ``todo`` are sentences about what was not known."""

    name: str
    project: str
    facts: SdistFacts
    file: str
    sha256: str
    distribution: str
    backend: str
    python: str
    requires: tuple[Wheel, ...]
    packages: tuple[str, ...]
    todo: tuple[str, ...]


def draft(name: str, project: str, version: str | None, catalog: Catalog, settings: Settings, index: Index) -> Draft:
    """Reads the source archive of a project's ``version``, or of its newest. ``InputError`` for what is not there or
    cannot be cross-built here, ``FetchError`` where the index does not answer."""
    plain = canonicalize_name(project)
    page = index.pages([plain])[plain]
    source, wanted = _source(project, page, version)
    wheels = [
        item.file for item in page.files if item.file.endswith(".whl") and (named(item.file) or ("",))[1:] == (wanted,)
    ]
    if wheels and all(file.endswith("-none-any.whl") for file in wheels):
        raise InputError(
            f"{project} {wanted} is pure Python: nothing is there to be compiled",
            why=f"the index has {wheels[0]}, which serves every target",
            hint=f"on the board: pip install {project}=={wanted}",
        )
    with tempfile.TemporaryDirectory(prefix="crosswheel-draft-") as folder:
        archive = _fetched(project, wanted, source, Path(folder), settings)
        unpack(archive, Path(folder, "tree"))
        facts = read_sdist(Path(folder, "tree"), source.file)
        sha256 = sha256_file(archive)
    if not _same(facts, plain, wanted):
        raise InputError(
            f"this source archive is not of {project} {wanted}",
            where=source.file,
            why=f"its PKG-INFO says {facts.name!r}, {facts.version!r}",
        )
    if facts.by_rust:
        raise InputError(
            f"{project} {wanted} is built by Rust, and no toolchain here has Rust",
            where=source.file,
            why=f"its build requires {', '.join(facts.requires)}",
        )
    return _drafted(name, project, source.file, sha256, facts, wheels, source.requires_python, catalog, index)


def _drafted(
    name: str,
    project: str,
    file: str,
    sha256: str,
    facts: SdistFacts,
    wheels: Sequence[str],
    listed_python: str | None,
    catalog: Catalog,
    index: Index,
) -> Draft:
    todo: list[str] = []
    python = _range(facts.requires_python or listed_python or "", wheels)
    machines = {m for m in builders(catalog) if SpecifierSet(python).contains(_minor(m), prereleases=True)}
    if not machines:
        raise InputError(
            f"no target has a CPython that {project} {facts.version} serves", where=file, why=f"it serves {python}"
        )
    requires, without = _required(facts, machines, index)
    if without:
        todo.append(f"left out, because what the build requires is not there for it: {'; '.join(without.values())}")
        python = _without(python, without, {_minor(machine) for machine in machines})
    backend, more = _backend(facts)
    todo += more
    packages, more = _packages(facts, max(machines, key=lambda machine: machine.release))
    todo += more
    return Draft(
        name=name,
        project=project,
        facts=facts,
        file=file,
        sha256=sha256,
        distribution=wheels[0].partition("-")[0] if wheels else facts.name.replace("-", "_"),
        backend=backend,
        python=python,
        requires=requires,
        packages=packages,
        todo=tuple(todo),
    )


def _same(facts: SdistFacts, name: str, version: Version) -> bool:
    """Whether an archive is what its file's name says."""
    try:
        return canonicalize_name(facts.name) == name and Version(facts.version) == version
    except InvalidVersion:
        return False


# --- the archive -----------------------------------------------------------------------------------------------------


def _source(project: str, page: Page, version: str | None) -> tuple[IndexFile, Version]:
    """The source archive of a version, or of the newest that is no pre-release and was not withdrawn."""
    if not page.files:
        if page.trouble:
            raise FetchError("the package index did not answer", why=page.trouble)
        raise InputError(f"no index that pip uses here lists a project {project!r}", where="--from pypi")
    found = {known[1]: item for item in page.files if not item.file.endswith(".whl") and (known := named(item.file))}
    versions = {known[1] for item in page.files if (known := named(item.file))}
    if version is not None:
        wanted = _version(version)
        if wanted not in versions:
            near = ", ".join(str(each) for each in sorted(found, reverse=True)[:5])
            raise InputError(f"the index has no {project} {version}", where="--from", hint=f"it has: {near or 'none'}")
    else:
        usable = [each for each, item in found.items() if not item.yanked]
        wanted = max([each for each in usable if not each.is_prerelease] or usable or versions)
    if wanted not in found:
        raise InputError(
            f"{project} {wanted} has no source archive on the index, only wheels",
            why=f"versions with one: {', '.join(str(each) for each in sorted(found, reverse=True)[:5]) or 'none'}",
            hint="a source from elsewhere is written by hand: docs/add-a-package.md",
        )
    return found[wanted], wanted


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise InputError(f"{text!r} is no version", where="--from", hint="for example --from pypi==2.1.5") from error


def _fetched(project: str, version: Version, source: IndexFile, folder: Path, settings: Settings) -> Path:
    from crosswheel.building.sources.places.registries import from_pypi

    out, work = folder / "out", folder / "work"
    out.mkdir()
    work.mkdir()
    job = Job(key="", out=out, work=work, settings=settings, log=lambda _line: None, cancelled=threading.Event())
    dest = out / source.file
    try:
        from_pypi(f"{project}=={version}", source.file, source.sha256 or _UNKNOWN, dest, job)
    except PlaceError as error:
        raise FetchError(
            f"{source.file} could not be had", where=f"pypi:{project}=={version}", why=str(error)
        ) from error
    if source.sha256 and sha256_file(dest) != source.sha256:
        raise FetchError(
            f"{source.file} has other bytes than the index says", why=f"sha256 {sha256_file(dest)}, not {source.sha256}"
        )
    shutil.rmtree(work)
    return dest


# --- Pythons ---------------------------------------------------------------------------------------------------------


def builders(catalog: Catalog) -> frozenset[Machine]:
    """The machines that builds of all targets run on: each Python with the oldest glibc of the distributions that
    have it."""
    oldest: dict[str, str] = {}
    for name in catalog.target_names:
        for system in catalog.target(name).systems:
            glibc = catalog.sysroot(catalog.toolchain(system.toolchain).sysroot).floors.GLIBC
            known = oldest.get(system.python, glibc)
            oldest[system.python] = min(known, glibc, key=Version)
    return frozenset(
        Machine(python=f"{python}.{LATEST}", arch="x86_64", glibc=glibc) for python, glibc in oldest.items()
    )


def _minor(machine: Machine) -> str:
    return ".".join(map(str, machine.release))


def _range(requires_python: str, wheels: Iterable[str]) -> str:
    """What upstream says, up to the newest CPython that it published wheels for."""
    newest = 0
    for file in wheels:
        for tag in parse_wheel_filename(file)[3]:
            if tag.interpreter.startswith("cp3") and tag.abi.startswith("cp3"):
                newest = max(newest, int(tag.interpreter[3:] or 0))
    parts = [part.strip() for part in requires_python.split(",") if part.strip()]
    if newest and not any(part.startswith(("<", "~", "==")) for part in parts):
        parts.append(f"<3.{newest + 1}")
    return ",".join(parts) or ">=3"


def _without(python: str, without: Iterable[str], all_pythons: Iterable[str]) -> str:
    """A range less some Pythons: a later start where these are the first, else each by itself."""
    ordered = sorted(all_pythons, key=Version)
    left = [each for each in ordered if each not in set(without)]
    if not left:
        raise InputError("for no Python is there all that its build requires", why=f"the release serves {python}")
    inner = [each for each in without if Version(each) > Version(left[0])]
    upper = [part for part in python.split(",") if not part.strip().startswith(">")]
    return ",".join([f">={left[0]}", *upper, *(f"!={each}.*" for each in sorted(inner, key=Version))])


# --- what the build requires -----------------------------------------------------------------------------------------


def _required(
    facts: SdistFacts, machines: Iterable[Machine], index: Index
) -> tuple[tuple[Wheel, ...], Mapping[str, str]]:
    """The wheels for the builders' Pythons, and the Pythons for which something is missing, each with a sentence."""
    chosen: dict[str, dict[str, tuple[str, str]]] = {}
    without: dict[str, str] = {}
    if facts.requires:
        for machine in sorted(machines, key=lambda machine: machine.release):
            python = _minor(machine)
            served = for_a_build(facts.requires, machine, index)
            if served.missing:
                without[python] = f"CPython {python} ({', '.join(item.name for item in served.missing)})"
                continue
            chosen[python] = {
                offer.file: (offer.sha256, f"pypi:{offer.name}=={offer.version}") for offer in served.offers[1:]
            }
    files = {file: told for offers in chosen.values() for file, told in offers.items()}
    ordered = sorted(chosen, key=Version)
    wheels = [
        Wheel(file=file, sha256=sha256, place=place, python=span)
        for file, (sha256, place) in sorted(files.items(), key=lambda item: item[0].lower())
        for span in _spans([file in chosen[python] for python in ordered], ordered)
    ]
    return tuple(wheels), without


def _spans(has: Sequence[bool], pythons: Sequence[str]) -> list[str]:
    """The ranges of Pythons in a row for which something holds."""
    spans, start = [], None
    for number in range(len(has) + 1):
        holds = number < len(has) and has[number]
        if holds and start is None:
            start = number
        if not holds and start is not None:
            parts = [f">={pythons[start]}"] if start else []
            parts += [f"<{pythons[number]}"] if number < len(has) else []
            spans.append(",".join(parts))
            start = None
    return spans


# --- what is not known -----------------------------------------------------------------------------------------------


def _backend(facts: SdistFacts) -> tuple[str, list[str]]:
    told = []
    if facts.setup_requires:
        told.append("its setup.py or setup.cfg says setup_requires: what stands there must be among [[requires]]")
    known = ("setuptools", "mesonpy", "scikit_build_core", "flit_core", "hatchling", "poetry.core", "pdm.backend")
    if facts.backend and not facts.backend.startswith(known):
        told.append(f"its backend is {facts.backend}, which nobody has tried here: see that it compiles for the target")
    if facts.by_meson:
        return "meson", told
    if facts.by_cmake:
        told.append("it is built by CMake: what CMakeLists.txt downloads must become [[externals]]")
        return "cmake", told
    return "pep517", told


def _packages(facts: SdistFacts, machine: Machine) -> tuple[tuple[str, ...], list[str]]:
    """The distribution's packages of what the installed package requires, by the names that Debian usually gives."""
    needed: list[Requirement] = holding(facts.needs, machine)[0]
    names = tuple(sorted({f"python3-{canonicalize_name(each.name).removeprefix('python-')}" for each in needed}))
    asked = ", ".join(str(each) for each in needed)
    return names, [f"it requires {asked}: see that the distributions have it as {', '.join(names)}"] if names else []
