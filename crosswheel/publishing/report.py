"""docs/status.md: what was really built and proved, made from the proofs in docs/proofs/ and from nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from crosswheel.errors import InputError
from crosswheel.planning.resolve import Request, resolve
from crosswheel.proving import dependencies
from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import Proof
from crosswheel.publishing.checked import checked_lines
from crosswheel.publishing.measured import measured_lines
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.remembering import remembering

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")

_HEAD = """\
# Status: what was really built and proved

This page is written by `./x status` from what is kept: the proofs in [docs/proofs/](proofs/), each of a wheel or a
bundle that crosswheel built; what was measured of them (`measured.toml` there); and on which of upstream's own bytes
the patches were tried (`patches/<recipe>/checked.toml`). *Tests* are those of the recipe's check that passed on the
emulated processor; for a bundle, which no Python loads, they are its attempts.

"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A proof, and where it is kept."""

    proof: Proof
    build: dict[str, Any]
    file: str

    @property
    def package(self) -> str:
        """The wheel's distribution, or the recipe of a bundle."""
        if self.proof.kind == "bundle":
            return str(self.build["recipe"])
        return parse_wheel_filename(self.proof.file)[0]

    @property
    def version(self) -> str:
        if self.proof.kind == "bundle":
            return str(self.build["version"])
        return str(parse_wheel_filename(self.proof.file)[1])

    @property
    def system(self) -> str:
        """What tells the systems of a target apart: the CPython of a wheel, the distribution of a bundle."""
        policy = self.proof.policy
        return policy.sysroot if self.proof.kind == "bundle" else policy.python


def adopt(proofs: Iterable[Path], folder: Path) -> list[Path]:
    """Copies proofs into ``folder`` under names that tell wheel, target and processor. Returns the copies.

    Raises ``InputError`` for a file that is no proof; then nothing was copied.
    """
    read = [(path, Proof.read(path)) for path in proofs]
    copies = []
    for path, proof in read:
        folder.mkdir(parents=True, exist_ok=True)
        bazel = json.loads(path.read_text(encoding="utf-8")).get("build", {}).get("bazel")
        # The name of a bundle says the target already.
        target = [proof.policy.target] if proof.kind == "wheel" else []
        parts = [proof.file.removesuffix(".whl").removesuffix(".tar.gz"), *target, proof.policy.cpu]
        parts += [f"bazel-{bazel}"] if bazel else []
        copy = folder / (_UNSAFE.sub("_", "@".join(parts).replace("@", "_")) + ".json")
        copy.write_bytes(path.read_bytes())
        copies.append(copy)
    return copies


def rows(folder: Path) -> list[Row]:
    """The kept proofs, by package, version, target and processor."""
    found = []
    for path in sorted(folder.glob("*.json")):
        build = json.loads(path.read_text(encoding="utf-8")).get("build", {})
        found.append(Row(proof=Proof.read(path), build=build, file=path.name))
    return sorted(found, key=_order)


def _order(row: Row) -> tuple[str, Version, str, str, str]:
    return row.package, Version(row.version), row.proof.policy.target, row.system, row.file


def status_page(catalog: Catalog, folder: Path) -> str:
    """The text of docs/status.md."""
    kept = rows(folder)
    sections = [
        *_built(kept),
        "",
        *measured_lines(folder),
        *checked_lines(catalog),
        *_never_built(remembering(catalog), kept),
    ]
    return _HEAD + "\n".join(sections) + "\n"


def _built(kept: list[Row]) -> Iterator[str]:
    yield "## Built and proved"
    yield ""
    yield "| package | version | target | CPython | built by | run on | tests | verdict | sha256 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in kept:
        proof = row.proof
        bazel = row.build.get("bazel")
        cells = (
            f"{row.package} ({row.build.get('output')})" if proof.kind == "bundle" else row.package,
            row.version,
            proof.policy.target,
            f"none ({row.system})" if proof.kind == "bundle" else row.system,
            f"Bazel {bazel}" if bazel else str(row.build.get("backend", "")),
            proof.policy.qemu,
            _passing(proof),
            _verdict(proof),
            f"[`{proof.sha256[:12]}`](proofs/{row.file})",
        )
        yield "| " + " | ".join(cells) + " |"


def _passing(proof: Proof) -> str:
    run = proof.run
    if run is None or run.tests is None:
        return "not run"
    return str(run.tests - (run.failures or 0) - (run.skipped or 0))


def _verdict(proof: Proof) -> str:
    if not proof.passed:
        return f"**failed** ({len(proof.of(Severity.FAIL))} findings)"
    # A build asks no index, so that no kept proof can know what there is of the requirements.
    open_ = sum(1 for finding in proof.of(Severity.NOT_PROVEN) if finding.rule != dependencies.NAME)
    counted = ((len(proof.of(Severity.WARN)), "warned of"), (open_, "not proven"))
    return ", ".join(["passed", *(f"{count} {what}" for count, what in counted if count)])


def _never_built(catalog: Catalog, kept: list[Row]) -> Iterator[str]:
    """What the written data can plan, and no kept proof shows, release by release."""
    yield "## Planned, and not kept as proved here"
    yield ""
    yield "What the written data can plan (`./x plan …`), and no proof in docs/proofs/ shows: target and CPython. A"
    yield "release whose externals are not known is planned, and its build is refused until they are."
    yield ""
    yield "| package | version | not proved for | |"
    yield "|---|---|---|---|"
    proved = {_place(row) for row in kept}
    for name in catalog.recipe_names:
        recipe = catalog.recipe(name)
        package = canonicalize_name(recipe.distribution) if recipe.distribution else name
        for release in catalog.releases(name):
            planned = dict.fromkeys(
                (target, system.python if recipe.distribution else system.sysroot)
                for target in catalog.target_names
                for system in catalog.target(target).systems
                if _plans(catalog, name, release.version, target, system.python)
            )
            key = (package, release.version)
            missing = [place for place in planned if (*key, *place) not in proved]
            known = catalog.knows_externals(name, release)
            state = "" if known else "its externals are not known"
            if not planned:
                state = "fits no target"
            yield f"| {name} | {release.version} | {_places(missing)} | {state} |"


def _place(row: Row) -> tuple[str, str, str, str]:
    return row.package, row.version, row.proof.policy.target, row.system


def _places(missing: list[tuple[str, str]]) -> str:
    """``rpi4 3.11, x86_64 3.11 3.9``; a dash for none."""
    pythons: dict[str, list[str]] = {}
    for target, python in missing:
        pythons.setdefault(target, []).append(python)
    return ", ".join(f"{target} {' '.join(found)}" for target, found in pythons.items()) or "-"


def _plans(catalog: Catalog, recipe: str, version: str, target: str, python: str) -> bool:
    try:
        resolve(Request(recipe=recipe, version=version, target=target, python=python), catalog, advise=False)
    except InputError:
        return False
    return True
