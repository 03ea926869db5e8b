"""Which wheels may enter an index: those that lie where builds leave them, beside a proof that passed and is theirs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from crosswheel.digest import sha256_file
from crosswheel.errors import CrosswheelError, InputError
from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import Proof
from crosswheel.publishing.sidecars import PROOF, sidecar

PASSED_BY = ("failed", "wheelhouse", "variants")
"""Folders of wheels that are not released (their proof failed), or not ours (what pip installs from)."""

RESERVED = ("simple", "wheels", "variants", "page")
"""No target of an index is called so: these are folders of its own."""

_MOST = 20
"""So many wheels are told that cannot enter."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A wheel that may enter, with what its proof says of it; ``folder`` is where it lies, as builds name it."""

    path: Path
    folder: str
    target: str
    cpu: str
    sha256: str
    size: int

    @property
    def place(self) -> str:
        return f"{self.folder}/{self.path.name}"


def gather(root: Path) -> list[Candidate]:
    """The wheels below ``root``: ``<target>/NAME.whl`` and ``<target>/<cpu>/NAME.whl``, by their places.

    Raises ``InputError`` where ``root`` is no folder, and, all at once, for wheels without a proof, with that of
    another wheel, with one that did not pass, for another target or cpu than the folder says, and for those of another
    cpu than their target's own whose names do not tell it (by a build tag).
    """
    if not root.is_dir():
        raise InputError("there is no such folder of wheels", where=str(root), hint="--from names it; builds use dist")
    troubles: list[CrosswheelError] = []
    candidates: list[Candidate] = []
    for answer in at_once(_judged, list(_wheels(root))):
        if isinstance(answer, CrosswheelError):
            troubles.append(answer)
        else:
            candidates.append(answer)
    if troubles:
        raise all_of("cannot enter the index", troubles)
    return candidates


def at_once(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """``work`` on every item, on all processors: hashing does not hold Python's lock."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(work, items))


def all_of(what: str, troubles: list[CrosswheelError]) -> InputError:
    """Several wheels' errors as one."""
    if len(troubles) == 1:
        only = troubles[0]
        return InputError(only.what, where=only.where, why=only.why, hint=only.hint)
    lines = [f"{each.where}: {each.what}{f' ({each.why})' if each.why else ''}" for each in troubles[:_MOST]]
    lines += [f"and {len(troubles) - _MOST} more"] if len(troubles) > _MOST else []
    hints = dict.fromkeys(each.hint for each in troubles if each.hint)
    return InputError(f"{len(troubles)} wheels {what}", why="\n".join(lines), hint="\n".join(hints))


def _wheels(root: Path) -> Iterator[tuple[Path, str]]:
    """The wheels below ``root``, each with its folder; in an order that is the same everywhere."""
    for target in sorted(path for path in root.iterdir() if path.is_dir() and path.name not in PASSED_BY):
        cpus = (path for path in target.iterdir() if path.is_dir() and path.name not in PASSED_BY)
        for folder in (target, *sorted(cpus)):
            name = folder.relative_to(root).as_posix()
            yield from ((path, name) for path in sorted(folder.glob("*.whl")) if not path.name.startswith("."))


def _judged(found: tuple[Path, str]) -> Candidate | CrosswheelError:
    path, folder = found
    try:
        return _candidate(path, folder)
    except CrosswheelError as error:
        return error
    except OSError as error:
        return InputError("this wheel cannot be read", where=str(path), why=error.strerror or str(error))


def _candidate(path: Path, folder: str) -> Candidate:
    beside = sidecar(path, PROOF)
    if not beside.is_file():
        raise InputError(
            "this wheel has no proof beside it",
            where=str(path),
            why=f"there is no {beside.name}",
            hint="only what `./x build` proved is released: build it, or move the wheel out of this folder",
        )
    proof = Proof.read(beside)
    digest, size = sha256_file(path), path.stat().st_size
    if (proof.kind, proof.file, proof.sha256, proof.size) != ("wheel", path.name, digest, size):
        told = (
            f"it is that of {proof.file}"
            if proof.file != path.name
            else f"it is of sha256 {proof.sha256} ({proof.size:,} bytes), and the wheel has {digest} ({size:,} bytes)"
        )
        raise InputError(
            "the proof beside this wheel is not of this wheel",
            where=str(path),
            why=told,
            hint="build it again; one of the two was replaced or changed since",
        )
    if not proof.passed:
        raise InputError(
            "the proof of this wheel failed",
            where=str(path),
            why="; ".join(f"{each.rule}: {each.message}" for each in proof.of(Severity.FAIL)[:3]),
            hint="a wheel that would die on its target is not released: move it to the folder `failed`",
        )
    _check_folder(path, folder, proof)
    return Candidate(
        path=path, folder=folder, target=proof.policy.target, cpu=proof.policy.cpu, sha256=digest, size=size
    )


def _check_folder(path: Path, folder: str, proof: Proof) -> None:
    target, _, cpu = folder.partition("/")
    if target != proof.policy.target or (cpu and cpu != proof.policy.cpu):
        raise InputError(
            "this wheel lies in the folder of another target",
            where=str(path),
            why=f"its proof is for {proof.policy.target}, {proof.policy.cpu}",
            hint="leave wheels where builds put them: dist/<target>/, and dist/<target>/<cpu>/ for another cpu",
        )
    if target in RESERVED:
        raise InputError("no target of an index is called so", where=str(path), why=f"{target}/ is one of its folders")
    try:
        build = parse_wheel_filename(path.name)[2]
    except InvalidWheelFilename as error:
        raise InputError("this is no file name of a wheel", where=str(path), why=str(error)) from error
    if cpu and not build:
        raise InputError(
            "the name of this wheel does not tell that it is for another cpu than its target's own",
            where=str(path),
            why=f"it has no build tag; pip could not tell it from the wheel for {target} itself",
            hint=f"build it again: builds with --cpu {cpu} give it one",
        )
