"""What `verify` does: any wheels, any target, with a recipe's check where the wheel is one of its releases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from crosswheel.cli.asking import DEFAULT_TARGET
from crosswheel.cli.settings import DATA, read_settings
from crosswheel.errors import InputError
from crosswheel.planning.plan import emulator_step, release_tree, target_root_step, trial_inputs
from crosswheel.planning.steps import Step
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.models import Cpu, Recipe, Release, System, Target
from crosswheel.spec.policy import policy_for

if TYPE_CHECKING:
    from crosswheel.building.job import Settings
    from crosswheel.proving.prove import Proof


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
    catalog = Catalog(DATA)
    settings = read_settings()
    target = catalog.target(asked.target or DEFAULT_TARGET)
    for wheel in asked.wheels:
        if not wheel.is_file():
            raise InputError("there is no such wheel", where=str(wheel))
    proofs = [_verify(wheel, asked, target, catalog, settings) for wheel in asked.wheels]
    if as_json:
        print(json.dumps({"proofs": [proof.as_json() for proof in proofs]}, indent=2))
    else:
        from crosswheel.cli.console import show_proof

        for wheel, proof in zip(asked.wheels, proofs, strict=True):
            show_proof(proof, wheel, seconds=None)
    return all(proof.passed for proof in proofs)


def _verify(wheel: Path, asked: Verification, target: Target, catalog: Catalog, settings: Settings) -> Proof:
    import tempfile
    import threading

    from crosswheel.building.execute import execute
    from crosswheel.building.job import Job
    from crosswheel.building.proofs import TargetRoot, Trial, check_wheels, verify_wheel
    from crosswheel.building.runners import runners
    from crosswheel.building.sandbox import sandbox_for
    from crosswheel.building.store import Store
    from crosswheel.cli.console import Screen
    from crosswheel.cli.doctor import prepare_for_build

    system = _system(wheel, asked, target)
    policy = policy_for(target, catalog.sysroot(system.sysroot), _cpu(asked, target, catalog), system.python)
    found = _release_of(wheel, asked.recipe, catalog)
    steps: dict[str, Step] = {
        "root": target_root_step(catalog, system.sysroot, target.arch, found[0] if found else None),
        "emulator": emulator_step(catalog),
    }
    if found:
        steps |= trial_inputs(found[0], release_tree(found[0], found[1], system, catalog))
    prepare_for_build(settings)
    store = Store(settings.store)
    with Screen(quiet=True) as screen:
        result = execute(tuple(steps.values()), store, settings, runners(catalog, settings), screen)
    folders = {role: result.artefacts[step.key].path for role, step in steps.items()}
    trial = None
    if found:
        recipe, release = found
        trial = Trial(
            script=catalog.check_script(recipe),
            tests=release.tests,
            timeout=recipe.check.timeout,
            source=folders["source"],
            wheels=check_wheels(folders),
        )
    with tempfile.TemporaryDirectory(prefix="verify-", dir=store.made("tmp")) as scratch:
        out, work = Path(scratch, "out"), Path(scratch, "work")
        out.mkdir()
        work.mkdir()
        job = Job(
            key=steps["root"].key,
            out=out,
            work=work,
            settings=settings,
            log=lambda _line: None,
            cancelled=threading.Event(),
        )
        return verify_wheel(
            wheel,
            policy,
            target=TargetRoot(folder=folders["root"], key=steps["root"].key, emulator=folders["emulator"]),
            trial=trial,
            job=job,
            sandbox=sandbox_for(settings),
        )


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


