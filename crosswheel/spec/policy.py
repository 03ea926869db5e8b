"""What a wheel is judged against: the facts of one target that a proof needs, and nothing of how a wheel is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from crosswheel.spec.base import Arch, Model, PythonVersion
from crosswheel.spec.cuda import Capability
from crosswheel.spec.sysroots import Floors, Sysroot
from crosswheel.spec.targets import Cpu, Target


class Policy(Model):
    """The target's side of a proof.

    ``cpu`` is the name of the processor or level, ``qemu`` its model in qemu-user. ``avx`` says whether the processor
    has AVX (x86_64 alone). ``floors`` are the newest symbol versions that the target offers. ``capabilities`` are the
    compute capabilities of its GPUs.
    """

    target: str
    arch: Arch
    python: PythonVersion
    cpu: str
    qemu: str
    avx: bool
    sysroot: str
    floors: Floors
    capabilities: tuple[Capability, ...] = ()

    @model_serializer(mode="wrap")
    def _without_gpu(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A policy without a GPU says nothing of one, so that policies that are older than this keep their digest."""
        dumped: dict[str, Any] = handler(self)
        if not self.capabilities:
            dumped.pop("capabilities", None)
        return dumped


def policy_for(target: Target, sysroot: Sysroot, cpu: Cpu, python: str, capabilities: Sequence[str] = ()) -> Policy:
    """The policy of a target with one of its systems and a processor; ``capabilities`` are those of the GPUs that a
    build chose, or that the target has in a system with CUDA."""
    return Policy(
        target=target.name,
        arch=target.arch,
        python=python,
        cpu=cpu.name,
        qemu=cpu.qemu,
        avx=cpu.avx,
        sysroot=sysroot.name,
        floors=sysroot.floors,
        capabilities=tuple(capabilities),
    )
