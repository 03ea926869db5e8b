"""What the store's folders say: an artefact, how it was made, and the folder in which a step runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from crosswheel.building import manifest
from crosswheel.digest import Json, sha256_json


@dataclass(frozen=True, kw_only=True)
class Meta:
    """What is known of how an artefact was made. ``seconds`` is what it took, ``bytes`` the size of ``out/``, ``tool``
    the version of crosswheel, ``notes`` what the run said of itself."""

    name: str
    kind: str
    seconds: float
    bytes: int
    tool: str
    manifest: manifest.Manifest
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """The result of a step. ``path`` is its ``out/`` folder, which nobody may write to."""

    key: str
    path: Path
    meta: Meta


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the store knows of a key. ``step`` is what the key is made of, ``meta`` is there for a stored artefact."""

    key: str
    name: str
    step: Mapping[str, object]
    state: Literal["stored", "failed", "running"]
    folder: Path
    meta: Meta | None

    @property
    def log(self) -> Path:
        """The step's log."""
        return self.folder / "log.txt"


@dataclass(frozen=True, kw_only=True)
class Building:
    """The folder in which a step runs."""

    key: str
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"


class Damaged(Exception):
    """An artefact that must not be used; the message is the end of a sentence."""


def read_step(folder: Path, key: str) -> tuple[str, Mapping[str, object]]:
    """The step's name, and what its key is made of. ``FileNotFoundError``, or ``Damaged`` where that gives another
    key."""
    try:
        record = json.loads((folder / "step.json").read_bytes())
        name, described = str(record["name"]), record["described"]
        digest = sha256_json(described)
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"step.json cannot be read ({error})") from error
    if digest != key:
        raise Damaged("step.json does not have the key as its hash")
    return name, described


def read_meta(folder: Path) -> Meta:
    """How the folder's artefact was made. ``FileNotFoundError``, or ``Damaged``."""
    try:
        data = json.loads((folder / "meta.json").read_bytes())
        return Meta(
            name=str(data["name"]),
            kind=str(data["kind"]),
            seconds=float(data["seconds"]),
            bytes=int(data["bytes"]),
            tool=str(data["tool"]),
            manifest=manifest.Manifest.from_json(data),
            notes=dict(data.get("notes", {})),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"meta.json cannot be read ({error})") from error


def write_meta(folder: Path, meta: Meta) -> None:
    """Writes what :func:`read_meta` reads."""
    facts: dict[str, object] = {
        "name": meta.name,
        "kind": meta.kind,
        "seconds": meta.seconds,
        "bytes": meta.bytes,
        "tool": meta.tool,
    }
    if meta.notes:
        facts["notes"] = dict(meta.notes)
    (folder / "meta.json").write_text(json.dumps({**facts, **meta.manifest.to_json()}, sort_keys=True))


def name_of(folder: Path) -> str:
    """The step's name, for people: of a damaged folder, too."""
    try:
        return str(json.loads((folder / "step.json").read_bytes())["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return "(its description cannot be read)"
