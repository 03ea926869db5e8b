"""The steps that bring sources: what a release, its externals and its requirements are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crosswheel.errors import InputError
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.fitting import in_range
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import FetchStep, LocalStep, PatchText, RepositoryCacheStep, Step, TreeStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.recipes import Recipe
from crosswheel.spec.releases import Release
from crosswheel.spec.sources import External, Requirement, Source
from crosswheel.spec.targets import System


@dataclass(frozen=True, kw_only=True)
class LocalSource:
    """What the user gave by ``--source NAME=PATH``: a file or a folder, hashed; ``named`` with its sha256."""

    path: str
    sha256: str
    folder: bool
    named: bool = False


def externals_of(resolution: Resolution, catalog: Catalog) -> tuple[External, ...]:
    """What a release's own build files download for this build: without what only another output needs, or a feature
    that is off, unless the build files load from it."""
    return catalog.once("externals", _of(resolution), lambda: _externals_of(resolution, catalog))


def _of(resolution: Resolution) -> tuple[object, ...]:
    """What the externals of a build depend on."""
    arch = resolution.target.arch
    return resolution.recipe.name, resolution.release.version, arch, resolution.features, resolution.output


def _externals_of(resolution: Resolution, catalog: Catalog) -> tuple[External, ...]:
    optional = resolution.release.bazel.optional if resolution.release.bazel else {}
    found = catalog.externals(resolution.recipe.name, resolution.release, resolution.target.arch, resolution.features)
    loaded = catalog.loaded_externals(resolution.recipe.name, resolution.release)
    wanted = {*resolution.features, resolution.output}
    return tuple(
        item for item in found if item.name not in optional or item.name in loaded or optional[item.name] in wanted
    )


def without_stand_ins(resolution: Resolution, catalog: Catalog) -> Resolution:
    """The same, with no rendered repository in place of one that the release's own build files bring: rules_cc, say,
    which Bazel wants of every release, and of which these build files may want more than the rendered one has."""
    if resolution.bazel is None:
        return resolution
    brought = {item.name for item in externals_of(resolution, catalog)}
    kept = tuple(name for name in resolution.bazel.repositories if name not in brought)
    return replace(resolution, bazel=resolution.bazel.model_copy(update={"repositories": kept}))


def refuse_unknown(resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource]) -> None:
    """``InputError`` for a source of a name that the release does not have."""
    externals = (*resolution.release.externals, *externals_of(resolution, catalog))
    gpu = ("cudnn", "host-cudnn") if resolution.cuda and resolution.cuda.cudnn else ()
    known = [resolution.recipe.name, *(external.name for external in externals), *gpu]
    for name in given:
        if name not in known:
            raise InputError(
                f"{resolution.recipe.name} {resolution.release.version} has no source {name!r}",
                where=f"--source {name}=…",
                hint=f"it has: {', '.join(known)}",
            )


def fetch_step(source: Source, *, name: str = "", executable: bool = False) -> FetchStep:
    """The step that gets a source."""
    return FetchStep(
        name=f"fetch {name or source.file}",
        file=source.file,
        sha256=source.sha256,
        places=source.places,
        executable=executable,
    )


def _source_step(name: str, source: Source, given: Mapping[str, LocalSource]) -> Step:
    return _given(name, given) or fetch_step(source)


def _given(name: str, given: Mapping[str, LocalSource]) -> Step | None:
    """What the user gave under a name, if anything."""
    if name not in given:
        return None
    local = given[name]
    return LocalStep(name=f"take {name}", path=local.path, sha256=local.sha256, folder=local.folder)


def _release_source(recipe: Recipe, release: Release, catalog: Catalog) -> Step:
    """A release's own source: fetched, or beside the recipe."""
    if release.source:
        return fetch_step(release.source)
    own = catalog.own_source(recipe.name, release.folder or "")
    return LocalStep(name=f"take {recipe.name}", path=str(own.path), sha256=own.sha256, folder=True)


def release_tree(
    recipe: Recipe, release: Release, system: System, catalog: Catalog, given: Mapping[str, LocalSource]
) -> TreeStep:
    """A release's own source for the tests in it, with the patches of its series that have no other condition than
    the version and the Python."""
    version = f"{system.python}.0"
    texts = tuple(
        PatchText(file=patch.file, text=catalog.patch_text(recipe.name, patch.file))
        for patch in catalog.series(recipe.name).patches
        if patch.external is None
        and in_range(patch.versions, release.version, prereleases=True)
        and (patch.when.python is None or in_range(patch.when.python, version))
        and patch.when.bazel is None
        and patch.when.arch is None
        and not patch.when.features
    )
    name = f"unpack {recipe.name} {release.version}"
    source = _given(recipe.name, given) or _release_source(recipe, release, catalog)
    return TreeStep(name=name, inputs={"archive": source}, patches=texts)


def source_tree(resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource]) -> TreeStep:
    """The release's own source, patched."""
    name = resolution.recipe.name
    source = _given(name, given) or _release_source(resolution.recipe, resolution.release, catalog)
    return TreeStep(
        name=f"unpack {name} {resolution.release.version}",
        inputs={"archive": source},
        patches=_patches(resolution, catalog, None),
    )


def unpacked(source: Source) -> TreeStep:
    """An archive, unpacked as it is."""
    return TreeStep(name=f"unpack {source.file}", inputs={"archive": fetch_step(source)})


def members_step(source: Source, record: str, members: tuple[str, ...]) -> MembersStep:
    """The step that gets some members of a wheel."""
    return MembersStep(
        name=f"get parts of {source.file}",
        file=source.file,
        sha256=source.sha256,
        record=record,
        members=members,
        places=source.places,
    )


def requirements(resolution: Resolution) -> list[Requirement]:
    """The wheels that the builder's Python needs for this release."""
    return [required for required in resolution.release.requires if serves(required, resolution.python)]


def serves(wheel: Requirement, python: str) -> bool:
    """Whether a wheel is for a Python."""
    return wheel.python is None or in_range(wheel.python, f"{python}.0")


def _patches(resolution: Resolution, catalog: Catalog, external: str | None) -> tuple[PatchText, ...]:
    return tuple(
        PatchText(file=patch.file, text=catalog.patch_text(resolution.recipe.name, patch.file))
        for patch in resolution.patches
        if patch.external == external
    )


def external_tree(
    resolution: Resolution, catalog: Catalog, renderer: Renderer, external: External, given: Mapping[str, LocalSource]
) -> TreeStep:
    """An external as a patched folder, with the files that its release adds to it."""
    return TreeStep(
        name=f"unpack {external.name}",
        inputs={"archive": _source_step(external.name, external, given)},
        patches=_patches(resolution, catalog, external.name),
        files={path: renderer.render(name, {"name": external.name}) for path, name in external.files.items()},
    )


def repository_cache(resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource]) -> RepositoryCacheStep:
    """What the release's own build files download, as Bazel's repository cache. ``InputError`` for a given file of
    other bytes than these build files pin: Bazel would not take it."""
    if not given:
        return catalog.once("repository cache", _of(resolution), lambda: _repository_cache(resolution, catalog, {}))
    return _repository_cache(resolution, catalog, given)


def _repository_cache(
    resolution: Resolution, catalog: Catalog, given: Mapping[str, LocalSource]
) -> RepositoryCacheStep:
    brought: dict[str, Step] = {}
    for item in externals_of(resolution, catalog):
        local = given.get(item.name)
        if local and local.sha256 != item.sha256:
            raise InputError(
                f"this is not the {item.name} that {resolution.recipe.name} {resolution.release.version} pins",
                where=f"--source {item.name}={local.path}",
                why=f"its sha256 is {local.sha256} instead of {item.sha256}",
                hint="give the file that upstream names, or change its workspace.bzl with a patch",
            )
        brought[item.name] = _source_step(item.name, item, given)
    return RepositoryCacheStep(name=f"lay out externals of {resolution.recipe.name}", inputs=brought)
