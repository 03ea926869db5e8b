"""Lays out CUDA and cuDNN: brings files to where builds look for them, and makes the links that libraries lack."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from crosswheel.building.job import Cancelled, Job
from crosswheel.errors import StepError
from crosswheel.planning.arranging import ArrangeStep, Placing
from crosswheel.planning.steps import RenderedFile
from crosswheel.proving.elf import ElfFacts, read_elf
from crosswheel.proving.elf_tables import MAGIC, Garbled

STUBS = "stubs"
"""The folder of libraries that are linked with, and never loaded: a stub has the symbols of the driver's or of the
board's own library, and no code (CUDA C++ Programming Guide; ``lib/stubs`` of every toolkit)."""


def run_arrange(step: ArrangeStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Lays the inputs out; see :class:`crosswheel.planning.arranging.ArrangeStep`.

    ``StepError`` where a pattern matches nothing, a library is of another architecture, a link leads nowhere, or
    something that is expected is not there; all of these at once.
    """
    wrong: list[str] = []
    for placing in step.placings:
        wrong += _place(placing, inputs[placing.role], job.out)
        if job.cancelled.is_set():
            raise Cancelled
    _write(step.files, job.out)
    _make_executable(job.out)
    for made in _link_libraries(job.out):
        job.log(f"{made}: a link that the packages lack")
    wrong += _judge(step, job.out)
    if wrong:
        raise StepError(
            "The files that came are not those that a build needs.",
            where=step.name,
            why="\n".join(f"- {line}" for line in wrong),
            hint="the release of the package is another than the written data has (its `layout` or `expected`), or "
            "what was given by hand is not complete",
        )


# --- what goes where -------------------------------------------------------------------------------------------------


def _place(placing: Placing, source: Path, out: Path) -> Iterator[str]:
    """Brings what matches a pattern; tells if nothing does."""
    found = sorted(source.glob(placing.origin))
    if not found:
        yield f"{placing.role} has nothing that matches {placing.origin}"
    folder = placing.to.endswith("/")
    for path in found:
        _bring(path, out / placing.to / path.name if folder else out / placing.to)


def _bring(path: Path, dest: Path) -> None:
    """A file, a link or a folder; what is there already stays."""
    if path.is_dir() and not path.is_symlink():
        for below in sorted(path.iterdir()):
            _bring(below, dest / below.name)
        return
    if os.path.lexists(dest):
        return
    dest.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and not path.readlink().is_absolute():
        dest.symlink_to(path.readlink())
    elif ".so" not in path.name or not _shared(path, dest):
        shutil.copy2(path, dest)


def _shared(path: Path, dest: Path) -> bool:
    """Whether ``dest`` could be made the same file as ``path``: libraries of CUDA have half a gigabyte, and the store
    has them already. No file of an artefact is ever written to."""
    try:
        os.link(path.resolve(), dest)
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _write(files: Mapping[str, RenderedFile], out: Path) -> None:
    for name, file in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.link:
            path.symlink_to(file.text)
            continue
        path.write_text(file.text, encoding="utf-8")
        path.chmod(0o755 if file.executable else 0o644)


def _make_executable(out: Path) -> None:
    """What is a program by its place and its contents may be run: members of wheels come without that bit."""
    for path in out.rglob("bin/*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as stream:
                program = stream.read(len(MAGIC)) == MAGIC
            if program:
                path.chmod(0o755)


# --- links of libraries ----------------------------------------------------------------------------------------------


def _link_libraries(out: Path) -> Iterator[str]:
    """Gives every shared library below ``out`` its SONAME and its ``.so``; the paths of the links that were made."""
    for path in sorted(out.rglob("lib*.so*")):
        if path.is_symlink() or not path.is_file():
            continue
        facts = library_facts(path)
        if facts is None:
            continue
        stub = path.parent.name == STUBS
        folder = path.parent.parent if stub else path.parent
        linked = f"{path.name.partition('.so')[0]}.so"
        # A stub is beside its folder wanted only where the library itself is not there.
        if stub and any(not other.is_symlink() for other in folder.glob(f"{linked}*")):
            continue
        target = f"{STUBS}/{path.name}" if stub else path.name
        # A board's own library has the full name that the host's has: TensorFlow's cuda_configure.bzl asks both sides
        # for one name.
        others = {other.name for other in out.glob(f"targets/*/{folder.name}/{linked}.*")} if stub else set[str]()
        for name in dict.fromkeys((facts.soname or linked, linked, *sorted(others))):
            link = folder / name
            if link == path or (os.path.lexists(link) and link.exists()):
                continue
            link.unlink(missing_ok=True)
            link.symlink_to(target)
            yield link.relative_to(out).as_posix()


def library_facts(path: Path) -> ElfFacts | None:
    """The facts of a shared library; None for a linker script or a file that is none."""
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        # Mapped, because cuBLAS alone has half a gigabyte, and a few pages of it are read.
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
            try:
                return read_elf(path.name, view)
            except Garbled:
                return None


# --- what must be so -------------------------------------------------------------------------------------------------


def _judge(step: ArrangeStep, out: Path) -> Iterator[str]:
    for name in step.expected:
        if not any(out.glob(name)):
            yield f"{name} is missing"
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_symlink() and not path.exists():
            yield f"{name} is a link to {path.readlink()}, which is not there"
        elif path.is_file() and not path.is_symlink():
            yield from _of_its_arch(step, name, path)


def _of_its_arch(step: ArrangeStep, name: str, path: Path) -> Iterator[str]:
    wanted = next((arch for folder, arch in step.arches.items() if name.startswith(f"{folder}/")), None)
    if wanted is None or path.suffix in (".a", ".o", ".h"):
        return
    with path.open("rb") as stream:
        head = stream.read(20)
    if head[:4] != MAGIC or len(head) < 20:
        return
    machine = int.from_bytes(head[18:20], "little")
    if machine != _MACHINES[wanted]:
        from crosswheel.proving.elf import MACHINES

        yield f"{name} is for {MACHINES.get(machine, f'machine {machine}')}, and not for {wanted}"


_MACHINES = {"x86_64": 62, "aarch64": 183}
"""``e_machine`` of ELF, bytes 18 and 19 (System V gABI, chapter 4)."""
