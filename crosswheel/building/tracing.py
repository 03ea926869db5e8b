"""Traces a fault on the emulated target to a function: gdb reads the core file that qemu-user left.

gdb runs in the target's own root, with all that the dead process saw, so that every path leads to the file that it had.
What gdb itself needs lies in a root of its own, which is mounted into it; its own loader starts it. A core file and the
libraries that it names are hostile input, so gdb has no more rights than the process had: it is in the sandbox, reads
no script of theirs, and what it writes down is bounded.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from crosswheel.building.emulation import Place, Process, read_left, run_emulated
from crosswheel.building.job import Job, Mount
from crosswheel.building.sandbox import Sandbox
from crosswheel.errors import CrosswheelError
from crosswheel.proving.emulate import TRACED, RunOutcome
from crosswheel.proving.faults import MOST_TEXT, Fault, read_fault
from crosswheel.spec.base import Arch
from crosswheel.spec.targets import Debugger

CORE_BYTES = 2 << 30
"""A core file may be so large. qemu writes the stack and the libraries first, which lie at the lowest addresses; what a
larger one lacks at its end is seldom missed."""

_ROOT = "/debugger"
_TRACE = "/trace"
_SECONDS = 300
_CORE = re.compile(r"^qemu_(?P<program>.+)_\d{8}-\d{6}_\d+\.core$")
_OTHER_CORE = re.compile(r"^core(\.\d+)?$")


@dataclass(frozen=True, kw_only=True)
class Tracer:
    """What traces. ``make`` gives the debugger's root, and makes it first where it is not in the store: it raises
    ``CrosswheelError`` where it cannot be had."""

    debugger: Debugger
    make: Callable[[Job], Path]


@dataclass(frozen=True, kw_only=True)
class Died:
    """A process of the target that may have died. ``program`` is its path on the target; ``cores`` is the folder of
    this machine that was its working directory ``cwd``. ``member`` gives the name of a member of what is judged that
    lies at a path of the target, None for other files."""

    program: str
    place: Place
    cwd: str
    cores: Path
    arch: Arch
    member: Callable[[str], str | None]


def traced(outcome: RunOutcome, died: Died, tracer: Tracer | None, job: Job, sandbox: Sandbox) -> RunOutcome:
    """The outcome with what was found out of its fault, if a signal ended it that leaves a core file; or with why
    nothing was. Raises :class:`~crosswheel.building.job.Cancelled` alone. Core files are removed."""
    if outcome.signal not in TRACED:
        return outcome
    try:
        found = _trace(died, tracer, job, sandbox)
    except CrosswheelError as error:
        found = " ".join(part for part in (error.what, error.why) if part).rstrip(".")
    except OSError as error:
        found = str(error)
    finally:
        _remove_cores(died.cores)
    if isinstance(found, Fault):
        return replace(outcome, fault=found)
    job.log(f"the fault could not be traced: {found}")
    return replace(outcome, untraced=found)


def _trace(died: Died, tracer: Tracer | None, job: Job, sandbox: Sandbox) -> Fault | str:
    if tracer is None:
        return "no debugger is at hand"
    core = _core_of(died)
    if isinstance(core, str):
        return core
    job.log("tracing the fault with gdb")
    root = tracer.make(job)
    folder = job.work / "trace"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    script = Path(__file__).with_name("in_debugger.py")
    shutil.copyfile(script, folder / script.name)
    mounts = (
        *(replace(mount, writable=False) for mount in died.place.mounts),
        Mount(source=root, target=_ROOT),
        Mount(source=folder, target=_TRACE, writable=True),
    )
    seen = f"{died.cwd}/{core.name}"
    process = Process(
        argv=_command(tracer.debugger, died.program, seen, f"{_TRACE}/{script.name}"),
        env={"CORE": seen, "HOME": "/tmp", "LANG": "C.UTF-8", "PYTHONHOME": f"{_ROOT}{tracer.debugger.python}"},
        cwd="/tmp",
        timeout=_SECONDS,
    )
    ended = run_emulated(process, replace(died.place, mounts=mounts), job, sandbox)
    text = read_left(folder / "stack.json", MOST_TEXT)
    if text is None:
        how = f"did not end within {_SECONDS} s" if ended.timed_out else f"ended with status {ended.status}"
        return f"gdb {how} and wrote no stack"
    return read_fault(text, died.arch, died.member)


def _command(debugger: Debugger, program: str, core: str, script: str) -> tuple[str, ...]:
    return (
        f"{_ROOT}{debugger.loader}",
        *("--library-path", ":".join(f"{_ROOT}{path}" for path in debugger.libraries)),
        f"{_ROOT}{debugger.binary}",
        *("--data-directory", f"{_ROOT}{debugger.data}"),
        *("-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"),
        *("-iex", "set sysroot /", "-x", script, program, core),
    )


def _core_of(died: Died) -> Path | str:
    """The core file that qemu left, or why there is none."""
    found = [
        path for path in died.cores.iterdir() if _CORE.match(path.name) and path.is_file() and not path.is_symlink()
    ]
    if not found:
        return "qemu left no core file"
    newest = max(found, key=lambda path: path.stat().st_mtime)
    named = _CORE.match(newest.name)
    program = died.program.rpartition("/")[2]
    if named is None or named["program"] != program:
        return f"the core file is not of {program}, but of a program that it started"
    return newest


def _remove_cores(folder: Path) -> None:
    """Those of qemu and those that the kernel wrote of qemu itself."""
    for path in folder.iterdir():
        if (_CORE.match(path.name) or _OTHER_CORE.match(path.name)) and (path.is_symlink() or path.is_file()):
            path.unlink()


def members_at(names: Iterable[str], folders: Iterable[str]) -> Callable[[str], str | None]:
    """Gives the name of a member for a path of the target: one of ``names`` below one of ``folders``."""
    known, below = frozenset(names), tuple(f"{folder}/" for folder in folders)

    def member(path: str) -> str | None:
        places = (path.removeprefix(folder) for folder in below if path.startswith(folder))
        return next((name for name in places if name in known), None)

    return member
