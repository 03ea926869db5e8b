"""From a resolution to all steps of its build, known before the first one runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from crosswheel.digest import Json
from crosswheel.planning.archives import refuse_unused, with_archives
from crosswheel.planning.bundles import bundle_proof
from crosswheel.planning.compiling import built_numpy, bundle_step, wheel_step
from crosswheel.planning.cuda import CUDA
from crosswheel.planning.fitting import NUMPY, misfit
from crosswheel.planning.resolve import WHEEL, Resolution, numpy_for
from crosswheel.planning.roots import emulator_step, target_root_step
from crosswheel.planning.sources import LocalSource, refuse_unknown, release_tree, source_tree
from crosswheel.planning.steps import BundleProofStep, BundleStep, LocalStep, ProofStep, Step, TreeStep, WheelStep
from crosswheel.planning.trial import CHECK_WHEEL, installs, trial_inputs
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import Toolkit
from crosswheel.spec.policy import policy_for
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import Cpu, System, Target


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All steps of a build. ``proof`` is the goal; ``output`` is what it judges."""

    resolution: Resolution
    output: WheelStep | BundleStep
    proof: ProofStep | BundleProofStep

    @property
    def wheel(self) -> WheelStep:
        """The output, of a plan for a wheel."""
        assert isinstance(self.output, WheelStep), f"{self.output.name} is no wheel"
        return self.output

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, inputs first."""
        return tuple(self.proof.walk())


def plan(
    resolution: Resolution,
    catalog: Catalog,
    *,
    rules: Mapping[str, int],
    bundle_rules: Mapping[str, int] | None = None,
    sources: Mapping[str, LocalSource] | None = None,
) -> Plan:
    """The plan of a resolution. ``rules`` are the rules of a wheel's proof and their versions, ``bundle_rules`` those
    of a bundle's, ``sources`` what the user gave.

    Raises ``InputError`` for a source of a name that neither the release nor an archive has.
    """
    given = {name: local for name, local in (sources or {}).items() if name not in catalog.archives}
    archives = {name: local for name, local in (sources or {}).items() if name in catalog.archives}
    refuse_unknown(resolution, catalog, given)
    source = source_tree(resolution, catalog, given)
    if resolution.output != WHEEL:
        bundle = bundle_step(resolution, catalog, given, source)
        judged = bundle_proof(resolution, catalog, bundle, bundle_rules or {})
        return _with_archives(Plan(resolution=resolution, output=bundle, proof=judged), catalog, archives)
    wheel = wheel_step(resolution, catalog, given, source)
    proof = _proof_step(resolution, catalog, wheel, rules, source)
    return _with_archives(Plan(resolution=resolution, output=wheel, proof=proof), catalog, archives)


def _with_archives(made: Plan, catalog: Catalog, given: Mapping[str, LocalSource]) -> Plan:
    """The plan with the packages in which archives lie."""
    refuse_unused(made.steps, given)
    done: dict[str, Step] = {} if given else catalog.once("steps with archives", (), dict)
    proof = with_archives(made.proof, catalog.archives, given, done)
    return replace(made, proof=proof, output=with_archives(made.output, catalog.archives, given, done))


def _proof_step(
    resolution: Resolution, catalog: Catalog, wheel: WheelStep, rules: Mapping[str, int], source: TreeStep
) -> ProofStep:
    recipe = resolution.recipe
    assert recipe.check is not None, "a recipe with a wheel has a check"
    gpus = resolution.cuda.capabilities if resolution.cuda else ()
    of = (recipe.name, resolution.target.name, resolution.system, resolution.cpu.name, gpus)
    dumped = catalog.once("policy", of, lambda: _policy(resolution, catalog, gpus))
    return ProofStep(
        name=f"prove {recipe.name} {resolution.release.version} on {resolution.cpu.qemu}",
        inputs={
            "wheel": wheel,
            "root": target_root_step(
                catalog,
                resolution.sysroot.name,
                resolution.target.arch,
                resolution.python,
                recipe,
                numpy=resolution.release.needs.numpy is not None and resolution.numpy is None,
                toolkit=resolution.cuda.toolkit if resolution.cuda else None,
            ),
            "emulator": emulator_step(catalog),
            **trial_inputs(catalog, recipe, source, resolution.system, resolution.target.arch),
            **_tried_with(resolution.numpy, catalog),
        },
        policy=dumped,
        check=catalog.check_script(recipe),
        tests=resolution.release.tests or 0,
        timeout=recipe.check.timeout,
        install=recipe.check.install,
        rules=rules,
        built_here=True,
        elsewhere=recipe.elsewhere,
    )


def _policy(resolution: Resolution, catalog: Catalog, gpus: tuple[str, ...]) -> Mapping[str, Json]:
    """The target's side of the proof, as JSON."""
    has = catalog.instruction_set(resolution.target, resolution.cpu, resolution.recipe)
    policy = policy_for(resolution.target, resolution.sysroot, resolution.cpu, resolution.python, has, gpus)
    dumped: Mapping[str, Json] = policy.model_dump(mode="json")
    return dumped


def _tried_with(numpy: Resolution | None, catalog: Catalog) -> dict[str, Step]:
    """The NumPy of our own with which a wheel is tried."""
    return {f"{CHECK_WHEEL}{NUMPY}": built_numpy(numpy, catalog)} if numpy else {}


def _toolkit(recipe: Recipe | None, system: System, catalog: Catalog) -> Toolkit | None:
    """The CUDA toolkit of a system, for a wheel of a recipe that can have CUDA in it."""
    if recipe is None or CUDA not in recipe.features or system.cuda is None:
        return None
    return catalog.cuda(system.cuda.toolkit)


def verification(
    wheel: LocalSource,
    catalog: Catalog,
    target: Target,
    system: System,
    cpu: Cpu,
    found: tuple[Recipe, Release] | None,
    *,
    rules: Mapping[str, int],
    gpus: tuple[str, ...] | None = None,
    sources: Mapping[str, LocalSource] | None = None,
    listed: Recipe | None = None,
) -> ProofStep:
    """The proof of a wheel from anywhere, with the check of the release that it is (``found``), if it is one and goes
    with the system: on a Python or with a NumPy that it does not serve, there is nothing to run. ``gpus`` are those
    that its code for GPUs is judged for; without them, the target's own, where the system has CUDA. ``sources`` are
    what the user gave: archives, and the release's own source under the name of its recipe. The functions that
    ``listed`` says are chosen at run time are believed to be so."""
    tried = found if found and misfit(found[1], system, catalog) is None else None
    recipe = tried[0] if tried else None
    given = sources or {}
    # For an import alone, no NumPy is built.
    whole = tried is not None and installs(tried[0], system.python)
    numpy = numpy_for(tried[1], target, system, cpu.name, catalog) if tried and whole else None
    check = recipe.check if recipe else None
    tree = release_tree(*tried, system, catalog, given) if tried and check and check.source else None
    if gpus is None:
        gpus = target.capabilities if system.cuda else ()
    has = catalog.instruction_set(target, cpu, listed)
    policy = policy_for(target, catalog.sysroot(system.sysroot), cpu, system.python, has, gpus)
    local = LocalStep(name="take the wheel", path=wheel.path, sha256=wheel.sha256, folder=False)
    step = ProofStep(
        name=f"prove {local.file} on {cpu.qemu}",
        inputs={
            "wheel": local,
            "root": target_root_step(
                catalog,
                system.sysroot,
                target.arch,
                system.python,
                recipe,
                numpy=tried is not None and tried[1].needs.numpy is not None and numpy is None,
                toolkit=_toolkit(recipe, system, catalog),
            ),
            "emulator": emulator_step(catalog),
            **_tried_with(numpy, catalog),
            **(trial_inputs(catalog, recipe, tree, system, target.arch) if recipe else {}),
        },
        policy=policy.model_dump(mode="json"),
        check=catalog.check_script(recipe) if recipe else "",
        tests=(tried[1].tests or 0) if tried else 0,
        timeout=check.timeout if check else 0,
        install=check is not None and check.install,
        rules=rules,
        built_here=False,
        elsewhere=found[0].elsewhere if found else {},
    )
    return with_archives(step, catalog.archives, given)
