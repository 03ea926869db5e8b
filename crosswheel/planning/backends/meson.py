"""Packages that Meson builds, by their PEP 517 backend ``mesonpy``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import OUT, Compilation
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.toolchains import BUILD

_SIZED = f"{BUILD}/machine/ninja-jobs"
"""The part of the settings that depends on the machine: Ninja has no variable for the number of its jobs."""

_BUILD = f"""
import mesonpy, sys
with open({_SIZED!r}) as stream:
    jobs = stream.read().strip()
mesonpy.build_wheel({OUT!r}, {{"setup-args": sys.argv[1:], "compile-args": ["-j" + jobs, "-v"]}})
"""
"""The backend is called by its own interface: pip takes several settings of one name from 23.1 on only, and Debian
11's takes none."""

_TOOLS = {"cython": "cython"}
"""Programs that a wheel of the same module would put on the path, which an unpacked wheel does not: name → module."""


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """Meson reads the cross file, in which ``python`` is the builder's Python that answers as the target's does."""
    toolchain = values["toolchain"]
    python = f"/usr/bin/python{values['python']}"
    options = resolution.release.meson.options if resolution.release.meson else {}
    arguments = (
        f"--cross-file={toolchain}/meson/cross.ini",
        *(f"-D{name}={value}" for name, value in sorted(options.items())),
    )
    return Compilation(
        files={
            f"meson/path/{name}": RenderedFile(
                text=renderer.render("wrappers/module.sh.j2", {"python": python, "module": module}), executable=True
            )
            for name, module in _TOOLS.items()
        },
        sized_files={_SIZED: "{jobs}\n"},
        path=(f"{toolchain}/meson/path",),
        commands=((python, "-c", _BUILD, *arguments),),
    )
