"""The step that compiles a release: its inputs, its environment, and the commands of its backend."""

from __future__ import annotations

from collections.abc import Mapping

from crosswheel.digest import sha256_json
from crosswheel.planning.backends import (
    REPOSITORY_CACHE,
    SOURCE,
    SOURCE_DATE_EPOCH,
    TOOLS,
    Backend,
    Compilation,
    bazel,
    cmake,
    meson,
    pep517,
)
from crosswheel.planning.fitting import NUMPY
from crosswheel.planning.render import renderer_of
from crosswheel.planning.resolve import WHEEL, Resolution
from crosswheel.planning.roots import builder_step, sysroot_step
from crosswheel.planning.sources import (
    LocalSource,
    external_tree,
    externals_of,
    fetch_step,
    repository_cache,
    requirements,
    source_tree,
    unpacked,
)
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep, Step, TreeStep, WheelStep
from crosswheel.planning.toolchains import (
    EXTERNALS,
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
    )


def built_numpy(numpy: Resolution, catalog: Catalog) -> WheelStep:
    """The wheel of a NumPy of our own, which another wheel is compiled and tried with."""
    return wheel_step(numpy, catalog, {}, source_tree(numpy, catalog, {}))


def compile_step(
    resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource], source: TreeStep
) -> RunStep:
    """The step that compiles ``source``."""
    renderer = renderer_of(catalog)
    release = resolution.release
    values = values_of(resolution.system, resolution.toolchain, resolution.cpu, resolution.target.arch, Paths())
    external_paths = {external.name: f"{EXTERNALS}/{external.name}" for external in release.externals}
    compilation = _BACKENDS[release.backend](resolution, renderer, values, external_paths)
    inputs: dict[str, Step] = {
        **_roots(resolution, catalog),
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
        inputs[f"external {external.name}"] = external_tree(resolution, catalog, renderer, external, given)
        mounts[f"external {external.name}"] = external_paths[external.name]
    if externals_of(resolution, catalog):
        inputs["externals"] = repository_cache(resolution, catalog, given)
        copies["externals"] = REPOSITORY_CACHE
    if resolution.bazel:
        inputs["bazel"] = fetch_step(resolution.bazel, name=f"Bazel {resolution.bazel.version}", executable=True)
        mounts["bazel"] = f"{TOOLS}/bazel"
    if resolution.numpy:
        numpy = built_numpy(resolution.numpy, catalog)
        inputs["numpy"] = TreeStep(name="unpack NumPy", inputs={"archive": numpy})
        mounts["numpy"] = f"{REQUIRES}/{NUMPY}"
    for required in requirements(resolution):
        inputs[f"require {required.file}"] = unpacked(required)
        mounts[f"require {required.file}"] = f"{REQUIRES}/{required.file}"
    return RunStep(
        name=f"compile {resolution.recipe.name} {release.version} for {resolution.target.name}",
        inputs=inputs,
        commands=compilation.commands,
        env=_environment(resolution, values, compilation.env, compilation.path),
        cwd=SOURCE,
        mounts=mounts,
        copies=copies,
        outputs=("*.whl",) if resolution.output == WHEEL else ("*",),
        sized_env={
            **compilation.sized_env,
            **{name: value for name, value in release.env.items() if _JOBS in value},
        },
        sized_files=compilation.sized_files,
        caches=_caches(compilation, inputs),
    )


def _roots(resolution: Resolution, catalog: Catalog) -> dict[str, Step]:
    arch = resolution.target.arch
    # The headers of every Python's NumPy, so that all Pythons have one sysroot, and share what is compiled against it.
    numpy = resolution.release.needs.numpy is not None
    return {
        "builder": builder_step(
            catalog, resolution.toolchain.name, arch, resolution.builder_from, resolution.recipe
        ),
        "sysroot": sysroot_step(catalog, resolution.sysroot.name, arch, resolution.recipe, numpy=numpy),
    }


_JOBS = "{jobs}"
"""In a variable of a release: how many compilers may run, which is a fact of the machine."""

_COMPILERS = ("bin/", "host/bin/", "lib/", "crosstool/", "starlark/", "platforms/")
"""Where a rendered toolchain has what compiling C and C++ depends on, and Python does not come in."""


def _caches(compilation: Compilation, inputs: Mapping[str, Step]) -> dict[str, str]:
    """The caches by names that change with whatever Bazel does not know it depends on: the builder, the sysroot and
    the compilers. So Pythons share a cache, and other compilers do not."""
    toolchain = inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    files: dict[str, RenderedFile] = {
        path: file
        for path, file in toolchain.files.items()
        if path.startswith(_COMPILERS) and not path.startswith("bin/python")
    }
    digest = sha256_json(
        {
            "builder": inputs["builder"].key,
            "sysroot": inputs["sysroot"].key,
            "bazel": inputs["bazel"].key if "bazel" in inputs else None,
            "compilers": {path: file.text for path, file in files.items()},
        }
    )
    return {f"{name}-{digest[:16]}": place for name, place in compilation.caches.items()}


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
