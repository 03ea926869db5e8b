"""What each step of a plan is for: whether its result comes into the output, makes it, or tries it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from crosswheel.planning.cudnn import HOST_CUDNN, TARGET_CUDNN
from crosswheel.planning.plan import Plan
from crosswheel.planning.steps import LockStep, RootStep, RunStep, Step
from crosswheel.planning.toolchains import DEB_ARCH, HOST_ARCH


class Purpose(IntEnum):
    """What a step is for. Where a step is for several things, the first of these is told.

    ``SOURCE``: it is compiled into the output. ``SYSROOT``: the output is compiled against it, or linked with it.
    ``BUILDER``: the root in which the compilers run. ``TOOL``: else it runs in the build. ``TRIAL``: it is needed for
    the proof alone.
    """

    SOURCE = 0
    SYSROOT = 1
    BUILDER = 2
    TOOL = 3
    TRIAL = 4

    @property
    def word(self) -> str:
        """As a record has it."""
        return self.name.lower()


_ROLES = {
    "sysroot": Purpose.SYSROOT,
    "cuda": Purpose.SYSROOT,
    TARGET_CUDNN: Purpose.SYSROOT,
    "builder": Purpose.BUILDER,
    "bazel": Purpose.TOOL,
    HOST_CUDNN: Purpose.TOOL,
    "interpreter": Purpose.TOOL,
}
"""What the inputs of a run are for, by their roles; any other is compiled."""

_TOOLS = ("host ", "require ")
"""Roles that begin so are tools: the chain's programs, and wheels for the builder's Python."""


def purposes_of(plan: Plan) -> Mapping[str, Purpose]:
    """What every step of a plan is for, by its key."""
    found: dict[str, Purpose] = {}
    target = DEB_ARCH[plan.resolution.target.arch]
    _mark(plan.output, Purpose.SOURCE, target, found)
    for step in plan.steps:
        found.setdefault(step.key, Purpose.TRIAL)
    return found


def _mark(step: Step, purpose: Purpose, target: str, found: dict[str, Purpose]) -> None:
    if found.get(step.key, Purpose.TRIAL) <= purpose:
        return
    if purpose is Purpose.SYSROOT and _runs_here(step, target):
        purpose = Purpose.TOOL
    found[step.key] = min(purpose, found.get(step.key, purpose))
    for role, source in step.inputs.items():
        _mark(source, _purpose(role, purpose) if isinstance(step, RunStep) else purpose, target, found)


def _purpose(role: str, purpose: Purpose) -> Purpose:
    """What an input of a run is for, where the run itself is for ``purpose``: a tool is made of tools."""
    if role == "builder":
        return Purpose.BUILDER
    if purpose is not Purpose.SOURCE:
        return purpose
    return Purpose.TOOL if role.startswith(_TOOLS) else _ROLES.get(role, purpose)


def _runs_here(step: Step, target: str) -> bool:
    """Whether a root among the libraries is the builder's: a toolkit for a GPU brings its compilers with them."""
    lock = step.inputs.get("lock") if isinstance(step, RootStep) else None
    return isinstance(lock, LockStep) and lock.architecture == DEB_ARCH[HOST_ARCH] != target
