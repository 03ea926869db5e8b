"""Validates all written data in one run: what cannot be read, what points nowhere, what nothing points to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from crosswheel.errors import DataError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.config_site import problems as problems_of_pythons
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import BazelBuild, Release
from crosswheel.spec.sources import Externals, Replacements
from crosswheel.spec.toml import line_of, load, read_toml

_A_RELEASES_OWN = ("version", "era", "source")
"""The keys of a release that no era can say for it."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong: where (``file:line`` relative to the data's root), and what."""

    where: str
    what: str


def lint(catalog: Catalog) -> list[Problem]:
    """Every problem of the written data, sorted by place. An empty list means that all of it can be used."""
    found: list[Problem] = []
    sections: tuple[Callable[[Catalog], Iterable[Problem]], ...] = (
        _recipes,
        _toolchains,
        _cpus,
        _targets,
        _sysroots,
        _pythons,
        _cuda,
        _patches,
    )
    for section in sections:
        try:
            found.extend(section(catalog))
        except DataError as error:
            found.append(_told(catalog, error))
    return sorted(set(found), key=lambda problem: (problem.where, problem.what))


def _told(catalog: Catalog, error: DataError) -> Problem:
    where = error.where.removeprefix(f"{catalog.root}/")
    return Problem(where=where, what="\n".join(part for part in (error.what, error.why) if part))


def _at(catalog: Catalog, path: Path, *location: str | int) -> str:
    name = path.relative_to(catalog.root).as_posix()
    line = line_of(path.read_text(encoding="utf-8"), location) if location and path.is_file() else None
    return f"{name}:{line}" if line else name


def _each(catalog: Catalog, names: Iterable[str], read: Callable[[str], object]) -> Iterator[Problem]:
    """The problems of files that cannot be read, one by one, so that one bad file does not hide another."""
    for name in names:
        try:
            read(name)
        except DataError as error:
            yield _told(catalog, error)


def _readable(names: Iterable[str], read: Callable[[str], object]) -> list[str]:
    def works(name: str) -> bool:
        try:
            read(name)
        except DataError:
            return False
        return True

    return [name for name in names if works(name)]


def _recipes(catalog: Catalog) -> Iterator[Problem]:
    folder = catalog.root / "recipes"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not (path / "recipe.toml").is_file():
            yield Problem(where=f"recipes/{path.name}", what="this folder has no recipe.toml")
    yield from _each(catalog, catalog.recipe_names, catalog.recipe)
    seen: dict[str, str] = {}
    for name in _readable(catalog.recipe_names, catalog.recipe):
        recipe = catalog.recipe(name)
        path = folder / name / "recipe.toml"
        for alias in (name, *recipe.aliases):
            if alias in seen and seen[alias] != name:
                yield Problem(where=_at(catalog, path, "aliases"), what=f"{alias!r} already means {seen[alias]!r}")
            seen[alias] = name
        if recipe.check and not (path.parent / recipe.check.script).is_file():
            what = f"the check's script {recipe.check.script!r} does not exist"
            yield Problem(where=_at(catalog, path, "check", "script"), what=what)
        for sysroot in sorted(set(recipe.check.only if recipe.check else ()) - set(catalog.sysroot_names)):
            where = _at(catalog, path, "check", "only", sysroot)
            yield Problem(where=where, what=f"there is no sysroot {sysroot!r}")
        for output, told in recipe.outputs.items():
            for file in told.trial:
                if not (path.parent / file).is_file():
                    what = f"the trial file {file!r} does not exist"
                    yield Problem(where=_at(catalog, path, "outputs", output, "trial"), what=what)
        for feature, data in recipe.features.items():
            for other in sorted({*data.conflicts, *data.requires} - set(recipe.features)):
                what = f"there is no feature {other!r}"
                yield Problem(where=_at(catalog, path, "features", feature), what=what)
        yield from _releases(catalog, recipe)


def _releases(catalog: Catalog, recipe: Recipe) -> Iterator[Problem]:
    folder = catalog.root / "recipes" / recipe.name
    versions = catalog.versions(recipe.name)
    if not versions:
        yield Problem(where=f"recipes/{recipe.name}", what="this recipe has no release")
    if recipe.default and recipe.default not in versions:
        where = _at(catalog, folder / "recipe.toml", "default")
        yield Problem(where=where, what=f"there is no release {recipe.default!r}")
    readable: list[Release] = []
    for version in versions:
        try:
            release = catalog.release(recipe.name, version)
        except DataError as error:
            yield _told(catalog, error)
            continue
        readable.append(release)
        yield from _release(catalog, recipe, release, folder / f"{version}.toml")
    yield from _eras(catalog, folder, {release.era for release in readable})
    yield from _downloads(catalog, recipe, folder, readable)


def _release(catalog: Catalog, recipe: Recipe, release: Release, path: Path) -> Iterator[Problem]:
    if (recipe.distribution == "") != (release.tests is None):
        what = "`tests` is how many tests of a wheel's check must pass: a release with a wheel has it, and no other"
        yield Problem(where=_at(catalog, path, "tests"), what=what)
    for output in sorted(set(release.outputs) - {*recipe.outputs, "wheel"}):
        what = f"recipe.toml has no [outputs.{output}], so nothing would be proved of it"
        yield Problem(where=_at(catalog, path), what=what)
    for number, link in enumerate(release.chain):
        if link.recipe not in catalog.recipe_names or link.version not in catalog.versions(link.recipe):
            what = f"there is no release {link.version} of a recipe {link.recipe!r}"
            yield Problem(where=_at(catalog, path, "chain", number), what=what)
    if release.bazel:
        yield from _bazel(catalog, recipe, release.bazel, path)
    for number, external in enumerate(release.externals):
        for template in external.files.values():
            if not (catalog.templates / template).is_file():
                what = f"there is no template {template!r}"
                yield Problem(where=_at(catalog, path, "externals", number, "files"), what=what)
    for name in _twice(external.name for external in release.externals):
        yield Problem(where=_at(catalog, path, "externals"), what=f"the external {name!r} stands here twice")


def _bazel(catalog: Catalog, recipe: Recipe, build: BazelBuild, path: Path) -> Iterator[Problem]:
    accepted = SpecifierSet(build.enforced or "")
    for version in build.versions:
        where = _at(catalog, path, "bazel", "versions")
        if version not in catalog.bazels:
            yield Problem(where=where, what=f"toolchains/bazel.toml has no Bazel {version}")
        if not accepted.contains(version):
            yield Problem(where=where, what=f"Bazel {version} is outside the range {build.enforced!r} that is enforced")
    for repository in build.repositories:
        if not (catalog.templates / "repositories" / repository).is_dir():
            what = f"there is no folder toolchains/templates/repositories/{repository}"
            yield Problem(where=_at(catalog, path, "bazel", "repositories"), what=what)
    named = {
        "bazel.features": set(build.features),
        "bazel.optional": set(build.optional.values()) - {"", *build.outputs},
        "bazel.configure.features": set(build.configure.features) if build.configure else set(),
    }
    for key, names in named.items():
        for name in sorted(names - set(recipe.features)):
            what = f"`{key}` names the feature {name!r}, which recipe.toml does not have"
            yield Problem(where=_at(catalog, path, *key.split(".")), what=what)


def _eras(catalog: Catalog, folder: Path, used: set[str]) -> Iterator[Problem]:
    for path in sorted((folder / "eras").glob("*.toml")):
        try:
            data, _ = read_toml(path)
        except DataError as error:
            yield _told(catalog, error)
            continue
        if path.stem not in used:
            yield Problem(where=_at(catalog, path), what="no release is of this era")
        for key in data:
            if key in _A_RELEASES_OWN:
                yield Problem(where=_at(catalog, path, key), what=f"`{key}` is a release's own, not an era's")
            elif key not in Release.model_fields:
                yield Problem(where=_at(catalog, path, key), what=f"`{key}` is no known key")


def _downloads(catalog: Catalog, recipe: Recipe, folder: Path, releases: list[Release]) -> Iterator[Problem]:
    """What the releases' own build files download, and what stands in for it."""
    known = {release.version: release for release in releases}
    reached: dict[str, set[str]] = {}
    for path in sorted((folder / "externals").glob("*.toml")):
        try:
            read = load(Externals, path)
        except DataError as error:
            yield _told(catalog, error)
            continue
        if path.stem not in catalog.versions(recipe.name):
            yield Problem(where=_at(catalog, path), what=f"there is no release {path.stem!r}")
        for name in _twice(external.name for external in read.externals):
            yield Problem(where=_at(catalog, path, "externals"), what=f"the external {name!r} stands here twice")
        if path.stem in known:
            names = {external.name for external in read.externals}
            reached.setdefault(known[path.stem].era, set()).update(names)
            yield from _optional(catalog, folder / f"{path.stem}.toml", names)
            yield from _unasked(catalog, folder / "replacements.toml", path.stem, read)
    for era in sorted(set(reached) - {""}):
        yield from _optional(catalog, folder / "eras" / f"{era}.toml", reached[era])
    yield from _replacements(catalog, folder / "replacements.toml")


def _optional(catalog: Catalog, path: Path, names: set[str]) -> Iterator[Problem]:
    """What a release calls optional must be among its externals; what an era does, among those of its releases."""
    own = read_toml(path)[0].get("bazel", {}).get("optional", {})
    for name in sorted(set(own) - names):
        what = f"no external is called {name!r} (externals/*.toml)"
        yield Problem(where=_at(catalog, path, "bazel", "optional", name), what=what)


def _replacements(catalog: Catalog, path: Path) -> Iterator[Problem]:
    """A replacement may stand for what no release has yet, but for each pin there is one at most."""
    if not path.is_file():
        return
    try:
        found = load(Replacements, path)
    except DataError as error:
        yield _told(catalog, error)
        return
    for pin in _twice(f"{item.name} {item.replaces} {item.arch or ''}".strip() for item in found.replacements):
        yield Problem(where=_at(catalog, path, "replacements"), what=f"two replacements stand for {pin}")
    for sha256 in _twice(place.sha256 for place in found.places):
        yield Problem(where=_at(catalog, path, "places"), what=f"places of {sha256} stand here twice")


def _unasked(catalog: Catalog, path: Path, version: str, externals: Externals) -> Iterator[Problem]:
    """Replacements that would be fetched in vain: upstream's build files ask for their own until a patch says else."""
    try:
        replacements = load(Replacements, path).replacements if path.is_file() else ()
        series = catalog.series(path.parent.name)
    except DataError:
        return  # told elsewhere
    patches = [p for p in series.patches if SpecifierSet(p.versions).contains(version, prereleases=True)]
    for item in replacements:
        if not (item.serves(version, item.arch or "x86_64") and any(map(item.stands_for, externals.externals))):
            continue
        asking = [p for p in patches if (p.when.arch, p.when.without, p.when.features) == (item.arch, item.without, ())]
        files = [catalog.root / "patches" / path.parent.name / patch.file for patch in asking]
        if not any(item.sha256 in file.read_text(encoding="utf-8") for file in files if file.is_file()):
            what = f"no patch makes {version} ask for {item.file}, under the same conditions"
            yield Problem(where=_at(catalog, path, "replacements"), what=what)


def _twice(names: Iterable[str]) -> list[str]:
    seen = list(names)
    return sorted({name for name in seen if seen.count(name) > 1})


def _toolchains(catalog: Catalog) -> Iterator[Problem]:
    yield from _each(catalog, catalog.toolchain_names, catalog.toolchain)
    for name in _readable(catalog.toolchain_names, catalog.toolchain):
        toolchain = catalog.toolchain(name)
        path = catalog.root / "toolchains" / f"{name}.toml"
        if toolchain.sysroot not in catalog.sysroot_names:
            yield Problem(where=_at(catalog, path, "sysroot"), what=f"there is no sysroot {toolchain.sysroot!r}")
    if catalog.emulator.sysroot not in catalog.sysroot_names:
        path = catalog.root / "toolchains" / "emulator.toml"
        yield Problem(where=_at(catalog, path, "sysroot"), what=f"there is no sysroot {catalog.emulator.sysroot!r}")


def _cpus(catalog: Catalog) -> Iterator[Problem]:
    path = catalog.root / "toolchains" / "cpus.toml"
    for number, cpu in enumerate(catalog.cpus.values()):
        where = _at(catalog, path, "cpu", number)
        if not (cpu.above or cpu.features):
            yield Problem(where=where, what=f"{cpu.name!r} has neither `features` nor a cpu that it stands `above`")
        elif cpu.above and cpu.above not in catalog.cpus:
            yield Problem(where=where, what=f"toolchains/cpus.toml has no cpu {cpu.above!r}")
        elif cpu.above and catalog.cpus[cpu.above].arch != cpu.arch:
            yield Problem(where=where, what=f"{cpu.name!r} is {cpu.arch}, and stands above {cpu.above!r}, which is not")


def _targets(catalog: Catalog) -> Iterator[Problem]:
    yield from _each(catalog, catalog.target_names, catalog.target)
    toolchains = set(_readable(catalog.toolchain_names, catalog.toolchain))
    sysroots = set(_readable(catalog.sysroot_names, catalog.sysroot))
    for name in _readable(catalog.target_names, catalog.target):
        target = catalog.target(name)
        path = catalog.root / "toolchains" / "targets" / f"{name}.toml"
        for key, cpu in (("cpu", target.cpu), ("avx_cpu", target.avx_cpu)):
            if cpu is not None and cpu not in catalog.cpus:
                yield Problem(where=_at(catalog, path, key), what=f"toolchains/cpus.toml has no cpu {cpu!r}")
            elif cpu is not None and catalog.cpus[cpu].arch != target.arch:
                yield Problem(where=_at(catalog, path, key), what=f"{cpu!r} is no {target.arch} processor")
        for number, system in enumerate(target.systems):
            where = _at(catalog, path, "systems", number)
            if system.sysroot not in catalog.sysroot_names:
                yield Problem(where=where, what=f"there is no sysroot {system.sysroot!r}")
            elif system.sysroot in sysroots and system.python not in catalog.sysroot(system.sysroot).pythons:
                has = ", ".join(catalog.sysroot(system.sysroot).pythons)
                yield Problem(where=where, what=f"{system.sysroot} has CPython {has}, not {system.python}")
            if system.toolchain not in catalog.toolchain_names:
                yield Problem(where=where, what=f"there is no toolchain {system.toolchain!r}")
            elif system.toolchain in toolchains:
                toolchain = catalog.toolchain(system.toolchain)
                if target.arch not in toolchain.cross:
                    yield Problem(where=where, what=f"{toolchain.name} has no packages for {target.arch}")
                if system.python not in toolchain.pythons:
                    has = ", ".join(toolchain.pythons)
                    what = f"the builder of {toolchain.name} has CPython {has}, not {system.python}"
                    yield Problem(where=where, what=what)


def _sysroots(catalog: Catalog) -> Iterator[Problem]:
    yield from _each(catalog, catalog.sysroot_names, catalog.sysroot)
    for name in _readable(catalog.sysroot_names, catalog.sysroot):
        path = catalog.root / "sysroots" / f"{name}.toml"
        sysroot = catalog.sysroot(name)
        for arch, archive in sysroot.ports.items():
            if archive not in catalog.archives:
                what = f"sysroots/archives.toml has no archive {archive!r}, which has {arch}"
                yield Problem(where=_at(catalog, path, "ports"), what=what)
        for number, suite in enumerate(sysroot.suites):
            if suite.archive not in catalog.archives:
                what = f"sysroots/archives.toml has no archive {suite.archive!r}"
                yield Problem(where=_at(catalog, path, "suites", number), what=what)


def _pythons(catalog: Catalog) -> Iterator[Problem]:
    yield from (Problem(where=where, what=what) for where, what in problems_of_pythons(catalog))


def _cuda(catalog: Catalog) -> Iterator[Problem]:
    folder = catalog.root / "toolchains"
    yield from _each(catalog, catalog.cuda_versions, catalog.cuda)
    yield from _each(catalog, catalog.cudnn_versions, catalog.cudnn)
    toolkits = {version: catalog.cuda(version) for version in _readable(catalog.cuda_versions, catalog.cuda)}
    cudnns = {version: catalog.cudnn(version) for version in _readable(catalog.cudnn_versions, catalog.cudnn)}
    files = [(folder / "cuda" / f"{version}.toml", item.parts) for version, item in toolkits.items()]
    files += [(folder / "cudnn" / f"{version}.toml", item.all_parts) for version, item in cudnns.items()]
    for path, parts in files:
        archives = {suite.archive for part in parts for suite in part.suites} - set(catalog.archives)
        for archive in sorted(archives):
            yield Problem(where=_at(catalog, path), what=f"sysroots/archives.toml has no archive {archive!r}")
    for name in _readable(catalog.target_names, catalog.target):
        path = folder / "targets" / f"{name}.toml"
        for number, system in enumerate(catalog.target(name).systems):
            own = system.cuda
            where = _at(catalog, path, "systems", number)
            if own and own.toolkit not in catalog.cuda_versions:
                yield Problem(where=where, what=f"toolchains/cuda has no CUDA {own.toolkit}")
            if own and own.cudnn and own.cudnn not in catalog.cudnn_versions:
                yield Problem(where=where, what=f"toolchains/cudnn has no cuDNN {own.cudnn}")
            elif own and own.cudnn in cudnns and not SpecifierSet(cudnns[own.cudnn].cuda).contains(own.toolkit):
                yield Problem(where=where, what=f"cuDNN {own.cudnn} is for CUDA {cudnns[own.cudnn].cuda}")


def _patches(catalog: Catalog) -> Iterator[Problem]:
    folder = catalog.root / "patches"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.is_dir():
            continue
        series_path = path / "series.toml"
        present = {item.name for item in path.glob("*.patch")}
        if not series_path.is_file():
            yield Problem(where=f"patches/{path.name}", what="this folder has no series.toml")
            continue
        if path.name not in catalog.recipe_names:
            yield Problem(where=f"patches/{path.name}", what=f"there is no recipe {path.name!r}")
        try:
            series = catalog.series(path.name)
        except DataError as error:
            yield _told(catalog, error)
            continue
        for number, patch in enumerate(series.patches):
            where = _at(catalog, series_path, "patches", number)
            if patch.file not in present:
                yield Problem(where=where, what=f"the patch {patch.file!r} does not exist")
            else:
                yield from _patch_reads(catalog, path / patch.file)
        for extra in sorted(present - {patch.file for patch in series.patches}):
            what = "no series lists this patch; add it to series.toml or delete it"
            yield Problem(where=f"patches/{path.name}/{extra}", what=what)


def _patch_reads(catalog: Catalog, path: Path) -> Iterator[Problem]:
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        empty = not PatchSet(path.read_text(encoding="utf-8"))
    except (UnidiffParseError, UnicodeDecodeError) as error:
        yield Problem(where=_at(catalog, path), what=f"this is no unified diff: {error}")
        return
    if empty:
        yield Problem(where=_at(catalog, path), what="this patch changes nothing")
