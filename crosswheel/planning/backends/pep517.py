"""setuptools and other PEP 517 backends that ask ``sysconfig`` for the compiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import WITHOUT_PIP, Compilation, make_wheel
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution


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
        commands=(make_wheel(resolution.python),),
    )
