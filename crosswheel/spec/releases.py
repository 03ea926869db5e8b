"""What ``recipes/<name>/<version>.toml`` may say: a version of a recipe, what builds it, and how sure its facts are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from crosswheel.spec.base import FileName, Model, Name, Specifier, VersionText
from crosswheel.spec.outputs import CMakeBuild, Link, ScriptBuild
from crosswheel.spec.sources import External, Requirement, Source


class Configure(Model):
    """What answers a release's ``configure``: ``command`` is run with ``answers`` in its environment and nothing to
    read; ``features`` are answers where a feature is on. ``{python}`` stands for the builder's Python, ``{toolchain}``
    for the folder of the rendered files. In a build for a GPU ``{cuda}`` stands for the toolkit's folder,
    ``{cuda_target}`` for the target's folder in it, ``{cuda_version}`` for its version (``10.2``), ``{cudnn}`` for the
    folder of the target's cuDNN, ``{cudnn_version}`` for its major version, ``{capabilities}`` for the GPUs
    (``5.3,6.2``)."""

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

    ``optional`` maps an external of upstream's build files to the feature without which no target of ours reaches it,
    or to the one output that does (empty: none reaches it); for others it is not fetched.

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


class Accepts(Model):
    """The CUDA and the cuDNN that a release's own code takes, as ranges: where a bound is not known, it is left open. A
    build for a GPU of a release that accepts a range of cuDNN wants one. Upstream tested fewer (``Needs``)."""

    cuda: Specifier | None = None
    cudnn: Specifier | None = None


class Release(Model):
    """One version of a recipe. Its file may say ``era = "NAME"``: the keys of ``eras/NAME.toml`` then hold where it
    says nothing else.

    ``facts`` says of ``bazel``, ``needs``, ``python`` and the like how sure they are; of ``cuda`` and ``cudnn``, how
    sure the ranges of ``accepts`` are. ``needs.numpy`` makes the
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
    source: Source | None = None
    folder: FileName | None = None
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
    accepts: Accepts = Accepts()
    facts: dict[str, Fact] = {}
    note: str = ""

    @model_validator(mode="after")
    def _has_a_source(self) -> Release:
        if (self.source is None) == (self.folder is None):
            raise ValueError("its source is a file ([source]) or a `folder` beside the recipe: one of them")
        return self

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

    @model_validator(mode="after")
    def _sources_of_what_is_refused(self) -> Release:
        for name, range_ in self.accepts:
            if range_ is not None and name not in self.facts:
                raise ValueError(f"a range of {name} refuses builds: say in [facts.{name}] how sure it is")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that its build names; empty where ``setup.py`` makes a wheel, and nothing else."""
        build = self.bazel or self.cmake or self.script
        return tuple(build.outputs) if build else ()
