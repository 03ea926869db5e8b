"""Folders of written data that lie one over the other: the user's own (``--data DIR``) over the shipped ones.

A file of the upper folder stands in the place of the lower one's file of the same path, as a whole. Three kinds of
files are lists, and are joined instead (:mod:`crosswheel.spec.catalog` does so): tables of tools, cpus and archives by
their names, and the patches of a series.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from crosswheel.errors import InputError

PARTS = ("recipes", "toolchains", "sysroots", "patches")
"""The folders that written data lies in."""

FILES = ("matrix.toml",)
"""The files that lie beside these folders."""


@dataclass(frozen=True)
class Layers:
    """``folders``, the uppermost first."""

    folders: tuple[Path, ...]

    def file(self, *parts: str) -> Path:
        """A file or folder by its path below the data: the uppermost that is there; else where it is looked for last,
        so that an error can name it."""
        places = [folder.joinpath(*parts) for folder in self.folders]
        return next((place for place in places if place.exists()), places[-1])

    def all(self, *parts: str) -> tuple[Path, ...]:
        """Every folder's own file of a path, the lowest first."""
        return tuple(place for folder in reversed(self.folders) if (place := folder.joinpath(*parts)).exists())

    def glob(self, folder: str, pattern: str) -> tuple[Path, ...]:
        """The files and folders below ``folder`` that match, each once, in the order of their paths there."""
        found: dict[str, Path] = {}
        for layer in reversed(self.folders):
            base = layer / folder
            found |= {path.relative_to(base).as_posix(): path for path in base.glob(pattern)}
        return tuple(found[name] for name in sorted(found))

    def under(self, *parts: str) -> Layers:
        """The same folders, further down."""
        return Layers(tuple(folder.joinpath(*parts) for folder in self.folders))

    def __truediv__(self, name: str) -> Path:
        return self.file(name)

    def shown(self, path: Path) -> str:
        """How a file is called in what is told: the shipped ones by their path below the data, the user's own in
        full."""
        shipped = self.folders[-1]
        return path.relative_to(shipped).as_posix() if path.is_relative_to(shipped) else str(path)


def own_folder(folder: Path) -> Path:
    """The user's folder of data. ``InputError`` for one that is not there, or that holds something else."""
    if not folder.is_dir():
        raise InputError("this folder does not exist", where=f"--data {folder}", hint=f"mkdir {folder}")
    inside = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if inside and not {*PARTS, *FILES}.intersection(inside):
        raise InputError(
            "this is no folder of written data",
            where=f"--data {folder}",
            why=f"it holds {_some(inside)}, and none of {', '.join([f'{part}/' for part in PARTS] + list(FILES))}",
            hint="name the folder that has recipes/, toolchains/targets/ or patches/ in it; an empty one will do",
        )
    return folder.absolute()


def _some(names: Iterable[str], most: int = 4) -> str:
    told = list(names)
    return ", ".join(told[:most]) + (", …" if len(told) > most else "")
