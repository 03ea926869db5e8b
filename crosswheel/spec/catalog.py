"""The written data of a checkout: read when asked for, each file once, with nearest names for what does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from packaging.version import InvalidVersion, Version

from crosswheel.digest import sha256_tree
from crosswheel.errors import DataError, InputError
from crosswheel.spec.base import Arch, Model
from crosswheel.spec.cuda import Cudnn, Toolkit
from crosswheel.spec.isa import InstructionSet, InstructionSets
from crosswheel.spec.layers import Layers
from crosswheel.spec.patches import Patch, Series
from crosswheel.spec.pythons import CPython, Pythons, answers_in
from crosswheel.spec.reading import Reader, read_text, tables
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.sources import External, Externals, Place, Replacement, Replacements
from crosswheel.spec.sysroots import Archive, Sysroot
from crosswheel.spec.targets import BazelTool, Cpu, Emulator, Target, Toolchain

M = TypeVar("M", bound=Model)
V = TypeVar("V")

_NO_RELEASES = ("recipe", "replacements")
"""The files of a recipe's folder that are no release."""

_NO_TOOLCHAINS = ("bazel", "ci", "cpus", "emulator", "isa")
"""The files of ``toolchains`` that are no toolchain."""

_NO_SYSROOTS = ("archives", "pythons")
"""The files of ``sysroots`` that are no sysroot."""


def unknown(kind: str, name: str, known: Iterable[str], *, list_command: str) -> InputError:
    """The error for a name that does not exist, with the nearest that do."""
    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return InputError(f"there is no {kind} {name!r}", why=hint, hint=f"`{list_command}` shows them all")


@dataclass(frozen=True, kw_only=True)
class OwnTree:
    """A source that is kept beside a recipe: its folder, and the digest of what is in it."""

    path: Path
    sha256: str


class Catalog:
    """Recipes, targets, toolchains, sysroots, patches and templates below ``root``, with those of the user's folder
    ``over`` it, if there is one: a file there stands in the place of the shipped one of the same path, but tables of
    tools, cpus and archives, and the patches of a series, are joined. ``own`` is the folder that commands write to."""

    def __init__(self, root: Path, over: Path | None = None) -> None:
        self.root = root
        self.own = over or root
        self.layers = Layers((over, root) if over else (root,))
        self._reader = Reader()

    def once(self, what: str, of: Hashable, make: Callable[[], V]) -> V:
        """What ``make`` gives: made anew each time here. A catalog for many plans keeps it, as ``what`` of ``of``
        (:mod:`crosswheel.spec.remembering`)."""
        return make()

    # --- recipes

    @cached_property
    def recipe_names(self) -> tuple[str, ...]:
        return tuple(path.parent.name for path in self.layers.glob("recipes", "*/recipe.toml"))

    @cached_property
    def _aliases(self) -> dict[str, str]:
        return {alias: name for name in self.recipe_names for alias in self._recipe(name).aliases}

    def _recipe(self, name: str) -> Recipe:
        path = self.layers.file("recipes", name, "recipe.toml")
        recipe = self._reader.model(Recipe, path)
        if recipe.name != name:
            raise DataError(f"`name` is {recipe.name!r}, but the folder is called {name!r}", where=str(path))
        return recipe

    def recipe(self, name: str) -> Recipe:
        """A recipe by its name or one of its aliases; ``-`` and ``_`` are the same."""
        plain = name.lower().replace("_", "-")
        if plain in self.recipe_names:
            return self._recipe(plain)
        if plain in self._aliases:
            return self._recipe(self._aliases[plain])
        raise unknown("recipe", name, {*self.recipe_names, *self._aliases}, list_command="./x list")

    def release(self, recipe: str, version: str) -> Release:
        """One release of a recipe, by the name of its file."""
        path = self.layers.file("recipes", recipe, f"{version}.toml")
        release = self._reader.release(path, lambda era: self.layers.file("recipes", recipe, "eras", f"{era}.toml"))
        if release.version != version:
            raise DataError(f"`version` is {release.version!r}, but the file is called {path.name!r}", where=str(path))
        return release

    def versions(self, recipe: str) -> tuple[str, ...]:
        """The versions of a recipe's releases by the names of their files, newest first."""
        names = {path.stem for path in self.layers.glob(f"recipes/{recipe}", "*.toml")} - {*_NO_RELEASES}
        return tuple(sorted(names, key=lambda name: (_ordered(name), name), reverse=True))

    def releases(self, recipe: str) -> tuple[Release, ...]:
        """The releases of a recipe, newest first."""
        return tuple(self.release(recipe, version) for version in self.versions(recipe))

    def externals(
        self, recipe: str, release: Release, arch: Arch, features: Collection[str] = ()
    ) -> tuple[External, ...]:
        """What a release's own build files download for a target of an architecture with ``features`` on, as
        ``externals/<version>.toml`` has it from upstream's tree, with the recipe's replacements in their places;
        without those that the release itself brings as folders."""
        path = self._externals(recipe, release)
        if not path.is_file():
            return ()
        own = {item.name for item in release.externals}
        other = self.layers.file("recipes", recipe, "replacements.toml")
        found = self._reader.model(Replacements, other) if other.is_file() else Replacements()
        fitting = [item for item in found.replacements if item.serves(release.version, arch)]
        fitting = [item for item in fitting if not set(features).intersection(item.without)]
        fitting.sort(key=lambda item: item.arch is None)  # one for the architecture alone wins
        further = {item.sha256: item.places for item in found.places}
        found_here = self._reader.model(Externals, path).externals
        named: dict[str, list[Replacement]] = {}
        for each in fitting:
            named.setdefault(each.name, []).append(each)
        return tuple(
            _further(_replaced(item, named.get(item.name, ())), further) for item in found_here if item.name not in own
        )

    def loaded_externals(self, recipe: str, release: Release) -> frozenset[str]:
        """The externals that a release's own build files load from, so that no build does without them."""
        path = self._externals(recipe, release)
        return frozenset(self._reader.model(Externals, path).loaded) if path.is_file() else frozenset()

    def knows_externals(self, recipe: str, release: Release) -> bool:
        """Whether it is known what the release's own build files download: always, where a package's ``setup.py``
        calls Bazel or none is called; else if ``externals/<version>.toml`` is there."""
        if release.bazel is None or not release.bazel.outputs:
            return True
        return self._externals(recipe, release).is_file()

    def _externals(self, recipe: str, release: Release) -> Path:
        return self.layers.file("recipes", recipe, "externals", f"{release.version}.toml")

    def check_script(self, recipe: Recipe) -> str:
        """The text of the script that runs on the emulated target; empty for a recipe without a wheel."""
        return self.recipe_file(recipe, recipe.check.script) if recipe.check else ""

    def own_source(self, recipe: str, folder: str) -> OwnTree:
        """A source that is kept beside a recipe. ``DataError`` where the folder is not there."""
        path = self.layers.file("recipes", recipe, folder)
        if not path.is_dir():
            raise DataError(f"`folder` says {folder!r}, and there is no such folder", where=str(path.parent))
        return OwnTree(path=path, sha256=sha256_tree(path))

    def recipe_file(self, recipe: Recipe, file: str) -> str:
        """The text of a file beside ``recipe.toml``."""
        return read_text(self.layers.file("recipes", recipe.name, file))

    # --- targets and toolchains

    @cached_property
    def target_names(self) -> tuple[str, ...]:
        return self._stems("toolchains/targets")

    def target(self, name: str) -> Target:
        return self._named(Target, "target", name, "toolchains/targets", self.target_names)

    @cached_property
    def toolchain_names(self) -> tuple[str, ...]:
        return tuple(name for name in self._stems("toolchains") if name not in _NO_TOOLCHAINS)

    def toolchain(self, name: str) -> Toolchain:
        return self._named(Toolchain, "toolchain", name, "toolchains", self.toolchain_names)

    @cached_property
    def cpus(self) -> dict[str, Cpu]:
        return tables(Cpu, "cpu", lambda cpu: cpu.name, self._lists("toolchains", "cpus.toml"))

    def cpu(self, name: str) -> Cpu:
        if name not in self.cpus:
            raise unknown("cpu", name, self.cpus, list_command="./x list")
        return self.cpus[name]

    def instruction_set(self, target: Target, cpu: Cpu, recipe: Recipe | None = None) -> InstructionSet:
        """What a processor of a target has, which instructions do no harm, and which functions of a recipe are
        chosen at run time."""
        told = self._reader.model(InstructionSets, self.layers.file("toolchains", "isa.toml"))
        chain = self._stands_above(cpu)
        features = {*target.extensions, *(feature for each in chain for feature in each.features)}
        usual = {feature for each in chain for feature in each.usual}
        harmless = {each for item in told.harmless if item.arch == target.arch for each in item.instructions}
        return InstructionSet(
            features=tuple(sorted(features)),
            usual=tuple(sorted(usual - features)),
            harmless=tuple(sorted(harmless)),
            dispatched=recipe.dispatched if recipe else (),
        )

    def _stands_above(self, cpu: Cpu) -> list[Cpu]:
        """A cpu and those that it stands above, whose features it has."""
        chain = [cpu]
        while chain[-1].above:
            below = self.cpu(chain[-1].above)
            if below in chain:
                names = " above ".join(each.name for each in (*chain, below))
                where = self.layers.file("toolchains", "cpus.toml")
                raise DataError(f"no cpu stands above itself: {names}", where=str(where))
            chain.append(below)
        return chain

    @cached_property
    def bazels(self) -> dict[str, BazelTool]:
        return tables(BazelTool, "bazel", lambda tool: tool.version, self._lists("toolchains", "bazel.toml"))

    @cached_property
    def emulator(self) -> Emulator:
        return self._reader.model(Emulator, self.layers.file("toolchains", "emulator.toml"))

    # --- CUDA

    @cached_property
    def cuda_versions(self) -> tuple[str, ...]:
        """The versions of CUDA, newest first."""
        return tuple(sorted(self._stems("toolchains/cuda"), key=_ordered, reverse=True))

    def cuda(self, version: str) -> Toolkit:
        """A CUDA toolkit, by the name of its file."""
        return self._named(Toolkit, "CUDA toolkit", version, "toolchains/cuda", self.cuda_versions)

    @cached_property
    def cudnn_versions(self) -> tuple[str, ...]:
        """The versions of cuDNN, newest first."""
        return tuple(sorted(self._stems("toolchains/cudnn"), key=_ordered, reverse=True))

    def cudnn(self, version: str) -> Cudnn:
        """A version of cuDNN, by the name of its file."""
        return self._named(Cudnn, "cuDNN", version, "toolchains/cudnn", self.cudnn_versions)

    # --- sysroots

    @cached_property
    def sysroot_names(self) -> tuple[str, ...]:
        return tuple(name for name in self._stems("sysroots") if name not in _NO_SYSROOTS)

    def sysroot(self, name: str) -> Sysroot:
        return self._named(Sysroot, "sysroot", name, "sysroots", self.sysroot_names)

    @cached_property
    def archives(self) -> dict[str, Archive]:
        return tables(Archive, "archive", lambda item: item.name, self._lists("sysroots", "archives.toml"))

    @property
    def pythons(self) -> Pythons:
        """CPython's own sources, and what its configure is to be told."""
        return self._reader.model(Pythons, self.layers.file("sysroots", "pythons.toml"))

    def cpython(self, wanted: str) -> CPython:
        """A CPython by its version, or by its series (``3.9``)."""
        found = {item.version: item for item in self.pythons.cpythons}
        found = {**{item.series: item for item in reversed(found.values())}, **found}
        if wanted not in found:
            raise unknown("source of CPython", wanted, found, list_command="./x --help headers")
        return found[wanted]

    def site_answers(self, file: str) -> dict[str, str]:
        """The answers of a file of ``sysroots/config.site``."""
        path = self.layers.file("sysroots", "config.site", file)
        if not path.is_file():
            raise DataError("this file does not exist", where=str(path), hint="sysroots/pythons.toml names it")
        try:
            return answers_in(read_text(path))
        except ValueError as error:
            raise DataError("configure would not read this as it is meant", where=str(path), why=str(error)) from error

    def lock_path(self, lock: str) -> Path:
        """Where a pinned lock lies: ``sysroots/locks/<name>.json``."""
        return self.layers.file("sysroots", "locks", f"{lock}.json")

    def lock_text(self, lock: str) -> str | None:
        """The text of a pinned lock; None where there is none, so that packages are resolved afresh."""
        path = self.lock_path(lock)
        return read_text(path) if path.is_file() else None

    # --- patches and templates

    def series(self, recipe: str) -> Series:
        """The patches of a recipe. The user's own come behind the shipped ones; one of the same file name stands in the
        place of the shipped one."""
        joined: dict[str, Patch] = {}
        for path in self.layers.all("patches", recipe, "series.toml"):
            read = self._reader.model(Series, path).patches
            joined |= {patch.file: patch for patch in read}
        return Series(patches=tuple(joined.values()))

    def patch_text(self, recipe: str, file: str) -> str:
        path = self.layers.file("patches", recipe, file)
        if not path.is_file():
            series = self.layers.file("patches", recipe, "series.toml")
            raise DataError(f"the patch {file!r} is listed, but the file does not exist", where=str(series))
        return read_text(path)

    def template_path(self, name: str) -> Path:
        """Where a template lies, by its path below ``toolchains/templates``; it may not be there."""
        return self.layers.file("toolchains/templates", name)

    def template(self, name: str) -> str:
        """The text of a template by its path below ``toolchains/templates``."""
        path = self.template_path(name)
        if not path.is_file():
            raise DataError(f"there is no template {name!r}", where=str(self.layers.file("toolchains", "templates")))
        return read_text(path)

    def template_files(self, folder: str) -> tuple[str, ...]:
        """The templates below a folder of ``toolchains/templates``, by their paths there."""
        base = self.layers.under("toolchains", "templates")
        found = {path.relative_to(top).as_posix() for top in base.folders for path in (top / folder).rglob("*")}
        files = tuple(sorted(name for name in found if base.file(name).is_file()))
        if not files:
            raise DataError(f"there is no folder {folder!r} with templates", where=str(base.folders[-1]))
        return files

    # --- reading

    def _named(self, model: type[M], kind: str, name: str, folder: str, known: tuple[str, ...]) -> M:
        if name not in known:
            raise unknown(kind, name, known, list_command="./x list")
        path = self.layers.file(folder, f"{name}.toml")
        item = self._reader.model(model, path)
        written = getattr(item, "name", name)
        if written != name:
            raise DataError(f"`name` is {written!r}, but the file is called {path.name!r}", where=str(path))
        return item

    def _lists(self, *parts: str) -> tuple[Path, ...]:
        return self.layers.all(*parts) or (self.layers.file(*parts),)

    def _stems(self, folder: str) -> tuple[str, ...]:
        return tuple(path.stem for path in self.layers.glob(folder, "*.toml"))


def _replaced(external: External, fitting: Iterable[Replacement]) -> External:
    for item in fitting:
        if item.stands_for(external):
            return external.model_copy(
                update={"file": item.file, "sha256": item.sha256, "places": item.places, "note": item.reason}
            )
    return external


def _further(external: External, further: Mapping[str, tuple[Place, ...]]) -> External:
    more = tuple(place for place in further.get(external.sha256, ()) if place not in external.places)
    return external.model_copy(update={"places": (*external.places, *more)}) if more else external


def _ordered(name: str) -> Version:
    """A file's name as a version; the lowest for one that is none, which is told when the file is read."""
    try:
        return Version(name)
    except InvalidVersion:
        return Version("0.dev0")
