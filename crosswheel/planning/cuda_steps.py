"""The steps that lay out CUDA and cuDNN for a build, and what its compilers are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from crosswheel.planning.arranging import ArrangeStep, Placing
from crosswheel.planning.backends import filled
from crosswheel.planning.cuda import CudaChoice
from crosswheel.planning.cudnn import HOST_CUDNN, TARGET_CUDNN, CudnnStep, cudnn_step
from crosswheel.planning.render import Renderer
from crosswheel.planning.roots import parts_step
from crosswheel.planning.sources import LocalSource, fetch_step, members_step, unpacked
from crosswheel.planning.steps import LocalStep, RenderedFile, Step
from crosswheel.planning.toolchains import HOST_ARCH
from crosswheel.planning.wrappers import Cuda
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import Cudnn, Part, Toolkit, WheelPart
from crosswheel.spec.sysroots import Sysroot

TOOLKIT = "/cuda"
"""Where a build sees the toolkit, laid out as NVIDIA lays it out."""

CUDNN = "/cudnn"
"""Where a build sees cuDNN: the target's below ``target``, the builder's below ``host``."""

HEADERS = "cuda/include"
"""Below the toolchain's folder: the headers that nvcc reads instead of the C library's."""

_EMPTY_ARCHIVE = "!<arch>\n"
"""A static library without members (ar(5))."""


@dataclass(frozen=True, kw_only=True)
class Laid:
    """A step that lays something out, and where the build sees it."""

    step: Step
    place: str


def target_dir(arch: Arch) -> str:
    """nvcc's ``-target-dir``: the folder of an architecture below the toolkit's ``targets``."""
    return f"{arch}-linux"


def laid_out(
    choice: CudaChoice,
    arch: Arch,
    catalog: Catalog,
    renderer: Renderer,
    given: Mapping[str, LocalSource],
    *,
    programs: bool,
) -> dict[str, Laid]:
    """The toolkit and cuDNN of a build for ``arch``, by their roles; ``programs``: the build makes programs for itself
    that are linked with them, and runs them."""
    found = {"cuda": Laid(step=_toolkit(choice, arch, catalog, renderer, programs=programs), place=TOOLKIT)}
    if choice.cudnn:
        sides: list[tuple[str, str, Arch]] = [(TARGET_CUDNN, "target", arch)]
        if programs:
            sides.append((HOST_CUDNN, "host", HOST_ARCH))
        for role, side, machine in sides:
            step = _cudnn(choice.cudnn, machine, role, catalog, given)
            found[role] = Laid(step=step, place=f"{CUDNN}/{side}")
    return found


def _toolkit(choice: CudaChoice, arch: Arch, catalog: Catalog, renderer: Renderer, *, programs: bool) -> ArrangeStep:
    toolkit = choice.toolkit
    linked = toolkit.programs if programs or arch == HOST_ARCH else ()
    parts = (*toolkit.host, *linked, *(toolkit.target[arch] if arch != HOST_ARCH else ()))
    inputs, placings = _parts(parts, catalog, f"CUDA {toolkit.version}")
    files = {
        "bin/nvcc.profile": RenderedFile(text=renderer.render("cuda/nvcc.profile.j2", {})),
        "version.txt": RenderedFile(text=renderer.render("cuda/version.txt.j2", {"version": toolkit.version})),
    }
    # TensorFlow's cuda_configure.bzl looks for these at the toolkit's top, and so do many others.
    for name in ("include", "lib64"):
        folder = f"targets/{target_dir(HOST_ARCH)}/{name.removesuffix('64')}"
        files[name] = RenderedFile(text=folder, link=True)
    for machine in dict.fromkeys((HOST_ARCH, arch)):
        for library in toolkit.empty:
            files[f"targets/{target_dir(machine)}/lib/{library}"] = RenderedFile(text=_EMPTY_ARCHIVE)
    return ArrangeStep(
        name=f"lay out CUDA {toolkit.version} for {arch}",
        inputs=inputs,
        placings=placings,
        arches={
            "bin": HOST_ARCH,
            "nvvm": HOST_ARCH,
            f"targets/{target_dir(HOST_ARCH)}": HOST_ARCH,
            f"targets/{target_dir(arch)}": arch,
        },
        files=files,
        expected=("bin/nvcc", *_expected(toolkit, arch, programs=bool(linked))),
    )


def _expected(toolkit: Toolkit, arch: Arch, *, programs: bool) -> tuple[str, ...]:
    """What must be there in the end; of the builder's libraries only where something is linked with them."""
    words = {"{target}": target_dir(arch), "{host}": target_dir(HOST_ARCH)}
    return tuple(filled(path, words) for path in toolkit.expected if programs or "{host}" not in path)


def _cudnn(cudnn: Cudnn, arch: Arch, source: str, catalog: Catalog, given: Mapping[str, LocalSource]) -> CudnnStep:
    """cuDNN as the user gave it, else as its parts bring it."""
    inputs: dict[str, Step] = dict(_part(part, catalog, f"cuDNN {cudnn.version}") for part in cudnn.parts.get(arch, ()))
    if source in given:
        local = given[source]
        inputs = {source: LocalStep(name=f"take {source}", path=local.path, sha256=local.sha256, folder=local.folder)}
    return cudnn_step(cudnn.version, arch, source, inputs)


def _parts(parts: tuple[Part, ...], catalog: Catalog, title: str) -> tuple[dict[str, Step], tuple[Placing, ...]]:
    """The steps that bring parts, by their roles, and where their files go."""
    inputs: dict[str, Step] = {}
    placings: list[Placing] = []
    for part in parts:
        role, step = _part(part, catalog, title)
        inputs[role] = step
        placings += [Placing(role=role, origin=origin, to=to) for origin, to in part.layout.items()]
    return inputs, tuple(placings)


def _part(part: Part, catalog: Catalog, title: str) -> tuple[str, Step]:
    wheel = part.wheel
    if part.file:
        return part.file.file, fetch_step(part.file)
    if wheel is None:
        more = f" and {len(part.packages) - 1} more" if len(part.packages) > 1 else ""
        return f"{part.arch} {' '.join(part.packages)}", parts_step(catalog, part, f"{title}: {part.packages[0]}{more}")
    if isinstance(wheel, WheelPart):
        return wheel.file, members_step(wheel, wheel.record, wheel.members)
    return wheel.file, unpacked(wheel)


def variables(choice: CudaChoice) -> dict[str, str]:
    """Where packages' own build scripts look for CUDA and cuDNN."""
    return {"CUDA_HOME": TOOLKIT, "CUDA_PATH": TOOLKIT, **({"CUDNN_ROOT": f"{CUDNN}/target"} if choice.cudnn else {})}


def headers(choice: CudaChoice, sysroot: Sysroot, renderer: Renderer) -> dict[str, RenderedFile]:
    """The headers that nvcc reads instead of the C library's, below the toolchain's folder."""
    return {
        f"{HEADERS}/{header.path}": RenderedFile(text=renderer.render(f"cuda/headers/{header.path}", {}))
        for header in choice.toolkit.headers
        if SpecifierSet(header.glibc).contains(sysroot.floors.GLIBC)
    }


def compilers(choice: CudaChoice, arch: Arch, sysroot: Sysroot, toolchain: str) -> Cuda:
    """What the compilers' wrappers are told of the toolkit; ``toolchain`` is the folder of the rendered files."""
    # No cudadevrt: the wheels and the boards' packages lack it, and only kernels that start kernels want it.
    common: tuple[str, ...] = ("--cudart", "shared", "-cudadevrt", "none")
    wanted = any(SpecifierSet(header.glibc).contains(sysroot.floors.GLIBC) for header in choice.toolkit.headers)
    stand_ins = (f"{toolchain}/{HEADERS}",) if wanted else ()
    for folder in stand_ins:
        common += ("-I", folder)
    own, host = target_dir(arch), target_dir(HOST_ARCH)
    include = {side: f"{TOOLKIT}/targets/{folder}/include" for side, folder in (("target", own), ("host", host))}
    cudnn = {side: (f"{CUDNN}/{side}/include",) if choice.cudnn else () for side in ("target", "host")}
    libraries = {
        side: (f"{TOOLKIT}/targets/{folder}/lib", *((f"{CUDNN}/{side}/lib",) if choice.cudnn else ()))
        for side, folder in (("target", own), ("host", host))
    }
    return Cuda(
        root=TOOLKIT,
        target_dir=own,
        nvcc=f"{TOOLKIT}/bin/nvcc",
        standard=choice.toolkit.standard,
        capabilities=choice.capabilities,
        target_options=("-target-dir", own, *common),
        host_options=("-target-dir", host, *common),
        target_headers=(include["target"], *cudnn["target"]),
        host_headers=(include["host"], *cudnn["host"]),
        target_libraries=libraries["target"],
        host_libraries=libraries["host"],
        stand_ins=stand_ins,
    )
