"""What the TOML files may say of CUDA: ``Toolkit`` (``toolchains/cuda/<version>.toml``) and ``Cudnn``
(``toolchains/cudnn/<version>.toml``), each with the parts that it is laid out from.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch, Model, Sha256, Specifier, VersionText
from crosswheel.spec.sources import Source
from crosswheel.spec.sysroots import Suite

Capability = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*\.[0-9]$")]
"""A compute capability of a GPU, as NVIDIA writes it: ``5.3`` is sm_53."""


class WheelPart(Source):
    """A wheel of which only some files are wanted. ``members`` are patterns of their paths.

    ``record`` is the sha256 of the wheel's ``RECORD``, which lists the sha256 of every member: so a few files can be
    got out of a huge wheel, each of them pinned, where the index serves parts of files.
    """

    record: Sha256
    members: tuple[str, ...] = Field(min_length=1)


class Part(Model):
    """Files of packages or of a wheel, and where they lie in what is laid out.

    ``packages`` come from ``suites``, without what they depend on, at the time ``snapshot``. ``layout`` maps a pattern
    of paths in the part to the path in the toolkit; one that ends with ``/`` is a folder.
    """

    arch: Arch
    layout: dict[str, str] = Field(min_length=1)
    suites: tuple[Suite, ...] = ()
    packages: tuple[str, ...] = ()
    snapshot: Annotated[str, StringConstraints(pattern=r"^(\d{8}T\d{6}Z)?$")] = ""
    wheel: Source | WheelPart | None = None

    @model_validator(mode="after")
    def _from_one_place(self) -> Part:
        if bool(self.packages) == (self.wheel is not None):
            raise ValueError("a part comes from `packages` or from a `wheel`, and from one of them alone")
        if not (bool(self.packages) == bool(self.suites) == bool(self.snapshot)):
            raise ValueError("`packages`, `suites` and `snapshot` go together")
        return self


class Toolkit(Model):
    """A version of CUDA, for builds on x86_64.

    ``gcc`` is the range of host compilers that its nvcc takes, by their major version; ``standard`` the newest C++
    that it knows. ``capabilities`` are the GPUs that it compiles for. ``runtime`` is what the driver's and the
    runtime's version numbers are made of (``12.4``, where ``version`` may name an update).

    ``host`` is what runs in the builder and what is linked there; ``target`` the libraries and headers for an
    architecture of boards. Both are laid out as NVIDIA does: ``bin``, ``nvvm``, ``targets/<arch>-linux/{include,lib}``.
    An architecture that is not there cannot be built for here.
    """

    version: VersionText
    title: str
    gcc: Specifier
    standard: str
    capabilities: tuple[Capability, ...] = Field(min_length=1)
    host: tuple[Part, ...] = ()
    target: dict[Arch, tuple[Part, ...]] = {}
    expected: tuple[str, ...] = ()
    source: str
    note: str = ""


class Cudnn(Model):
    """A version of cuDNN, and the range of CUDA's versions that it is for.

    ``parts`` are where it can be had, by architecture; for another one it is given by hand. They are laid out as
    ``include`` and ``lib``.
    """

    version: VersionText
    cuda: Specifier
    parts: dict[Arch, tuple[Part, ...]] = {}
    source: str
