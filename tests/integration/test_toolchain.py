"""Host and target in one Bazel build: a workspace in which a generator runs on the host and its output is compiled for
the target, with each Bazel whose language of toolchains differs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from crosswheel.building.execute import execute
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import read_settings
from crosswheel.planning.backends import SOURCE
from crosswheel.planning.plan import plan
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep, Step
from crosswheel.planning.toolchains import BAZEL_CPU, Paths, bazel_files, toolchain_files, values_of
from crosswheel.planning.wrappers import Cuda
from crosswheel.proving.elf import ElfFacts, read_elf
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SUITE = """
# Before 7, Bazel asks for a suite even where platforms choose. This one would build all for the host.
cc_toolchain_suite(
    name = "suite",
    toolchains = {
        "aarch64": "@crosswheel//platforms:cc-host",
        "k8": "@crosswheel//platforms:cc-host",
    },
)
"""
WORKSPACE = Path(__file__).parent / "workspace"
HOST_BIN = "bazel-out/host/bin/tensorflow"


@dataclass(frozen=True)
class Case:
    """A target and a Bazel. With ``platforms`` it is told of toolchains as later ones are; with ``native`` it is given
    the flags that it gets for a target of the builder's architecture, where it builds every tool once; with ``cuda``
    both sides are of the flavour for CUDA."""

    target: str
    bazel: str
    platforms: bool = False
    native: bool = False
    cuda: bool = False


CASES = {
    "crosstool, gcc 12": Case("rpi4", "0.17.2"),
    "starlark, gcc 12": Case("rpi4", "2.1.0"),
    "crosstool, gcc 10": Case("nanopi-m4", "0.17.2"),
    "one configuration": Case("x86_64", "0.17.2", native=True),
    "platforms, gcc 12": Case("rpi4", "2.1.0", platforms=True),
    "platforms of one architecture": Case("x86_64", "2.1.0", platforms=True),
}
CUDA_CASES = {
    "crosstool": Case("rpi4", "0.17.2", cuda=True),
    "starlark": Case("rpi4", "2.1.0", cuda=True),
    "platforms": Case("rpi4", "2.1.0", platforms=True, cuda=True),
}
CUDA = Cuda(
    root="/cuda",
    target_dir="aarch64-linux",
    nvcc=f"{SOURCE}/cuda/nvcc",
    standard="c++11",
    capabilities=("5.3",),
    target_options=("-target-dir", "aarch64-linux"),
    target_headers=(),
    host_headers=(),
    target_libraries=(),
    host_libraries=("/cuda/lib64",),
)
FLAVOUR = {
    "build --compiler=gcc": "build --compiler=cuda",
    ":target\n": ":target-cuda\n",
    ":host\n": ":host-cuda\n",
}
TARGETS = ("//tensorflow:hello", "//tensorflow:python/_pywrap.so", "//tensorflow:libtensorflow_framework.so")


def run_step_of(catalog: Catalog, case: Case) -> RunStep:
    """The step that compiles a release with Bazel for this target."""
    request = Request(recipe="dm-tree", version="0.1.5", target=case.target, tools={"bazel": case.bazel})
    step = plan(resolve(request, catalog), catalog, rules={}).wheel.inputs["run"]
    assert isinstance(step, RunStep)
    return step


def build_step(catalog: Catalog, case: Case) -> RunStep:
    """The same step with the workspace for a source: its roots, toolchain, Bazel and ``.bazelrc``."""
    run = run_step_of(catalog, case)
    home = run.inputs["home"]
    assert isinstance(home, FilesStep)
    lines = home.files[".bazelrc"].text.splitlines(keepends=True)
    bazelrc = "".join(line for line in lines if "=/externals/" not in line)
    toolchain = run.inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    if case.cuda:
        toolchain = replace(toolchain, files={**toolchain.files, **with_cuda(catalog, case)})
        for plain, flavour in FLAVOUR.items():
            bazelrc = bazelrc.replace(plain, flavour)
    files = {
        str(path.relative_to(WORKSPACE)): RenderedFile(text=path.read_text(), executable=path.name == "nvcc")
        for path in sorted(WORKSPACE.rglob("*"))
        if path.is_file()
    }
    if case.platforms:
        files["suite/BUILD"] = RenderedFile(text=SUITE)
    inputs: Mapping[str, Step] = {
        **{role: run.inputs[role] for role in ("builder", "sysroot", "bazel")},
        "toolchain": toolchain,
        "home": FilesStep(name="render home", files={".bazelrc": RenderedFile(text=bazelrc)}),
        "source": FilesStep(name="the workspace", files=files),
    }
    native = catalog.bazels[case.bazel].native if case.native else ()
    host, target = _results(case)
    more = ("//cuda:libkernel.so",) if case.cuda else ()
    target += ["bazel-bin/cuda/libkernel.so"] if case.cuda else []
    return replace(
        run,
        name=f"build the workspace with Bazel {case.bazel} for {case.target}",
        inputs=inputs,
        commands=(
            ("bazel", "build", "-c", "opt", "--subcommands", *native, *TARGETS, *more),
            ("mkdir", "-p", "/build/out/host", "/build/out/target"),
            ("cp", "-L", *host, "/build/out/host"),
            ("cp", "-L", *target, "/build/out/target"),
        ),
        mounts={role: place for role, place in run.mounts.items() if role in inputs},
        copies={role: place for role, place in run.copies.items() if role in inputs},
        outputs=("host/*", "target/*"),
        caches={},
    )


def with_cuda(catalog: Catalog, case: Case) -> dict[str, RenderedFile]:
    """The compilers' files of the toolchain, with the flavour for CUDA."""
    target = catalog.target(case.target)
    system = target.systems[0]
    chain, cpu = catalog.toolchain(system.toolchain), catalog.cpu(target.cpu)
    values = values_of(system, chain, cpu, target.arch, Paths(), CUDA)
    renderer = Renderer(catalog)
    style = catalog.bazels[case.bazel].style
    return {**toolchain_files(renderer, values), **bazel_files(renderer, values, style)}


def _results(case: Case) -> tuple[list[str], list[str]]:
    """Where Bazel leaves what is built for the host, and for the target."""
    library = "libtensorflow_framework.so"
    host = "bazel-bin/tensorflow" if case.native else HOST_BIN
    return (
        [f"{host}/{name}" for name in ("gen_math_ops_py_wrappers_cc", library)],
        [f"bazel-bin/tensorflow/{name}" for name in ("hello", "python/_pywrap.so", library)],
    )


def made_by(step: RunStep, catalog: Catalog, folder: Path) -> tuple[Path, str]:
    """Runs the step in a store of its own, with the inputs of the user's store; its result and its log."""
    settings = read_settings()
    theirs, ours = Store(settings.store), Store(folder)
    with Screen(quiet=True) as screen:
        execute(list(step.inputs.values()), theirs, settings, runners(catalog, settings), screen)
        for one in step.inputs.values():
            place = ours.path(one.key)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(theirs.path(one.key))
        here = replace(settings, store=folder)
        result = execute(step, ours, here, runners(catalog, here), screen).artefacts[step.key]
    return result.path, ours.log_path(step.key).read_text()


def elf(path: Path) -> ElfFacts:
    return read_elf(path.name, path.read_bytes())


def told_of_platforms(data: Path, bazel: str) -> Catalog:
    """The catalog, in which this Bazel chooses toolchains by platforms: from 7 on it does so by itself."""
    path = data / "toolchains/bazel.toml"
    before, version, after = path.read_text().partition(f'version = "{bazel}"\n')
    own, following, others = after.partition("[[bazel]]")
    assert own.count('style = "starlark"\n') == 1
    assert "\nflags = " not in own
    flags = (
        'style = "platforms"\nflags = ["--incompatible_enable_cc_toolchain_resolution", "--crosstool_top=//suite"]\n'
    )
    path.write_text(before + version + own.replace('style = "starlark"\n', flags) + following + others)
    return Catalog(data)


@pytest.mark.parametrize("name", CASES)
def test_host_and_target_are_not_confused(name: str, catalog: Catalog, data: Path, tmp_path: Path) -> None:
    case = CASES[name]
    if case.platforms:
        catalog = told_of_platforms(data, case.bazel)
    arch = catalog.target(case.target).arch
    out, log = made_by(build_step(catalog, case), catalog, tmp_path / "store")
    host = {path.name: elf(path) for path in (out / "host").iterdir()}
    target = {path.name: elf(path) for path in (out / "target").iterdir()}
    assert {facts.machine_name for facts in host.values()} == {"x86_64"}
    assert {facts.machine_name for facts in target.values()} == {arch}
    assert f"generated by x86_64 with x86_64 for {arch}".encode() in (out / "target/hello").read_bytes()
    for facts in (host["gen_math_ops_py_wrappers_cc"], target["_pywrap.so"]):
        assert "libtensorflow_framework.so" in facts.needed
    runpath = [*target["_pywrap.so"].runpath, *target["_pywrap.so"].rpath]
    assert {"$ORIGIN/", "$ORIGIN/.."} <= set(runpath)
    assert all(entry.startswith("$ORIGIN") for entry in runpath)
    assert "-march=native" not in log
    compilers = dict.fromkeys(re.findall(r"^ *(/toolchain/\S+) .* -o bazel-out/([\w-]+)/", log, re.MULTILINE))
    ours = {configuration for compiler, configuration in compilers if compiler == "/toolchain/bin/cc"}
    theirs = {configuration for compiler, configuration in compilers if compiler == "/toolchain/host/bin/cc"}
    assert ours == {f"{BAZEL_CPU[arch]}-opt"}
    assert theirs == (set() if case.native else {"host"})


@pytest.mark.parametrize("name", CUDA_CASES)
def test_the_flavour_for_cuda_is_chosen_for_both_sides(name: str, catalog: Catalog, data: Path, tmp_path: Path) -> None:
    """Sources of CUDA go to nvcc, which is a stand-in here, and everything else is as without it."""
    case = CUDA_CASES[name]
    if case.platforms:
        catalog = told_of_platforms(data, case.bazel)
    out, log = made_by(build_step(catalog, case), catalog, tmp_path / "store")
    kernel = out / "target/libkernel.so"
    assert elf(kernel).machine_name == "aarch64"
    assert b"compiled by nvcc for aarch64" in kernel.read_bytes()
    assert b"generated by x86_64 with x86_64 for aarch64" in (out / "target/hello").read_bytes()
    assert {elf(path).machine_name for path in (out / "host").iterdir()} == {"x86_64"}
    assert "/cuda/lib64" in elf(out / "host/gen_math_ops_py_wrappers_cc").runpath
    compilers = re.findall(r"^ *(/toolchain/\S+) ", log, re.MULTILINE)
    assert {path for path in compilers if path.endswith("cc")} == {
        "/toolchain/bin/cuda/cc",
        "/toolchain/host/bin/cuda/cc",
    }
