"""Packages whose ``setup.py`` calls CMake, and releases whose ``CMakeLists.txt`` is called directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import OUT, SOURCE, Compilation, filled, make_wheel
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.toolchains import BUILD, EXTERNALS
from crosswheel.spec.outputs import CMakeOutput

_FOLDER = f"{BUILD}/cmake"


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """CMake reads the toolchain file by ``CMAKE_TOOLCHAIN_FILE``, where the externals' folders stand as well."""
    path = "cmake/toolchain.cmake"
    text = renderer.render("cmake/toolchain.cmake.j2", {**values, "externals": dict(externals)})
    place = f"{values['toolchain']}/{path}"
    build = resolution.release.cmake
    return Compilation(
        files={path: RenderedFile(text=text)},
        env={"CMAKE_TOOLCHAIN_FILE": place},
        sized_env={"CMAKE_BUILD_PARALLEL_LEVEL": "{jobs}"},
        commands=_commands(build.outputs[resolution.output], place, values["toolchain"])
        if build
        else (make_wheel(resolution.python),),
    )


def _commands(output: CMakeOutput, file: str, toolchain: str) -> tuple[tuple[str, ...], ...]:
    words = {"{externals}": EXTERNALS, "{toolchain}": toolchain}
    defines = {
        # Read from the environment since CMake 3.21 alone.
        "CMAKE_TOOLCHAIN_FILE": file,
        "CMAKE_BUILD_TYPE": "Release",
        "CMAKE_INSTALL_PREFIX": OUT,
        # GNUInstallDirs chooses lib64 or lib/TRIPLET by what the builder looks like.
        "CMAKE_INSTALL_LIBDIR": "lib",
        **{name: filled(value, words) for name, value in output.defines.items()},
    }
    given = tuple(f"-D{name}={value}" for name, value in defines.items())
    return (
        ("cmake", "-G", "Ninja", "-S", f"{SOURCE}/{output.source}", "-B", _FOLDER, *given),
        ("cmake", "--build", _FOLDER, "--target", "install/strip"),
    )
