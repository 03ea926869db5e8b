"""What a wheel was made of, read from the record of its build: one list, from which the SBOM and the provenance are
made, and with which they are compared.

The record is what :func:`crosswheel.building.record.build_record` wrote. It may come from a stranger's proof, so it is
validated before anything of it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from crosswheel.errors import DataError
from crosswheel.publishing.purls import deb_purl, source_purl
from crosswheel.spec.base import Sha256

Purpose = Literal["source", "sysroot", "builder", "tool", "trial"]
"""What an input is for: :class:`crosswheel.planning.purposes.Purpose`."""

_Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Told(BaseModel):
    """A part of the record. What a newer crosswheel says besides is left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ToldInput(_Told):
    """A file or folder from outside. ``given`` is what the user gave; without it, ``places`` say where it can be had.
    ``patches`` are those that its tree gets, in order."""

    file: _Text
    sha256: Sha256
    purpose: Purpose
    places: tuple[_Text, ...] = ()
    given: Literal["file", "folder", "image"] | None = None
    patches: tuple[_Text, ...] = ()


class ToldFile(_Told):
    """A package's .deb."""

    sha256: Sha256
    architecture: _Text
    vendor: _Text | None


class ToldRoot(_Told):
    """The packages of a root; all are None where the store had its lock no more."""

    purpose: Purpose
    lock_sha256: Sha256 | None
    packages: dict[str, _Text] | None
    files: dict[str, ToldFile] | None


class ToldToolchain(_Told):
    """The toolchain's name, and the packages that it asks for."""

    name: _Text
    packages: dict[str, _Text]


class Record(_Told):
    """The record of a build. ``remote`` is what steps said of a remote cache or executor that they reached."""

    recipe: _Text
    version: _Text
    output: _Text
    crosswheel: _Text
    plan: Sha256
    request: dict[str, Any]
    toolchain: ToldToolchain
    inputs: tuple[ToldInput, ...]
    patches: dict[str, Sha256]
    roots: dict[str, ToldRoot]
    steps: dict[str, Sha256] = Field(min_length=1)
    remote: dict[str, dict[str, Any]] = {}

    @cached_property
    def everything(self) -> tuple[Input, ...]:
        """See :func:`inputs_of`."""
        found = {item.name: item for item in _all(self)}
        return tuple(found.values())

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        for item in self.inputs:
            unknown = [file for file in item.patches if file not in self.patches]
            if unknown:
                raise ValueError(f"{shown(item.file)} has a patch {shown(unknown[0])}, of which no sha256 is told")
        for name, root in self.roots.items():
            if (root.packages or {}).keys() != (root.files or {}).keys():
                raise ValueError(f"of {shown(name)}, `packages` and `files` are not of the same packages")
        return self


def shown(text: object) -> str:
    """What a stranger wrote, for a sentence: the beginning of it, on one line, without what a terminal would obey."""
    return (ascii(text)[1:-1] if isinstance(text, str) else ascii(text))[:120]


def read_record(value: object, where: str = "") -> Record:
    """The record of which ``value`` is the JSON. Raises ``DataError`` for what is none, and for the record of a
    crosswheel that wrote no inputs yet."""
    try:
        record = Record.model_validate(value)
        inputs_of(record)  # of each of them there is a package URL
        return record
    except ValueError as error:
        first: Mapping[str, Any] = {"loc": (), "msg": shown(str(error))}
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
        place = ".".join(["build", *(shown(str(part)) for part in first["loc"])])
        raise DataError(
            "The record of the build, `build` in this proof, is not such as this crosswheel writes.",
            where=where,
            why=f"{place}: {first['msg']}",
            hint="Build the wheel again: what is in the store is not built anew, and its record is written.",
        ) from error


Kind = Literal["file", "folder", "image", "deb", "patch", "lock"]


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input by its sha256. ``name`` tells it apart from the others of a build. ``purl`` is its package URL, where
    it is a package or has a known place. ``root`` is the lock of which a .deb is. ``patches`` are names of patches."""

    name: str
    kind: Kind
    sha256: str
    purpose: Purpose
    file: str
    version: str | None = None
    purl: str | None = None
    root: str | None = None
    patches: tuple[str, ...] = field(default=())


def inputs_of(record: Record) -> tuple[Input, ...]:
    """All inputs of a build, in the order of the record: files and folders, patches, locks, and the packages of their
    roots. What two steps take is there once."""
    return record.everything


def unknown_roots(record: Record) -> list[str]:
    """The locks of which the record knows no packages, because they were in the store no more."""
    return [name for name, root in record.roots.items() if root.packages is None or root.files is None]


def _all(record: Record) -> Iterator[Input]:
    twice = _names_given_twice(record)
    for item in record.inputs:
        name = f"{item.file} {item.sha256[:12]}" if item.file in twice else item.file
        purl, version = (None, None) if item.given else source_purl(item.file, item.sha256, item.places)
        yield Input(
            name=f"{item.given or 'file'} {name}",
            kind=item.given or "file",
            sha256=item.sha256,
            purpose=item.purpose,
            file=item.file,
            version=version,
            purl=purl,
            patches=item.patches,
        )
    for file, sha256 in record.patches.items():
        yield Input(name=f"patch {file}", kind="patch", sha256=sha256, purpose=_patched(record, file), file=file)
    for lock, root in record.roots.items():
        if root.lock_sha256 is None:
            continue
        yield Input(name=f"lock {lock}", kind="lock", sha256=root.lock_sha256, purpose=root.purpose, file=lock)
        yield from _packages(lock, root)


def _names_given_twice(record: Record) -> set[str]:
    digests: dict[str, set[str]] = {}
    for item in record.inputs:
        digests.setdefault(item.file, set()).add(item.sha256)
    return {file for file, found in digests.items() if len(found) > 1}


def _patched(record: Record, patch: str) -> Purpose:
    """What the input is for that a patch changes."""
    return next((item.purpose for item in record.inputs if patch in item.patches), "source")


def _packages(lock: str, root: ToldRoot) -> Iterator[Input]:
    versions: Mapping[str, str] = root.packages or {}
    for package, file in (root.files or {}).items():
        version = versions.get(package, "")
        yield Input(
            name=f"deb {lock} {package}",
            kind="deb",
            sha256=file.sha256,
            purpose=root.purpose,
            file=package,
            version=version,
            purl=deb_purl(file.vendor, package, version, file.architecture),
            root=lock,
        )
