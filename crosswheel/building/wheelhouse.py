"""A wheelhouse: a folder with a wheel and all that it requires, from which pip installs with no index.

``manifest.json`` says of every file what it is, where it is from and how it was judged, and of every wheel that was
asked for what it needs and what is missing. Several wheels of one target share a wheelhouse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from crosswheel.building.dependencies import Missing, Served
from crosswheel.building.disk import write_at_once
from crosswheel.building.shelf import Brought, packages_of
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.planning.resolve import Resolution
from crosswheel.proving.findings import Finding, Severity

SCHEMA = 1
FOLDER = "wheelhouse"
MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Wheelhouse:
    """What lies in a wheelhouse for one wheel. ``packages`` are those of the target's distribution whose libraries the
    wheels load; ``entry`` is the wheel's entry of the manifest."""

    folder: Path
    wheel: str
    files: Mapping[str, Mapping[str, Any]]
    packages: tuple[str, ...]
    missing: tuple[Missing, ...]
    entry: Mapping[str, Any]

    @property
    def finding(self) -> Finding:
        """Whether it is whole, as one finding."""
        if not self.missing:
            message = f"nothing that it requires on the target is missing (wheels: {len(self.files)})"
            return Finding(rule=FOLDER, severity=Severity.PASS, subject=self.wheel, message=message)
        told = "\n".join(f"- {item.sentence}" for item in self.missing)
        return Finding(
            rule=FOLDER,
            severity=Severity.FAIL,
            subject=self.wheel,
            message=f"what it requires on the target is not all there (missing: {len(self.missing)})",
            hint=f"{told}\nGive them a recipe (docs/add-a-package.md), or let pip have them from elsewhere.",
        )


def lay_out(folder: Path, served: Served, brought: Mapping[str, Brought], resolution: Resolution) -> Wheelhouse:
    """Copies the wheels of ``served`` (``brought`` has them by name) into ``folder`` and writes its manifest.

    What an earlier run laid there for the same wheel, and nothing needs any more, is removed. ``InputError`` where
    ``folder`` has a manifest that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        old = _read(folder / MANIFEST)
        files = {brought[offer.name].wheel.name: _file(brought[offer.name], offer.said) for offer in served.offers}
        for offer in served.offers:
            _copy(brought[offer.name].wheel, folder)
        wheel = brought[served.offers[0].name].wheel.name
        packages = _packages(served, brought)
        names = {str(offer.name): brought[offer.name].wheel.name for offer in served.offers}
        entry = {
            "target": resolution.target.name,
            "cpu": resolution.cpu.name,
            "python": resolution.python,
            "sysroot": resolution.sysroot.name,
            "packages": list(packages),
            "files": sorted(files),
            "required_by": {names[name]: list(by) for name, by in sorted(served.by.items()) if by},
            "missing": [{"name": item.name, "asked": list(item.asked), "why": item.why} for item in served.missing],
        }
        wheels = {**old["wheels"], wheel: entry}
        used = {name for each in wheels.values() for name in each["files"]}
        every = {name: told for name, told in {**old["files"], **files}.items() if name in used}
        manifest = {"schema": SCHEMA, "files": dict(sorted(every.items())), "wheels": dict(sorted(wheels.items()))}
        write_at_once(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        for name in set(old["files"]) - used:
            (folder / name).unlink(missing_ok=True)
    return Wheelhouse(folder=folder, wheel=wheel, files=files, packages=packages, missing=served.missing, entry=entry)


def _file(item: Brought, origin: str) -> dict[str, Any]:
    return {
        "sha256": sha256_file(item.wheel),
        "size": item.wheel.stat().st_size,
        "from": origin,
        "judged": item.judged,
    }


def _packages(served: Served, brought: Mapping[str, Brought]) -> tuple[str, ...]:
    found: set[str] = set()
    for offer in served.offers:
        planned = brought[offer.name].planned
        if planned:
            found |= {*packages_of(planned.resolution.recipe, planned.resolution.sysroot.name)}
    return tuple(sorted(found))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {"files": {}, "wheels": {}}
    try:
        value = json.loads(path.read_bytes())
        if value["schema"] != SCHEMA:
            raise ValueError(f"its schema is {value['schema']!r}, and this crosswheel writes schema {SCHEMA}")
        return {"files": dict(value["files"]), "wheels": dict(value["wheels"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the manifest of this wheelhouse cannot be read",
            where=str(path),
            why=str(error),
            hint="remove the folder; it is made anew",
        ) from error


def _copy(wheel: Path, folder: Path) -> None:
    place = folder / wheel.name
    if not (place.is_file() and sha256_file(place) == sha256_file(wheel)):
        write_at_once(place, wheel.read_bytes())
