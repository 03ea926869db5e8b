"""What a wheel is judged against: the facts of one target that a proof needs, and nothing of how a wheel is built."""

from __future__ import annotations

from crosswheel.spec.base import Arch, Model, PythonVersion
from crosswheel.spec.sysroots import Floors, Sysroot
from crosswheel.spec.targets import Cpu, Target


class Policy(Model):
    """The target's side of a proof.

    ``cpu`` is the name of the processor or level, ``qemu`` its model in qemu-user. ``avx`` says whether the processor
    has AVX (x86_64 alone). ``floors`` are the newest symbol versions that the target offers.
    """

    target: str
    arch: Arch
    python: PythonVersion
    cpu: str
    qemu: str
    avx: bool
    sysroot: str
    floors: Floors


def policy_for(target: Target, sysroot: Sysroot, cpu: Cpu, python: str) -> Policy:
    """The policy of a target with one of its systems and a processor."""
    return Policy(
        target=target.name,
        arch=target.arch,
        python=python,
        cpu=cpu.name,
        qemu=cpu.qemu,
        avx=cpu.avx,
        sysroot=sysroot.name,
        floors=sysroot.floors,
    )
