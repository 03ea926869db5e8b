"""The step that installs packages of another architecture in a builder, as NVIDIA's documents say (``--apt-force``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from crosswheel.digest import Json
from crosswheel.planning.cuda import CudaChoice
from crosswheel.planning.steps import LockStep, RootStep, Step
from crosswheel.planning.toolchains import HOST_ARCH
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import Part, Toolkit
from crosswheel.spec.sysroots import Sysroot
from crosswheel.spec.targets import Toolchain

INSTALLER = (
    "apt",
    "coreutils",
    "dash",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "libc-bin",
    "perl-base",
    "sed",
    "tar",
)
"""What a builder needs besides its compilers, so that packages can be installed in it: apt and dpkg, and the programs
that dpkg of Ubuntu 16.04 and later looks for."""


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


def forced_parts(toolkit: Toolkit, arch: Arch, builder: Sysroot) -> tuple[Part, ...]:
    """The parts of a toolkit that can be installed in a builder by force: packages for another architecture, from an
    archive that the builder is not made of. A distribution's own packages would want the rest of it, too."""
    own = {suite.archive for suite in builder.suites}
    return tuple(
        part
        for part in (toolkit.target.get(arch, ()) if arch != HOST_ARCH else ())
        if part.packages and part.arch != HOST_ARCH and own.isdisjoint(suite.archive for suite in part.suites)
    )


def not_forced(
    gpu: CudaChoice | None, arch: Arch, catalog: Catalog, toolchain: Toolchain | None, image: str | None
) -> list[str]:
    """Why ``--apt-force`` does not go with a build."""
    if image:
        return ["--apt-force is for a builder made of packages; in an image (--builder-from) install them yourself"]
    if gpu is None or toolchain is None:
        return ["--apt-force installs CUDA's packages for the target, and this build is not for a GPU; add --cuda"]
    if not forced_parts(gpu.toolkit, arch, catalog.sysroot(toolchain.sysroot)):
        of = f"CUDA {gpu.toolkit.version} for {arch}"
        return [f"--apt-force installs NVIDIA's packages for another architecture, and {of} is made of no such ones"]
    return []


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
