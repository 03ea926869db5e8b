"""The wheels of a folder and their proofs: ``dist``, or an index, whose wheels lie below ``wheels/``.

Every proof is compared with the wheel beside it: a wheel that is not the one that was proved is never offered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from crosswheel.digest import sha256_file
from crosswheel.errors import CrosswheelError, InputError
from crosswheel.proving.facts import read_metadata
from crosswheel.proving.prove import Proof
from crosswheel.publishing.ledger import read_ledger
from crosswheel.publishing.page.text import plain
from crosswheel.publishing.sidecars import PROOF, sidecars_of
from crosswheel.publishing.yanks import read_yanks, reasons
from crosswheel.spec.requirements import holding, machine_of

MOST_BYTES = 64 * 2**20
"""The largest proof that is read. That of TensorFlow, with all its packages, has 0.2 MB."""

_DEPTH = ("*/", "*/*/")
"""``<target>/`` and ``<target>/<cpu>/``. What lies deeper (a wheelhouse's wheels) has no proofs."""


@dataclass(frozen=True, kw_only=True)
class Proved:
    """A proof and the wheel beside it. ``path`` is the wheel's, below the folder of wheels. ``trouble`` says why the
    proof is not the wheel's, where it is not. ``there``: the wheel lies there. ``withheld`` says why pip would not, or
    should not, find it in its index. ``requires`` are the lines of its ``Requires-Dist`` that hold on its target; None
    where they are not known. ``beside`` are the endings of its other files."""

    path: str
    proof: Proof
    build: Mapping[str, Any]
    there: bool
    trouble: str
    withheld: str
    requires: tuple[str, ...] | None
    beside: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the wheel can be had, is the one that was proved, and passed."""
        return self.there and not self.trouble and not self.withheld and self.proof.passed

    @cached_property
    def distribution(self) -> str:
        """The project's name, normalised; empty for a bundle."""
        return "" if self.proof.kind == "bundle" else str(parse_wheel_filename(self.proof.file)[0])

    @cached_property
    def wheel_version(self) -> str:
        """The version that pip sees, with its local part."""
        return "" if self.proof.kind == "bundle" else str(parse_wheel_filename(self.proof.file)[1])

    def told(self, key: str, otherwise: str = "") -> str:
        """A text of the record of the build; ``otherwise`` where it has none."""
        value = self.build.get(key)
        return plain(value) if isinstance(value, str) and value else otherwise

    @property
    def features(self) -> tuple[str, ...]:
        value = self.build.get("features")
        return tuple(sorted(plain(each) for each in value)) if isinstance(value, list) else ()

    @property
    def recipe(self) -> str:
        return self.told("recipe", self.distribution or "?")

    @property
    def version(self) -> str:
        return self.told("version", self.wheel_version)


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What a folder holds: its proofs by path, whether it is an index, and sentences about what was left out."""

    proved: Mapping[str, Proved]
    is_index: bool
    problems: tuple[str, ...]


def read_shelf(folder: Path) -> Shelf:
    """The wheels with proofs in ``dist`` or in an index's folder; a folder that is not there holds none.

    No file's content is an error: what cannot be used is left out, and said in ``problems``.
    """
    is_index = (folder / "wheels").is_dir() and (folder / "simple").is_dir()
    base = folder / "wheels" if is_index else folder
    proved: dict[str, Proved] = {}
    problems: list[str] = []
    withheld = _withheld(folder, problems) if is_index else None
    for path in _proofs(base):
        relative = path.relative_to(base).as_posix()
        try:
            found = _read(path, base, withheld)
        except CrosswheelError as error:
            problems.append(f"{plain(relative)}: {plain(error.what)} {plain(error.why)}".strip())
            continue
        proved[found.path] = found
        if found.trouble:
            problems.append(f"{plain(relative)}: {found.trouble}")
    return Shelf(proved=proved, is_index=is_index, problems=tuple(problems))


def _withheld(folder: Path, problems: list[str]) -> Mapping[str, str]:
    """Of each wheel that an index lists, why nobody should install it; empty for those that are to be installed."""
    try:
        ledger = read_ledger(folder)
        listed = dict.fromkeys(ledger.places, "")
        return {**listed, **reasons(read_yanks(folder), ledger, folder)}
    except CrosswheelError as error:
        problems.append(f"{plain(error.where)}: {plain(error.what)}")
        return {}


def _proofs(base: Path) -> Iterable[Path]:
    found = (path for depth in _DEPTH for path in base.glob(f"{depth}*{PROOF}"))
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _read(path: Path, base: Path, withheld: Mapping[str, str] | None) -> Proved:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError("This is no proof: it is too large.", where=str(path))
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("This proof cannot be read.", where=str(path), why=str(error)) from error
    proof = Proof.from_json(value, str(path))
    if proof.kind == "wheel":
        try:
            parse_wheel_filename(proof.file)
        except (InvalidWheelFilename, ValueError) as error:
            raise InputError("It names a wheel that is none.", where=str(path), why=str(error)) from error
    build = value.get("build")
    wheel = path.with_name(path.name.removesuffix(PROOF))
    there = wheel.is_file()
    trouble = _trouble(wheel, proof, there)
    place = wheel.relative_to(base).as_posix()
    yanked = withheld.get(place, "the index does not list it") if withheld is not None else ""
    return Proved(
        path=place,
        proof=proof,
        build=build if isinstance(build, dict) else {},
        there=there,
        trouble=trouble,
        withheld=plain(yanked),
        requires=_requires(wheel, proof) if there and not trouble and proof.kind == "wheel" else None,
        beside=tuple(sidecars_of(wheel)),
    )


def _trouble(wheel: Path, proof: Proof, there: bool) -> str:
    """Why a proof is not that of the wheel beside it."""
    if proof.file != wheel.name:
        return f"the proof is of another wheel ({plain(proof.file)})"
    if not there:
        return ""
    try:
        size = wheel.stat().st_size
        if size != proof.size:
            return f"the proof is of a wheel of {proof.size:,} bytes, and the one beside it has {size:,}"
        digest = sha256_file(wheel)
    except OSError as error:
        return f"the wheel cannot be read ({error.strerror or error})"
    if digest != proof.sha256:
        return f"the proof is of the sha256 {plain(proof.sha256)[:64]}, and the wheel beside it has {digest}"
    return ""


def _requires(wheel: Path, proof: Proof) -> tuple[str, ...] | None:
    try:
        metadata = read_metadata(wheel)
    except CrosswheelError:
        return None
    if metadata is None:
        return None
    lines = (" ".join(line.split()) for line in metadata.get("requires-dist", ()))
    return tuple(str(each) for each in holding(lines, machine_of(proof.policy))[0])
