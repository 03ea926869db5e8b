"""What the TOML files may say of CUDA: ``Toolkit`` (``toolchains/cuda/<version>.toml``) and ``Cudnn``
(``toolchains/cudnn/<version>.toml``), each with the parts that it is laid out from.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch, FileName, Model, Sha256, Specifier, VersionText
from crosswheel.spec.sources import Source
from crosswheel.spec.sysroots import Suite

CAPABILITY = r"^[1-9][0-9]*\.[0-9]$"

Capability = Annotated[str, StringConstraints(pattern=CAPABILITY)]
"""A compute capability of a GPU, as NVIDIA writes it: ``5.3`` is sm_53."""


class WheelPart(Source):
    """A wheel of which only some files are wanted. ``members`` are patterns of their paths.

    ``record`` is the sha256 of the wheel's ``RECORD``, which lists the sha256 of every member: so a few files can be
    got out of a huge wheel, each of them pinned, where the index serves parts of files.
    """

    record: Sha256
    members: tuple[str, ...] = Field(min_length=1)


class Part(Model):
    """Files of packages, of a wheel, or of another ``file`` (an archive or a .deb), and where they lie in what is laid
    out.

    ``arch`` is the architecture under which an archive lists the ``packages``: what is marked ``all`` stands in the
    index of x86_64, whatever it holds. They come from ``suites``, without what they depend on, at the time
    ``snapshot``. ``layout`` maps a pattern of paths in the part to the path in the toolkit; one that ends with ``/`` is
    a folder.
    """

    arch: Arch
    layout: dict[str, str] = {}
    suites: tuple[Suite, ...] = ()
    packages: tuple[str, ...] = ()
    snapshot: Annotated[str, StringConstraints(pattern=r"^(\d{8}T\d{6}Z)?$")] = ""
    wheel: Source | WheelPart | None = None
    file: Source | None = None

    @model_validator(mode="after")
    def _from_one_place(self) -> Part:
        if [bool(self.packages), self.wheel is not None, self.file is not None].count(True) != 1:
            raise ValueError("a part comes from `packages`, a `wheel` or a `file`, and from one of them alone")
        if not (bool(self.packages) == bool(self.suites) == bool(self.snapshot)):
            raise ValueError("`packages`, `suites` and `snapshot` go together")
        return self


class Header(Model):
    """A header that nvcc reads in the place of the C library's ``path``, where the C library's version is in the range
    ``glibc``; ``reason`` says what nvcc trips over. Its text is the template ``cuda/headers/<path>``."""

    path: str
    glibc: Specifier
    reason: Annotated[str, StringConstraints(min_length=10)]


class Toolkit(Model):
    """A version of CUDA, for builds on x86_64.

    ``gcc`` is the range of host compilers that its nvcc takes, by their major version; ``standard`` the newest C++
    that it knows. ``capabilities`` are the GPUs that it compiles for.

    ``host`` is what runs in the builder, ``programs`` what the programs are linked with that a build makes for itself;
    ``target`` are the libraries and headers for an architecture of boards. All are laid out as NVIDIA does: ``bin``,
    ``nvvm``, ``targets/<arch>-linux/{include,lib}``. An architecture that is not there cannot be built for here.

    ``expected`` are paths that must be there when it is laid out, ``{target}`` the folder of the target's architecture
    below ``targets``, ``{host}`` the builder's, where a build links programs for itself. ``headers`` stand in for
    headers of C libraries that are newer than nvcc. ``empty`` are static libraries that build tools always name, and
    that the parts lack: they are made without members.
    """

    version: VersionText
    title: str
    gcc: Specifier
    standard: str
    capabilities: tuple[Capability, ...] = Field(min_length=1)
    host: tuple[Part, ...] = ()
    programs: tuple[Part, ...] = ()
    target: dict[Arch, tuple[Part, ...]] = {}
    expected: tuple[str, ...] = ()
    headers: tuple[Header, ...] = ()
    empty: tuple[FileName, ...] = ()
    source: str
    note: str = ""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them, of every side and architecture."""
        return (*self.host, *self.programs, *(part for parts in self.target.values() for part in parts))

    @model_validator(mode="after")
    def _laid_out(self) -> Toolkit:
        if any(part.file or not part.layout for part in self.parts):
            raise ValueError("a toolkit's part is of packages or of a wheel, and has a `layout`")
        return self


class Cudnn(Model):
    """A version of cuDNN, such as ``8.2``, and the range of CUDA's versions that it is for.

    ``parts`` are where it can be had, by architecture; for another one it is given by hand. Its headers and libraries
    are found by their names, so that a part has no ``layout``.
    """

    version: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+$")]
    cuda: Specifier
    parts: dict[Arch, tuple[Part, ...]] = {}
    source: str
    note: str = ""

    @property
    def all_parts(self) -> tuple[Part, ...]:
        """Those of every architecture."""
        return tuple(part for parts in self.parts.values() for part in parts)

    @model_validator(mode="after")
    def _found_by_name(self) -> Cudnn:
        if any(part.layout for part in self.all_parts):
            raise ValueError("a part of cuDNN has no `layout`: its files are found by their names")
        return self
