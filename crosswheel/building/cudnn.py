"""Lays cuDNN out: finds its headers and libraries by their names, and checks that they are what a build wants."""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.arranging import library_facts
from crosswheel.building.debian.deb import extract
from crosswheel.building.job import Cancelled, Job
from crosswheel.building.sources.archives import kind_of_archive
from crosswheel.building.sources.unpack import unpack
from crosswheel.errors import InputError
from crosswheel.planning.cudnn import HOST_CUDNN, CudnnStep
from crosswheel.proving.elf import MACHINES

_HEADER = re.compile(r"^(?P<stem>cudnn(_[a-z][a-z_]*?)?)(_v(?P<major>\d+))?\.h$")
_LIBRARY = re.compile(r"^(?P<stem>libcudnn(_[a-z_]+)?)\.so(\.(?P<version>\d+(\.\d+)*))?$")
_DEFINE = re.compile(rb"^[ \t]*#[ \t]*define[ \t]+CUDNN_(MAJOR|MINOR|PATCHLEVEL)[ \t]+(\d+)[ \t]*(?:/[/*].*)?$", re.M)
_UNWANTED = re.compile(r"-(doc|samples)_")
"""Packages of cuDNN without anything to build with."""

_DEEP = 3
"""Archives in archives that are opened: NVIDIA's zip of packages, and the package that holds an archive of packages."""


@dataclass(frozen=True, kw_only=True)
class _Library:
    path: Path
    stem: str
    version: str
    soname: str
    machine: str


def run_cudnn(step: CudnnStep, inputs: Mapping[str, Path], job: Job) -> None:
    """Lays the inputs out; see :class:`crosswheel.planning.cudnn.CudnnStep`.

    ``InputError`` where there is no cuDNN in them, where it is of another version or architecture than the build wants,
    or where its headers and libraries are not of one version; all of these at once.
    """
    trees = [tree for role in sorted(inputs) for tree in _opened(inputs[role], job, _DEEP)]
    if job.cancelled.is_set():
        raise Cancelled
    major = step.version.partition(".")[0]
    headers, libraries = _headers(trees), _of_version(_libraries(trees), major)
    wrong = list(_judge(step, headers, libraries))
    if wrong:
        where = f"--source {step.source}" if step.source in inputs else step.name
        side = "the builder's, x86_64" if step.source == HOST_CUDNN else f"the target's, {step.arch}"
        raise InputError(
            f"this is not the cuDNN that the build wants: {step.version}, {side}",
            where=where,
            why="\n".join(f"- {line}" for line in wrong),
            hint="give another one by --source, or choose the version that you have: --tool cudnn=VERSION",
        )
    _lay_headers([path for path in headers if _of_major(path, major)], major, job.out / "include")
    _lay_libraries(libraries, job.out / "lib")
    (job.out / "lib64").symlink_to("lib")


# --- finding ---------------------------------------------------------------------------------------------------------


def _opened(tree: Path, job: Job, deep: int) -> Iterator[Path]:
    """The tree, and what lies in its archives and packages."""
    yield tree
    if not deep:
        return
    files = _files(tree)
    for path in files:
        if "cudnn" not in path.name.lower() and len(files) > 1:
            continue
        folder = _folder(job)
        if path.suffix == ".deb" and not _UNWANTED.search(path.name):
            extract(path, folder, path.name)
        elif kind_of_archive(path):
            folder /= "tree"
            unpack(path, folder, strip=False)
        else:
            continue
        job.log(f"opened {path.name}")
        yield from _opened(folder, job, deep - 1)


def _folder(job: Job) -> Path:
    for number in range(1, 10_000):
        path = job.work / f"opened-{number}"
        if not path.exists():
            path.mkdir(parents=True)
            return path
    raise InputError("these are too many archives for one cuDNN", where=str(job.work))


def _files(tree: Path) -> list[Path]:
    """The plain files: a board's links lead to its own folders, and are made anew."""
    return [path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink()]


def _headers(trees: list[Path]) -> list[Path]:
    return [path for tree in trees for path in _files(tree) if _HEADER.match(path.name)]


def _libraries(trees: list[Path]) -> list[_Library]:
    found: list[_Library] = []
    for path in (path for tree in trees for path in _files(tree)):
        match = _LIBRARY.match(path.name)
        facts = library_facts(path) if match else None
        if match is None or facts is None:
            continue
        machine = MACHINES.get(facts.machine, f"machine {facts.machine}")
        version = match["version"] or ""
        library = _Library(path=path, stem=match["stem"], version=version, soname=facts.soname, machine=machine)
        found.append(library)
    return found


def _of_version(libraries: list[_Library], major: str) -> list[_Library]:
    """Of several versions of cuDNN side by side, as a board may have them, the one that is wanted; else all."""
    fitting = [library for library in libraries if library.soname.endswith(f".so.{major}")]
    return fitting if any(library.stem == "libcudnn" for library in fitting) else libraries


# --- judging ---------------------------------------------------------------------------------------------------------


def _judge(step: CudnnStep, headers: list[Path], libraries: list[_Library]) -> Iterator[str]:
    versions = {version: path for path in headers if (version := header_version(path))}
    fitting = [version for version in versions if f"{version}.".startswith(f"{step.version}.")]
    if not headers:
        yield "there is no cudnn.h in it, and no cudnn_v*.h"
    elif not versions:
        names = ", ".join(sorted({path.name for path in headers}))
        yield f"no header tells the version (CUDNN_MAJOR, in cudnn.h or cudnn_version.h); there is: {names}"
    elif not fitting:
        yield f"the headers are of {_listed(versions)}, and {step.version} is wanted"
    elif len(fitting) > 1:
        yield f"there are headers of {_listed(fitting)}, and one of them is wanted"
    main = [library for library in libraries if library.stem == "libcudnn"]
    if not main:
        yield "there is no libcudnn.so in it, nor one with a version"
    for library in libraries:
        if library.machine != step.arch:
            yield f"{library.path.name} is for {library.machine}, and {step.arch} is wanted"
    for library in main:
        own = library.version or library.soname.removeprefix("libcudnn.so.")
        for version in fitting or [step.version]:
            if not _agree(own, version) or not _agree(library.soname.removeprefix("libcudnn.so."), version):
                told = library.soname or "none"
                yield f"{library.path.name} (SONAME {told}) is no library of the headers' version, {version}"
    yield from _different(libraries)


def header_version(header: Path) -> str:
    """The version that a header defines; empty for one that defines none."""
    found = {name.decode(): number.decode() for name, number in _DEFINE.findall(header.read_bytes())}
    if "MAJOR" not in found or "MINOR" not in found:
        return ""
    return ".".join(found[name] for name in ("MAJOR", "MINOR", "PATCHLEVEL") if name in found)


def _agree(one: str, other: str) -> bool:
    """Whether two versions are the same as far as both are told."""
    return all(a == b for a, b in zip(one.split("."), other.split("."), strict=False))


def _different(libraries: list[_Library]) -> Iterator[str]:
    """Copies of one library that are not the same: ``scp`` follows links, and brings each library several times."""
    first: dict[str, Path] = {}
    for library in libraries:
        other = first.setdefault(library.stem, library.path)
        if other is not library.path and not filecmp.cmp(other, library.path, shallow=False):
            yield f"{other.name} and {library.path.name} are two libraries, and one is wanted"


def _listed(versions: Mapping[str, Path] | list[str]) -> str:
    return " and ".join(sorted(versions))


# --- laying out ------------------------------------------------------------------------------------------------------


def _of_major(header: Path, major: str) -> bool:
    match = _HEADER.match(header.name)
    return match is not None and match["major"] in (None, major)


def _lay_headers(headers: list[Path], major: str, folder: Path) -> None:
    """Every header, and for one that is there as ``cudnn_v8.h`` alone, ``cudnn.h``."""
    folder.mkdir()
    for path in headers:
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    for path in sorted(folder.glob(f"*_v{major}.h")):
        plain = folder / f"{path.name.removesuffix(f'_v{major}.h')}.h"
        if not plain.exists():
            plain.symlink_to(path.name)


def _lay_libraries(libraries: list[_Library], folder: Path) -> None:
    """Of each library the copy with the longest name, and the links by which it is loaded and linked."""
    folder.mkdir()
    longest: dict[str, _Library] = {}
    for library in libraries:
        known = longest.get(library.stem)
        if known is None or len(library.path.name) > len(known.path.name):
            longest[library.stem] = library
    for library in longest.values():
        shutil.copyfile(library.path, folder / library.path.name)
        behind = library.path.name
        for name in (library.soname, f"{library.stem}.so"):
            if name and not (folder / name).exists():
                (folder / name).symlink_to(behind)
                behind = name
