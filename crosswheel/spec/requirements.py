"""What pip on a target takes: markers and tags as the target's Python has them, and the requirements that hold there.

Sources: PEP 508 (markers), PEP 425 and PEP 600 (tags); packaging's own readers do the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name

from crosswheel.errors import InputError
from crosswheel.spec.base import Arch
from crosswheel.spec.policy import Policy

MOST_LINE = 2000
"""A requirement of more characters is not read; the longest on the package index have some hundreds."""

MOST_DEPTH = 50
"""A requirement with more opening parentheses is not read either: packaging reads them by recursion."""

LATEST = 99
"""The patch version that a Python is taken to have where it is not known: later than any (3.11.99)."""

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
        return not requires_python or _in_range(self.python, requires_python)


@lru_cache(maxsize=4096)
def _in_range(python: str, wanted: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True


def machine_of(policy: Policy, python: str | None = None) -> Machine:
    """The machine of a proof's policy; ``python`` is the full version of its Python, where it is known. Of X.Y any
    X.Y.Z may be on the target: else it is taken for the latest."""
    return Machine(python=python or f"{policy.python}.{LATEST}", arch=policy.arch, glibc=policy.floors.GLIBC)


def abi_flags(python: str) -> str:
    """What the ABI tag of CPython has behind its digits: ``mu`` for 2.7 as Linux distributions build it (PEP 425,
    PEP 513), ``m`` for 3.3 to 3.7 (PEP 3149; gone with 3.8, bpo-36707)."""
    major, minor = (int(part) for part in python.split("."))
    if major == 2:
        return "mu"
    return "m" if minor < 8 else ""


def holding(
    lines: Iterable[str], machine: Machine, extras: Iterable[str] = ()
) -> tuple[list[Requirement], list[tuple[str, str]]]:
    """Those of a wheel's ``Requires-Dist`` lines that hold on the machine, with any of ``extras`` or without one, and
    the lines that are no requirement, each with the reason. The lines may be anything: whoever made the wheel wrote
    them."""
    asked = ("", *extras)
    found: list[Requirement] = []
    bad: list[tuple[str, str]] = []
    for line in lines:
        try:
            if len(line) > MOST_LINE:
                raise ValueError(f"it has {len(line):,} characters")
            if line.count("(") > MOST_DEPTH:
                raise ValueError("its marker is nested too deeply")
            requirement = Requirement(line)
            marker = requirement.marker
            holds = marker is None or any(marker.evaluate({**machine.environment, "extra": each}) for each in asked)
        except ValueError as error:  # what packaging raises for a line, a marker or a version that is none
            bad.append((line, str(error)))
            continue
        if holds:
            requirement.marker = None
            found.append(requirement)
    return found, bad


def wanted(lines: Iterable[str], machine: Machine, extras: Iterable[str], where: str) -> list[Requirement]:
    """As :func:`holding`, with ``InputError`` for a line that is no requirement; ``where`` is the wheel."""
    found, bad = holding(lines, machine, extras)
    for line, why in bad:
        raise InputError(f"{line!r} is no requirement", where=where, why=why)
    return found


def key_of(requirement: Requirement) -> str:
    """What a requirement is for: the project's name, with its extras."""
    extras = sorted(canonicalize_name(extra) for extra in requirement.extras)
    return canonicalize_name(requirement.name) + (f"[{','.join(extras)}]" if extras else "")
