"""The kind of step that lays cuDNN out: from packages, wheels and archives, or from what the user gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from crosswheel.digest import Json
from crosswheel.errors import InputError
from crosswheel.planning.steps import Step
from crosswheel.spec.base import Arch

TARGET_CUDNN = "cudnn"
HOST_CUDNN = "host-cudnn"
"""The names under which ``--source NAME=PATH`` gives the target's cuDNN, and the builder's."""


@dataclass(frozen=True, kw_only=True)
class CudnnStep(Step):
    """Lays cuDNN out in one folder: ``include``, ``lib``, ``lib64 → lib``, and the links ``cudnn.h``, ``libcudnn.so``
    and that of the SONAME. Result: ``out/``.

    Its headers and libraries are found by their names, wherever they lie in the inputs: a folder copied from a board,
    NVIDIA's archive, packages, wheels, and archives of these. They must be of ``version`` (``8.2``), agree with each
    other, and be for ``arch``. ``source`` is the name under which the user gives it. Without inputs there is nothing to
    lay out, and :func:`lacking` says so before a build.
    """

    kind: ClassVar[str] = "cudnn"

    source: str
    version: str
    arch: Arch

    def fields(self) -> dict[str, Json]:
        return {"version": self.version, "arch": self.arch}


def cudnn_step(version: str, arch: Arch, source: str, inputs: Mapping[str, Step]) -> CudnnStep:
    """The step that lays out what ``inputs`` bring; if they bring nothing, its name says so."""
    side = "builder" if source == HOST_CUDNN else "target"
    lacking = "" if inputs else f" (not given: --source {source}=PATH)"
    return CudnnStep(
        name=f"lay out cuDNN {version} of the {side}{lacking}",
        inputs=inputs,
        source=source,
        version=version,
        arch=arch,
    )


def lacking(steps: Iterable[Step]) -> InputError | None:
    """The error for a build that wants a cuDNN which is nowhere to be fetched and was not given; None if there is
    none such."""
    wanted = {step.source: step for step in steps if isinstance(step, CudnnStep) and not step.inputs}
    if not wanted:
        return None
    why = [
        f"cuDNN {step.version} for {step.arch} ({_whose(step)}) is in no archive that is known here"
        for step in wanted.values()
    ]
    give = [f"--source {name}=PATH" for name in wanted]
    how = "PATH is a folder, NVIDIA's archive or a .deb"
    board = ", `./x cudnn fetch --from USER@BOARD --to PATH` copies the board's" if TARGET_CUDNN in wanted else ""
    return InputError(
        "this can be planned, but not built: cuDNN must be given",
        why="\n".join(why),
        hint=f"{' '.join(give)}; {how}{board}",
    )


def _whose(step: CudnnStep) -> str:
    return "for what runs while the build runs" if step.source == HOST_CUDNN else "the board's"
