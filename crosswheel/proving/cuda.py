"""The code for GPUs that a wheel's files hold, against the target's GPUs.

Each container of code is judged by itself, because each is loaded by itself: a source file that was compiled for the
wrong GPU fails where its kernel is first used, whatever the others hold.

Sources: NVIDIA, CUDA C++ Programming Guide 12.9, "Binary Compatibility" ("a cubin object generated for compute
capability X.y will only execute on devices of compute capability X.z where z≥y", and: "Binary compatibility is
supported only for the desktop. It is not supported for Tegra. Also, the binary compatibility between desktop and Tegra
is not supported."), "PTX Compatibility", "Feature Set Compiler Targets" (``sm_90a``, ``sm_100f``) and "CUDA Environment
Variables". That Tegra's drivers refuse it: jax issues 22723 and 40487 (sm_80's SASS on an Orin, 8.7). The price of
compiling PTX: TensorFlow's gpu_device.cc ("could take 30 minutes or longer"), donkeycar issue 1124 (5.3: 20 minutes, at
every start).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum

from crosswheel.proving.facts import Facts
from crosswheel.proving.fatbin import Container
from crosswheel.proving.findings import Context, Finding, Rule, Severity, some

NAME = "cuda"

TEGRA: Mapping[str, str] = {
    "3.2": "Tegra K1",
    "5.3": "Tegra X1: Jetson TX1 and Nano",
    "6.2": "Tegra X2: Jetson TX2",
    "7.2": "Xavier",
    "8.7": "Orin",
    "10.1": "Thor, as CUDA 12 calls it",
    "11.0": "Thor",
}
"""The capabilities of NVIDIA's systems on a chip (developer.nvidia.com/cuda-gpus, "Jetson"; CUDA 13.0's release notes
for Thor's new number). Their SASS runs on no other GPU, and no other GPU's on them."""

_WRITTEN = re.compile(r"([0-9]+)\.([0-9])([af]?)")


class _Fit(IntEnum):
    """How a container fits a GPU; the worst first."""

    BROKEN, NONE, UNKNOWN, COMPILED, READY = range(5)


def runs_sass(compiled: str, capability: str) -> bool:
    """Whether SASS for ``compiled`` (``5.2``, ``9.0a``) runs on a GPU of ``capability``."""
    major, minor, suffix = _parts(compiled)
    gpu = _parts(capability)[:2]
    if suffix == "a" or capability in TEGRA or f"{major}.{minor}" in TEGRA:
        return (major, minor) == gpu
    return major == gpu[0] and minor <= gpu[1]


def compiles_ptx(compiled: str, capability: str) -> bool:
    """Whether the driver of a GPU of ``capability`` compiles PTX for ``compiled`` (``5.2``, ``9.0a``, ``10.0f``)."""
    major, minor, suffix = _parts(compiled)
    gpu = _parts(capability)[:2]
    if suffix == "a":
        return (major, minor) == gpu
    return (major, minor) <= gpu and (suffix != "f" or major == gpu[0])


def _parts(written: str) -> tuple[int, int, str]:
    match = _WRITTEN.fullmatch(written)
    assert match, f"{written!r} is no compute capability"
    return int(match[1]), int(match[2]), match[3]


def _fit(container: Container, capability: str) -> _Fit:
    if container.trouble:
        return _Fit.BROKEN
    if any(runs_sass(each, capability) for each in container.sass):
        return _Fit.READY
    if any(compiles_ptx(each, capability) for each in container.ptx):
        return _Fit.COMPILED
    return _Fit.UNKNOWN if container.others else _Fit.NONE


def _verdicts(containers: Iterable[Container], capability: str, context: Context) -> list[tuple[Container, _Fit]]:
    """How the containers that are loaded fit. Relocatable code is loaded where the driver has to link it: where the
    linker of device code left a container without images, or perhaps where what it left does not fit."""
    parts = [each for each in containers if each.relocatable]
    linked = [each for each in containers if not each.relocatable]
    by_driver = min((_fit(each, capability) for each in parts), default=_Fit.NONE)
    found = []
    for container in linked or parts:
        fit = _fit(container, capability)
        if fit is _Fit.NONE and container.blank:
            without_images = not container.sass
            fit = min(by_driver, _Fit.COMPILED) if without_images and parts else _Fit.READY
        elif fit is _Fit.NONE and linked and not container.ptx and not context.built_here:
            fit = _Fit.UNKNOWN if by_driver >= _Fit.COMPILED else fit
        found.append((container, fit))
    return found


def _judge(facts: Facts, context: Context) -> Iterator[Finding]:
    for name, containers in facts.fatbins.items():
        broken = [each.trouble for each in containers if each.trouble]
        if broken:
            yield _broken(name, broken)
        elif not context.policy.capabilities:
            yield _no_gpu(name, containers, context)
        else:
            for capability in context.policy.capabilities:
                yield from _for_gpu(name, containers, capability, context)


def _for_gpu(name: str, containers: Iterable[Container], capability: str, context: Context) -> Iterator[Finding]:
    verdicts = _verdicts(containers, capability, context)
    all_of_it = sum(container.count for container, _ in verdicts)
    some_fit = any(fit >= _Fit.COMPILED for container, fit in verdicts if not container.blank)
    missing = [container for container, fit in verdicts if fit is _Fit.NONE]
    chosen = [] if context.built_here or not some_fit else [each for each in missing if _only_newer(each, capability)]
    lacking = [each for each in missing if each not in chosen]
    if lacking:
        yield _lacking(name, lacking, all_of_it, capability)
    if chosen:
        yield _perhaps_chosen(name, chosen, all_of_it, capability)
    unknown = [container for container, fit in verdicts if fit is _Fit.UNKNOWN]
    if unknown:
        yield _unknown(name, unknown, all_of_it, capability)
    compiled = [container for container, fit in verdicts if fit is _Fit.COMPILED]
    if compiled:
        yield _compiled(name, compiled, all_of_it, capability)


def _only_newer(container: Container, capability: str) -> bool:
    """Whether all that it holds is for GPUs that can more: then it may be kernels that are chosen by the GPU."""
    gpu = _parts(capability)
    return all(_parts(each) > gpu for each in (*container.sass, *container.ptx))


def _broken(name: str, troubles: list[str]) -> Finding:
    return Finding(
        rule=NAME,
        severity=Severity.FAIL,
        subject=name,
        message=f"its code for GPUs cannot be read: {troubles[0]}",
        hint="The file is damaged, or of a format that is not known here: get it anew, or build it again.",
    )


def _no_gpu(name: str, containers: Iterable[Container], context: Context) -> Finding:
    return Finding(
        rule=NAME,
        severity=Severity.NOT_PROVEN,
        subject=name,
        message=f"has code for GPUs ({_held(containers)}), and {context.policy.target} names no GPU to judge it by",
        hint="Judge it for a target that names the capabilities of its GPU.",
    )


def _lacking(name: str, lacking: list[Container], of: int, capability: str) -> Finding:
    return Finding(
        rule=NAME,
        severity=Severity.FAIL,
        subject=name,
        message=f"{_how_many(lacking, of)} no code for a GPU of compute capability {capability}: there is "
        f"{_held(lacking)}{_tegra(lacking, capability)}",
        hint='A kernel in it fails with "no kernel image is available for execution on the device". Compile every '
        f"source for this GPU: --capability {capability}.",
    )


def _perhaps_chosen(name: str, chosen: list[Container], of: int, capability: str) -> Finding:
    return Finding(
        rule=NAME,
        severity=Severity.NOT_PROVEN,
        subject=name,
        message=f"{_how_many(chosen, of)} code for GPUs newer than {capability} alone: {_held(chosen)}; the others fit",
        hint="These may be kernels that are only used on such GPUs; nothing in the file says so.",
    )


def _unknown(name: str, unknown: list[Container], of: int, capability: str) -> Finding:
    kinds = sorted({str(kind) for each in unknown for kind in each.others})
    what = (
        f"code of a kind that is not judged ({some(kinds)})" if kinds else "relocatable code, which a driver may link"
    )
    return Finding(
        rule=NAME,
        severity=Severity.NOT_PROVEN,
        subject=name,
        message=f"{_how_many(unknown, of)} neither SASS nor PTX for compute capability {capability}; there is {what}",
        hint="Whether it is used in time shows on the GPU alone.",
    )


def _compiled(name: str, compiled: list[Container], of: int, capability: str) -> Finding:
    return Finding(
        rule=NAME,
        severity=Severity.WARN,
        subject=name,
        message=f"{_how_many(compiled, of)} no SASS for compute capability {capability}, and PTX, which the driver "
        f"compiles when it is first loaded: there is {_held(compiled)}{_tegra(compiled, capability)}",
        hint="It runs at a price: TensorFlow warns of 30 minutes or longer, and a Jetson Nano took 20 at every start. "
        "Have the driver keep what it compiled (CUDA_CACHE_MAXSIZE=4294967296), or compile it for this GPU: "
        f"--capability {capability}.",
    )


def _how_many(containers: Iterable[Container], of: int) -> str:
    number = sum(each.count for each in containers)
    verb = "has" if number == 1 else "have"
    return f"{number} of its {of} containers of GPU code {verb}"


def _held(containers: Iterable[Container]) -> str:
    """``SASS for 5.2, 6.0 and PTX for 6.0``."""
    held = []
    for word, names in (
        ("SASS", {name for each in containers for name in each.sass}),
        ("PTX", {name for each in containers for name in each.ptx}),
    ):
        if names:
            held.append(f"{word} for {', '.join(sorted(names, key=_parts))}")
    return " and ".join(held) or "nothing"


def _tegra(containers: Iterable[Container], capability: str) -> str:
    """Why SASS of the same family does not do on a Jetson, where there is some."""
    gpu = _parts(capability)
    close = [each for one in containers for each in one.sass if _parts(each)[0] == gpu[0] and _parts(each)[1] <= gpu[1]]
    if capability not in TEGRA or not close:
        return ""
    return (
        f" (SASS for {max(close)} does not do: NVIDIA promises none but its own for {capability}, {TEGRA[capability]})"
    )


def _looked(facts: Facts, context: Context) -> str:
    if not facts.fatbins:
        return "no file has code for GPUs"
    containers = [each for found in facts.fatbins.values() for each in found]
    number = sum(each.count for each in containers)
    gpus = ", ".join(context.policy.capabilities)
    files = len(facts.fatbins)
    return (
        f"{number} {'container' if number == 1 else 'containers'} of GPU code in {files} "
        f"{'file' if files == 1 else 'files'} ({_held(containers)}): "
        f"each has SASS for {gpus}"
    )


RULES = (
    Rule(
        name=NAME,
        version=2,
        about="every container of GPU code has code for each of the target's GPUs",
        judge=_judge,
        looked=_looked,
    ),
)
