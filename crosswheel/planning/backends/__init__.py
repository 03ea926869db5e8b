"""How a release is compiled: each backend says which files it needs, in which environment, by which commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import RenderedFile

SOURCE = "/build/src"
OUT = "/build/out"
TOOLS = "/tools"
REPOSITORY_CACHE = "/build/repository-cache"

SOURCE_DATE_EPOCH = "1577836800"
"""2020-01-01 00:00 UTC, in seconds: the time that builds are told it is, so that equal inputs give equal bytes."""

PIP_WHEEL = (
    "python3",
    "-m",
    "pip",
    "wheel",
    "--verbose",
    "--no-build-isolation",
    "--no-deps",
    "--no-index",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--wheel-dir",
    OUT,
    ".",
)


_SETUP = (
    "import setuptools, sys; sys.argv[0] = 'setup.py'; "
    "exec(compile(open('setup.py').read(), 'setup.py', 'exec'), {'__file__': 'setup.py', '__name__': '__main__'})"
)
"""As pip does it: setup.py files that do not know setuptools make wheels, too."""


def setup_wheel(python: str) -> tuple[str, ...]:
    """The command by which setuptools makes a wheel, for a Python that has no pip in the builder."""
    return (python, "-c", _SETUP, "bdist_wheel", "--dist-dir", OUT)


WITHOUT_PIP = ("2.7", "3.5", "3.6")
"""Pythons in whose builders pip cannot build with what is there. For 2.7 there is none; Ubuntu 16.04 has pip 8.1 and
Ubuntu 18.04 pip 9.0, and ``--no-build-isolation`` came with pip 10 (its release notes)."""


def make_wheel(python: str) -> tuple[str, ...]:
    """The command that makes the wheel of a package's ``setup.py`` or PEP 517 backend, by the builder's ``python``."""
    return setup_wheel(f"/usr/bin/python{python}") if python in WITHOUT_PIP else PIP_WHEEL


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """A backend's part of the plan.

    ``files`` are rendered below the toolchain's folder, ``home`` into the home folder of the build; ``env`` is added
    to the common environment; ``sized_env`` and ``sized_files`` as a :class:`~crosswheel.planning.steps.RunStep` has
    them; ``path`` are folders before ``/usr/bin`` on ``PATH``. ``caches`` maps what a cache is for to the path where
    it is seen.
    """

    files: Mapping[str, RenderedFile] = field(default_factory=dict)
    home: Mapping[str, RenderedFile] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    sized_env: Mapping[str, str] = field(default_factory=dict)
    sized_files: Mapping[str, str] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    caches: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[tuple[str, ...], ...] = (PIP_WHEEL,)


def filled(word: str, values: Mapping[str, str]) -> str:
    """``word`` with each name of ``values`` in it, such as ``{out}``, replaced."""
    for name, value in values.items():
        word = word.replace(name, value)
    return word


Backend = Callable[[Resolution, Renderer, Mapping[str, Any], Mapping[str, str]], Compilation]
"""Resolution, renderer, the templates' values, externals (name → folder in the container) → the compilation."""
