"""From what the user typed to a resolution in which nothing is optional; every conflict is found here, all at once."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from crosswheel.errors import InputError
from crosswheel.planning import cuda
from crosswheel.planning.fitting import (
    NUMPY,
    Fit,
    Gpu,
    distribution_numpy,
    fitting,
    in_range,
    misfit,
    nearest,
    own_numpys,
    serves,
)
from crosswheel.planning.installing import not_forced
from crosswheel.spec.catalog import Catalog, unknown
from crosswheel.spec.conditions import Circumstances, holds
from crosswheel.spec.patches import Patch
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.requirements import abi_flags
from crosswheel.spec.sysroots import Sysroot
from crosswheel.spec.targets import BazelTool, Cpu, System, Target, Toolchain

_DIGEST = re.compile(r"^([a-z0-9][a-z0-9._/:-]*@)?sha256:[0-9a-f]{64}$")

AVX = "avx"
"""The one feature that every recipe has: it chooses the baseline of an x86_64 target."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user typed. ``features`` maps a feature to on or off, ``tools`` a tool (``bazel``) to a version;
    ``system`` is a target's system by its name, ``capabilities`` are the GPUs to compile for;
    ``builder_from`` is an image by digest, of which the builder is made instead of packages alone; ``apt_force``
    installs CUDA's packages for the target in the builder, besides."""

    recipe: str
    target: str
    version: str | None = None
    python: str | None = None
    system: str | None = None
    capabilities: tuple[str, ...] = ()
    cpu: str | None = None
    features: Mapping[str, bool] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    builder_from: str | None = None
    output: str | None = None
    apt_force: bool = False


WHEEL = "wheel"
"""The output of every recipe that has a distribution, where nothing else is asked for."""

HOST = "x86_64"
"""The target that tools of a build are built for: any machine that can be a builder."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What will be built, for what, with what. ``patches`` are in the order of the series. ``output`` is the wheel, or
    one of the recipe's other outputs. ``cuda`` is what it is built with where it is for a GPU. ``chain`` are other
    recipes' releases that are built before. ``numpy`` is the NumPy that is built with it, because the release needs one
    and the target's distribution has none for this Python. ``warnings`` are sentences for the user.
    """

    recipe: Recipe
    release: Release
    target: Target
    system: System
    sysroot: Sysroot
    toolchain: Toolchain
    cpu: Cpu
    features: frozenset[str]
    bazel: BazelTool | None
    cuda: cuda.CudaChoice | None
    builder_from: str | None
    output: str
    numpy: Resolution | None
    chain: tuple[Chained, ...]
    patches: tuple[Patch, ...]
    apt_force: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def python(self) -> str:
        return self.system.python

    @property
    def wheel_tag(self) -> str:
        digits = self.python.replace(".", "")
        return f"cp{digits}-cp{digits}{abi_flags(self.python)}-linux_{self.target.arch}"


@dataclass(frozen=True, kw_only=True)
class Chained:
    """A release that is built before, because another needs its bundle on the host or for the target."""

    on: Literal["host", "target"]
    resolution: Resolution


class Refused(InputError):
    """A request that cannot be: ``reasons`` are sentences, all of them."""

    reasons: tuple[str, ...] = ()


def resolve(request: Request, catalog: Catalog, *, advise: bool = True) -> Resolution:
    """The resolution of a request. Raises ``Refused`` with every reason why it cannot be and, with ``advise``, what
    could; ``InputError`` for a name that does not exist."""
    return _resolve(request, catalog.target(request.target), catalog, advise=advise)


def _resolve(request: Request, target: Target, catalog: Catalog, *, advise: bool = True) -> Resolution:
    recipe = catalog.recipe(request.recipe)
    reasons: list[str] = []
    features = _features(request, recipe, target, reasons)
    cpu = _cpu(request, target, features, catalog, reasons)
    releases = _releases(request, recipe, catalog)
    wanted = request.tools if cuda.CUDA in features else None
    chosen = _fit(request, releases, target, wanted, catalog, reasons)
    if chosen is None and advise:
        reasons.extend(nearest(recipe.name, target, request.version, catalog, wanted))
    release = chosen[0] if chosen else releases[0]
    features = _of_release(features, request, recipe, release, reasons)
    bazel = _bazel(request, recipe, release, catalog, reasons)
    gpu = _gpu(request, target, chosen[1], catalog, reasons) if chosen and cuda.CUDA in features else None
    output = _output(request, recipe, release, reasons)
    numpy = numpy_for(chosen[0], target, chosen[1], request.cpu, catalog, request.builder_from) if chosen else None
    if request.builder_from and not _DIGEST.search(request.builder_from):
        reasons.append(f"--builder-from {request.builder_from} is no image by digest (IMAGE@sha256:…)")
    if request.apt_force:
        toolchain = catalog.toolchain(chosen[1].toolchain) if chosen else None
        reasons += not_forced(gpu, target.arch, catalog, toolchain, request.builder_from)
    if reasons or chosen is None or cpu is None:
        raise _refused(request, recipe, target, reasons)
    release, system = chosen
    resolution = Resolution(
        recipe=recipe,
        release=release,
        target=target,
        system=system,
        sysroot=catalog.sysroot(system.sysroot),
        toolchain=catalog.toolchain(system.toolchain),
        cpu=cpu,
        features=features,
        bazel=bazel,
        cuda=gpu,
        builder_from=request.builder_from,
        output=output,
        numpy=numpy,
        chain=_chain(request, release, target, system, catalog),
        patches=(),
        apt_force=request.apt_force,
        warnings=cuda.warnings(gpu, release, target.arch, avx=request.features.get(AVX)),
    )
    return _with_patches(resolution, catalog)


def _refused(request: Request, recipe: Recipe, target: Target, reasons: list[str]) -> Refused:
    what = recipe.name + (f" {request.version}" if request.version else "")
    error = Refused(
        f"{what} cannot be built for {target.name} as asked",
        why="\n".join(f"- {reason}" for reason in reasons),
        hint=f"`./x list {recipe.name}` shows its versions, Pythons and features",
    )
    error.reasons = tuple(reasons)
    return error


def _features(request: Request, recipe: Recipe, target: Target, reasons: list[str]) -> frozenset[str]:
    known = {*recipe.features, AVX}
    for name in sorted(set(request.features) - known):
        near = difflib.get_close_matches(name, sorted(known), n=2)
        rest = f"did you mean {' or '.join(near)}?" if near else f"it has: {', '.join(sorted(known))}"
        reasons.append(f"{recipe.name} has no feature {name!r}; {rest}")
    on = {name for name, feature in recipe.features.items() if feature.default and target.arch in feature.arches}
    on |= {name for name, wanted in request.features.items() if wanted and name in known}
    on -= {name for name, wanted in request.features.items() if not wanted}
    for name in sorted(on & set(recipe.features)):
        feature = recipe.features[name]
        if target.arch not in feature.arches:
            arches = ", ".join(feature.arches)
            reasons.append(f"the feature {name!r} is for {arches}, and {target.name} is {target.arch}")
        for other in sorted(set(feature.conflicts) & on):
            reasons.append(f"the features {name!r} and {other!r} contradict each other")
        for other in sorted(set(feature.requires) - on):
            reasons.append(f"the feature {name!r} needs the feature {other!r}")
    if AVX in request.features and target.avx_cpu is None:
        reasons.append(f"AVX is a feature of x86_64 processors, and {target.name} is {target.arch}")
    return frozenset(on)


def _cpu(
    request: Request, target: Target, features: frozenset[str], catalog: Catalog, reasons: list[str]
) -> Cpu | None:
    if request.cpu is None:
        wanted = target.avx_cpu if AVX in features and target.avx_cpu else target.cpu
        return catalog.cpu(wanted)
    if request.cpu not in catalog.cpus:
        fitting = sorted(name for name, cpu in catalog.cpus.items() if cpu.arch == target.arch)
        near = difflib.get_close_matches(request.cpu, fitting, n=3) or fitting
        reasons.append(f"there is no cpu {request.cpu!r}; for {target.arch} there are: {', '.join(near)}")
        return None
    cpu = catalog.cpus[request.cpu]
    if cpu.arch != target.arch:
        reasons.append(f"the cpu {cpu.name!r} is {cpu.arch}, and {target.name} is {target.arch}")
    if cpu.avx and request.features.get(AVX) is False:
        reasons.append(f"--no-avx contradicts --cpu {cpu.name}, which has AVX")
    if not cpu.avx and request.features.get(AVX) is True:
        reasons.append(f"--feature avx contradicts --cpu {cpu.name}, which has no AVX")
    return cpu


def _releases(request: Request, recipe: Recipe, catalog: Catalog) -> tuple[Release, ...]:
    versions = catalog.versions(recipe.name)
    if not versions:
        raise InputError(f"the recipe {recipe.name} has no release", hint=f"add recipes/{recipe.name}/<version>.toml")
    if request.version is None:
        # The recipe's own default first; last what can be planned only, because its externals are not known.
        return tuple(
            sorted(
                catalog.releases(recipe.name),
                key=lambda one: (one.version != recipe.default, not catalog.knows_externals(recipe.name, one)),
            )
        )
    if request.version not in versions:
        raise unknown(f"release of {recipe.name}", request.version, versions, list_command=f"./x list {recipe.name}")
    return (catalog.release(recipe.name, request.version),)


def _fit(
    request: Request,
    releases: tuple[Release, ...],
    target: Target,
    gpu: Gpu | None,
    catalog: Catalog,
    reasons: list[str],
) -> Fit | None:
    """The newest release and the first system of the target that go together."""
    named = [s for s in target.systems if request.system in (None, s.name)]
    systems = [s for s in named if request.python in (None, s.python)]
    has = ", ".join(dict.fromkeys(system.python for system in named))
    if not named:
        names = ", ".join(system.name for system in target.systems if system.name) or "none by a name"
        reasons.append(f"{target.name} has no system {request.system!r}; it has: {names}")
        return None
    if gpu is not None and systems:
        systems = cuda.with_cuda(systems, target, catalog, reasons)
        if not systems:
            return None
    if not systems:
        reasons.append(f"{target.name} has CPython {has}, not {request.python}")
        if any(serves(release, system.python) for release in releases for system in target.systems):
            return None
    found = fitting(releases, systems, catalog, gpu)
    if found:
        return found
    for release in releases[:5]:
        why = [misfit(release, system, catalog, gpu) for system in systems if serves(release, system.python)]
        asked = request.python or has
        python = f"{release.version} serves CPython {release.python}, and asked for is {asked} on {target.name}"
        reasons.extend(reason for reason in why or [python] if reason)
    if gpu is not None and len(systems) == 1:
        _gpu(request, target, systems[0], catalog, reasons)
    return None


def _of_release(
    features: frozenset[str], request: Request, recipe: Recipe, release: Release, reasons: list[str]
) -> frozenset[str]:
    """The features without those that the release does not have; one that was asked for is a reason."""
    gone = {
        name
        for name in features & set(recipe.features)
        if not in_range(recipe.features[name].versions or "", release.version, prereleases=True)
    }
    for name in sorted(gone):
        if request.features.get(name):
            range_ = recipe.features[name].versions
            reasons.append(f"{recipe.name} {release.version} has no feature {name!r}; releases {range_} have it")
    return features - gone


def _bazel(
    request: Request, recipe: Recipe, release: Release, catalog: Catalog, reasons: list[str]
) -> BazelTool | None:
    for tool in sorted(set(request.tools) - {"bazel", *cuda.TOOLS}):
        reasons.append(f"there is no tool {tool!r} to choose; there are: bazel, {', '.join(cuda.TOOLS)}")
    wanted = request.tools.get("bazel")
    if release.bazel is None:
        if wanted:
            reasons.append(f"{recipe.name} {release.version} is not built by Bazel: --tool bazel={wanted} has no use")
        return None
    version = wanted or release.bazel.versions[0]
    if version not in release.bazel.versions:
        served = ", ".join(release.bazel.versions)
        reasons.append(f"{recipe.name} {release.version} is built by Bazel {served}, not {version}")
        if _outside(version, release.bazel.enforced):
            fact = release.facts.get("bazel")
            source = f" (grade {fact.grade}: {fact.source})" if fact else ""
            reasons.append(f"its own code accepts Bazel {release.bazel.enforced} alone{source}")
        return None
    return catalog.bazels[version]


def _gpu(
    request: Request, target: Target, system: System, catalog: Catalog, reasons: list[str]
) -> cuda.CudaChoice | None:
    toolchain = catalog.toolchain(system.toolchain)
    return cuda.choose(request.tools, request.capabilities, target, system, toolchain, catalog, reasons)


def _outside(version: str, enforced: str | None) -> bool:
    """Whether a version, which may be none at all, is outside the range that a release's own code accepts."""
    if not enforced:
        return False
    try:
        return not SpecifierSet(enforced).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True


def numpy_for(
    release: Release, target: Target, system: System, cpu: str | None, catalog: Catalog, builder_from: str | None = None
) -> Resolution | None:
    """The newest NumPy of our own that a release takes, where the distribution has none that it takes; None where it
    has one, or the release needs none."""
    if not release.needs.numpy or distribution_numpy(release, system, catalog):
        return None
    wanted = Request(
        recipe=NUMPY,
        target=target.name,
        version=own_numpys(release, system, catalog)[0].version,
        python=system.python,
        cpu=cpu,
        builder_from=builder_from,
    )
    return resolve(wanted, catalog)


def _chain(request: Request, release: Release, target: Target, system: System, catalog: Catalog) -> tuple[Chained, ...]:
    """What is built before. A tool of the build runs in the builder: it is built for the builder's own distribution."""
    found = []
    for link in release.chain:
        wanted = replace(request, recipe=link.recipe, version=link.version, python=None, tools={}, output=None)
        machine = target.model_copy(update={"systems": (system,)})
        if link.on == "host":
            toolchain = catalog.toolchain(system.toolchain)
            own = System(python=toolchain.pythons[0], sysroot=toolchain.sysroot, toolchain=toolchain.name)
            machine = catalog.target(HOST).model_copy(update={"systems": (own,)})
            wanted = replace(wanted, target=HOST, cpu=None, features={})
        found.append(Chained(on=link.on, resolution=_resolve(wanted, machine, catalog)))
    return tuple(found)


def _output(request: Request, recipe: Recipe, release: Release, reasons: list[str]) -> str:
    known = [WHEEL] if recipe.distribution else []
    known += [name for name in recipe.outputs if name in release.outputs]
    wanted = request.output or (known[0] if known else "")
    if wanted not in known:
        has = ", ".join(known)
        reasons.append(f"{recipe.name} {release.version} has no output {wanted!r}; it has: {has or 'none'}")
    return wanted


def _with_patches(resolution: Resolution, catalog: Catalog) -> Resolution:
    def serving() -> tuple[Patch, ...]:
        return tuple(p for p in catalog.series(resolution.recipe.name).patches if applies(p, resolution))

    of = (resolution.recipe.name, resolution.release.version, resolution.target.arch, resolution.python)
    more = (resolution.bazel, resolution.features)
    return replace(resolution, patches=catalog.once("patches", (*of, *more), serving))


def applies(patch: Patch, resolution: Resolution) -> bool:
    """Whether a patch of the series serves a resolution."""
    given = Circumstances(
        arch=resolution.target.arch,
        python=f"{resolution.python}.0",
        bazel=resolution.bazel.version if resolution.bazel else "",
        features=resolution.features,
    )
    served = in_range(patch.versions, resolution.release.version, prereleases=True)
    return served and holds(patch.when, given)
