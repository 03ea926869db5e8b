"""The tasks that look at something and change nothing: `list`, `check`, `explain`, `log`, `shell`, `verify`."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.cli.arguments import task
from crosswheel.cli.asking import PACKAGE_HELP, local_sources
from crosswheel.cli.sarif import SARIF_HELP
from crosswheel.cli.settings import DATA, MIRROR_HELP, read_settings, the_catalog
from crosswheel.errors import InputError

if TYPE_CHECKING:
    from crosswheel.building.store import Store
    from crosswheel.cli.listing import Listing


@task(name="list", maybe="recipe", help={"recipe": "Show one recipe's releases.", "json": "Print JSON on stdout."})
def list_task(_context: Context, recipe: str | None = None, json: bool = False) -> None:
    """Show recipes with their versions, targets and sysroots; or the releases of one RECIPE."""
    from crosswheel.cli.listing import Listing

    listing = Listing(the_catalog(), DATA / "docs" / "proofs")
    if json:
        found = listing.everything() if recipe is None else listing.recipe(listing.catalog.recipe(recipe))
        print(jsonlib.dumps(found, indent=2))
    elif recipe is not None:
        _list_recipe(listing, recipe)
    else:
        _list_everything(listing)


def _list_everything(listing: Listing) -> None:
    from crosswheel.cli.console import show_table
    from crosswheel.cli.listing import system_words

    show_table(*listing.recipes_table())
    catalog = listing.catalog
    targets = [catalog.target(name) for name in catalog.target_names]
    show_table(
        "Targets",
        ("target", "cpu", "systems", "what it is"),
        [
            (
                target.name,
                target.cpu,
                ", ".join(system_words(system) for system in target.systems),
                target.title,
            )
            for target in targets
        ],
    )
    sysroots = [catalog.sysroot(name) for name in catalog.sysroot_names]
    show_table(
        "Sysroots",
        ("sysroot", "CPython", "GLIBC", "GLIBCXX", "what it is"),
        [(s.name, ", ".join(s.pythons), s.floors.GLIBC, s.floors.GLIBCXX, s.title) for s in sysroots],
    )


def _list_recipe(listing: Listing, name: str) -> None:
    from crosswheel.cli.console import show_table

    recipe = listing.catalog.recipe(name)
    show_table(*listing.recipe_table(recipe))
    for feature, data in sorted(recipe.features.items()):
        told = [
            "on by default" if data.default else "",
            f"releases {data.versions}" if data.versions else "",
            f"{data.arches[0]} alone" if len(data.arches) == 1 else "",
        ]
        limits = ", ".join(word for word in told if word)
        print(f"--feature {feature}: {data.summary}" + (f" ({limits})" if limits else ""))


@task(help={"json": "Print JSON on stdout."})
def check(_context: Context, json: bool = False) -> None:
    """Validate all written data: unknown keys, dangling references, missing or unlisted patches, missing hashes."""
    from crosswheel.spec.lint import lint

    catalog = the_catalog()
    problems = lint(catalog)
    if json:
        print(jsonlib.dumps([{"where": p.where, "what": p.what} for p in problems], indent=2))
    else:
        for problem in problems:
            print(f"{problem.where}: {problem.what}".replace("\n", "\n    "))
        counted = len(catalog.recipe_names), len(catalog.target_names), len(catalog.sysroot_names)
        told = "{} recipes, {} targets, {} sysroots".format(*counted)
        print(f"{told}: {len(problems)} problem{'' if len(problems) == 1 else 's'}.")
    if problems:
        raise Exit(code=2)


def _store() -> Store:
    from crosswheel.building.store import Store

    return Store(read_settings().store)


@task(help={"key": "A step's key, or its first digits.", "json": "Print JSON on stdout."})
def explain(_context: Context, key: str, json: bool = False) -> None:
    """Show what went into a step's key."""
    record = _store().describe(key)
    if json:
        print(jsonlib.dumps({"key": record.key, "name": record.name, "step": record.step}, indent=2))
        return
    print(f"{record.name}\n{record.key} ({record.state})")
    if record.meta:
        print(f"{record.meta.seconds:.1f} s, {record.meta.bytes / 2**20:.1f} MiB, crosswheel {record.meta.tool}")
    print(jsonlib.dumps(record.step, indent=2, ensure_ascii=False))


@task(help={"key": "A step's key, or its first digits."})
def log(_context: Context, key: str) -> None:
    """Show the log of a step, of its last run."""
    from crosswheel.cli.console import plain

    path = _store().log_path(key)
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        print(plain(line))


@task(help={"key": "A failed step's key, or its first digits."})
def shell(_context: Context, key: str) -> None:
    """Open the container of a failed step (one that was built with --keep-failed)."""
    from crosswheel.building.runs import open_shell
    from crosswheel.building.sandbox import sandbox_for

    settings = read_settings()
    raise Exit(code=open_shell(_store(), key, sandbox_for(settings)))


@task(
    rest="wheels",
    iterable=["capability", "source"],
    help={
        "wheels": "The wheels to judge; any number, from anywhere.",
        "target": "The machine to judge for (default: x86_64).",
        "python": "CPython of the target (default: the one of the wheel's tag, else the target's first).",
        "system": "A system of the target by its name, such as jetpack-3.0 (default: the first with this CPython).",
        "cpu": "Another processor of the target's architecture.",
        "capability": "Judge the code for GPUs of this capability, such as 5.3 (default: the target's). Several times.",
        "no-avx": "The processor has no AVX (x86_64).",
        "source": PACKAGE_HELP["source"],
        **MIRROR_HELP,
        "recipe": "Use this recipe's check; `auto` (default) finds it by the wheel's name and version.",
        "sarif": SARIF_HELP,
        "provenance": "Compare what lies beside each wheel (proof, SBOM, provenance, signature); judge nothing anew.",
        "key": "With --provenance: the public key (PEM) by which the provenance must be signed.",
        "identity": "With --provenance: who must have signed it by sigstore (an e-mail address, or a workflow's URL).",
        "issuer": "With --identity: who vouches for it, such as https://token.actions.githubusercontent.com.",
        "json": "Print one JSON object on stdout.",
    },
)
def verify(
    _context: Context,
    wheels: Sequence[str] = (),
    target: str | None = None,
    python: str | None = None,
    system: str | None = None,
    cpu: str | None = None,
    capability: Sequence[str] = (),
    no_avx: bool = False,
    source: Sequence[str] = (),
    mirror: str | None = None,
    offline: bool = False,
    recipe: str = "auto",
    sarif: str | None = None,
    provenance: bool = False,
    key: str | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    json: bool = False,
) -> None:
    """Judge wheels for a target: the proof alone, on any wheel. Exit code 1 if one of them fails."""
    from crosswheel.cli.provenance import Trusted, compare_all
    from crosswheel.cli.verifying import Verification, verify_all

    if not wheels:
        raise InputError("no wheel is named", hint="./x verify dist/rpi4/*.whl --target rpi4")
    trusted = Trusted(key=key, identity=identity, issuer=issuer, offline=offline)
    if trusted.asked(provenance, target, python, system, cpu, capability, no_avx, source, mirror, sarif):
        if not compare_all([Path(wheel) for wheel in wheels], trusted, as_json=json):
            raise Exit(code=1)
        return
    sources, mirrors = local_sources(source)
    asked = Verification(
        wheels=tuple(Path(wheel) for wheel in wheels),
        target=target,
        python=python,
        system=system,
        cpu=cpu,
        capabilities=tuple(dict.fromkeys(capability)),
        no_avx=no_avx,
        recipe=recipe,
        sources=sources,
        mirrors=mirrors,
        sarif=Path(sarif) if sarif else None,
    )
    settings = read_settings(mirror=mirror, offline=offline, apt_mirrors=mirrors)
    if not verify_all(asked, settings, as_json=json):
        raise Exit(code=1)
