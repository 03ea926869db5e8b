"""What `verify` does: any wheels, any target, with a recipe's check where the wheel is one of its releases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from crosswheel.cli.asking import DEFAULT_TARGET
from crosswheel.cli.executing import execute_all
from crosswheel.cli.settings import DATA, read_settings
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.planning.plan import verification
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import ProofStep
from crosswheel.proving.prove import RULES, Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import Cpu, System, Target


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` was asked."""

    wheels: tuple[Path, ...]
    target: str | None
    python: str | None
    cpu: str | None
    no_avx: bool
    recipe: str


def verify_all(asked: Verification, *, as_json: bool) -> bool:
    """Judges every wheel and shows the proofs; whether all passed. Bad input is told before the first is judged."""
    from crosswheel.building.store import Store

    catalog = Catalog(DATA)
    settings = read_settings()
    store = Store(settings.store)
    target = catalog.target(asked.target or DEFAULT_TARGET)
    steps = [_step(wheel, asked, target, catalog) for wheel in asked.wheels]
    result = execute_all(steps, catalog, store, settings, quiet=as_json)
    proofs = [Proof.read(result.artefacts[step.key].path / "proof.json") for step in steps]
    if as_json:
        print(json.dumps({"proofs": [proof.as_json() for proof in proofs]}, indent=2))
    else:
        from crosswheel.cli.console import show_proof

        for wheel, proof in zip(asked.wheels, proofs, strict=True):
            show_proof(proof, wheel, seconds=None)
    return all(proof.passed for proof in proofs)


def _step(wheel: Path, asked: Verification, target: Target, catalog: Catalog) -> ProofStep:
    if not wheel.is_file():
        raise InputError("there is no such wheel", where=str(wheel))
    if not is_zipfile(wheel):
        raise InputError("this is no wheel: it is no zip archive", where=str(wheel), hint="fetch it again")
    system = _system(wheel, asked, target)
    found = _release_of(wheel, asked.recipe, catalog)
    local = LocalSource(path=str(wheel.absolute()), sha256=sha256_file(wheel), folder=False)
    return verification(local, catalog, target, system, _cpu(asked, target, catalog), found, rules=RULES)


def _cpu(asked: Verification, target: Target, catalog: Catalog) -> Cpu:
    cpu = catalog.cpu(asked.cpu or target.cpu)
    if cpu.arch != target.arch:
        raise InputError(f"{cpu.name} is {cpu.arch}, and {target.name} is {target.arch}", where=f"--cpu {cpu.name}")
    if asked.no_avx and target.avx_cpu is None:
        raise InputError(f"AVX is a feature of x86_64, and {target.name} is {target.arch}", where="--no-avx")
    if asked.no_avx and cpu.avx:
        raise InputError(f"{cpu.name} has AVX", where="--no-avx")
    return cpu


def _system(wheel: Path, asked: Verification, target: Target) -> System:
    """The target's system with the asked Python, else with the wheel's own, else the first."""
    if asked.python is not None:
        for system in target.systems:
            if system.python == asked.python:
                return system
        has = ", ".join(system.python for system in target.systems)
        raise InputError(f"{target.name} has CPython {has}", where=f"--python {asked.python}")
    try:
        interpreters = {tag.interpreter for tag in parse_wheel_filename(wheel.name)[3]}
    except InvalidWheelFilename as error:
        raise InputError("this is no wheel's file name", where=str(wheel), why=str(error)) from error
    for system in target.systems:
        if f"cp{system.python.replace('.', '')}" in interpreters:
            return system
    return target.systems[0]


def _release_of(wheel: Path, recipe: str, catalog: Catalog) -> tuple[Recipe, Release] | None:
    """The recipe and release that a wheel's name says it is, or None."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    recipes = [catalog.recipe(each) for each in (catalog.recipe_names if recipe == "auto" else (recipe,))]
    for candidate in recipes:
        if canonicalize_name(candidate.distribution) != name:
            continue
        for release in catalog.releases(candidate.name):
            if Version(release.version) == version:
                return candidate, release
    if recipe != "auto":
        raise InputError(f"the recipe {recipe} has no release {version} of {name}", where=str(wheel))
    return None
