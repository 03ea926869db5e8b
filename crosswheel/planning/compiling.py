"""The step that compiles a release: its inputs, its environment, and the commands of its backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crosswheel.digest import sha256_json
from crosswheel.planning.backends import (
    REPOSITORY_CACHE,
    SOURCE,
    SOURCE_DATE_EPOCH,
    TOOLS,
    Backend,
    bazel,
    cmake,
    meson,
    pep517,
    script,
)
from crosswheel.planning.cuda_steps import compilers, headers, laid_out, variables
from crosswheel.planning.fitting import NUMPY
from crosswheel.planning.headers import headers_step
from crosswheel.planning.installing import forced_parts, with_installed
from crosswheel.planning.remote import RemoteUse
from crosswheel.planning.render import Renderer, renderer_of
from crosswheel.planning.resolve import WHEEL, Resolution
from crosswheel.planning.roots import builder_step, parts_step, sysroot_step
from crosswheel.planning.sources import (
    LocalSource,
    external_tree,
    externals_of,
    fetch_step,
    repository_cache,
    requirements,
    source_tree,
    unpacked,
    without_stand_ins,
)
from crosswheel.planning.steps import BundleStep, FilesStep, RenderedFile, RootStep, RunStep, Step, TreeStep, WheelStep
from crosswheel.planning.toolchains import (
    EXTERNALS,
    PYTHON_HEADERS,
    REQUIRES,
    SYSROOT,
    TOOLCHAIN,
    Paths,
    toolchain_files,
    values_of,
)
from crosswheel.spec.catalog import Catalog

_BACKENDS: Mapping[str, Backend] = {
    "bazel": bazel.compilation,
    "cmake": cmake.compilation,
    "meson": meson.compilation,
    "pep517": pep517.compilation,
    "script": script.compilation,
}


def wheel_step(
    resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource], source: TreeStep
) -> WheelStep:
    """The wheel of a resolution."""
    return WheelStep(
        name=f"wheel {resolution.recipe.name} {resolution.release.version}",
        inputs={"run": compile_step(resolution, catalog, given, source)},
        distribution=resolution.recipe.distribution,
        version=resolution.release.version,
        tag=resolution.wheel_tag,
        build="" if resolution.cpu.name == resolution.target.cpu else resolution.cpu.build_tag,
    )


def bundle_step(
    resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource], source: TreeStep
) -> BundleStep:
    """The bundle of a resolution whose output is no wheel."""
    recipe, release = resolution.recipe, resolution.release
    names = [recipe.name, release.version]
    if recipe.distribution or resolution.output != next(iter(recipe.outputs)):
        names.append(resolution.output)
    names.append(resolution.target.name)
    if resolution.sysroot.name != resolution.target.systems[0].sysroot:
        names.append(resolution.sysroot.name)
    inputs: dict[str, Step] = {"run": compile_step(resolution, catalog, given, source)}
    library = recipe.outputs[resolution.output].pkgconfig
    if library:
        values = {**library.model_dump(), "version": release.version}
        text = renderer_of(catalog).render("pkgconfig/library.pc.j2", values)
        files = {f"lib/pkgconfig/{library.name}.pc": RenderedFile(text=text)}
        inputs["files"] = FilesStep(name=f"render {library.name}.pc", files=files)
    stem = "-".join(names)
    return BundleStep(name=f"bundle {stem}", inputs=inputs, stem=stem)


def unpacked_bundle(bundle: BundleStep) -> TreeStep:
    """A bundle as a folder."""
    return TreeStep(name=f"unpack {bundle.stem}", inputs={"archive": bundle})


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A bundle of a resolution's chain, unpacked: the role that it has, and the path where it is seen."""

    on: Literal["host", "target"]
    role: str
    step: TreeStep
    name: str

    @property
    def place(self) -> str:
        return f"{TOOLS if self.on == 'host' else EXTERNALS}/{self.name}"


def chained(resolution: Resolution, catalog: Catalog) -> list[Needed]:
    """The bundles that are built before a resolution."""
    found = []
    for item in resolution.chain:
        bundle = bundle_step(item.resolution, catalog, {}, source_tree(item.resolution, catalog, {}))
        name = item.resolution.recipe.name
        found.append(Needed(on=item.on, role=f"{item.on} {name}", step=unpacked_bundle(bundle), name=name))
    return found


def built_numpy(numpy: Resolution, catalog: Catalog) -> WheelStep:
    """The wheel of a NumPy of our own, which another wheel is compiled and tried with."""
    of = (numpy.release.version, numpy.target.name, numpy.system, numpy.cpu.name, numpy.builder_from)
    return catalog.once("NumPy", of, lambda: wheel_step(numpy, catalog, {}, source_tree(numpy, catalog, {})))


def compile_step(
    resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource], source: TreeStep
) -> RunStep:
    """The step that compiles ``source``."""
    renderer = renderer_of(catalog)
    release = resolution.release
    arch = resolution.target.arch
    gpu = compilers(resolution.cuda, arch, resolution.sysroot, TOOLCHAIN) if resolution.cuda else None
    paths = Paths(python=PYTHON_HEADERS if resolution.sysroot.pythons[resolution.python].cpython else "")
    values = values_of(resolution.system, resolution.toolchain, resolution.cpu, arch, paths, gpu)
    external_paths = {external.name: f"{EXTERNALS}/{external.name}" for external in release.externals}
    compilation = _BACKENDS[release.backend](without_stand_ins(resolution, catalog), renderer, values, external_paths)
    inputs: dict[str, Step] = {
        **_roots(resolution, catalog),
        "toolchain": FilesStep(
            name=f"render toolchain {resolution.target.name}",
            files={
                **toolchain_files(renderer, values),
                **(headers(resolution.cuda, resolution.sysroot, renderer) if resolution.cuda else {}),
                **compilation.files,
            },
        ),
        "source": source,
    }
    mounts = {"sysroot": SYSROOT, "toolchain": TOOLCHAIN}
    copies = {"source": SOURCE}
    if compilation.home:
        inputs["home"] = FilesStep(name="render home", files=compilation.home)
        copies["home"] = "/build/home"
    for external in release.externals:
        inputs[f"external {external.name}"] = external_tree(resolution, catalog, renderer, external, given)
        mounts[f"external {external.name}"] = external_paths[external.name]
    if externals_of(resolution, catalog):
        inputs["externals"] = repository_cache(resolution, catalog, given)
        copies["externals"] = REPOSITORY_CACHE
    for role, (step, place) in {**_needed(resolution, catalog), **_gpu(resolution, catalog, renderer, given)}.items():
        inputs[role] = step
        mounts[role] = place
    tools = _tools(inputs)
    return RunStep(
        name=f"compile {resolution.recipe.name} {release.version} for {resolution.target.name}",
        inputs=inputs,
        commands=compilation.commands,
        env={
            **(variables(resolution.cuda) if resolution.cuda else {}),
            **_environment(resolution, values, compilation.env, (*_host_tools(resolution), *compilation.path)),
        },
        cwd=SOURCE,
        mounts=mounts,
        copies=copies,
        outputs=("*.whl",) if resolution.output == WHEEL else ("**/*",),
        sized_env={
            **compilation.sized_env,
            **{name: value for name, value in release.env.items() if _JOBS in value},
        },
        sized_files=compilation.sized_files,
        caches={f"{name}-{tools[:16]}": place for name, place in compilation.caches.items()},
        remote=_remote(resolution, tools),
    )


def _gpu(
    resolution: Resolution, catalog: Catalog, renderer: Renderer, given: Mapping[str, LocalSource]
) -> dict[str, tuple[Step, str]]:
    """What a build for a GPU reads besides, as :func:`_needed` has it."""
    if resolution.cuda is None:
        return {}
    # TensorFlow's generators are linked with what they generate code for.
    programs = resolution.release.bazel is not None and bool(resolution.release.bazel.outputs)
    laid = laid_out(resolution.cuda, resolution.target.arch, catalog, renderer, given, programs=programs)
    return {role: (each.step, each.place) for role, each in laid.items()}


def _needed(resolution: Resolution, catalog: Catalog) -> dict[str, tuple[Step, str]]:
    """What else a build reads, by its role: the step that brings it, and where it is seen."""
    found: dict[str, tuple[Step, str]] = {}
    if resolution.bazel:
        bazel = fetch_step(resolution.bazel, name=f"Bazel {resolution.bazel.version}", executable=True)
        found["bazel"] = (bazel, f"{TOOLS}/bazel")
    if resolution.numpy:
        numpy = built_numpy(resolution.numpy, catalog)
        found["numpy"] = (TreeStep(name="unpack NumPy", inputs={"archive": numpy}), f"{REQUIRES}/{NUMPY}")
    own = resolution.sysroot.pythons[resolution.python].cpython
    if own:
        arch, system = resolution.target.arch, resolution.system
        step = headers_step(catalog, catalog.cpython(own), arch, system.sysroot, system.toolchain)
        found["python headers"] = (step, PYTHON_HEADERS)
    for item in chained(resolution, catalog):
        found[item.role] = (item.step, item.place)
    for required in requirements(resolution):
        found[f"require {required.file}"] = (unpacked(required), f"{REQUIRES}/{required.file}")
    return found


def _host_tools(resolution: Resolution) -> tuple[str, ...]:
    """The folders of the chain's programs that the build runs."""
    return tuple(f"{TOOLS}/{item.resolution.recipe.name}/bin" for item in resolution.chain if item.on == "host")


def _roots(resolution: Resolution, catalog: Catalog) -> dict[str, Step]:
    arch = resolution.target.arch
    # The headers of every Python's NumPy, so that all Pythons have one sysroot, and share what is compiled against it.
    numpy = resolution.release.needs.numpy is not None
    builder = builder_step(catalog, resolution.toolchain.name, arch, resolution.builder_from, resolution.recipe)
    if resolution.apt_force and resolution.cuda and isinstance(builder, RootStep):
        toolkit = resolution.cuda.toolkit
        parts = forced_parts(toolkit, arch, catalog.sysroot(resolution.toolchain.sysroot))
        steps = [parts_step(catalog, part, f"{', '.join(part.packages)}, {part.arch}") for part in parts]
        builder = with_installed(builder, steps, f"CUDA {toolkit.version}")
    return {
        "builder": builder,
        "sysroot": sysroot_step(
            catalog, resolution.sysroot.name, arch, resolution.recipe, numpy=numpy, toolchain=resolution.toolchain
        ),
    }


_JOBS = "{jobs}"
"""In a variable of a release: how many compilers may run, which is a fact of the machine."""

_COMPILERS = ("bin/", "host/bin/", "lib/", "crosstool/", "starlark/", "platforms/")
"""Where a rendered toolchain has what compiling C and C++ depends on, and Python does not come in."""


def _tools(inputs: Mapping[str, Step]) -> str:
    """A digest of whatever Bazel does not know that its actions depend on: the builder, the sysroot and the compilers.
    So Pythons share a cache, and other compilers do not."""
    toolchain = inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    files: dict[str, RenderedFile] = {
        path: file
        for path, file in toolchain.files.items()
        if path.startswith(_COMPILERS) and not path.startswith("bin/python")
    }
    return sha256_json(
        {
            "builder": inputs["builder"].key,
            "sysroot": inputs["sysroot"].key,
            "bazel": inputs["bazel"].key if "bazel" in inputs else None,
            "compilers": {path: file.text for path, file in files.items()},
        }
    )


def _remote(resolution: Resolution, tools: str) -> RemoteUse | None:
    """What a remote cache is used with, where our ``.bazelrc`` is there for its flags."""
    tool = resolution.bazel
    if tool is None or tool.remote is None or resolution.release.backend != "bazel":
        return None
    return RemoteUse(bazel=tool.version, flags=tool.remote, tools=tools)


def _environment(
    resolution: Resolution, values: Mapping[str, object], more: Mapping[str, str], path: tuple[str, ...]
) -> dict[str, str]:
    requires = [f"{REQUIRES}/{source.file}" for source in requirements(resolution)]
    return {
        "PATH": ":".join([*path, "/usr/bin", "/bin"]),
        "PYTHONPATH": ":".join([*requires, f"{TOOLCHAIN}/python"]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "_PYTHON_SYSCONFIGDATA_NAME": str(values["sysconfigdata"]),
        "_PYTHON_HOST_PLATFORM": f"linux-{resolution.target.arch}",
        "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        **more,
        **{
            name: value.replace("{toolchain}", TOOLCHAIN)
            for name, value in resolution.release.env.items()
            if _JOBS not in value
        },
    }
