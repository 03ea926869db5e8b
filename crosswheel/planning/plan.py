"""From a resolution to all steps of its build, known before the first one runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from crosswheel.digest import Json
from crosswheel.errors import InputError
from crosswheel.planning.backends import SOURCE, SOURCE_DATE_EPOCH, TOOLS, Backend, bazel, cmake, pep517
from crosswheel.planning.render import Renderer, renderer_of
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import (
    FetchStep,
    FilesStep,
    ImageStep,
    LocalStep,
    LockStep,
    PatchText,
    ProofStep,
    RootStep,
    RunStep,
    Step,
    TreeStep,
    WheelStep,
)
from crosswheel.planning.toolchains import (
    DEB_ARCH,
    EXTERNALS,
    HOST_ARCH,
    REQUIRES,
    SYSROOT,
    TOOLCHAIN,
    Paths,
    toolchain_files,
    values_of,
)
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.models import Arch, Cpu, External, Recipe, Release, Requirement, Source, Sysroot, System, Target
from crosswheel.spec.policy import policy_for

CHECK_WHEEL = "check wheel "
"""What the role of a wheel that a check needs begins with, among the inputs of a :class:`ProofStep`."""

_BACKENDS: Mapping[str, Backend] = {
    "bazel": bazel.compilation,
    "cmake": cmake.compilation,
    "pep517": pep517.compilation,
}


@dataclass(frozen=True, kw_only=True)
class LocalSource:
    """What the user gave by ``--source NAME=PATH``: a file or a folder, hashed."""

    path: str
    sha256: str
    folder: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All steps of a build. ``proof`` is the goal; ``wheel`` is what it judges."""

    resolution: Resolution
    wheel: WheelStep
    proof: ProofStep

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every step once, inputs first."""
        return tuple(self.proof.walk())


def plan(
    resolution: Resolution,
    catalog: Catalog,
    *,
    rules: Mapping[str, int],
    sources: Mapping[str, LocalSource] | None = None,
) -> Plan:
    """The plan of a resolution. ``rules`` are the proof's rules and their versions, ``sources`` what the user gave.

    Raises ``InputError`` for a source of a name that the release does not have.
    """
    given = dict(sources or {})
    _refuse_unknown_sources(resolution, given)
    source = source_tree(resolution, catalog, given)
    wheel = WheelStep(
        name=f"wheel {resolution.recipe.name} {resolution.release.version}",
        inputs={"run": _compile_step(resolution, catalog, given, source)},
        distribution=resolution.recipe.distribution,
        version=resolution.release.version,
        tag=resolution.wheel_tag,
    )
    proof = _proof_step(resolution, catalog, wheel, rules, source)
    return Plan(resolution=resolution, wheel=wheel, proof=proof)


def _refuse_unknown_sources(resolution: Resolution, given: Mapping[str, LocalSource]) -> None:
    known = [resolution.recipe.name, *(external.name for external in resolution.release.externals)]
    for name in given:
        if name not in known:
            raise InputError(
                f"{resolution.recipe.name} {resolution.release.version} has no source {name!r}",
                where=f"--source {name}=…",
                hint=f"it has: {', '.join(known)}",
            )


# --- sources ---------------------------------------------------------------------------------------------------------


def fetch_step(source: Source, *, name: str = "", executable: bool = False) -> FetchStep:
    """The step that gets a source."""
    return FetchStep(
        name=f"fetch {name or source.file}",
        file=source.file,
        sha256=source.sha256,
        places=source.places,
        executable=executable,
    )


def _source_step(name: str, source: Source, given: Mapping[str, LocalSource]) -> Step:
    if name not in given:
        return fetch_step(source)
    local = given[name]
    return LocalStep(name=f"take {name}", path=local.path, sha256=local.sha256, folder=local.folder)


def release_tree(recipe: Recipe, release: Release, system: System, catalog: Catalog) -> TreeStep:
    """A release's own source for the tests in it, with the patches of its series that have no other condition than
    the version and the Python."""
    version = f"{system.python}.0"
    texts = tuple(
        PatchText(file=patch.file, text=catalog.patch_text(recipe.name, patch.file))
        for patch in catalog.series(recipe.name).patches
        if patch.external is None
        and SpecifierSet(patch.versions).contains(release.version, prereleases=True)
        and (patch.when.python is None or SpecifierSet(patch.when.python).contains(version))
        and patch.when.bazel is None
        and patch.when.arch is None
        and not patch.when.features
    )
    name = f"unpack {recipe.name} {release.version}"
    return TreeStep(name=name, inputs={"archive": fetch_step(release.source)}, patches=texts)


def source_tree(resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource]) -> TreeStep:
    """The release's own source, patched."""
    name = resolution.recipe.name
    return TreeStep(
        name=f"unpack {name} {resolution.release.version}",
        inputs={"archive": _source_step(name, resolution.release.source, given)},
        patches=_patches(resolution, catalog, None),
    )


def _unpacked(source: Source) -> TreeStep:
    return TreeStep(name=f"unpack {source.file}", inputs={"archive": fetch_step(source)})


def _requirements(resolution: Resolution) -> list[Requirement]:
    """The wheels that the builder's Python needs for this release."""
    return [required for required in resolution.release.requires if _serves(required, resolution.python)]


def _serves(wheel: Requirement, python: str) -> bool:
    return wheel.python is None or SpecifierSet(wheel.python).contains(f"{python}.0")


def _patches(resolution: Resolution, catalog: Catalog, external: str | None) -> tuple[PatchText, ...]:
    return tuple(
        PatchText(file=patch.file, text=catalog.patch_text(resolution.recipe.name, patch.file))
        for patch in resolution.patches
        if patch.external == external
    )


def _external_tree(
    resolution: Resolution, catalog: Catalog, renderer: Renderer, external: External, given: Mapping[str, LocalSource]
) -> TreeStep:
    return TreeStep(
        name=f"unpack {external.name}",
        inputs={"archive": _source_step(external.name, external, given)},
        patches=_patches(resolution, catalog, external.name),
        files={path: renderer.render(name, {"name": external.name}) for path, name in external.files.items()},
    )


# --- roots -----------------------------------------------------------------------------------------------------------


def root_step(
    catalog: Catalog, sysroot: Sysroot, arch: Arch, packages: tuple[str, ...], purpose: str, lock: str
) -> RootStep:
    """An extracted root of packages of a distribution. ``lock`` is the name under which a pinned lock is looked for."""
    resolved = LockStep(
        name=f"resolve {purpose}",
        lock=lock,
        architecture=DEB_ARCH[arch],
        suites=sysroot.suites,
        packages=packages,
        snapshot=sysroot.snapshot,
        pinned=catalog.lock_text(lock),
    )
    return RootStep(name=f"assemble {purpose}", inputs={"lock": resolved})


def sysroot_step(catalog: Catalog, name: str, arch: Arch) -> RootStep:
    """What a wheel is built against."""
    sysroot = catalog.sysroot(name)
    lock = f"{name}-{DEB_ARCH[arch]}-development"
    return root_step(catalog, sysroot, arch, sysroot.development, f"sysroot {name} {arch}", lock)


def builder_step(catalog: Catalog, name: str, arch: Arch, image: str | None = None) -> Step:
    """The root in which a toolchain's builds for ``arch`` run; ``image``, by digest, is what it is made ``FROM``."""
    toolchain = catalog.toolchain(name)
    packages = (*toolchain.packages, *toolchain.cross[arch])
    if image:
        values = {"image": image, "packages": sorted(packages)}
        text = Renderer(catalog).render("dockerfile/builder.j2", values)
        return ImageStep(name=f"build builder {name} {arch} from {image[:40]}", image=image, dockerfile=text)
    lock = f"{name}-{DEB_ARCH[arch]}-builder"
    return root_step(catalog, catalog.sysroot(toolchain.sysroot), HOST_ARCH, packages, f"builder {name} {arch}", lock)


def target_root_step(catalog: Catalog, name: str, arch: Arch, recipe: Recipe | None = None) -> RootStep:
    """The root in which a wheel is tried: the target's runtime, and the packages that a recipe's check needs."""
    sysroot = catalog.sysroot(name)
    lock = f"{name}-{DEB_ARCH[arch]}-runtime" + (f"-{recipe.name}" if recipe else "")
    packages = {*sysroot.runtime, *(recipe.check.packages if recipe else ())}
    return root_step(catalog, sysroot, arch, tuple(sorted(packages)), f"target root {name} {arch}", lock)


def emulator_step(catalog: Catalog) -> RootStep:
    """The root that holds qemu-user."""
    emulator = catalog.emulator
    sysroot = catalog.sysroot(emulator.sysroot)
    return root_step(catalog, sysroot, HOST_ARCH, emulator.packages, "emulator", "emulator")


# --- compiling and proving -------------------------------------------------------------------------------------------


def _compile_step(
    resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource], source: TreeStep
) -> RunStep:
    renderer = renderer_of(catalog)
    release = resolution.release
    values = values_of(resolution.system, resolution.toolchain, resolution.cpu, resolution.target.arch, Paths())
    external_paths = {external.name: f"{EXTERNALS}/{external.name}" for external in release.externals}
    compilation = _BACKENDS[release.backend](resolution, renderer, values, external_paths)
    inputs: dict[str, Step] = {
        "builder": builder_step(
            catalog, resolution.toolchain.name, resolution.target.arch, resolution.builder_from
        ),
        "sysroot": sysroot_step(catalog, resolution.sysroot.name, resolution.target.arch),
        "toolchain": FilesStep(
            name=f"render toolchain {resolution.target.name}",
            files={**toolchain_files(renderer, values), **compilation.files},
        ),
        "source": source,
    }
    mounts = {"sysroot": SYSROOT, "toolchain": TOOLCHAIN}
    copies = {"source": SOURCE}
    if compilation.home:
        inputs["home"] = FilesStep(name="render home", files=compilation.home)
        copies["home"] = "/build/home"
    for external in release.externals:
        inputs[f"external {external.name}"] = _external_tree(resolution, catalog, renderer, external, given)
        mounts[f"external {external.name}"] = external_paths[external.name]
    if resolution.bazel:
        inputs["bazel"] = fetch_step(resolution.bazel, name=f"Bazel {resolution.bazel.version}", executable=True)
        mounts["bazel"] = f"{TOOLS}/bazel"
    for required in _requirements(resolution):
        inputs[f"require {required.file}"] = _unpacked(required)
        mounts[f"require {required.file}"] = f"{REQUIRES}/{required.file}"
    return RunStep(
        name=f"compile {resolution.recipe.name} {release.version} for {resolution.target.name}",
        inputs=inputs,
        commands=compilation.commands,
        env=_environment(resolution, values, compilation.env, compilation.path),
        cwd=SOURCE,
        mounts=mounts,
        copies=copies,
        outputs=("*.whl",),
        sized_env=compilation.sized_env,
        sized_files=compilation.sized_files,
    )


def _environment(
    resolution: Resolution, values: Mapping[str, object], more: Mapping[str, str], path: tuple[str, ...]
) -> dict[str, str]:
    requires = [f"{REQUIRES}/{source.file}" for source in _requirements(resolution)]
    return {
        "PATH": ":".join([*path, "/usr/bin", "/bin"]),
        "PYTHONPATH": ":".join([*requires, f"{TOOLCHAIN}/python"]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "_PYTHON_SYSCONFIGDATA_NAME": str(values["sysconfigdata"]),
        "_PYTHON_HOST_PLATFORM": f"linux-{resolution.target.arch}",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        **more,
        **resolution.release.env,
    }


def trial_inputs(recipe: Recipe, source: TreeStep, python: str, arch: Arch) -> dict[str, Step]:
    """What a recipe's check needs besides the wheel and the roots: the source's tests, and wheels."""
    fitting = (w for w in recipe.check.wheels if w.arch in (None, arch) and _serves(w, python))
    return {"source": source, **{f"{CHECK_WHEEL}{wheel.file}": _unpacked(wheel) for wheel in fitting}}


def _proof_step(
    resolution: Resolution, catalog: Catalog, wheel: WheelStep, rules: Mapping[str, int], source: TreeStep
) -> ProofStep:
    recipe = resolution.recipe
    policy = policy_for(resolution.target, resolution.sysroot, resolution.cpu, resolution.python)
    dumped: Mapping[str, Json] = policy.model_dump(mode="json")
    return ProofStep(
        name=f"prove {recipe.name} {resolution.release.version} on {resolution.cpu.qemu}",
        inputs={
            "wheel": wheel,
            "root": target_root_step(
                catalog, resolution.sysroot.name, resolution.target.arch, recipe
            ),
            "emulator": emulator_step(catalog),
            **trial_inputs(recipe, source, resolution.python, resolution.target.arch),
        },
        policy=dumped,
        check=catalog.check_script(recipe),
        tests=resolution.release.tests,
        timeout=recipe.check.timeout,
        rules=rules,
        built_here=True,
    )


def verification(
    wheel: LocalSource,
    catalog: Catalog,
    target: Target,
    system: System,
    cpu: Cpu,
    found: tuple[Recipe, Release] | None,
    *,
    rules: Mapping[str, int],
) -> ProofStep:
    """The proof of a wheel from anywhere, with the check of the release that it is (``found``), if it is one."""
    recipe = found[0] if found else None
    tree = release_tree(*found, system, catalog) if found else None
    policy = policy_for(target, catalog.sysroot(system.sysroot), cpu, system.python)
    local = LocalStep(name="take the wheel", path=wheel.path, sha256=wheel.sha256, folder=False)
    return ProofStep(
        name=f"prove {local.file} on {cpu.qemu}",
        inputs={
            "wheel": local,
            "root": target_root_step(catalog, system.sysroot, target.arch, recipe),
            "emulator": emulator_step(catalog),
            **(trial_inputs(recipe, tree, system.python, target.arch) if recipe and tree else {}),
        },
        policy=policy.model_dump(mode="json"),
        check=catalog.check_script(recipe) if recipe else "",
        tests=found[1].tests if found else 0,
        timeout=recipe.check.timeout if recipe else 0,
        rules=rules,
        built_here=False,
    )
