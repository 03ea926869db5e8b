"""The lock: which packages, by version and sha256, a root is made of.

A lock names no mirror. Each package has the archive it comes from and its path below that archive's base, so that the
same lock serves with any mirror of the archive and with its dated snapshots.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError, model_validator

from crosswheel.errors import DataError
from crosswheel.spec.base import Model, Name, Sha256

SCHEMA = 1
"""Version of the lock's format; a lock of another version is refused."""

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""How a time is written in a lock: UTC, to the second."""

_Word = Annotated[str, StringConstraints(pattern=r"^\S+$")]
_Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
_Request = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?$")]
"""A package as it is asked for: its name, and its version where a certain one is wanted (``libcudnn8=8.2.1.32-1``)."""
_Architecture = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+$")]
_Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class LockedPackage(Model):
    """One .deb. ``path`` is below the base of ``archive``; ``size`` is in bytes."""

    package: _Package
    version: _Word
    architecture: _Architecture
    archive: Name
    path: _Word
    sha256: Sha256
    size: int = Field(gt=0)

    @model_validator(mode="after")
    def _path_stays_below(self) -> LockedPackage:
        if self.path.startswith("/") or ".." in self.path.split("/"):
            raise ValueError(f"the path {self.path!r} leads out of the archive")
        return self

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.package} {self.version}"


class LockedSuite(Model):
    """A suite as it was when the lock was made. ``date`` is its Release file's. A flat archive has no components."""

    archive: Name
    name: _Word
    components: tuple[_Word, ...]
    date: _Time


class Lock(Model):
    """What apt chose. ``requested`` is what was asked for, ``packages`` that and all it needs (or that alone, where a
    step wants no dependencies), sorted by name.

    ``resolved`` is when it was resolved, ``tool`` with which apt.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    architecture: _Architecture
    requested: tuple[_Request, ...] = Field(min_length=1)
    suites: tuple[LockedSuite, ...] = Field(min_length=1)
    resolved: _Time
    tool: str
    packages: tuple[LockedPackage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Lock:
        names = [package.package for package in self.packages]
        if names != sorted(names):
            raise ValueError("the packages are not sorted by name")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        archives = {suite.archive for suite in self.suites}
        for package in self.packages:
            if package.archive not in archives:
                raise ValueError(f"{package.package} comes from {package.archive!r}, of which the lock has no suite")
            if package.architecture not in (self.architecture, "all"):
                raise ValueError(f"{package.package} is for {package.architecture}, the lock for {self.architecture}")
        return self

    @classmethod
    def parse(cls, text: str, where: str) -> Lock:
        """The lock that ``text`` says; ``DataError`` with all that is wrong with it."""
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError("The lock is no JSON.", where=f"{where}:{error.lineno}", why=error.msg) from error
        found = value.get("schema") if isinstance(value, dict) else None
        if found != SCHEMA:
            raise DataError(
                f"The lock's schema is {found!r}, and this crosswheel reads schema {SCHEMA}.",
                where=where,
                hint="Make it anew: ./x sysroot lock NAME",
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise DataError(
                "The lock cannot be used.",
                where=where,
                why="\n".join(_sentence(value, item["loc"], item["msg"]) for item in error.errors()),
                hint="Make it anew: ./x sysroot lock NAME",
            ) from error

    def text(self) -> str:
        """The lock as JSON, one line per suite and package, so that a difference of two locks reads well."""
        value = self.model_dump(mode="json", by_alias=True)
        lists = {key: value.pop(key) for key in ("suites", "packages")}
        lines = [f" {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()]
        for key, items in lists.items():
            rows = ",\n".join(f"  {json.dumps(item)}" for item in items)
            lines.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def resolved_time(self) -> datetime:
        """When it was resolved (UTC, without a zone)."""
        return datetime.strptime(self.resolved, TIME_FORMAT)

    def suite_times(self, archive: str) -> list[datetime]:
        """The dates of the Release files of ``archive`` (UTC, without a zone), newest first."""
        times = [datetime.strptime(suite.date, TIME_FORMAT) for suite in self.suites if suite.archive == archive]
        return sorted(times, reverse=True)


def _sentence(value: object, location: Sequence[int | str], message: str) -> str:
    message = message.removeprefix("Value error, ")
    names: list[str] = []
    for part in location:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        package = value.get("package") if isinstance(value, dict) else None
        names.append(f"{part} ({package})" if isinstance(package, str) else str(part))
    return f"{'.'.join(names)}: {message}" if names else message
