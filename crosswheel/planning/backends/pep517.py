"""setuptools and other PEP 517 backends that ask ``sysconfig`` for the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import PIP_WHEEL, Compilation, setup_wheel
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution

WITHOUT_PIP = ("2.7", "3.5", "3.6")
"""Pythons in whose builders pip cannot build with what is there. For 2.7 there is none; Ubuntu 16.04 has pip 8.1 and
Ubuntu 18.04 pip 9.0, and ``--no-build-isolation`` came with pip 10 (its release notes)."""


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """The target's sysconfig names the wrappers; ``CC`` and ``CXX`` do so for those who read the environment. Where the
    builder has no pip that can do it, setuptools makes the wheel."""
    folder = f"{values['toolchain']}/bin"
    old = resolution.python in WITHOUT_PIP
    return Compilation(
        env={"CC": f"{folder}/cc", "CXX": f"{folder}/c++"},
        sized_env={"MAX_JOBS": "{jobs}", "NPY_NUM_BUILD_JOBS": "{jobs}"} if old else {"MAX_JOBS": "{jobs}"},
        commands=(setup_wheel(f"/usr/bin/python{resolution.python}"),) if old else (PIP_WHEEL,),
    )
