"""Packages that Meson builds, by their PEP 517 backend ``mesonpy``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.utils import parse_wheel_filename

from crosswheel.planning.backends import OUT, SOURCE, Compilation
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
settings = {{"builddir": {f"{BUILD}/meson"!r}, "setup-args": sys.argv[1:], "compile-args": ["-j" + jobs, "-v"]}}
mesonpy.build_wheel({OUT!r}, settings)
"""
"""The backend is called by its own interface: pip takes several settings of one name from 23.1 on only, and Debian
11's takes none. Without a ``builddir`` it would be a folder of a new name each time."""


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """Meson reads the cross file, in which ``python`` is the builder's Python that answers as the target's does. What a
    required wheel would put on the path, an unpacked one does not: Cython is a rendered wrapper, and so is a Meson that
    a release requires."""
    toolchain = values["toolchain"]
    python = f"/usr/bin/python{values['python']}"
    options = resolution.release.meson.options if resolution.release.meson else {}
    arguments = (
        f"--cross-file={toolchain}/meson/cross.ini",
        *(f"-D{name}={value}" for name, value in sorted(options.items())),
    )
    programs = ["cython", *(["meson"] if _required("meson", resolution) else [])]
    where = {"python": python, "source": SOURCE}
    return Compilation(
        files={
            f"meson/path/{name}": RenderedFile(text=renderer.render(f"wrappers/{name}.sh.j2", where), executable=True)
            for name in programs
        },
        sized_files={_SIZED: "{jobs}\n"},
        path=(f"{toolchain}/meson/path",),
        commands=((python, "-c", _BUILD, *arguments),),
    )


def _required(project: str, resolution: Resolution) -> bool:
    """Whether a release requires a wheel of ``project``."""
    return any(parse_wheel_filename(wheel.file)[0] == project for wheel in resolution.release.requires)
