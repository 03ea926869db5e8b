"""The task `headers`: a Python's headers for a target, made of CPython's own source, in a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.settings import MIRROR_HELP, read_settings, the_catalog
from crosswheel.errors import InputError
from crosswheel.planning.headers import headers_step
from crosswheel.planning.steps import RunStep
from crosswheel.spec.catalog import Catalog

if TYPE_CHECKING:
    from crosswheel.building.job import Settings
    from crosswheel.spec.pythons import CPython
    from crosswheel.spec.targets import System, Target


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What will be made: of which CPython, for which target, against which of its systems, by which step."""

    cpython: CPython
    target: Target
    system: System
    step: RunStep


@task(
    help={
        "python": "A series or a version of CPython, such as 3.9 or 3.9.2; sysroots/pythons.toml has them.",
        "target": "The machine that the headers are for.",
        "out": "The folder to write to; it must not exist, or be empty.",
        "source": "CPython's source, as a file or folder of yours, instead of fetching it.",
        "jobs": "How many compilers run at once (default: the number of processors).",
        "memory": "Limit of the container in GiB (default: 80 % of the machine's memory).",
        "sandbox": "docker (default), or host: in a chroot of this machine, which is not hermetic.",
        **MIRROR_HELP,
        "keep-failed": "Keep the folder of a failed step, for `./x shell KEY`.",
        "json": "Print one JSON object on stdout, and nothing else there.",
    },
    numbers={"jobs": int, "memory": float},
)
def headers(
    _context: Context,
    python: str,
    target: str,
    out: str,
    source: str | None = None,
    jobs: int | None = None,
    memory: float | None = None,
    sandbox: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
    keep_failed: bool = False,
    json: bool = False,
) -> None:
    """Make a Python's headers for a target of CPython's own source: `./x headers 3.9 --target nanopi-m4 --out DIR`."""
    catalog, folder = the_catalog(), Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("this folder is not empty", where=f"--out {out}", hint="name a new one")
    asked = headers_for(catalog, python, target, source)
    settings = read_settings(
        jobs=jobs, memory=memory, sandbox=sandbox, mirror=mirror, offline=offline, keep_failed=keep_failed
    )
    seconds = make(asked, catalog, settings, folder, quiet=json)
    if json:
        from crosswheel.cli.build import print_json

        print_json(_answer(asked, folder, seconds))
    else:
        what = f"headers of CPython {asked.cpython.version} for {asked.target.name} ({asked.system.sysroot})"
        print(f"{what} in {folder}; compile with -I {folder}/usr/include/python{asked.cpython.series}")


def headers_for(catalog: Catalog, python: str, target: str, source: str | None = None) -> Headers:
    """What is asked for. The system is the target's with this Python; one that the target does not have is made for its
    first, as for somebody's own build of a Python. ``InputError`` for what does not exist."""
    machine, cpython = catalog.target(target), catalog.cpython(python)
    same = [system for system in machine.systems if system.python == cpython.series]
    system = (*same, *machine.systems)[0]
    given = None
    if source is not None:
        from crosswheel.cli.asking import local_source

        given = local_source(source, f"--source {source}")
    step = headers_step(catalog, cpython, machine.arch, system.sysroot, system.toolchain, given)
    return Headers(cpython=cpython, target=machine, system=system, step=step)


def make(asked: Headers, catalog: Catalog, settings: Settings, folder: Path, *, quiet: bool) -> float:
    """Makes the headers, and copies them to ``folder``; returns the seconds."""
    import time

    from crosswheel.building.runs import copy_writable
    from crosswheel.building.store import Store
    from crosswheel.cli.executing import execute_all

    began = time.monotonic()
    result = execute_all((asked.step,), catalog, Store(settings.store), settings, quiet=quiet)
    copy_writable(result.artefacts[asked.step.key].path, folder)
    return time.monotonic() - began


def _answer(asked: Headers, folder: Path, seconds: float) -> dict[str, object]:
    series = asked.cpython.series
    return {
        "headers": str(folder),
        "include": str(folder / "usr" / "include" / f"python{series}"),
        "cpython": asked.cpython.version,
        "target": asked.target.name,
        "sysroot": asked.system.sysroot,
        "key": asked.step.key,
        "seconds": round(seconds, 3),
    }
