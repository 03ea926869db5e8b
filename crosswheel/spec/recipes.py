"""What ``recipes/<name>/recipe.toml`` may say: a package, its features, and the check of its wheel."""

from __future__ import annotations

from pydantic import Field, model_validator

from crosswheel.spec.base import Arch, FileName, Model, Name, Specifier, VersionText
from crosswheel.spec.isa import Dispatched
from crosswheel.spec.outputs import Output
from crosswheel.spec.sources import CheckWheel


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
    the path of a result file and the folder of the release's patched source, where the package's own tests lie; with
    ``source = false`` it needs none, is given none, and `verify` fetches none. It writes to the file
    ``{"tests": N, "failures": N, "skipped": N}``. Its exit status must be 0, and ``tests`` at least what the release
    says. ``packages`` are packages of the target's distribution
    that it needs, ``only`` those of one distribution alone (a sysroot's name → packages), ``wheels`` are wheels from
    elsewhere, which win over them, ``timeout`` is in seconds. With
    ``install`` the wheel is installed by the target's own Python with pip, its requirements from ``wheels`` (pip's own
    wheel is one of them) and ``packages``, instead of being unpacked.
    """

    script: FileName
    source: bool = True
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
    ``elsewhere`` are libraries that no package of a distribution has: a pattern of the SONAME → how it is had.
    ``dispatched`` are functions that may use more than the target's processor has, because they are chosen at run time.
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
    elsewhere: dict[str, str] = {}
    dispatched: tuple[Dispatched, ...] = ()
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
