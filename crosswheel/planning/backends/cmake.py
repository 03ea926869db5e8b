"""Packages whose ``setup.py`` calls CMake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import Compilation
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import RenderedFile


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """CMake reads the toolchain file by ``CMAKE_TOOLCHAIN_FILE``, where the externals' folders stand as well."""
    path = "cmake/toolchain.cmake"
    text = renderer.render("cmake/toolchain.cmake.j2", {**values, "externals": dict(externals)})
    return Compilation(
        files={path: RenderedFile(text=text)},
        env={"CMAKE_TOOLCHAIN_FILE": f"{values['toolchain']}/{path}"},
        sized_env={"CMAKE_BUILD_PARALLEL_LEVEL": "{jobs}"},
    )
