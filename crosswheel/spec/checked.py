"""``patches/<recipe>/checked.toml``: on which of upstream's own bytes a series was tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from pydantic import Field, StringConstraints

from crosswheel.digest import Json, sha256_bytes, sha256_json
from crosswheel.errors import DataError
from crosswheel.spec.base import Model, Sha256, VersionText
from crosswheel.spec.layers import Layers
from crosswheel.spec.patches import Patch, Series
from crosswheel.spec.toml import load

CHECKED = "checked.toml"

_HEAD = """\
# Written by `./x patches check RECIPE --source VERSION=… --record`: on which of upstream's own bytes the series
# applies. `archive` is the sha256 of the archive, `commit` the id in upstream's git, `folder` the sha256 of the files
# that the patches touch. `series` is the sha256 of the patches that were tried: after a change of theirs the check is
# out of date.
"""


class Checked(Model):
    """A version on whose bytes all its patches apply, in each of ``combinations`` of their conditions."""

    version: VersionText
    kind: Literal["archive", "commit", "folder"]
    id: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    patches: int = Field(gt=0)
    combinations: int = Field(gt=0)
    series: Sha256


class CheckedTrees(Model):
    """The whole file."""

    checked: tuple[Checked, ...] = ()


def due(series: Series, version: str) -> list[Patch]:
    """The patches that serve a version's own tree, in order, whatever their conditions."""
    return [
        patch
        for patch in series.patches
        if patch.external is None and SpecifierSet(patch.versions).contains(version, prereleases=True)
    ]


def series_digest(series: Series, folder: Path | Layers, version: str) -> str:
    """sha256 of the patches of a version: their texts and conditions, in order. ``DataError`` if a file is missing."""
    parts: list[Json] = []
    for patch in due(series, version):
        file = folder / patch.file
        if not file.is_file():
            raise DataError("the series names a patch that is not there", where=str(file))
        parts.append([sha256_bytes(file.read_bytes()), patch.when.model_dump(mode="json", exclude_defaults=True)])
    return sha256_json(parts)


def read_checked(folder: Path | Layers) -> tuple[Checked, ...]:
    """What ``folder`` (``patches/<recipe>``) records, newest version first; empty if there is no file."""
    path = folder / CHECKED
    if not path.is_file():
        return ()
    return tuple(sorted(load(CheckedTrees, path).checked, key=lambda one: Version(one.version), reverse=True))


def write_checked(folder: Path, results: tuple[Checked, ...]) -> Path:
    """Records ``results``; what the file says of other versions stays. Returns the file."""
    kept = {one.version: one for one in (*read_checked(folder), *results)}
    lines = [_HEAD]
    for version in sorted(kept, key=Version):
        fields = kept[version].model_dump()
        texts = (f"{key} = {json.dumps(value)}" for key, value in fields.items())
        lines.append("[[checked]]\n" + "\n".join(texts) + "\n")
    path = folder / CHECKED
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
