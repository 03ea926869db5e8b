"""What the TOML files may say of distributions: ``Sysroot`` (``sysroots/<name>.toml``), and ``Archive``
(``sysroots/archives.toml``), from which a sysroot's packages come.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from crosswheel.spec.base import FileName, Model, Name, PythonVersion, VersionText


class Archive(Model):
    """An apt archive: how a machine's own apt configuration names it, its keys, and its dated snapshots.

    ``label`` is the ``Label`` field of its Release files. ``keyring`` is a file name under ``/usr/share/keyrings``.
    ``snapshot`` is a URL in which ``{date}`` stands for a time such as ``20260101T000000Z``. ``image`` is an image, by
    its digest, in which apt runs where this machine has none.
    """

    name: Name
    label: str
    keyring: FileName
    keyring_package: str
    snapshot: Annotated[str, StringConstraints(pattern=r"^https?://.*\{date\}.*$")]
    image: Annotated[str, StringConstraints(pattern=r"^\S+@sha256:[0-9a-f]{64}$")] | None = None
    source: str


class Suite(Model):
    """A suite of an archive, such as ``bookworm-updates`` of ``debian``."""

    archive: Name
    name: str
    components: tuple[str, ...] = ("main",)


class Floors(Model):
    """The newest symbol versions that a target offers, such as ``2.31`` for GLIBC."""

    GLIBC: VersionText
    GLIBCXX: VersionText
    CXXABI: VersionText
    GCC: VersionText


class PythonPackages(Model):
    """The packages of one Python of a distribution: its headers (``development``), itself (``runtime``), and its NumPy,
    if the distribution has one: the package, its version, and the folder with NumPy's headers in the root. Where the
    version is not told, it is taken to serve every release."""

    development: tuple[str, ...] = Field(min_length=1)
    runtime: tuple[str, ...] = Field(min_length=1)
    numpy: str | None = None
    numpy_version: VersionText | None = None
    numpy_include: str = ""


class Sysroot(Model):
    """A distribution's release: what to build against (``development``) and what to run in (``runtime``). A sysroot
    has the headers of all ``pythons``, a target root the one that it is for."""

    name: Name
    title: str
    suites: tuple[Suite, ...] = Field(min_length=1)
    snapshot: Annotated[str, StringConstraints(pattern=r"^\d{8}T\d{6}Z$")]
    pythons: dict[PythonVersion, PythonPackages] = Field(min_length=1)
    floors: Floors
    development: tuple[str, ...] = Field(min_length=1)
    runtime: tuple[str, ...] = Field(min_length=1)
    source: str
