"""What the TOML files may say of sources: a file by its sha256, and the places where it can be had.

``Externals`` (``recipes/<name>/externals/<version>.toml``) and ``Replacements`` (``recipes/<name>/replacements.toml``)
are whole files; the others are parts of a release or of a recipe.
"""

from __future__ import annotations

from typing import Annotated, Any

from packaging.specifiers import SpecifierSet
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch, FileName, Model, Name, Sha256, Specifier


class Place(Model):
    """One place where a source can be had.

    ``uri`` is ``https://…``, ``pypi:NAME==VERSION``, ``npm:NAME@VERSION`` or ``deb-src:NAME=VERSION`` (a Debian source
    package's upstream tarball, with the Debian version). ``sha256`` is given where this place's file is not the
    source's own bytes: a package in which the source is the file ``member``, or other bytes of the same content, with
    the ``reason``.
    """

    uri: Annotated[str, StringConstraints(pattern=r"^(https?://|pypi:[^=]+==|npm:.+@|deb-src:[^=]+=)")]
    sha256: Sha256 | None = None
    member: str | None = None

    @model_validator(mode="after")
    def _hash_with_member(self) -> Place:
        if (self.member is None) != (self.sha256 is None):
            raise ValueError("`member` and the `sha256` of the file that holds it go together")
        return self


def _place(value: Any) -> Any:
    return {"uri": value} if isinstance(value, str) else value


class Source(Model):
    """A file by its sha256, and the places where it can be had, most trusted first."""

    file: FileName
    sha256: Sha256
    places: tuple[Annotated[Place, BeforeValidator(_place)], ...] = Field(min_length=1)
    note: str = ""


class External(Source):
    """A source that the build tool would download by itself, handed to it as an unpacked folder.

    ``files`` are added to the folder: path inside it → template under ``toolchains/templates/`` (a BUILD file, say).
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
    files: dict[str, str] = {}


class Replacement(Source):
    """Another place of an external, with other bytes and the same content; it is used instead of what upstream pins.

    ``replaces`` is the sha256 that upstream pins for the external ``name``, or its URL where upstream pins none;
    ``reason`` says why, and how it is known that the content is the same. ``arch`` is the target's architecture for
    which alone it is taken; it then wins over one for all. ``versions`` is the range of releases that it serves, and
    ``without`` are features with which it is not taken. The patch to ``workspace.bzl`` that goes with it is part of the
    recipe's series, for the same range and under the same conditions.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
    replaces: str
    reason: Annotated[str, StringConstraints(min_length=10)]
    arch: Arch | None = None
    versions: Specifier | None = None
    without: tuple[Name, ...] = ()

    def serves(self, version: str, arch: Arch) -> bool:
        """Whether it is for a release's version and a target's architecture."""
        ranged = self.versions is None or SpecifierSet(self.versions).contains(version, prereleases=True)
        return ranged and self.arch in (None, arch)

    def stands_for(self, external: External) -> bool:
        """Whether it replaces what upstream pins for an external: by its sha256, or by an address of it."""
        pins = (external.sha256, *(place.uri for place in external.places))
        return self.name == external.name and self.replaces in pins


class Externals(Model):
    """``recipes/<name>/externals/<version>.toml``: what the release's own build files download, as
    ``recipe externals`` read it from upstream's tree. ``loaded`` are those of them that the build files load from, by
    name: Bazel gets these before it builds anything."""

    loaded: tuple[str, ...] = ()
    externals: tuple[External, ...]


class FurtherPlaces(Model):
    """Further places of the very bytes that have the ``sha256``, of whichever external they are."""

    sha256: Sha256
    places: tuple[Annotated[Place, BeforeValidator(_place)], ...] = Field(min_length=1)
    note: Annotated[str, StringConstraints(min_length=10)]


class Replacements(Model):
    """``recipes/<name>/replacements.toml``."""

    places: tuple[FurtherPlaces, ...] = ()
    replacements: tuple[Replacement, ...] = ()


class Requirement(Source):
    """A wheel for the builder's Python; ``python`` is the range of versions that it is for."""

    python: Specifier | None = None


class CheckWheel(Requirement):
    """A wheel for the target's Python, or the source archive of a pure package; ``arch`` is the architecture that it
    is for, if it is not for all. Of a huge wheel ``members`` are the patterns of what is wanted, with the sha256 of its
    ``record``."""

    arch: Arch | None = None
    record: Sha256 | None = None
    members: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _record_with_members(self) -> CheckWheel:
        if bool(self.members) != bool(self.record):
            raise ValueError("`members` and the sha256 of the wheel's `record` go together")
        return self
