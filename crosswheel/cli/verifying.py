"""What `verify` does: any wheels, any target, with a recipe's check where the wheel is one of its releases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from crosswheel.cli.asking import DEFAULT_TARGET
from crosswheel.cli.executing import execute_all
from crosswheel.cli.sarif import sarif_file, write_sarif
from crosswheel.cli.settings import the_catalog
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.planning.archives import refuse_unused
from crosswheel.planning.plan import verification
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import ProofStep
from crosswheel.proving.prove import RULES, Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import CAPABILITY
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import Cpu, System, Target

if TYPE_CHECKING:
    from crosswheel.building.job import Settings


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` was asked. ``capabilities`` are the GPUs to judge for. ``sources`` are files that the user gave by
    the names of archives and recipes, ``mirrors`` folders that are mirrors of archives. ``sarif`` is a file to which
    the findings are written."""

    wheels: tuple[Path, ...]
    target: str | None = None
    python: str | None = None
    system: str | None = None
    cpu: str | None = None
    capabilities: tuple[str, ...] = ()
    no_avx: bool = False
    recipe: str = "auto"
    sources: Mapping[str, LocalSource] = field(default_factory=dict)
    mirrors: Mapping[str, str] = field(default_factory=dict)
    sarif: Path | None = None


def verify_all(asked: Verification, settings: Settings, *, as_json: bool) -> bool:
    """Judges every wheel and shows the proofs; whether all passed. Bad input is told before the first is judged."""
    from crosswheel.building.store import Store

    catalog = the_catalog()
    store = Store(settings.store)
    sarif = sarif_file(asked.sarif, asked.wheels) if asked.sarif else None
    steps = proofs_of(asked, catalog)
    result = execute_all(steps, catalog, store, settings, quiet=as_json)
    proofs = [Proof.read(result.artefacts[step.key].path / "proof.json") for step in steps]
    if not settings.offline:
        from crosswheel.cli.requirements import with_requirements

        proofs = with_requirements(list(zip(asked.wheels, proofs, strict=True)), catalog, store, quiet=as_json)
    if sarif:
        write_sarif(sarif, asked.wheels, proofs)
    if as_json:
        print(json.dumps({"proofs": [proof.as_json() for proof in proofs]}, indent=2))
    else:
        from crosswheel.cli.console import show_proof

        for wheel, proof in zip(asked.wheels, proofs, strict=True):
            show_proof(proof, wheel, seconds=None)
    return all(proof.passed for proof in proofs)


def proofs_of(asked: Verification, catalog: Catalog) -> list[ProofStep]:
    """The proofs that were asked for. ``InputError`` for what does not exist or does not go together, and for a source
    that none of them takes."""
    target = catalog.target(asked.target or DEFAULT_TARGET)
    cpu = _cpu(asked, target, catalog)
    steps: list[ProofStep] = []
    recipes: dict[str, None] = {}
    for wheel in asked.wheels:
        if not wheel.is_file():
            raise InputError("there is no such wheel", where=str(wheel))
        if not is_zipfile(wheel):
            raise InputError("this is no wheel: it is no zip archive", where=str(wheel), hint="fetch it again")
        system = _system(wheel, asked, target)
        gpus, found = _gpus(asked, target), _release_of(wheel, asked.recipe, catalog)
        recipes |= {found[0].name: None} if found and found[0].check and found[0].check.source else {}
        local = LocalSource(path=str(wheel.absolute()), sha256=sha256_file(wheel), folder=False)
        step = verification(
            local,
            catalog,
            target,
            system,
            cpu,
            found,
            rules=RULES,
            gpus=gpus,
            sources=asked.sources,
            # Of a wheel from elsewhere nobody knows that it chooses at run time, unless somebody says so.
            listed=found[0] if found and asked.recipe != "auto" else None,
        )
        steps.append(step)
    _refuse_untaken(asked, steps, recipes, catalog)
    return steps


def _refuse_untaken(asked: Verification, steps: Iterable[ProofStep], recipes: Iterable[str], catalog: Catalog) -> None:
    known = ", ".join(recipes)
    for name in asked.sources:
        if name not in catalog.archives and name not in recipes:
            raise InputError(
                f"no proof of these wheels takes a source {name!r}",
                where=f"--source {name}=…",
                hint=f"they take: {known}, and archives" if known else "they take archives alone, and no check is run",
            )
    archives = [name for name in (*asked.sources, *asked.mirrors) if name in catalog.archives]
    refuse_unused([each for step in steps for each in step.walk()], archives)


def _cpu(asked: Verification, target: Target, catalog: Catalog) -> Cpu:
    cpu = catalog.cpu(asked.cpu or target.cpu)
    if cpu.arch != target.arch:
        raise InputError(f"{cpu.name} is {cpu.arch}, and {target.name} is {target.arch}", where=f"--cpu {cpu.name}")
    if asked.no_avx and target.avx_cpu is None:
        raise InputError(f"AVX is a feature of x86_64, and {target.name} is {target.arch}", where="--no-avx")
    if asked.no_avx and cpu.avx:
        raise InputError(f"{cpu.name} has AVX", where="--no-avx")
    return cpu


def _gpus(asked: Verification, target: Target) -> tuple[str, ...] | None:
    """The GPUs that were asked for, if any."""
    if not asked.capabilities:
        return None
    where = f"--capability {' '.join(asked.capabilities)}"
    if not target.capabilities:
        raise InputError(f"{target.name} has no GPU that CUDA knows", where=where)
    for capability in asked.capabilities:
        if not re.fullmatch(CAPABILITY, capability):
            raise InputError(f"{capability!r} is no compute capability", where=where, hint="one is written as 5.3")
    return asked.capabilities


def _system(wheel: Path, asked: Verification, target: Target) -> System:
    """The target's system of the asked name and Python; without a Python, of the wheel's own, else the first."""
    tags = _tags(wheel)
    named = [system for system in target.systems if asked.system in (None, system.name)]
    if not named:
        names = ", ".join(system.name for system in target.systems if system.name) or "none by a name"
        raise InputError(f"{target.name} has the systems: {names}", where=f"--system {asked.system}")
    systems = [system for system in named if asked.python in (None, system.python)]
    if not systems:
        has = ", ".join(dict.fromkeys(system.python for system in named))
        raise InputError(f"{target.name} has CPython {has}", where=f"--python {asked.python}")
    own = {tag.interpreter for tag in tags}
    return next((system for system in systems if f"cp{system.python.replace('.', '')}" in own), systems[0])


def _tags(wheel: Path) -> Iterable[Tag]:
    try:
        return parse_wheel_filename(wheel.name)[3]
    except InvalidWheelFilename as error:
        raise InputError("this is no wheel's file name", where=str(wheel), why=str(error)) from error


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
