"""What is wrong with the written data: where, and what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crosswheel.errors import DataError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.toml import line_of


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: where (``file:line`` relative to the data's root), and what."""

    where: str
    what: str


def told(catalog: Catalog, error: DataError) -> Problem:
    """An error of the data as a problem."""
    where = error.where.removeprefix(f"{catalog.root}/")
    return Problem(where=where, what="\n".join(part for part in (error.what, error.why) if part))


def at(catalog: Catalog, path: Path, *location: str | int) -> str:
    """A place in a file, with its line where that can be found."""
    name = catalog.layers.shown(path)
    line = line_of(path.read_text(encoding="utf-8"), location) if location and path.is_file() else None
    return f"{name}:{line}" if line else name


def each(catalog: Catalog, names: Iterable[str], read: Callable[[str], object]) -> Iterator[Problem]:
    """The problems of files that cannot be read, one by one, so that one bad file does not hide another."""
    for name in names:
        try:
            read(name)
        except DataError as error:
            yield told(catalog, error)


def readable(names: Iterable[str], read: Callable[[str], object]) -> list[str]:
    """Those of the names that can be read."""

    def works(name: str) -> bool:
        try:
            read(name)
        except DataError:
            return False
        return True

    return [name for name in names if works(name)]
