"""What Starlark's operators and methods make of values that are known, and of those that are not."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LENGTH = 1 << 20
"""Characters of a text, or items of a list. A longer one is no file's address."""


class Unknown:
    """A value that only Bazel could tell. There is one of them: :data:`UNKNOWN`."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()


@dataclass(frozen=True, eq=False)
class Foreign:
    """A function that is not the tree's: Bazel's own, or one of another repository (``origin``)."""

    name: str
    origin: str


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the tree. ``names`` are its file's global names."""

    node: ast.FunctionDef
    names: dict[str, Any]
    file: str


@dataclass(frozen=True)
class Call:
    """A call by name: of whom, with which named arguments, and where it stands (``file:line``)."""

    name: str
    origin: str
    arguments: Mapping[str, Any]
    where: str


class Return(Exception):
    """``return`` of a function, with its value."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


class Next(Exception):
    """``continue`` or ``break`` of a loop; ``ends`` for the latter."""

    def __init__(self, ends: bool) -> None:
        super().__init__()
        self.ends = ends


def plain(value: Any) -> bool:
    """Whether a value is known in all its parts."""
    if isinstance(value, list | tuple):
        return all(plain(item) for item in value)
    if isinstance(value, dict):
        return all(plain(item) for item in value.values())
    return value is None or isinstance(value, str | int | bool)


def operate(operator: ast.operator, left: Any, right: Any) -> Any:
    """``left + right`` and ``left % right``."""
    if isinstance(operator, ast.Add):
        for kind in (str, list, tuple, int):
            if isinstance(left, kind) and isinstance(right, kind):
                joined: Any = left + right  # type: ignore[operator]
                return joined if isinstance(joined, int) or len(joined) <= LENGTH else UNKNOWN
    if isinstance(operator, ast.Mod) and isinstance(left, str):
        return _percent(left, right if isinstance(right, tuple) else (right,))
    return UNKNOWN


def compare(operator: ast.cmpop, left: Any, right: Any) -> Any:
    """What a comparison says of two values."""
    if not (plain(left) and plain(right)):
        return UNKNOWN
    try:
        match operator:
            case ast.Eq():
                return bool(left == right)
            case ast.NotEq():
                return bool(left != right)
            case ast.In():
                return left in right
            case ast.NotIn():
                return left not in right
            case ast.Lt():
                return bool(left < right)
            case ast.Gt():
                return bool(left > right)
    except TypeError:
        pass
    return UNKNOWN


def item_of(holder: Any, key: Any) -> Any:
    """``holder[key]``."""
    if not isinstance(holder, str | list | tuple | dict) or not isinstance(key, str | int):
        return UNKNOWN
    try:
        found: Any = holder[key]  # type: ignore[index]
    except (LookupError, TypeError):
        return UNKNOWN
    return found


def part_of(holder: Any, start: Any, end: Any) -> Any:
    """``holder[start:end]``."""
    if (
        not isinstance(holder, str | list | tuple)
        or not isinstance(start, int | None)
        or not isinstance(end, int | None)
    ):
        return UNKNOWN
    return holder[start:end]


def _percent(text: str, values: tuple[Any, ...]) -> Any:
    """``text % values`` of the forms ``%s``, ``%d`` and ``%%``."""
    if not all(isinstance(value, str | int) for value in values):
        return UNKNOWN
    left = list(values)
    parts = re.split(r"%(.)", text)
    done = [parts[0]]
    for letter, after in zip(parts[1::2], parts[2::2], strict=True):
        if letter != "%" and (letter not in "sdr" or not left):
            return UNKNOWN
        done += ["%" if letter == "%" else str(left.pop(0)), after]
    joined = "".join(done)
    return joined if not left and len(joined) <= LENGTH else UNKNOWN


def _format(text: str, given: list[Any], named: Mapping[str, Any]) -> Any:
    """``text.format(…)`` of the forms ``{}``, ``{0}`` and ``{name}``."""
    count = iter(range(len(given)))

    def part(match: re.Match[str]) -> str:
        name = match[1]
        value = given[int(name) if name else next(count)] if not name or name.isdigit() else named[name]
        if not isinstance(value, str | int):
            raise LookupError
        return str(value)

    try:
        done = re.sub(r"\{(\w*)\}", part, text)
    except (LookupError, StopIteration, RuntimeError):
        return UNKNOWN
    return done if len(done) <= LENGTH else UNKNOWN


_TEXT_METHODS = frozenset(
    ("replace", "split", "rsplit", "strip", "lstrip", "rstrip", "startswith", "endswith", "lower", "upper", "find",
     "rpartition", "partition", "removeprefix", "removesuffix", "isdigit", "title", "capitalize")
)  # fmt: skip


def method(holder: Any, name: str, given: list[Any], named: Mapping[str, Any]) -> Any:
    """What ``holder.name(…)`` gives, for the methods of texts, lists and dictionaries that build files use."""
    if isinstance(holder, str) and name == "format":
        return _format(holder, given, named)
    if not plain(given) and not isinstance(holder, list | dict):
        return UNKNOWN
    try:
        if isinstance(holder, str):
            if name == "join":
                return holder.join(given[0])
            if name == "replace" and len(holder) * len(given[1]) > LENGTH:
                return UNKNOWN
            done = getattr(holder, name)(*given) if name in _TEXT_METHODS else UNKNOWN
            return done if not isinstance(done, str) or len(done) <= LENGTH else UNKNOWN
        if isinstance(holder, list) and name in ("append", "extend", "insert") and len(holder) < LENGTH:
            return getattr(holder, name)(*given)
        if isinstance(holder, dict):
            if name in ("get", "pop", "setdefault") and isinstance(given[0], str | int):
                return getattr(holder, name)(*given)
            if name in ("keys", "values", "items"):
                return list(getattr(holder, name)())
            if name == "update" and all(isinstance(item, dict) for item in given):
                holder.update(*given, **named)
                return None
    except (LookupError, TypeError, ValueError):
        pass
    return UNKNOWN


def builtin(name: str, given: list[Any], named: Mapping[str, Any]) -> Any:
    """What a function that is Bazel's own gives, where that needs no Bazel."""
    first = given[0] if len(given) == 1 else UNKNOWN
    if name == "repository_rule":
        return Foreign("a rule", "")
    if name in ("str", "Label") and isinstance(first, str | int):
        return str(first)
    if name == "len" and isinstance(first, str | list | tuple | dict):
        return len(first)
    if name in ("list", "tuple", "sorted", "dict") and isinstance(first, list | tuple | dict):
        make: dict[str, Callable[[Any], Any]] = {"list": list, "tuple": tuple, "sorted": list, "dict": dict}
        try:
            return make[name](first)
        except (TypeError, ValueError):
            return UNKNOWN
    return dict(named) if name == "dict" and not given else UNKNOWN


def returns(node: ast.FunctionDef) -> bool:
    """Whether a function gives a value anywhere."""
    return any(isinstance(part, ast.Return) and part.value is not None for part in ast.walk(node))
