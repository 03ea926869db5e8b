"""Reads a TOML file into a model; every problem is told with file and line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from crosswheel.errors import DataError

M = TypeVar("M", bound=BaseModel)

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_-]+|\"[^\"]*\")((?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"))*)\s*=")


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """The parsed content of a TOML file, and its text. Raises ``DataError`` with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text), text
    except OSError as error:
        raise DataError("this file cannot be read", where=str(path), why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise DataError("this file is not UTF-8 text", where=str(path), why=str(error)) from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line.group(1)}" if line else str(path)
        raise DataError("this file is no valid TOML", where=where, why=str(error)) from error


def load(model: type[M], path: Path) -> M:
    """Reads ``path`` as a ``model``. Raises ``DataError`` that lists every problem with its line."""
    data, text = read_toml(path)
    return validate(model, data, text, path)


def validate(model: type[M], data: object, text: str, path: Path, at: tuple[str | int, ...] = ()) -> M:
    """``data``, which stands in ``text`` at the key path ``at``, as a ``model``."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_told(problem, text, at) for problem in error.errors()]
        first = problems[0][0]
        raise DataError(
            f"this file has {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            where=f"{path}:{first}" if first else str(path),
            why="\n".join(f"{f'line {line}: ' if line else ''}{what}" for line, what in problems),
        ) from error


def _told(problem: Any, text: str, at: tuple[str | int, ...]) -> tuple[int | None, str]:
    location = (*at, *problem["loc"])
    name = ".".join(str(part) for part in location) or "the file"
    kind = problem["type"]
    if kind == "extra_forbidden":
        what = f"`{name}` is no known key"
    elif kind == "missing":
        what = f"`{name}` is missing"
    elif kind == "string_pattern_mismatch" and str(location[-1]) == "sha256":
        what = f"`{name}` is no sha256 (64 hexadecimal digits): {problem['input']!r}"
    else:
        what = f"`{name}`: {problem['msg']}"
    return line_of(text, location), what


def line_of(text: str, location: tuple[str | int, ...]) -> int | None:
    """The line (from 1) where a key path stands in a TOML text, or that of its nearest parent; None if unknown."""
    best: tuple[int, int | None] = (0, None)
    counts: dict[tuple[str, ...], int] = {}
    prefix: tuple[str | int, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            names = tuple(part.strip().strip('"') for part in header.group(2).split("."))
            if header.group(1) == "[[":
                counts[names] = counts.get(names, -1) + 1
                prefix = (*_indexed(names[:-1], counts), names[-1], counts[names])
            else:
                prefix = _indexed(names, counts)
            best = max(best, (_common(prefix, location), number), key=lambda pair: pair[0])
            continue
        key = _KEY.match(line)
        if key:
            names = (key.group(1).strip('"'), *(p.strip().strip('"') for p in key.group(2).split(".") if p.strip()))
            best = max(best, (_common((*prefix, *names), location), number), key=lambda pair: pair[0])
    return best[1]


def _indexed(names: tuple[str, ...], counts: dict[tuple[str, ...], int]) -> tuple[str | int, ...]:
    result: list[str | int] = []
    for position, name in enumerate(names):
        result.append(name)
        if names[: position + 1] in counts:
            result.append(counts[names[: position + 1]])
    return tuple(result)


def _common(left: tuple[str | int, ...], right: tuple[str | int, ...]) -> int:
    """How long ``left`` is if ``right`` begins with it, else 0."""
    return len(left) if left == right[: len(left)] else 0
