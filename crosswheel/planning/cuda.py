"""Which CUDA a build is for: the toolkit, cuDNN and the GPUs, and why some go together and others do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from crosswheel.planning.toolchains import HOST_ARCH
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import Cudnn, Toolkit
from crosswheel.spec.releases import Release
from crosswheel.spec.targets import System, SystemCuda, Target, Toolchain

CUDA = "cuda"
"""The feature by which a recipe is built for a GPU."""

CUDNN = "cudnn"

TOOLS = (CUDA, CUDNN)
"""The tools whose versions a build for a GPU chooses by ``--tool``."""


@dataclass(frozen=True, kw_only=True)
class CudaChoice:
    """What a build for a GPU takes: ``capabilities`` are the GPUs, such as ``5.3``."""

    toolkit: Toolkit
    cudnn: Cudnn | None
    capabilities: tuple[str, ...]


def with_cuda(systems: Sequence[System], target: Target, catalog: Catalog, reasons: list[str]) -> list[System]:
    """The systems that have CUDA; none of them is a reason."""
    found = [system for system in systems if system.cuda]
    if systems and not found:
        others = [name for name in catalog.target_names if any(each.cuda for each in catalog.target(name).systems)]
        which = f"{target.name}'s system of CPython {systems[0].python}" if target.capabilities else target.name
        reasons.append(f"{which} has no GPU that CUDA knows; of the targets, {_listed(others)} have one")
    return found


def choose(
    tools: Mapping[str, str],
    asked: Sequence[str],
    target: Target,
    system: System,
    toolchain: Toolchain,
    catalog: Catalog,
    reasons: list[str],
) -> CudaChoice | None:
    """The CUDA of a system, with the versions that ``tools`` choose instead and the capabilities that were asked for.
    None, with the reasons, where they do not go together."""
    own = system.cuda
    assert own is not None, "systems without CUDA were left out"
    before = len(reasons)
    toolkit = _toolkit(tools.get(CUDA, own.toolkit), target, toolchain, catalog, reasons)
    if toolkit is None:
        return None
    capabilities = tuple(dict.fromkeys(asked)) or target.capabilities
    for capability in capabilities:
        _known(capability, toolkit, catalog, reasons)
    cudnn = _cudnn(tools, own, toolkit, catalog, reasons)
    if len(reasons) > before:
        return None
    return CudaChoice(toolkit=toolkit, cudnn=cudnn, capabilities=capabilities)


def _toolkit(
    version: str, target: Target, toolchain: Toolchain, catalog: Catalog, reasons: list[str]
) -> Toolkit | None:
    if version not in catalog.cuda_versions:
        reasons.append(f"there is no CUDA {version!r} here; there is: {_listed(catalog.cuda_versions)}")
        return None
    toolkit = catalog.cuda(version)
    # A build for x86_64 links what the builder itself does.
    if target.arch not in (HOST_ARCH, *toolkit.target):
        arches = _listed(sorted((HOST_ARCH, *toolkit.target)))
        reasons.append(f"CUDA {version} is there for {arches}, and {target.name} is {target.arch}")
    if not SpecifierSet(toolkit.gcc).contains(toolchain.gcc):
        reasons.append(
            f"the nvcc of CUDA {version} takes gcc {toolkit.gcc} as its host compiler, "
            f"and the toolchain {toolchain.name} is gcc {toolchain.gcc}"
        )
    return toolkit


def _known(capability: str, toolkit: Toolkit, catalog: Catalog, reasons: list[str]) -> None:
    if capability in toolkit.capabilities:
        return
    fitting = [v for v in catalog.cuda_versions if capability in catalog.cuda(v).capabilities]
    why = _why_unknown(capability, toolkit)
    know = "knows" if len(fitting) == 1 else "know"
    others = f"CUDA {_listed(fitting)} {know} it" if fitting else "no CUDA that is known here knows it"
    what = f"does not compile for compute capability {capability}{why}"
    reasons.append(f"the nvcc of CUDA {toolkit.version} {what}; {others}")


def _why_unknown(capability: str, toolkit: Toolkit) -> str:
    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    try:
        if number(capability) < min(number(each) for each in toolkit.capabilities):
            return " any more"
        if number(capability) > max(number(each) for each in toolkit.capabilities):
            return " yet"
    except ValueError:
        return " (a capability is written as 5.3)"
    return ""


def _cudnn(
    tools: Mapping[str, str], own: SystemCuda, toolkit: Toolkit, catalog: Catalog, reasons: list[str]
) -> Cudnn | None:
    version = tools.get(CUDNN, own.cudnn)
    if version is None:
        return None
    if version not in catalog.cudnn_versions:
        reasons.append(f"there is no cuDNN {version!r} here; there is: {_listed(catalog.cudnn_versions)}")
        return None
    cudnn = catalog.cudnn(version)
    if not SpecifierSet(cudnn.cuda).contains(toolkit.version):
        reasons.append(f"cuDNN {version} is for CUDA {cudnn.cuda}, not {toolkit.version}; choose one by --tool cudnn=")
        return None
    return cudnn


def warnings(choice: CudaChoice | None, release: Release, arch: Arch, *, avx: bool | None) -> tuple[str, ...]:
    """What the user should know of a build that nothing forbids; ``avx`` is what they asked for, if anything."""
    if choice is None:
        return ()
    found = _untested(choice, release)
    if choice.cudnn and arch == HOST_ARCH and avx is False:
        found.append(
            f"--no-avx holds for what is compiled here, and not for cuDNN {choice.cudnn.version}, which uses AVX on"
            " x86_64: the wheel will not run with it on a processor without AVX"
        )
    return tuple(found)


def _untested(choice: CudaChoice, release: Release) -> list[str]:
    """That upstream tested a release with other versions than those of a build."""
    tested, taken = [], []
    for word, theirs, ours in (
        ("CUDA", release.needs.cuda, choice.toolkit.version),
        ("cuDNN", release.needs.cudnn, choice.cudnn.version if choice.cudnn else None),
    ):
        if theirs and ours and f"{ours}.".startswith(f"{theirs}."):
            continue
        if theirs and ours:
            tested.append(f"{word} {theirs}")
            taken.append(f"{word} {ours}")
    if not tested:
        return []
    return [
        f"upstream tested {release.version} with {' and '.join(tested)}; this build is for {' and '.join(taken)}, "
        "which its code is not known to refuse"
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
