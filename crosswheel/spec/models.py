"""What the TOML files may say: frozen models in which an unknown key is an error.

One class per kind of file: ``Recipe`` (``recipes/<name>/recipe.toml``), ``Release`` (beside it, ``<version>.toml``),
``Target`` (``toolchains/targets/<name>.toml``), ``Toolchain`` (``toolchains/<name>.toml``), ``Cpu``
(``toolchains/cpus.toml``), ``BazelTool`` (``toolchains/bazel.toml``), ``Emulator`` (``toolchains/emulator.toml``),
``Sysroot`` (``sysroots/<name>.toml``),
``Archive`` (``sysroots/archives.toml``), ``Series`` (``patches/<recipe>/series.toml``).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from crosswheel.spec.base import Arch as Arch
from crosswheel.spec.base import FileName, Specifier
from crosswheel.spec.base import Model as Model
from crosswheel.spec.base import Name as Name
from crosswheel.spec.base import PythonVersion as PythonVersion
from crosswheel.spec.base import Sha256 as Sha256
from crosswheel.spec.base import VersionText as VersionText
from crosswheel.spec.outputs import CMakeBuild, Link, Output, ScriptBuild

# --- sources ---------------------------------------------------------------------------------------------------------


class Place(Model):
    """One place where a source can be had.

    ``uri`` is ``https://…``, ``pypi:NAME==VERSION``, ``npm:NAME@VERSION`` or ``deb-src:NAME=VERSION`` (a Debian source
    package's upstream tarball, with the Debian version). ``sha256`` is given where this place's file is not the
    source's own bytes: a package in which the source is the file ``member``, or other bytes of the same content, with
    the ``reason``.
    """

    uri: Annotated[str, StringConstraints(pattern=r"^(https?://|pypi:[^=]+==|npm:.+@|deb-src:[^=]+=)")]
    sha256: Sha256 | None = None
    member: str | None = None

    @model_validator(mode="after")
    def _hash_with_member(self) -> Place:
        if (self.member is None) != (self.sha256 is None):
            raise ValueError("`member` and the `sha256` of the file that holds it go together")
        return self


def _place(value: Any) -> Any:
    return {"uri": value} if isinstance(value, str) else value


class Source(Model):
    """A file by its sha256, and the places where it can be had, most trusted first."""

    file: FileName
    sha256: Sha256
    places: tuple[Annotated[Place, BeforeValidator(_place)], ...] = Field(min_length=1)
    note: str = ""


class External(Source):
    """A source that the build tool would download by itself, handed to it as an unpacked folder.

    ``files`` are added to the folder: path inside it → template under ``toolchains/templates/`` (a BUILD file, say).
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
    files: dict[str, str] = {}


class Replacement(Source):
    """Another place of an external, with other bytes and the same content; it is used instead of what upstream pins.

    ``replaces`` is the sha256 that upstream pins for the external ``name``, or its URL where upstream pins none;
    ``reason`` says why, and how it is known that the content is the same. ``arch`` is the target's architecture for
    which alone it is taken; it then wins over one for all. The patch to ``workspace.bzl`` that goes with it is part of
    the recipe's series.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]
    replaces: str
    reason: Annotated[str, StringConstraints(min_length=10)]
    arch: Arch | None = None


class Externals(Model):
    """``recipes/<name>/externals/<version>.toml``: what the release's own build files download, as
    ``recipe externals`` read it from upstream's tree."""

    externals: tuple[External, ...]


class FurtherPlaces(Model):
    """Further places of the very bytes that have the ``sha256``, of whichever external they are."""

    sha256: Sha256
    places: tuple[Annotated[Place, BeforeValidator(_place)], ...] = Field(min_length=1)
    note: Annotated[str, StringConstraints(min_length=10)]


class Replacements(Model):
    """``recipes/<name>/replacements.toml``."""

    places: tuple[FurtherPlaces, ...] = ()
    replacements: tuple[Replacement, ...] = ()


class Requirement(Source):
    """A wheel for the builder's Python; ``python`` is the range of versions that it is for."""

    python: Specifier | None = None


class CheckWheel(Requirement):
    """A wheel for the target's Python, or the source archive of a pure package; ``arch`` is the architecture that it
    is for, if it is not for all."""

    arch: Arch | None = None


# --- recipes ---------------------------------------------------------------------------------------------------------


class Feature(Model):
    """A switch of a recipe. ``versions`` is the range of releases that have it, if not all have it."""

    summary: str
    default: bool = False
    versions: Specifier | None = None
    arches: tuple[Arch, ...] = ("aarch64", "x86_64")
    conflicts: tuple[Name, ...] = ()
    requires: tuple[Name, ...] = ()


class Check(Model):
    """What runs on the emulated target.

    ``script`` lies beside ``recipe.toml``. It runs in the target's Python with the wheel installed; its arguments are
    the path of a result file and the folder of the release's patched source, where the package's own tests lie. It
    writes to the file ``{"tests": N, "failures": N, "skipped": N}``. Its exit status
    must be 0, and ``tests`` at least what the release says. ``packages`` are packages of the target's distribution
    that it needs, ``only`` those of one distribution alone (a sysroot's name → packages), ``wheels`` are wheels from
    elsewhere, which win over them, ``timeout`` is in seconds. With
    ``install`` the wheel is installed by the target's own Python with pip, its requirements from ``wheels`` (pip's own
    wheel is one of them) and ``packages``, instead of being unpacked.
    """

    script: FileName
    install: bool = False
    packages: tuple[str, ...] = ()
    only: dict[Name, tuple[str, ...]] = {}
    wheels: tuple[CheckWheel, ...] = ()
    timeout: int = Field(default=900, gt=0)


class Recipe(Model):
    """A package that crosswheel can build. ``default`` is the release that is built where none is asked for and it
    fits; without it, or where it does not fit, the newest that fits.

    ``builder`` are packages that its builds run. ``development`` are packages of the target's distribution that it is
    built against; ``runtime`` are those whose libraries the wheel loads, by the distribution (a sysroot's name →
    packages): their names follow the libraries' versions, and whoever installs the wheel installs them first.
    ``outputs`` are what it gives besides a wheel. Where it gives none (no ``distribution``), they are all, and the
    first of them is what is built where nothing else is asked for.
    """

    name: Name
    summary: str
    homepage: str
    aliases: tuple[Name, ...] = ()
    distribution: str = ""
    modules: tuple[str, ...] = ()
    default: VersionText | None = None
    builder: tuple[str, ...] = ()
    development: tuple[str, ...] = ()
    runtime: dict[Name, tuple[str, ...]] = {}
    features: dict[Name, Feature] = {}
    check: Check | None = None
    outputs: dict[Name, Output] = {}

    @model_validator(mode="after")
    def _gives_something(self) -> Recipe:
        if not (bool(self.distribution) == bool(self.modules) == (self.check is not None)):
            raise ValueError("`distribution`, `modules` and [check] are a wheel's, and go together")
        if not (self.distribution or self.outputs):
            raise ValueError("it gives nothing: neither a wheel (`distribution`) nor [outputs]")
        if "wheel" in self.outputs:
            raise ValueError("a wheel has `distribution`, `modules` and [check]; [outputs] are what is none")
        return self


class Configure(Model):
    """What answers a release's ``configure``: ``command`` is run with ``answers`` in its environment and nothing to
    read; ``features`` are answers where a feature is on. ``{python}`` stands for the builder's Python, ``{toolchain}``
    for the folder of the rendered files."""

    command: tuple[str, ...]
    answers: dict[str, str] = {}
    features: dict[Name, dict[str, str]] = {}


class BazelOutput(Model):
    """What ``--output`` gives: the ``targets`` that Bazel builds, and the commands that ``pack`` them into
    ``/build/out``; in these, ``{platform}`` stands for the wheel's platform tag."""

    targets: tuple[str, ...] = Field(min_length=1)
    pack: tuple[tuple[str, ...], ...] = Field(min_length=1)


class BazelBuild(Model):
    """Bazel's part of a release.

    ``versions`` are those of ``toolchains/bazel.toml`` that build it, the default first; ``enforced`` is the range
    that the release's own code accepts. ``repositories`` are rendered ones (folders of
    ``toolchains/templates/repositories/``) that stand in for what Bazel would download. ``features`` are flags where
    a feature is on. ``heap`` is Bazel's Java heap in MiB.

    ``optional`` maps an external of upstream's build files to the feature without which no target of ours reaches it
    (empty: none reaches it); it is then not fetched.

    Without ``outputs`` the package's ``setup.py`` calls Bazel; with them, Bazel is called by ``configure``'s answers
    and the output's targets. Either way it reads our ``.bazelrc``.
    """

    versions: tuple[VersionText, ...] = Field(min_length=1)
    enforced: Specifier | None = None
    repositories: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    features: dict[Name, tuple[str, ...]] = {}
    heap: int = Field(default=1024, gt=0)
    optional: dict[str, str] = {}
    configure: Configure | None = None
    outputs: dict[Name, BazelOutput] = {}


class MesonBuild(Model):
    """Meson's part of a release, where it has one: ``options`` of the package's ``meson_options.txt``, and how they
    are set."""

    options: dict[str, str] = {}


class Fact(Model):
    """How sure a fact of a release is. ``grade``: A, read at the release's own commit; B, at another commit of the
    same release branch, or of upstream's main branch when it was cut; C, from another packager or from the wheels that
    upstream published; D, from documentation."""

    grade: Literal["A", "B", "C", "D"]
    source: Annotated[str, StringConstraints(min_length=3)]


class Needs(Model):
    """What upstream says that a release wants: as documented and tested there (``compiler``), and as ranges."""

    compiler: str = ""
    numpy: Specifier | None = None
    cuda: VersionText | None = None
    cudnn: VersionText | None = None


class Release(Model):
    """One version of a recipe. Its file may say ``era = "NAME"``: the keys of ``eras/NAME.toml`` then hold where it
    says nothing else.

    ``facts`` says of ``bazel``, ``needs``, ``python`` and the like how sure they are. ``needs.numpy`` makes the
    target's NumPy part of the sysroot and of the root in which the wheel is tried. ``python`` is the range of CPython
    that the release serves. ``tests`` is how many tests of the recipe's check must pass; a release of a recipe without
    a wheel has none. ``chain`` are other recipes' releases that are built before. ``requires`` are wheels for
    the builder's Python. ``externals`` are handed over as unpacked folders: to Bazel by ``--override_repository`` and
    to CMake by ``FETCHCONTENT_SOURCE_DIR_<NAME>``. What ``externals/<version>.toml`` has besides is laid into Bazel's
    repository cache, so that the release's own rules unpack it. ``env`` is set for the build alone;
    ``{toolchain}`` stands there for the folder of the rendered files, ``{jobs}`` for how many compilers may run.
    """

    version: VersionText
    era: str = ""
    backend: Literal["bazel", "pep517", "cmake", "meson", "script"]
    python: Specifier
    source: Source
    tests: int | None = Field(default=None, gt=0)
    externals: tuple[External, ...] = ()
    requires: tuple[Requirement, ...] = ()
    chain: tuple[Link, ...] = ()
    env: dict[str, str] = {}
    bazel: BazelBuild | None = None
    meson: MesonBuild | None = None
    cmake: CMakeBuild | None = None
    script: ScriptBuild | None = None
    needs: Needs = Needs()
    facts: dict[str, Fact] = {}
    note: str = ""

    @model_validator(mode="after")
    def _backend_data(self) -> Release:
        if (self.backend == "bazel") != (self.bazel is not None):
            raise ValueError('a [bazel] table goes with backend = "bazel", and only with it')
        if self.meson is not None and self.backend != "meson":
            raise ValueError('a [meson] table goes with backend = "meson" alone')
        if self.cmake is not None and self.backend != "cmake":
            raise ValueError('a [cmake] table goes with backend = "cmake"')
        if (self.script is not None) != (self.backend == "script"):
            raise ValueError('a [script] table goes with backend = "script", and only with it')
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that its build names; empty where ``setup.py`` makes a wheel, and nothing else."""
        build = self.bazel or self.cmake or self.script
        return tuple(build.outputs) if build else ()


# --- targets and toolchains ------------------------------------------------------------------------------------------


class Cpu(Model):
    """A processor or an instruction set level: the compiler's flags and qemu's model."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
    arch: Arch
    flags: tuple[str, ...]
    qemu: str
    avx: bool = False
    source: str


class System(Model):
    """An operating system of a target: its Python, its sysroot and the toolchain that builds for it."""

    python: PythonVersion
    sysroot: Name
    toolchain: Name


class Target(Model):
    """A machine to build for. The first system is the default, ``avx_cpu`` the baseline with the feature ``avx``."""

    name: Name
    title: str
    arch: Arch
    cpu: str
    avx_cpu: str | None = None
    systems: tuple[System, ...] = Field(min_length=1)
    source: str

    @model_validator(mode="after")
    def _pythons_differ(self) -> Target:
        pythons = [system.python for system in self.systems]
        if len(set(pythons)) != len(pythons):
            raise ValueError("two systems have the same Python")
        return self


class Toolchain(Model):
    """The compilers of an era and the packages of the builder in which they run.

    ``gcc`` is the major version. ``packages`` go into every builder, ``cross`` adds those of an architecture.
    ``sysroot`` names the distribution that the builder is made of, ``pythons`` are those in it, its ``python3`` first.
    """

    name: Name
    title: str
    gcc: str
    pythons: tuple[PythonVersion, ...] = Field(min_length=1)
    sysroot: Name
    packages: tuple[str, ...] = Field(min_length=1)
    cross: dict[Arch, tuple[str, ...]]
    source: str


class BazelTool(Source):
    """A version of Bazel and the language in which it is told about a C++ toolchain.

    ``repositories`` are rendered ones that this version wants for every build. ``sized`` are the flags that tell it of
    the machine, in which ``{jobs}`` and ``{memory}`` (MiB) stand. ``native`` are those for a target of the builder's
    architecture that is built by labels: there every tool is compiled once, not for the host as well.
    ``repository_cache`` and ``disk_cache`` are its names of the flags for what it downloads and for the results of
    actions; empty where it has none.
    """

    version: VersionText
    style: Literal["crosstool", "starlark", "platforms"]
    repositories: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    sized: tuple[str, ...]
    native: tuple[str, ...] = ()
    repository_cache: str = "--repository_cache"
    disk_cache: str = "--disk_cache"


class Emulator(Model):
    """qemu-user: the packages that bring it, and where its static binary for ``{arch}`` lies in the root."""

    sysroot: Name
    packages: tuple[str, ...] = Field(min_length=1)
    binary: str
    source: str


# --- sysroots --------------------------------------------------------------------------------------------------------


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


# --- patches ---------------------------------------------------------------------------------------------------------


class When(Model):
    """Conditions of a patch; all of them must hold. ``bazel`` and ``python`` are ranges."""

    python: Specifier | None = None
    bazel: Specifier | None = None
    arch: Arch | None = None
    features: tuple[Name, ...] = ()


class Patch(Model):
    """A patch of a series: the file, the versions it serves, on which tree, and why."""

    file: FileName
    versions: Specifier
    external: str | None = None
    when: When = When()
    reason: Annotated[str, StringConstraints(min_length=10)]
    upstream: str


class Series(Model):
    """The ordered patches of a recipe."""

    patches: tuple[Patch, ...]
