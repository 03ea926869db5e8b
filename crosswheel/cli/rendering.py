"""Writes a target's toolchain to a folder, for use without the rest of crosswheel."""

from __future__ import annotations

from pathlib import Path

from crosswheel.building.runs import write_files
from crosswheel.errors import InputError
from crosswheel.planning.render import Renderer
from crosswheel.planning.toolchains import Paths, bazel_files, toolchain_files, values_of
from crosswheel.spec.catalog import Catalog


def render_toolchain(catalog: Catalog, target: str, out: Path, python: str | None, sysroot: str) -> int:
    """Writes the files of a target's toolchain, all of Bazel's styles included; returns how many."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("this folder is not empty", where=f"--out {out}", hint="name a new one")
    wanted = catalog.target(target)
    systems = [system for system in wanted.systems if python in (None, system.python)]
    if not systems:
        has = ", ".join(system.python for system in wanted.systems)
        raise InputError(f"{wanted.name} has CPython {has}, not {python}", where=f"--python {python}")
    paths = Paths(sysroot=sysroot.rstrip("/"), toolchain=str(out.absolute()))
    chain = catalog.toolchain(systems[0].toolchain)
    values = values_of(systems[0], chain, catalog.cpu(wanted.cpu), wanted.arch, paths)
    renderer = Renderer(catalog)
    files = {
        **toolchain_files(renderer, values),
        **bazel_files(renderer, values, "crosstool"),
        **bazel_files(renderer, values, "starlark"),
        **bazel_files(renderer, values, "platforms"),
    }
    write_files(files, out)
    return len(files)
