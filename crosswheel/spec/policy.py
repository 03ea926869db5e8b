"""What a wheel is judged against: the facts of one target that a proof needs, and nothing of how a wheel is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from crosswheel.spec.base import Arch, Model, PythonVersion
from crosswheel.spec.cuda import Capability
from crosswheel.spec.isa import InstructionSet
from crosswheel.spec.sysroots import Floors, Sysroot
from crosswheel.spec.targets import Cpu, Target


class Policy(Model):
    """The target's side of a proof.

    ``cpu`` is the name of the processor or level, ``qemu`` its model in qemu-user. ``avx`` says whether the processor
    has AVX (x86_64 alone). ``floors`` are the newest symbol versions that the target offers. ``capabilities`` are the
    compute capabilities of its GPUs. ``instructions`` are what the processor has; a proof that is older than the rules
    about them knows none.
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
    instructions: InstructionSet | None = None

    @model_serializer(mode="wrap")
    def _without(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A policy without a GPU says nothing of one, so that policies that are older than this keep their digest; so
        do those that are older than what is said of instructions."""
        dumped: dict[str, Any] = handler(self)
        for name in ("capabilities", "instructions"):
            if not getattr(self, name):
                dumped.pop(name, None)
        return dumped


def policy_for(
    target: Target,
    sysroot: Sysroot,
    cpu: Cpu,
    python: str,
    instructions: InstructionSet,
    capabilities: Sequence[str] = (),
) -> Policy:
    """The policy of a target with one of its systems and a processor, which has ``instructions``; ``capabilities`` are
    those of the GPUs that a build chose, or that the target has in a system with CUDA."""
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
        instructions=instructions,
    )
