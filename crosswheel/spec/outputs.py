"""What the TOML files may say of outputs that are no wheels (bundles), and of what they are built with."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from crosswheel.spec.base import FileName, Model, Name, VersionText


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression that is searched for, in which ``{version}`` stands for the release's number, and ``^`` and
``$`` for a line's begin and end."""


class Attempt(Model):
    """A command that the proof of a bundle runs on the emulated target.

    In ``argv``, ``{bundle}`` stands for the unpacked bundle, ``{trial}`` for the output's trial files with what
    ``prepare`` left beside them, ``{out}`` for a writable folder that all attempts share, ``{externals}/RECIPE`` for
    the bundle of another recipe that is in the release's chain for the target, and ``{start}/NAME`` for a script that
    starts the bundle's ``bin/NAME``, for a program that is to start it. The first word is a program of the target. It
    must end with ``status``, its output must match ``expect``, and each file of ``leaves``, below ``{out}``, its
    pattern.
    """

    argv: tuple[str, ...] = Field(min_length=1)
    status: int = 0
    expect: Pattern = ""
    leaves: dict[str, Pattern] = {}

    @model_validator(mode="after")
    def _asks_something(self) -> Attempt:
        if not (self.expect or self.leaves):
            raise ValueError("an attempt without `expect` and `leaves` proves nothing")
        return self


class PkgConfig(Model):
    """The pkg-config file that a bundle of a library gets: ``lib/pkgconfig/<name>.pc``."""

    name: Name
    description: str
    libs: tuple[str, ...] = Field(min_length=1)


class Output(Model):
    """What a recipe gives besides, or instead of, a wheel: a bundle, which is a folder of programs and libraries.

    ``attempts`` are run on the emulated target, each for at most ``timeout`` seconds. ``trial`` are files beside
    ``recipe.toml`` that they need. ``prepare`` are commands that run in the builder before, in a writable copy of these
    files, and leave there what the attempts use besides: a program that is compiled against a library, say. ``CC``,
    ``CXX`` and ``PKG_CONFIG_LIBDIR`` are in their environment, and ``{bundle}`` is the unpacked bundle.
    """

    summary: str
    trial: tuple[FileName, ...] = ()
    prepare: tuple[tuple[str, ...], ...] = ()
    attempts: tuple[Attempt, ...] = Field(min_length=1)
    timeout: int = Field(default=300, gt=0)
    pkgconfig: PkgConfig | None = None


class CMakeOutput(Model):
    """An output of a release whose ``CMakeLists.txt`` is called directly: the folder in which it lies, and definitions.
    Its target ``install`` fills ``/build/out``. In ``defines``, ``{externals}/RECIPE`` stands for the unpacked bundle
    of another recipe that is in the release's chain for the target, ``{toolchain}`` for the rendered toolchain."""

    source: str = "."
    defines: dict[str, str] = {}


class CMakeBuild(Model):
    """CMake's part of a release that is no Python package. Without it, ``setup.py`` calls CMake."""

    outputs: dict[Name, CMakeOutput] = Field(min_length=1)


class ScriptOutput(Model):
    """An output of a release that builds itself: its commands, and what is in their environment besides ``CC`` and
    ``CXX``. In both, ``{out}`` is ``/build/out``, ``{tools}/RECIPE`` the bundle of another recipe that is in the
    release's chain for the host, ``{toolchain}`` the rendered toolchain, ``{cpu}`` and ``{host_cpu}`` Bazel's names."""

    commands: tuple[tuple[str, ...], ...] = Field(min_length=1)
    env: dict[str, str] = {}


class ScriptBuild(Model):
    """A release that builds itself by its own commands. ``bazel`` is the style in which the toolchain tells a Bazel of
    the release's own about the compilers."""

    bazel: Literal["", "crosstool", "starlark", "platforms"] = ""
    outputs: dict[Name, ScriptOutput] = Field(min_length=1)


class Link(Model):
    """Another recipe's release that is built before this one, because this one needs its bundle: on the ``host``, as a
    tool of the build (in ``/tools/RECIPE``, its ``bin`` on the ``PATH``), or for the ``target``, as a part of what is
    built (in ``/externals/RECIPE``)."""

    recipe: Name
    version: VersionText
    on: Literal["host", "target"]
