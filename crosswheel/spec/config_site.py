"""What CPython's configure is told of a machine on which it cannot run programs: the answers of
``sysroots/config.site`` for one CPython and one architecture, and what is wrong with the files there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from crosswheel.errors import DataError
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.pythons import CPython, Machine

FOLDER = "sysroots/config.site"
FILE = "sysroots/pythons.toml"


def answers_for(catalog: Catalog, cpython: CPython, machine: Machine) -> dict[str, str]:
    """What configure of a CPython is told instead of running programs. ``DataError`` names every hard answer that the
    files lack, and what configure would stop with."""
    answers: dict[str, str] = {}
    missing: list[tuple[str, str, str]] = []
    for site in catalog.pythons.sites:
        if site.serves(cpython.version, machine):
            own = catalog.site_answers(site.file)
            missing += [(key, site.file, told) for key, told in site.hard.items() if key not in own]
            answers |= own
    if missing:
        keys, files = sorted(key for key, _, _ in missing), sorted({file for _, file, _ in missing})
        raise DataError(
            f"CPython {cpython.version} cannot be configured for {machine.arch} without an answer to {', '.join(keys)}",
            where=", ".join(f"{FOLDER}/{file}" for file in files),
            why="\n".join(f"- {key}: without it configure stops: {told!r}" for key, _, told in sorted(missing)),
            hint="add `KEY=ANSWER` there, with the reason in a comment above it; docs/python-headers.md tells of each",
        )
    return answers


def problems(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """What is wrong with CPython's sources and the answers for them: where, and what."""
    if not (catalog.layers.all(FILE) or catalog.layers.all(FOLDER)):
        return  # this data has no sources of CPython; a sysroot that wants one says so when it is used
    yield from _files(catalog)
    for cpython in catalog.pythons.cpythons:
        for machine in _machines(catalog):
            try:
                answers_for(catalog, cpython, machine)
            except DataError as error:
                yield error.where.removeprefix(f"{catalog.root}/"), "\n".join(filter(None, (error.what, error.why)))
    known = {item.version: item for item in catalog.pythons.cpythons}
    for name in catalog.sysroot_names:
        try:
            pythons = catalog.sysroot(name).pythons
        except DataError:
            continue  # told elsewhere
        for series, python in pythons.items():
            if python.cpython and python.cpython not in known:
                yield f"sysroots/{name}.toml", f"{FILE} has no CPython {python.cpython!r}"
            elif python.cpython and known[python.cpython].series != series:
                yield f"sysroots/{name}.toml", f"CPython {python.cpython} makes no headers of {series}"


def _machines(catalog: Catalog) -> list[Machine]:
    """Every machine that the sysroots are of."""
    glibcs = set()
    for name in catalog.sysroot_names:
        try:
            glibcs.add(catalog.sysroot(name).floors.GLIBC)
        except DataError:
            continue  # told elsewhere
    return [Machine(arch, glibc) for arch in get_args(Arch) for glibc in sorted(glibcs)]


def _files(catalog: Catalog) -> Iterator[tuple[str, str]]:
    """Answers that two files give to one CPython, and files that no range asks for."""
    there = {path.name for path in catalog.layers.glob(FOLDER, "*")}
    for extra in sorted(there - {site.file for site in catalog.pythons.sites}):
        yield f"{FOLDER}/{extra}", f"{FILE} does not list this file"
    for cpython in catalog.pythons.cpythons:
        for machine in _machines(catalog):
            given: dict[str, str] = {}
            for site in catalog.pythons.sites:
                if not site.serves(cpython.version, machine) or site.file not in there:
                    continue
                try:
                    own = catalog.site_answers(site.file)
                except DataError:
                    continue  # told with what cannot be read
                for key in sorted(own.keys() & given.keys()):
                    what = f"{key} is answered by {given[key]} as well, for CPython {cpython.version}"
                    yield f"{FOLDER}/{site.file}", what
                given |= dict.fromkeys(own, site.file)
