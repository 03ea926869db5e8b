"""What this machine has, or could build, of the projects that a wheel requires: wheels in folders and in the store,
packages of the target's distribution, recipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, NormalizedName, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from crosswheel.building.store import Store
from crosswheel.errors import InputError
from crosswheel.planning.fitting import misfit
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import WHEEL, Request, resolve
from crosswheel.planning.sources import serves
from crosswheel.planning.wheelhouse import Offer, named
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.requirements import Machine
from crosswheel.spec.targets import Cpu, System, Target


@dataclass(frozen=True, kw_only=True)
class OwnWheels:
    """For one target with one of its systems and a processor. ``folders`` are those in which wheels for it lie,
    ``root`` is what the wheel is that requires all."""

    catalog: Catalog
    store: Store
    target: Target
    system: System
    cpu: Cpu
    machine: Machine
    folders: tuple[Path, ...]
    root: tuple[NormalizedName, Version] | None = None
    _beside: dict[str, list[Offer]] = field(default_factory=dict)

    def wheels(self, name: NormalizedName) -> Iterator[Offer]:
        """The wheels in the folders, newest first, then those that are in the store; ``place`` is the file."""
        yield from self._in_folders().get(name, ())
        for recipe, release in self._releases(name):
            try:
                asked = self._request(recipe, release)
                step = plan(resolve(asked, self.catalog), self.catalog, rules={}).wheel
            except InputError:
                continue  # this release cannot be built for the target after all
            found = self.store.lookup(step.key) if self.store.has(step.key) else None
            for path in sorted(found.path.glob("*.whl")) if found else ():
                yield _offer(name, Version(release.version), path)

    def package(self, name: NormalizedName) -> Offer | None:
        """The package of the distribution that is this project, where that is known."""
        packages = self.catalog.sysroot(self.system.sysroot).pythons[self.system.python]
        if name != "numpy" or not packages.numpy or not packages.numpy_version:
            return None
        return Offer(name=name, version=Version(packages.numpy_version), origin="package", file=packages.numpy)

    def recipe(self, name: str, asked: Iterable[Requirement]) -> tuple[str, str]:
        """The recipe of a project, and the command that makes a wheel of it that serves all of ``asked`` on the target:
        of its newest release that does, or of what the check of the asked wheel's own recipe was proved with. Each is
        empty where there is none."""
        wanted, plain = list(asked), canonicalize_name(name)
        for recipe, release in self._releases(plain):
            if _serves(Version(release.version), wanted):
                return recipe.name, self._command(recipe, release)
        known = next(self._recipes(plain), None)
        return (known.name if known else ""), self._with_check(plain, wanted)

    def _command(self, recipe: Recipe, release: Release) -> str:
        more = f" --system {self.system.name}" if self.system.name else f" --python {self.system.python}"
        more = "" if self.system == self.target.systems[0] else more
        more += f" --cpu {self.cpu.name}" if self.cpu.name != self.target.cpu else ""
        return f"./x build {recipe.name} --version {release.version} --target {self.target.name}{more}"

    def _with_check(self, name: NormalizedName, wanted: list[Requirement]) -> str:
        """The command that lays what the check of the wheel's own recipe was proved with beside the wheel."""
        if self.root is None:
            return ""
        for recipe, release in self._releases(self.root[0]):
            if Version(release.version) == self.root[1] and recipe.check:
                for wheel in recipe.check.wheels:
                    known = named(wheel.file)
                    fits = wheel.arch in (None, self.target.arch) and serves(wheel, self.system.python)
                    if fits and known and known[0] == name and _serves(known[1], wanted):
                        return f"{self._command(recipe, release)} --with-dependencies"
        return ""

    def _recipes(self, name: NormalizedName) -> Iterator[Recipe]:
        for each in self.catalog.recipe_names:
            recipe = self.catalog.recipe(each)
            if recipe.distribution and canonicalize_name(recipe.distribution) == name:
                yield recipe

    def _releases(self, name: NormalizedName) -> Iterator[tuple[Recipe, Release]]:
        """The releases that go with the system, newest first."""
        for recipe in self._recipes(name):
            for release in self.catalog.releases(recipe.name):
                if misfit(release, self.system, self.catalog) is None:
                    yield recipe, release

    def _request(self, recipe: Recipe, release: Release) -> Request:
        return Request(
            recipe=recipe.name,
            target=self.target.name,
            version=release.version,
            python=self.system.python,
            system=self.system.name,
            cpu=self.cpu.name if self.cpu.name != self.target.cpu else None,
            output=WHEEL,
        )

    def _in_folders(self) -> dict[str, list[Offer]]:
        if not self._beside:
            for path in sorted(path for folder in self.folders for path in folder.glob("*.whl")):
                try:
                    name, version, _, tags = parse_wheel_filename(path.name)
                except InvalidWheelFilename:
                    continue
                if self.machine.rank(tags) is not None:
                    self._beside.setdefault(name, []).append(_offer(name, version, path))
            for offers in self._beside.values():
                offers.sort(key=lambda offer: offer.version, reverse=True)
        return self._beside


def _serves(version: Version, wanted: Iterable[Requirement]) -> bool:
    return all(each.specifier.contains(version, prereleases=True) for each in wanted)


def _offer(name: NormalizedName, version: Version, path: Path) -> Offer:
    return Offer(name=name, version=version, origin="beside", file=path.name, place=str(path))
