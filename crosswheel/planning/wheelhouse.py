"""What the package index, the recipes and the checks offer a target: the wheels that fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    NormalizedName,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from crosswheel.planning.steps import Step
from crosswheel.spec.releases import Release
from crosswheel.spec.requirements import Machine

Origin = Literal["wheel", "recipe", "check", "index", "beside", "package"]
"""Where a wheel is from: it is the one that was asked for; a recipe of ours; what the check of the recipe was proved
with; the package index; a folder. A package of the target's distribution is no wheel, and serves all the same."""


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
    """A file that the package index lists. ``sha256`` is None where it tells none; ``metadata`` says whether a wheel's
    METADATA is served beside it (PEP 658)."""

    file: str
    sha256: str | None
    requires_python: str | None = None
    yanked: bool = False
    metadata: bool = False


def index_offers(name: NormalizedName, files: Iterable[IndexFile], machine: Machine) -> list[Offer]:
    """The wheels of an index that the machine takes: for each version the one that fits best, newest version first."""
    best: dict[Version, tuple[int, Offer]] = {}
    for item in files:
        for_another = machine.arch not in item.file and not item.file.endswith("-any.whl")
        if for_another or item.yanked or item.sha256 is None or not machine.takes(item.requires_python):
            continue  # most of the thousands that some projects have, before their names are parsed
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
        if item.file.endswith(".whl"):
            continue
        try:
            project, version = parse_sdist_filename(item.file)
        except InvalidSdistFilename:
            continue
        if project == name and not item.yanked and machine.takes(item.requires_python):
            found[version] = item.file
    return found


@lru_cache(maxsize=2**17)
def named(file: str) -> tuple[NormalizedName, Version] | None:
    """The name and version that a wheel's or a source archive's file name says; None where it is neither."""
    try:
        if file.endswith(".whl"):
            return parse_wheel_filename(file)[:2]
        return parse_sdist_filename(file)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
