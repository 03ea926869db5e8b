"""The step that installs packages of another architecture in a builder, as NVIDIA's documents say (``--apt-force``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from crosswheel.digest import Json
from crosswheel.planning.steps import LockStep, RootStep, Step

INSTALLER = ("apt", "coreutils", "dash", "diffutils", "dpkg", "grep", "libc-bin", "perl-base", "sed", "tar")
"""What a builder needs besides its compilers, so that packages can be installed in it."""


@dataclass(frozen=True, kw_only=True)
class InstallStep(Step):
    """Installs the packages of the inputs ``lock-…`` in the input ``builder``, by its own apt and dpkg, which are told
    to take another architecture (``--force-architecture``). Result: ``out/`` is the root.

    ``packages`` are their names, with ``=VERSION`` where a certain one is wanted, and ``architecture`` is Debian's name
    of theirs. The container has no network: apt takes the packages from a folder, each with the sha256 of its lock.
    Inputs besides: the packages in which archives of the locks lie.
    """

    kind: ClassVar[str] = "install"

    packages: tuple[str, ...]
    architecture: str

    def fields(self) -> dict[str, Json]:
        return {"packages": list(self.packages), "architecture": self.architecture}


def with_installed(builder: RootStep, parts: Sequence[RootStep], title: str) -> RootStep | InstallStep:
    """``builder`` with the packages of ``parts`` that are of another architecture, and with what they depend on,
    installed; as it is if there are none. ``title`` is for people."""
    own = builder.inputs["lock"]
    assert isinstance(own, LockStep), "an assembled root has a lock"
    locks = [lock for part in parts if isinstance(lock := part.inputs.get("lock"), LockStep)]
    foreign = [lock for lock in locks if lock.architecture != own.architecture]
    if not foreign:
        return builder
    packages = tuple(sorted({*own.packages, *INSTALLER}))
    able = replace(own, name=f"{own.name} with apt", lock="", packages=packages, pinned=None)
    root = replace(builder, name=f"{builder.name} with apt", inputs={**builder.inputs, "lock": able})
    return InstallStep(
        name=f"install {title} in {builder.name.removeprefix('assemble ')}",
        inputs={"builder": root}
        | {f"lock-{number}": replace(lock, dependencies=True) for number, lock in enumerate(foreign, start=1)},
        packages=tuple(dict.fromkeys(name for lock in foreign for name in lock.packages)),
        architecture=foreign[0].architecture,
    )
