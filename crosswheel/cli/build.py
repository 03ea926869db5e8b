"""The tasks `build` and `plan`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.cli.asking import Asked, package_task
from crosswheel.cli.executing import execute_all
from crosswheel.cli.releasing import release_output
from crosswheel.cli.sarif import SARIF_HELP, sarif_file, write_sarif
from crosswheel.cli.settings import BUILD_HELP, read_settings, the_catalog
from crosswheel.errors import InputError
from crosswheel.planning.archives import refuse_unused
from crosswheel.planning.cudnn import lacking
from crosswheel.planning.fitting import OWN_CUDA, unknown_externals
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import WHEEL, resolve
from crosswheel.planning.steps import Step
from crosswheel.spec.catalog import Catalog

if TYPE_CHECKING:
    from crosswheel.building.execute import Result
    from crosswheel.building.store import Store
    from crosswheel.building.wheelhouse import Wheelhouse
    from crosswheel.proving.prove import Proof


@package_task(
    numbers={"jobs": int, "memory": float},
    help={
        **BUILD_HELP,
        "memory": "Limit of the build's container in GiB (default: 80 % of the machine's memory).",
        "with-dependencies": "Lay all that the wheel requires beside it, in a wheelhouse that pip installs from.",
        "sarif": SARIF_HELP,
    },
)
def build(
    _context: Context,
    asked: Asked,
    out: str = "dist",
    jobs: int | None = None,
    memory: float | None = None,
    sandbox: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
    keep_failed: bool = False,
    with_dependencies: bool = False,
    sarif: str | None = None,
    json: bool = False,
) -> None:
    """Build a package into a wheel for a target, and prove that it fits.

    The wheel lands in dist/<target>/ with its proof beside it; one whose proof fails lands in dist/failed/, and the
    exit code is 1.
    """
    from crosswheel.building.store import Store

    began = time.monotonic()
    settings = read_settings(
        jobs=jobs,
        memory=memory,
        sandbox=sandbox,
        mirror=mirror,
        offline=offline,
        keep_failed=keep_failed,
        apt_mirrors=asked.mirrors,
    )
    catalog = the_catalog()
    planned = make_plan(catalog, asked)
    if error := _unbuildable(planned, catalog):
        raise error
    _warn(planned)
    if with_dependencies and planned.resolution.output != WHEEL:
        what = f"{planned.resolution.output} of {planned.resolution.recipe.name} is no wheel, and requires none"
        raise InputError(what, where="--with-dependencies", hint="leave it out, or build a wheel: --output wheel")
    findings = sarif_file(Path(sarif), ()) if sarif else None
    store = Store(settings.store)
    result = execute_all((planned.proof, planned.output), catalog, store, settings, quiet=json)
    artefacts = result.artefacts[planned.output.key], result.artefacts[planned.proof.key]
    released, proof = release_output(planned, *artefacts, store, Path(out))
    house = None
    if with_dependencies and proof.passed:
        from crosswheel.cli.dependencies import make_wheelhouse

        path = result.artefacts[planned.proof.key].path / "proof.json"
        house = make_wheelhouse(planned, released, path, asked, catalog, store, settings, quiet=json)
    elif not settings.offline and proof.passed and proof.kind == "wheel" and _made(planned, result):
        from crosswheel.cli.requirements import with_requirements

        (proof,) = with_requirements([(released, proof)], catalog, store, quiet=json)
    if findings:
        write_sarif(findings, [released], [proof])
    _tell(released, proof, house, result, time.monotonic() - began, as_json=json)
    if not proof.passed or (house and house.missing):
        raise Exit(code=1)


def _made(planned: Plan, result: Result) -> bool:
    """Whether this build proved the wheel. One that had nothing to do asks nobody, and is done at once."""
    return any(item.key == planned.proof.key and not item.cached for item in result.steps)


def make_plan(catalog: Catalog, asked: Asked) -> Plan:
    """The plan of what was asked, with this version's rules of proof."""
    from crosswheel.proving.bundles import RULES as BUNDLE_RULES
    from crosswheel.proving.prove import RULES

    resolution = resolve(asked.request, catalog)
    planned = plan(resolution, catalog, rules=RULES, bundle_rules=BUNDLE_RULES, sources=asked.sources)
    refuse_unused(planned.steps, asked.mirrors)
    return planned


def _warn(planned: Plan) -> None:
    for text in planned.resolution.warnings:
        print(f"warning: {text}", file=sys.stderr)


def _unbuildable(planned: Plan, catalog: Catalog) -> InputError | None:
    """The error for what can be planned and not built; told before anything runs."""
    chosen = planned.resolution
    gpu = OWN_CUDA if chosen.cuda else None
    unknown = unknown_externals(chosen.recipe.name, chosen.release, chosen.target, catalog, gpu)
    return unknown or lacking(planned.steps)


def _tell(
    released: Path, proof: Proof, house: Wheelhouse | None, result: Result, seconds: float, *, as_json: bool
) -> None:
    from crosswheel.cli.console import show_proof
    from crosswheel.digest import sha256_file

    if not as_json:
        show_proof(proof, released, seconds=seconds)
        if house:
            from crosswheel.cli.dependencies import show_wheelhouse

            show_wheelhouse(house)
        return
    answer = {
        proof.kind: str(released),
        "sha256": sha256_file(released),
        "seconds": round(seconds, 3),
        "proof": proof.as_json(),
        "steps": [_step_json(item) for item in result.steps],
        **({"wheelhouse": {"folder": str(house.folder), **house.entry}} if house else {}),
    }
    print(json.dumps(answer, indent=2))


def _step_json(item: Any) -> Mapping[str, object]:
    return {
        "name": item.name,
        "kind": item.kind,
        "key": item.key,
        "cached": item.cached,
        "seconds": round(item.seconds, 3),
    }


@package_task(name="plan", help={"json": "Print one JSON object on stdout."})
def plan_task(_context: Context, asked: Asked, json: bool = False) -> None:
    """Show the steps of a build with their keys, inputs and what is in the store; build nothing."""
    from crosswheel.building.store import Store

    catalog = the_catalog()
    planned = make_plan(catalog, asked)
    store = Store(read_settings().store)
    if json:
        print_json(plan_json(planned, store))
    else:
        _show_plan(planned, store)
        _warn(planned)
        if error := _unbuildable(planned, catalog):
            print(f"{error.what}: {error.why}.")


def print_json(value: object) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, indent=2))


def plan_json(planned: Plan, store: Store) -> dict[str, object]:
    """A plan as `plan --json` prints it."""
    chosen = planned.resolution
    return {
        "recipe": chosen.recipe.name,
        "version": chosen.release.version,
        "target": chosen.target.name,
        "cpu": chosen.cpu.name,
        "python": chosen.python,
        "features": sorted(chosen.features),
        "bazel": chosen.bazel.version if chosen.bazel else None,
        "patches": [patch.file for patch in chosen.patches],
        "warnings": list(chosen.warnings),
        "output": chosen.output,
        "wheel_tag": chosen.wheel_tag if chosen.output == WHEEL else None,
        "steps": [
            {
                "name": step.name,
                "kind": step.kind,
                "key": step.key,
                "cached": store.has(step.key),
                "inputs": {role: source.key for role, source in step.inputs.items()},
            }
            for step in planned.steps
        ],
    }


def _show_plan(planned: Plan, store: Store) -> None:
    from crosswheel.cli.console import show_table

    chosen = planned.resolution
    steps = planned.steps
    numbers = {step.key: number for number, step in enumerate(steps, start=1)}
    rows = [_plan_row(step, numbers, store) for step in steps]
    details = [f"CPython {chosen.python}", chosen.cpu.name, *sorted(chosen.features)]
    if chosen.bazel:
        details.append(f"Bazel {chosen.bazel.version}")
    title = f"{chosen.recipe.name} {chosen.release.version} for {chosen.target.name} ({', '.join(details)})"
    show_table(title, ("", "step", "kind", "key", "needs", "store"), rows)
    missing = sum(not store.has(step.key) for step in steps)
    print(f"{len(steps)} steps, {missing} of them not in the store.")


def _plan_row(step: Step, numbers: Mapping[str, int], store: Store) -> tuple[str, ...]:
    needs = " ".join(str(number) for number in sorted(numbers[item.key] for item in step.inputs.values()))
    state = "stored" if store.has(step.key) else "-"
    return (str(numbers[step.key]), step.name, step.kind, step.key[:12], needs, state)
