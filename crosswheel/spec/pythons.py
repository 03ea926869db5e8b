"""What the written data may say of CPython's own sources, from which a target's headers are made where its distribution
has no packages of them: ``Pythons`` (``sysroots/pythons.toml``), and the files of ``sysroots/config.site``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pydantic import Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch, FileName, Model, Specifier, VersionText
from crosswheel.spec.sources import Source

Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*_cv_[A-Za-z0-9_]+$")]
"""A variable in which a configure script keeps an answer (autoconf's manual, "Cache Variable Names")."""

Reason = Annotated[str, StringConstraints(min_length=10)]

_LINE = re.compile(r"^([a-z][a-z0-9_]*_cv_[A-Za-z0-9_]+)=([A-Za-z0-9_.+-]+)$")


class CPython(Source):
    """A version of CPython: the archive with its source. ``note`` names where the sha256 is from."""

    version: VersionText

    @property
    def series(self) -> str:
        """``3.9`` of 3.9.2: what its headers are for."""
        major, minor = Version(self.version).release[:2]
        return f"{major}.{minor}"


@dataclass(frozen=True)
class Machine:
    """What the answers depend on besides the CPython."""

    arch: Arch
    glibc: str


class Site(Model):
    """A file of ``sysroots/config.site``: answers for CPython ``python`` (a range), on ``arch`` and with ``glibc`` (a
    range), where it is not for all.

    ``hard`` are the answers without which configure stops, each with what it stops at; the other answers in the file
    are soft: without them configure goes on with a wrong one.
    """

    file: FileName
    python: Specifier
    arch: Arch | None = None
    glibc: Specifier | None = None
    hard: dict[Key, Reason] = {}

    def serves(self, version: str, machine: Machine) -> bool:
        """Whether the file has answers for this CPython on this machine."""
        if self.glibc is not None and not SpecifierSet(self.glibc).contains(machine.glibc):
            return False
        return self.arch in (None, machine.arch) and SpecifierSet(self.python).contains(version)


class Arguments(Model):
    """Arguments of configure for a range of CPythons, with the reason."""

    words: tuple[str, ...] = Field(min_length=1)
    python: Specifier
    reason: Reason


class Difference(Model):
    """Macros (patterns, such as ``HAVE_RL_*``) that the ``pyconfig.h`` of Debian's packages defines otherwise than ours
    of the same CPython, with the reason. ``read_by`` are those of CPython's own headers that look at them."""

    macros: tuple[str, ...] = Field(min_length=1)
    python: Specifier
    reason: Reason
    read_by: tuple[FileName, ...] = ()

    def explains(self, macro: str, version: str) -> bool:
        """Whether this is why a CPython's macro differs."""
        fits = any(fnmatchcase(macro, pattern) for pattern in self.macros)
        return fits and SpecifierSet(self.python).contains(version)


class Pythons(Model):
    """``sysroots/pythons.toml``: the versions, the answers and arguments with which they are configured, and in what
    the result differs from Debian's."""

    cpythons: tuple[CPython, ...] = Field(min_length=1)
    sites: tuple[Site, ...] = Field(min_length=1)
    arguments: tuple[Arguments, ...] = ()
    differences: tuple[Difference, ...] = ()

    @model_validator(mode="after")
    def _versions_differ(self) -> Pythons:
        versions = [item.version for item in self.cpythons]
        for version in versions:
            if versions.count(version) > 1:
                raise ValueError(f"CPython {version} stands here twice")
        return self

    def arguments_for(self, version: str) -> tuple[str, ...]:
        """What configure of a CPython is given besides the machines."""
        return tuple(
            word for item in self.arguments if SpecifierSet(item.python).contains(version) for word in item.words
        )


def answers_in(text: str) -> dict[str, str]:
    """The answers of a file of ``sysroots/config.site``.

    A shell reads these files, so nothing but comments, empty lines and ``KEY=WORD`` may stand there, and every answer
    has a comment with its reason right above it, or above the answers that it stands with. Raises ``ValueError`` with
    the number of the line that is something else.
    """
    answers: dict[str, str] = {}
    reason = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            reason = False
        elif line.startswith("#"):
            reason = True
        elif match := _LINE.match(line):
            key, value = match.groups()
            if not reason:
                raise ValueError(f"line {number}: {key} has no comment with its reason above it")
            if key in answers:
                raise ValueError(f"line {number}: {key} is answered twice")
            answers[key] = value
        else:
            raise ValueError(f"line {number}: {line!r} is neither a comment nor KEY=WORD")
    return answers
