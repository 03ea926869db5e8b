"""Content addresses: canonical JSON, and the sha256 of bytes, files and trees."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical_json(value: Json) -> bytes:
    """``value`` as UTF-8 JSON with sorted keys and no white space: equal values give equal bytes.

    Floats are refused (``TypeError``): their text form is not a fact of the data.
    """
    _refuse_floats(value)
    return _ENCODER.encode(value).encode()


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


_PLAIN = frozenset({str, bool, int, type(None)})
"""Of these types most values are, and a matrix has millions."""


def _refuse_floats(value: object) -> None:
    if isinstance(value, float):
        raise TypeError(f"canonical JSON holds no floats: {value!r}")
    if isinstance(value, (dict, Mapping)):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"canonical JSON has text keys only: {key!r}")
            if type(item) not in _PLAIN:
                _refuse_floats(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN:
                _refuse_floats(item)


def sha256_bytes(data: bytes) -> str:
    """sha256 of ``data``, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_json(value: Json) -> str:
    """sha256 of the canonical JSON of ``value``."""
    return sha256_bytes(canonical_json(value))


def sha256_file(path: Path) -> str:
    """sha256 of a file's content, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_tree(root: Path) -> str:
    """sha256 of a folder: names, kinds, executable bits, link targets and contents; not times, owners or the path."""
    lines: list[str] = []
    for folder, names, files in os.walk(root):
        names.sort()
        here = Path(folder)
        for name in [*(n for n in names if (here / n).is_symlink()), *sorted(files)]:
            path = here / name
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                lines.append(f"l {relative} {path.readlink()}")
            else:
                mode = "x" if path.stat().st_mode & 0o100 else "-"
                lines.append(f"f {relative} {mode} {sha256_file(path)}")
        lines.extend(f"d {(here / n).relative_to(root).as_posix()}" for n in names if not (here / n).is_symlink())
    return sha256_bytes("\n".join(sorted(lines)).encode("utf-8", "surrogateescape"))
