"""Publishes an index to a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crosswheel.digest import sha256_file
from crosswheel.publishing.carriers import Difference
from crosswheel.publishing.gathering import at_once
from crosswheel.publishing.writing import clear_partials, copy


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, or one that is mounted here."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    def read(self, path: str) -> bytes | None:
        place = self.root / path
        return place.read_bytes() if place.is_file() else None

    def compare(self, source: Path, paths: Sequence[str]) -> Difference:
        def same(path: str) -> bool | None:
            here, there = source / path, self.root / path
            if not there.is_file():
                return None
            return here.stat().st_size == there.stat().st_size and sha256_file(here) == sha256_file(there)

        known = dict(zip(paths, at_once(same, paths), strict=True))
        return Difference(
            missing=frozenset(path for path, equal in known.items() if equal is None),
            changed=frozenset(path for path, equal in known.items() if equal is False),
        )

    def send(self, source: Path, paths: Sequence[str]) -> None:
        if self.root.is_dir():
            clear_partials(self.root)
        for path in paths:
            copy(source / path, self.root / path)

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            (self.root / path).unlink(missing_ok=True)
