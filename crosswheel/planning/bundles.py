"""The steps that prove a bundle: what its attempts need, and the proof itself."""

from __future__ import annotations

from collections.abc import Mapping

from packaging.version import Version

from crosswheel.planning.backends import OUT, filled
from crosswheel.planning.compiling import chained, unpacked_bundle
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.roots import attempts_root_step, emulator_step
from crosswheel.planning.steps import BundleProofStep, BundleStep, FilesStep, RenderedFile, RunStep, Step
from crosswheel.planning.toolchains import SYSROOT, TOOLCHAIN
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.outputs import Output
from crosswheel.spec.policy import policy_for

BUNDLE = "/bundle"
"""Where the unpacked bundle is seen, by what prepares its attempts and by the attempts."""


def bundle_proof(
    resolution: Resolution, catalog: Catalog, bundle: BundleStep, rules: Mapping[str, int]
) -> BundleProofStep:
    """The proof of the bundle of a resolution, by this version's ``rules`` of bundles."""
    recipe, release = resolution.recipe, resolution.release
    output = recipe.outputs[resolution.output]
    gpus = resolution.cuda.capabilities if resolution.cuda else ()
    has = catalog.instruction_set(resolution.target, resolution.cpu, recipe)
    policy = policy_for(resolution.target, resolution.sysroot, resolution.cpu, resolution.python, has, gpus)
    trial = _trial(resolution, catalog, bundle, output)
    needed = {item.role: item.step for item in chained(resolution, catalog) if item.on == "target"}
    return BundleProofStep(
        name=f"prove {bundle.stem} on {resolution.cpu.qemu}",
        inputs={
            "bundle": bundle,
            "root": attempts_root_step(catalog, resolution.sysroot.name, resolution.target.arch),
            "emulator": emulator_step(catalog),
            **({"trial": trial} if trial else {}),
            **needed,
        },
        policy=policy.model_dump(mode="json"),
        attempts=tuple(attempt.model_dump(mode="json") for attempt in output.attempts),
        version=Version(release.version).base_version,
        timeout=output.timeout,
        rules=rules,
    )


def _trial(resolution: Resolution, catalog: Catalog, bundle: BundleStep, output: Output) -> Step | None:
    """The folder that the attempts see: the recipe's files, and what is made of them in the builder."""
    recipe = resolution.recipe
    texts = {file: RenderedFile(text=catalog.recipe_file(recipe, file)) for file in output.trial}
    files = FilesStep(name=f"trial files of {recipe.name}", files=texts)
    if not output.prepare:
        return files if texts else None
    run = bundle.inputs["run"]
    return RunStep(
        name=f"prepare attempts of {recipe.name}",
        inputs={
            **{role: run.inputs[role] for role in ("builder", "sysroot", "toolchain")},
            "bundle": unpacked_bundle(bundle),
            "trial": files,
        },
        commands=tuple(tuple(filled(word, {"{bundle}": BUNDLE}) for word in words) for words in output.prepare),
        env={
            "PATH": "/usr/bin:/bin",
            "CC": f"{TOOLCHAIN}/bin/cc",
            "CXX": f"{TOOLCHAIN}/bin/c++",
            # The bundle's own .pc files, and none of the builder's.
            "PKG_CONFIG_LIBDIR": f"{BUNDLE}/lib/pkgconfig",
        },
        cwd=OUT,
        mounts={"sysroot": SYSROOT, "toolchain": TOOLCHAIN, "bundle": BUNDLE},
        copies={"trial": OUT},
        outputs=("**/*",),
    )
