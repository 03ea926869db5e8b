"""Reads the files of a catalog, each once: whole files, releases with what their era says, and files of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from crosswheel.errors import DataError
from crosswheel.spec.base import Model
from crosswheel.spec.releases import Release
from crosswheel.spec.toml import load, read_toml, validate

M = TypeVar("M", bound=Model)


class Reader:
    """What was read, by its path."""

    def __init__(self) -> None:
        self._read: dict[Path, Model] = {}
        self._eras: dict[Path, dict[str, Any]] = {}

    def model(self, model: type[M], path: Path) -> M:
        """A file as a model. ``DataError`` with file and line."""
        if path not in self._read:
            self._read[path] = load(model, path)
        item = self._read[path]
        assert isinstance(item, model)
        return item

    def release(self, path: Path, era_file: Callable[[str], Path]) -> Release:
        """A release with what its era says beneath; ``era_file`` says where an era lies. The text of the release alone
        gives the lines of errors."""
        if path not in self._read:
            data, text = read_toml(path)
            era = data.get("era")
            if isinstance(era, str) and era:
                under = era_file(era)
                if not under.is_file():
                    raise DataError(f"there is no era {era!r}", where=str(path), hint=f"it would be {under}")
                if under not in self._eras:
                    self._eras[under] = read_toml(under)[0]
                data = _over(self._eras[under], data)
            self._read[path] = validate(Release, data, text, path)
        release = self._read[path]
        assert isinstance(release, Release)
        return release


def read_text(path: Path) -> str:
    """The text of a file. ``DataError`` where it is not there, or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("this file cannot be read as UTF-8 text", where=str(path), why=str(error)) from error


def tables(model: type[M], key: str, name: Callable[[M], str], paths: Iterable[Path]) -> dict[str, M]:
    """The ``[[key]]`` tables of files by their names, later files over earlier ones; no other top-level key may stand
    there."""
    found: dict[str, M] = {}
    for path in paths:
        data, text = read_toml(path)
        extra = set(data) - {key}
        if extra:
            what = f"`{sorted(extra)[0]}` is no known key; this file holds [[{key}]] tables"
            raise DataError(what, where=str(path))
        items = [validate(model, item, text, path, (key, at)) for at, item in enumerate(data.get(key, []))]
        found |= {name(item): item for item in items}
    return found


def _over(under: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` over ``under``: tables are joined key by key, everything else is replaced."""
    joined = dict(under)
    for key, value in data.items():
        below = joined.get(key)
        joined[key] = _over(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return joined
