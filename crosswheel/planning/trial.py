"""The steps that bring what a recipe's check needs besides the wheel and the roots."""

from __future__ import annotations

from crosswheel.planning.backends import SOURCE, SOURCE_DATE_EPOCH, setup_wheel
from crosswheel.planning.roots import builder_step
from crosswheel.planning.sources import fetch_step, members_step, serves, unpacked
from crosswheel.planning.steps import RunStep, Step, TreeStep
from crosswheel.planning.toolchains import REQUIRES
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Check, Recipe
from crosswheel.spec.sources import CheckWheel
from crosswheel.spec.targets import System

CHECK_WHEEL = "check wheel "
"""What the role of a wheel that a check needs begins with, among the inputs of a proof."""

_BUILDERS = ("setuptools-", "wheel-")


def installs(recipe: Recipe, python: str) -> bool:
    """Whether the recipe's check can be run with ``python``: where it wants the wheel to be installed, by a pip."""
    check = recipe.check
    if check is None or not check.install:
        return check is not None
    return any(wheel.file.startswith("pip-") and serves(wheel, python) for wheel in check.wheels)


def trial_inputs(
    catalog: Catalog, recipe: Recipe, source: TreeStep | None, system: System, arch: Arch
) -> dict[str, Step]:
    """The source with its tests, where the check needs it, and wheels, which are unpacked unless the check
    installs them. Where the index has a pure package as a source archive alone, its wheel is made in the builder."""
    check = recipe.check
    if check is None:
        return {}
    of = (recipe.name, system.python, system.toolchain, arch)
    wheels = catalog.once("wheels of a check", of, lambda: _wheels(catalog, check, system, arch))
    return {**({"source": source} if source and check.source else {}), **wheels}


def _wheels(catalog: Catalog, check: Check, system: System, arch: Arch) -> dict[str, Step]:
    """The wheels that a check needs, by their roles."""
    fitting = [w for w in check.wheels if w.arch in (None, arch) and serves(w, system.python)]
    steps: dict[str, Step] = {}
    for wheel in fitting:
        bring: Step
        if wheel.record:
            bring = members_step(wheel, wheel.record, wheel.members)
        elif not wheel.file.endswith(".whl"):
            bring = _pure_wheel(catalog, wheel, fitting, system, arch)
        else:
            bring = fetch_step(wheel) if check.install else unpacked(wheel)
        steps[f"{CHECK_WHEEL}{wheel.file}"] = bring
    return steps


def _pure_wheel(catalog: Catalog, archive: CheckWheel, wheels: list[CheckWheel], system: System, arch: Arch) -> RunStep:
    """A wheel of a pure Python source archive, by the setuptools and wheel that are among the check's wheels."""
    tools = [wheel for wheel in wheels if wheel.file.startswith(_BUILDERS)]
    python = f"/usr/bin/python{system.python}"
    return RunStep(
        name=f"wheel of {archive.file}",
        inputs={
            "builder": builder_step(catalog, system.toolchain, arch),
            "source": unpacked(archive),
            **{f"require {tool.file}": unpacked(tool) for tool in tools},
        },
        commands=(setup_wheel(python),),
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(f"{REQUIRES}/{tool.file}" for tool in tools),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        },
        cwd=SOURCE,
        mounts={f"require {tool.file}": f"{REQUIRES}/{tool.file}" for tool in tools},
        copies={"source": SOURCE},
        outputs=("*-none-any.whl",),
    )
