"""What the TOML files may say of distributions: ``Sysroot`` (``sysroots/<name>.toml``), and ``Archive``
(``sysroots/archives.toml``), from which a sysroot's packages come.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch, FileName, Model, Name, PythonVersion, VersionText
from crosswheel.spec.sources import Source

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-F]{40}$")]
"""Of an OpenPGP key of version 4, in full."""
Base = Annotated[str, StringConstraints(pattern=r"^https?://\S+/$")]
"""The URL of an archive, to which paths are added."""


class ArchiveKey(Model):
    """A key that signs an archive and that no package of Debian brings.

    ``fingerprint`` is that of the primary key. Only it signs, or those of ``subkeys``: what else a file holds is not
    taken. ``places`` are URLs of a file with it, armored or not.
    """

    fingerprint: Fingerprint
    subkeys: tuple[Fingerprint, ...] = ()
    places: tuple[Annotated[str, StringConstraints(pattern=r"^https?://\S+$")], ...] = Field(min_length=1)
    source: str


class Archive(Model):
    """An apt archive: how a machine's own apt configuration names it, where else it is, its keys, its dated snapshots.

    ``label`` is the ``Label`` field of its Release files, by which a mirror of the machine's own is found; without one
    none is looked for. Else it is at ``uri``, then at ``older`` ones (where suites go when they are no longer
    supported), then at ``snapshot``, a URL in which ``{date}`` stands for a time such as ``20260101T000000Z``.

    Its signatures are checked with ``keyring``, a file name under ``/usr/share/keyrings`` that ``keyring_package``
    brings, or, where that is not there, with ``keys``. ``file`` is a package in which the archive lies (NVIDIA's
    ``cuda-repo-…-local``); its sha256 stands for a signature. ``image`` is an image, by its digest, in which apt runs
    where this machine has none. ``vendor`` is whose packages these are, as package URLs name them (``debian``).
    """

    name: Name
    vendor: Name | None = None
    label: str = ""
    uri: Base | None = None
    older: tuple[Base, ...] = ()
    keyring: FileName | None = None
    keyring_package: str = ""
    keys: tuple[ArchiveKey, ...] = ()
    snapshot: Annotated[str, StringConstraints(pattern=r"^https?://.*\{date\}.*$")] | None = None
    file: Source | None = None
    image: Annotated[str, StringConstraints(pattern=r"^\S+@sha256:[0-9a-f]{64}$")] | None = None
    source: str

    @model_validator(mode="after")
    def _somewhere_and_signed(self) -> Archive:
        if not (self.uri or self.snapshot or self.file):
            raise ValueError("an archive has a `uri`, a `snapshot` or a `file`")
        if not (self.keyring or self.keys or self.file):
            raise ValueError("an archive has a `keyring` or `keys`, unless it lies in a `file`")
        if bool(self.keyring) > bool(self.keyring_package or self.keys):
            raise ValueError("a `keyring` has a `keyring_package` that brings it, or there are `keys`")
        return self


class Suite(Model):
    """A suite of an archive, such as ``bookworm-updates`` of ``debian``. A flat archive, which has no suites, has one
    of the name ``/`` (or of a folder's, such as ``x86_64/``) without components."""

    archive: Name
    name: str
    components: tuple[str, ...] = ("main",)

    @model_validator(mode="after")
    def _flat_or_not(self) -> Suite:
        if self.flat == bool(self.components):
            raise ValueError("a suite whose name ends with `/` has no `components`, any other has some")
        return self

    @property
    def flat(self) -> bool:
        """Whether its files lie beside each other, and not below ``dists/``."""
        return self.name.endswith("/")


class Floors(Model):
    """The newest symbol versions that a target offers, such as ``2.31`` for GLIBC."""

    GLIBC: VersionText
    GLIBCXX: VersionText
    CXXABI: VersionText
    GCC: VersionText


class PythonPackages(Model):
    """The packages of one Python of a distribution: its headers (``development``), itself (``runtime``), and its NumPy,
    if the distribution has one: the package, its version, and the folder with NumPy's headers in the root. Where the
    version is not told, it is taken to serve every release. Instead of packages with headers, ``cpython`` is the
    version of CPython of whose own source they are made (``sysroots/pythons.toml``)."""

    development: tuple[str, ...] = ()
    cpython: VersionText | None = None
    runtime: tuple[str, ...] = Field(min_length=1)
    numpy: str | None = None
    numpy_version: VersionText | None = None
    numpy_include: str = ""

    @model_validator(mode="after")
    def _one_kind_of_headers(self) -> PythonPackages:
        if bool(self.development) == (self.cpython is not None):
            raise ValueError("a Python has either `development` packages or a `cpython`, of which its headers are made")
        return self


class Sysroot(Model):
    """A distribution's release: what to build against (``development``) and what to run in (``runtime``). A sysroot
    has the headers of all ``pythons``, a target root the one that it is for. ``ports`` is the archive that has an
    architecture which the suites' own does not: Ubuntu keeps arm64 elsewhere than amd64."""

    name: Name
    title: str
    suites: tuple[Suite, ...] = Field(min_length=1)
    ports: dict[Arch, Name] = {}
    snapshot: Annotated[str, StringConstraints(pattern=r"^\d{8}T\d{6}Z$")]
    pythons: dict[PythonVersion, PythonPackages] = Field(min_length=1)
    floors: Floors
    development: tuple[str, ...] = Field(min_length=1)
    runtime: tuple[str, ...] = Field(min_length=1)
    source: str

    def suites_for(self, arch: Arch) -> tuple[Suite, ...]:
        """The suites of an architecture's packages."""
        if arch not in self.ports:
            return self.suites
        return tuple(suite.model_copy(update={"archive": self.ports[arch]}) for suite in self.suites)
