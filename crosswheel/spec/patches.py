"""What ``patches/<recipe>/series.toml`` may say: the ordered patches of a recipe, and when each is due."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from crosswheel.spec.base import Arch, FileName, Model, Name, Specifier


class When(Model):
    """Conditions of a patch; all of them must hold. ``bazel`` and ``python`` are ranges, ``features`` must be on, and
    none of ``without`` may be."""

    python: Specifier | None = None
    bazel: Specifier | None = None
    arch: Arch | None = None
    features: tuple[Name, ...] = ()
    without: tuple[Name, ...] = ()


class Patch(Model):
    """A patch of a series: the file, the versions it serves, on which tree, and why."""

    file: FileName
    versions: Specifier
    external: str | None = None
    when: When = When()
    reason: Annotated[str, StringConstraints(min_length=10)]
    upstream: str


class Series(Model):
    """The ordered patches of a recipe."""

    patches: tuple[Patch, ...]
