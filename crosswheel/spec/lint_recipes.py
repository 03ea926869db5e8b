"""Validates what is written of recipes: their releases, eras, externals and replacements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.specifiers import SpecifierSet

from crosswheel.errors import DataError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.layers import Layers
from crosswheel.spec.problems import Problem, at, each, readable, told
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import BazelBuild, Release
from crosswheel.spec.sources import Externals, Replacements
from crosswheel.spec.toml import load, read_toml

_A_RELEASES_OWN = ("version", "era", "source")
"""The keys of a release that no era can say for it."""


def recipe_problems(catalog: Catalog) -> Iterator[Problem]:
    """The problems of all recipes."""
    for place in catalog.layers.glob("recipes", "*"):
        if place.is_dir() and not catalog.layers.file("recipes", place.name, "recipe.toml").is_file():
            yield Problem(where=catalog.layers.shown(place), what="this folder has no recipe.toml")
    yield from each(catalog, catalog.recipe_names, catalog.recipe)
    seen: dict[str, str] = {}
    for name in readable(catalog.recipe_names, catalog.recipe):
        recipe = catalog.recipe(name)
        folder = catalog.layers.under("recipes", name)
        path = folder / "recipe.toml"
        for alias in (name, *recipe.aliases):
            if alias in seen and seen[alias] != name:
                yield Problem(where=at(catalog, path, "aliases"), what=f"{alias!r} already means {seen[alias]!r}")
            seen[alias] = name
        if recipe.check and not (folder / recipe.check.script).is_file():
            what = f"the check's script {recipe.check.script!r} does not exist"
            yield Problem(where=at(catalog, path, "check", "script"), what=what)
        for sysroot in sorted(set(recipe.check.only if recipe.check else ()) - set(catalog.sysroot_names)):
            where = at(catalog, path, "check", "only", sysroot)
            yield Problem(where=where, what=f"there is no sysroot {sysroot!r}")
        for output, wanted in recipe.outputs.items():
            for file in wanted.trial:
                if not (folder / file).is_file():
                    what = f"the trial file {file!r} does not exist"
                    yield Problem(where=at(catalog, path, "outputs", output, "trial"), what=what)
        for feature, data in recipe.features.items():
            for other in sorted({*data.conflicts, *data.requires} - set(recipe.features)):
                what = f"there is no feature {other!r}"
                yield Problem(where=at(catalog, path, "features", feature), what=what)
        yield from _releases(catalog, recipe)


def _releases(catalog: Catalog, recipe: Recipe) -> Iterator[Problem]:
    folder = catalog.layers.under("recipes", recipe.name)
    versions = catalog.versions(recipe.name)
    if not versions:
        yield Problem(where=catalog.layers.shown(folder / "recipe.toml"), what="this recipe has no release")
    if recipe.default and recipe.default not in versions:
        where = at(catalog, folder / "recipe.toml", "default")
        yield Problem(where=where, what=f"there is no release {recipe.default!r}")
    readable: list[Release] = []
    for version in versions:
        try:
            release = catalog.release(recipe.name, version)
        except DataError as error:
            yield told(catalog, error)
            continue
        readable.append(release)
        yield from _release(catalog, recipe, release, folder / f"{version}.toml")
    yield from _eras(catalog, folder, {release.era for release in readable})
    yield from _downloads(catalog, recipe, folder, readable)


def _release(catalog: Catalog, recipe: Recipe, release: Release, path: Path) -> Iterator[Problem]:
    if (recipe.distribution == "") != (release.tests is None):
        what = "`tests` is how many tests of a wheel's check must pass: a release with a wheel has it, and no other"
        yield Problem(where=at(catalog, path, "tests"), what=what)
    for output in sorted(set(release.outputs) - {*recipe.outputs, "wheel"}):
        what = f"recipe.toml has no [outputs.{output}], so nothing would be proved of it"
        yield Problem(where=at(catalog, path), what=what)
    for number, link in enumerate(release.chain):
        if link.recipe not in catalog.recipe_names or link.version not in catalog.versions(link.recipe):
            what = f"there is no release {link.version} of a recipe {link.recipe!r}"
            yield Problem(where=at(catalog, path, "chain", number), what=what)
    if release.bazel:
        yield from _bazel(catalog, recipe, release.bazel, path)
    for number, external in enumerate(release.externals):
        for template in external.files.values():
            if not catalog.template_path(template).is_file():
                what = f"there is no template {template!r}"
                yield Problem(where=at(catalog, path, "externals", number, "files"), what=what)
    for name in _twice(external.name for external in release.externals):
        yield Problem(where=at(catalog, path, "externals"), what=f"the external {name!r} stands here twice")


def _bazel(catalog: Catalog, recipe: Recipe, build: BazelBuild, path: Path) -> Iterator[Problem]:
    accepted = SpecifierSet(build.enforced or "")
    for version in build.versions:
        where = at(catalog, path, "bazel", "versions")
        if version not in catalog.bazels:
            yield Problem(where=where, what=f"toolchains/bazel.toml has no Bazel {version}")
        if not accepted.contains(version):
            yield Problem(where=where, what=f"Bazel {version} is outside the range {build.enforced!r} that is enforced")
    for repository in build.repositories:
        if not catalog.template_path(f"repositories/{repository}").is_dir():
            what = f"there is no folder toolchains/templates/repositories/{repository}"
            yield Problem(where=at(catalog, path, "bazel", "repositories"), what=what)
    named = {
        "bazel.features": set(build.features),
        "bazel.optional": set(build.optional.values()) - {"", *build.outputs},
        "bazel.configure.features": set(build.configure.features) if build.configure else set(),
    }
    for key, names in named.items():
        for name in sorted(names - set(recipe.features)):
            what = f"`{key}` names the feature {name!r}, which recipe.toml does not have"
            yield Problem(where=at(catalog, path, *key.split(".")), what=what)


def _eras(catalog: Catalog, folder: Layers, used: set[str]) -> Iterator[Problem]:
    for path in folder.glob("eras", "*.toml"):
        try:
            data, _ = read_toml(path)
        except DataError as error:
            yield told(catalog, error)
            continue
        if path.stem not in used:
            yield Problem(where=at(catalog, path), what="no release is of this era")
        for key in data:
            if key in _A_RELEASES_OWN:
                yield Problem(where=at(catalog, path, key), what=f"`{key}` is a release's own, not an era's")
            elif key not in Release.model_fields:
                yield Problem(where=at(catalog, path, key), what=f"`{key}` is no known key")


def _downloads(catalog: Catalog, recipe: Recipe, folder: Layers, releases: list[Release]) -> Iterator[Problem]:
    """What the releases' own build files download, and what stands in for it."""
    known = {release.version: release for release in releases}
    reached: dict[str, set[str]] = {}
    for path in folder.glob("externals", "*.toml"):
        try:
            read = load(Externals, path)
        except DataError as error:
            yield told(catalog, error)
            continue
        if path.stem not in catalog.versions(recipe.name):
            yield Problem(where=at(catalog, path), what=f"there is no release {path.stem!r}")
        for name in _twice(external.name for external in read.externals):
            yield Problem(where=at(catalog, path, "externals"), what=f"the external {name!r} stands here twice")
        if path.stem in known:
            names = {external.name for external in read.externals}
            reached.setdefault(known[path.stem].era, set()).update(names)
            yield from _optional(catalog, folder / f"{path.stem}.toml", names)
            yield from _unasked(catalog, recipe, folder / "replacements.toml", path.stem, read)
    for era in sorted(set(reached) - {""}):
        yield from _optional(catalog, folder / f"eras/{era}.toml", reached[era])
    yield from _replacements(catalog, folder / "replacements.toml")


def _optional(catalog: Catalog, path: Path, names: set[str]) -> Iterator[Problem]:
    """What a release calls optional must be among its externals; what an era does, among those of its releases."""
    own = read_toml(path)[0].get("bazel", {}).get("optional", {})
    for name in sorted(set(own) - names):
        what = f"no external is called {name!r} (externals/*.toml)"
        yield Problem(where=at(catalog, path, "bazel", "optional", name), what=what)


def _replacements(catalog: Catalog, path: Path) -> Iterator[Problem]:
    """A replacement may stand for what no release has yet, but for each pin there is one at most."""
    if not path.is_file():
        return
    try:
        found = load(Replacements, path)
    except DataError as error:
        yield told(catalog, error)
        return
    for pin in _twice(f"{item.name} {item.replaces} {item.arch or ''}".strip() for item in found.replacements):
        yield Problem(where=at(catalog, path, "replacements"), what=f"two replacements stand for {pin}")
    for sha256 in _twice(place.sha256 for place in found.places):
        yield Problem(where=at(catalog, path, "places"), what=f"places of {sha256} stand here twice")


def _unasked(catalog: Catalog, recipe: Recipe, path: Path, version: str, externals: Externals) -> Iterator[Problem]:
    """Replacements that would be fetched in vain: upstream's build files ask for their own until a patch says else."""
    try:
        replacements = load(Replacements, path).replacements if path.is_file() else ()
        series = catalog.series(recipe.name)
    except DataError:
        return  # told elsewhere
    patches = [p for p in series.patches if SpecifierSet(p.versions).contains(version, prereleases=True)]
    for item in replacements:
        if not (item.serves(version, item.arch or "x86_64") and any(map(item.stands_for, externals.externals))):
            continue
        asking = [p for p in patches if (p.when.arch, p.when.without, p.when.features) == (item.arch, item.without, ())]
        files = [catalog.layers.file("patches", recipe.name, patch.file) for patch in asking]
        if not any(item.sha256 in file.read_text(encoding="utf-8") for file in files if file.is_file()):
            what = f"no patch makes {version} ask for {item.file}, under the same conditions"
            yield Problem(where=at(catalog, path, "replacements"), what=what)


def _twice(names: Iterable[str]) -> list[str]:
    seen = list(names)
    return sorted({name for name in seen if seen.count(name) > 1})
