"""What the TOML files may say of machines to build for, and of the tools that build for them.

One class per kind of file: ``Target`` (``toolchains/targets/<name>.toml``), ``Toolchain`` (``toolchains/<name>.toml``),
``Cpu`` (``toolchains/cpus.toml``), ``BazelTool`` (``toolchains/bazel.toml``), ``Emulator``
(``toolchains/emulator.toml``).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch, Model, Name, PythonVersion, VersionText
from crosswheel.spec.cuda import Capability
from crosswheel.spec.isa import FeatureName
from crosswheel.spec.sources import Source


class Variant(Model):
    """What a variant wheel for a cpu demands of the processor (``NAMESPACE :: FEATURE :: VALUE``, PEP 817's words), and
    the package whose ``plugin`` tells an installer whether the processor has it."""

    property: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+ :: [a-z0-9_]+ :: [a-z0-9_.]+$")]
    requires: str
    plugin: str
    source: str


class Cpu(Model):
    """A processor or an instruction set level: the compiler's flags, qemu's model, and what instructions it has.

    ``features`` are those that it has besides the ones of the cpu ``above`` which it stands. ``usual`` are features
    that it lacks, and that nearly every processor of its kind has which is still in use. ``build`` is its number among
    the wheels of one release: it rises with the features, because pip takes the highest that it is offered. ``variant``
    is what its variant wheels demand.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
    arch: Arch
    flags: tuple[str, ...]
    qemu: str
    avx: bool = False
    above: str | None = None
    features: tuple[FeatureName, ...] = ()
    usual: tuple[FeatureName, ...] = ()
    build: int | None = Field(default=None, ge=0)
    variant: Variant | None = None
    source: str

    @property
    def build_tag(self) -> str:
        """The build tag of wheels for it where it is not their target's own cpu, such as ``20_x86_64_v2`` (PEP 427:
        a number first, no hyphen in it); empty where it has no number."""
        return "" if self.build is None else f"{self.build}_{re.sub(r'[^a-z0-9]+', '_', self.name)}"


class SystemCuda(Model):
    """The CUDA toolkit and the cuDNN of a system, by their versions; without ``cudnn``, it has none."""

    toolkit: VersionText
    cudnn: VersionText | None = None


class System(Model):
    """An operating system of a target: its Python, its sysroot, the toolchain that builds for it, and its CUDA.

    ``name`` is how ``--system`` chooses it (``jetpack-3.1``), where the Python alone does not.
    """

    python: PythonVersion
    sysroot: Name
    toolchain: Name
    name: Name | None = None
    cuda: SystemCuda | None = None


class Target(Model):
    """A machine to build for. The first system is the default, ``avx_cpu`` the baseline with the feature ``avx``.

    ``capabilities`` are the compute capabilities of its GPUs, for which CUDA's sources are compiled. ``extensions`` are
    features that its processor has besides those of the cpu, where makers of chips may choose (Arm's cryptography).
    """

    name: Name
    title: str
    arch: Arch
    cpu: str
    avx_cpu: str | None = None
    extensions: tuple[FeatureName, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    systems: tuple[System, ...] = Field(min_length=1)
    source: str

    @model_validator(mode="after")
    def _systems_differ(self) -> Target:
        seen: dict[str, list[System]] = {}
        for system in self.systems:
            seen.setdefault(system.python, []).append(system)
        names = [system.name for system in self.systems if system.name]
        unnamed = any(system.name is None for same in seen.values() if len(same) > 1 for system in same)
        if unnamed or len(set(names)) != len(names):
            raise ValueError("two systems have the same Python, and no `name` tells them apart")
        if any(system.cuda for system in self.systems) and not self.capabilities:
            raise ValueError("a system with `cuda` goes with the `capabilities` of the target's GPU")
        return self


class Toolchain(Model):
    """The compilers of an era and the packages of the builder in which they run.

    ``gcc`` is the major version. ``packages`` go into every builder, ``cross`` adds those of an architecture.
    ``sysroot`` names the distribution that the builder is made of, ``pythons`` are those in it, its ``python3`` first.
    ``development`` are packages of the target's distribution that these compilers want, where they are not its own.
    """

    name: Name
    title: str
    gcc: str
    pythons: tuple[PythonVersion, ...] = Field(min_length=1)
    sysroot: Name
    packages: tuple[str, ...] = Field(min_length=1)
    cross: dict[Arch, tuple[str, ...]]
    development: tuple[str, ...] = ()
    source: str


class BazelRemote(Model):
    """The flags by which a version of Bazel is told of a remote cache (``http`` of one that speaks HTTP, ``grpc`` of
    one that speaks the Remote Execution API) and of an ``executor``; where that is empty, it cannot be used with one.
    ``always`` goes with any of them, ``read_only`` says that nothing is to be sent, ``instance`` which part of a server
    is meant. ``{address}`` and ``{executor}`` stand for host and port, ``{instance}`` for the name, ``{tools}`` for the
    digest of the tools that an action needs and does not name.
    """

    http: tuple[str, ...]
    grpc: tuple[str, ...]
    executor: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ("--noremote_upload_local_results",)
    instance: tuple[str, ...] = ("--remote_instance_name={instance}",)


class BazelTool(Source):
    """A version of Bazel and the language in which it is told about a C++ toolchain.

    ``repositories`` are rendered ones that this version wants for every build. ``sized`` are the flags that tell it of
    the machine, in which ``{jobs}`` and ``{memory}`` (MiB) stand. ``native`` are those for a target of the builder's
    architecture that is built by labels: there every tool is compiled once, not for the host as well.
    ``repository_cache`` and ``disk_cache`` are its names of the flags for what it downloads and for the results of
    actions; empty where it has none. ``remote`` are those for a remote cache and an executor; None where it has none.
    """

    version: VersionText
    style: Literal["crosstool", "starlark", "platforms"]
    repositories: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    sized: tuple[str, ...]
    native: tuple[str, ...] = ()
    repository_cache: str = "--repository_cache"
    disk_cache: str = "--disk_cache"
    remote: BazelRemote | None = None


class Debugger(Model):
    """gdb: the packages that bring it, and where in their root its binary, the loader and the libraries that it needs,
    the folder that holds its Python's ``lib``, and its own data lie."""

    packages: tuple[str, ...] = Field(min_length=1)
    binary: str
    loader: str
    libraries: tuple[str, ...]
    python: str
    data: str
    source: str


class Emulator(Model):
    """qemu-user: the packages that bring it, and where its static binary for ``{arch}`` lies in the root; the
    ``debugger`` is of the same sysroot."""

    sysroot: Name
    packages: tuple[str, ...] = Field(min_length=1)
    binary: str
    debugger: Debugger
    source: str
