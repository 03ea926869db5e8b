"""What a wheel requires on its target: markers and tags as the target's Python has them, and the wheels that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from crosswheel.errors import InputError
from crosswheel.planning.resolve import abi_flags
from crosswheel.planning.steps import Step
from crosswheel.spec.base import Arch
from crosswheel.spec.policy import Policy
from crosswheel.spec.releases import Release

_OLDEST_GLIBC: Mapping[Arch, int] = {"aarch64": 17, "x86_64": 5}
"""The minor version of the oldest glibc 2 that manylinux knows for an architecture (PEP 513, PEP 599)."""

_LEGACY: Mapping[tuple[str, int], str] = {
    ("aarch64", 17): "manylinux2014",
    ("x86_64", 17): "manylinux2014",
    ("x86_64", 12): "manylinux2010",
    ("x86_64", 5): "manylinux1",
}
"""The older names of some manylinux platforms (PEP 600)."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A target as requirements see it. ``python`` is the full version, such as ``3.11.2``, ``glibc`` its floor."""

    python: str
    arch: Arch
    glibc: str

    @property
    def release(self) -> tuple[int, int]:
        """The major and minor version of its Python."""
        major, minor, *_ = self.python.split(".")
        return int(major), int(minor)

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The values of markers (PEP 508)."""
        major, minor = self.release
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": self.python,
            "os_name": "posix",
            "platform_machine": self.arch,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.python,
            "python_version": f"{major}.{minor}",
            "sys_platform": "linux2" if major == 2 else "linux",
        }

    @cached_property
    def ranks(self) -> Mapping[Tag, int]:
        """The tags of wheels that it takes; the lowest number fits best."""
        major, minor = self.release
        interpreter = f"cp{major}{minor}"
        abi = interpreter + abi_flags(f"{major}.{minor}")
        platforms = list(self._platforms())
        tags = [
            *cpython_tags((major, minor), abis=[abi], platforms=platforms),
            *compatible_tags((major, minor), interpreter, platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}

    def _platforms(self) -> Iterator[str]:
        yield f"linux_{self.arch}"
        for minor in range(int(self.glibc.split(".")[1]), _OLDEST_GLIBC[self.arch] - 1, -1):
            yield f"manylinux_2_{minor}_{self.arch}"
            if (self.arch, minor) in _LEGACY:
                yield f"{_LEGACY[self.arch, minor]}_{self.arch}"

    def rank(self, tags: Iterable[Tag]) -> int | None:
        """How well a wheel fits; None where it does not."""
        return min((self.ranks[tag] for tag in tags if tag in self.ranks), default=None)

    def takes(self, requires_python: str | None) -> bool:
        """Whether its Python is in the range that a file is for. A range that is none is taken for no range (pip does
        so, too)."""
        try:
            return SpecifierSet(requires_python or "").contains(self.python, prereleases=True)
        except InvalidSpecifier:
            return True


def machine_of(policy: Policy, python: str | None = None) -> Machine:
    """The machine of a proof's policy; ``python`` is the full version of its Python, where it is known."""
    return Machine(python=python or f"{policy.python}.0", arch=policy.arch, glibc=policy.floors.GLIBC)


Origin = Literal["wheel", "recipe", "check", "index"]
"""Where a wheel is from: it is the one that was asked for; a recipe of ours; what the check of the recipe was proved
with; the package index."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A wheel that could serve a requirement. ``recipe`` and ``release`` are of a recipe's; ``step`` brings a check's,
    which is from ``place``; ``sha256`` is that of an index's file."""

    name: NormalizedName
    version: Version
    origin: Origin
    file: str = ""
    sha256: str = ""
    recipe: str = ""
    release: Release | None = None
    step: Step | None = None
    place: str = ""

    @property
    def said(self) -> str:
        """Where it is from, as a manifest says it."""
        if self.origin == "recipe":
            return f"recipe {self.recipe} {self.version}"
        if self.origin == "index":
            return f"pypi:{self.name}=={self.version}"
        return self.place or "built"


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """A file that the package index lists. ``sha256`` is None where it tells none."""

    file: str
    sha256: str | None
    requires_python: str | None = None
    yanked: bool = False


def index_offers(name: NormalizedName, files: Iterable[IndexFile], machine: Machine) -> list[Offer]:
    """The wheels of an index that the machine takes: for each version the one that fits best, newest version first."""
    best: dict[Version, tuple[int, Offer]] = {}
    for item in files:
        if item.yanked or item.sha256 is None or not machine.takes(item.requires_python):
            continue
        try:
            found, version, _, tags = parse_wheel_filename(item.file)
        except InvalidWheelFilename:
            continue
        rank = machine.rank(tags)
        if found != name or rank is None or (version in best and best[version][0] <= rank):
            continue
        best[version] = rank, Offer(name=name, version=version, origin="index", file=item.file, sha256=item.sha256)
    return [best[version][1] for version in sorted(best, reverse=True)]


def source_archives(name: NormalizedName, files: Iterable[IndexFile], machine: Machine) -> dict[Version, str]:
    """The source archives that an index lists of a project: what could be made a recipe."""
    found: dict[Version, str] = {}
    for item in files:
        try:
            project, version = parse_sdist_filename(item.file)
        except InvalidSdistFilename:
            continue
        if project == name and not item.yanked and machine.takes(item.requires_python):
            found[version] = item.file
    return found


def named(file: str) -> tuple[NormalizedName, Version] | None:
    """The name and version that a wheel's or a source archive's file name says; None where it is neither."""
    try:
        if file.endswith(".whl"):
            return parse_wheel_filename(file)[:2]
        return parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None


def wanted(lines: Iterable[str], machine: Machine, extras: Iterable[str], where: str) -> list[Requirement]:
    """Those of a wheel's ``Requires-Dist`` lines that hold on the machine, with any of ``extras`` or without one.

    ``InputError`` for a line that is no requirement; ``where`` is the wheel.
    """
    found: list[Requirement] = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement as error:
            raise InputError(f"{line!r} is no requirement", where=where, why=str(error)) from error
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**machine.environment, "extra": extra}) for extra in ("", *extras)):
            requirement.marker = None
            found.append(requirement)
    return found


def key_of(requirement: Requirement) -> str:
    """What a requirement is for: the project's name, with its extras."""
    extras = sorted(canonicalize_name(extra) for extra in requirement.extras)
    return canonicalize_name(requirement.name) + (f"[{','.join(extras)}]" if extras else "")
