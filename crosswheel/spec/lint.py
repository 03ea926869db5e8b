"""Validates all written data in one run: what cannot be read, what points nowhere, what nothing points to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from packaging.specifiers import SpecifierSet

from crosswheel.errors import DataError
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.ci import Ci
from crosswheel.spec.config_site import problems as problems_of_pythons
from crosswheel.spec.lint_recipes import recipe_problems
from crosswheel.spec.patches import Series
from crosswheel.spec.problems import Problem, at, each, readable, told
from crosswheel.spec.reading import tables
from crosswheel.spec.targets import Cpu
from crosswheel.spec.toml import load


def lint(catalog: Catalog) -> list[Problem]:
    """Every problem of the written data, sorted by place. An empty list means that all of it can be used."""
    found: list[Problem] = []
    sections: tuple[Callable[[Catalog], Iterable[Problem]], ...] = (
        recipe_problems,
        _toolchains,
        _cpus,
        _targets,
        _sysroots,
        _pythons,
        _cuda,
        _patches,
        _ci,
    )
    for section in sections:
        try:
            found.extend(section(catalog))
        except DataError as error:
            found.append(told(catalog, error))
    return sorted(set(found), key=lambda problem: (problem.where, problem.what))


def _toolchains(catalog: Catalog) -> Iterator[Problem]:
    yield from each(catalog, catalog.toolchain_names, catalog.toolchain)
    for name in readable(catalog.toolchain_names, catalog.toolchain):
        toolchain = catalog.toolchain(name)
        path = catalog.layers.file("toolchains", f"{name}.toml")
        if toolchain.sysroot not in catalog.sysroot_names:
            yield Problem(where=at(catalog, path, "sysroot"), what=f"there is no sysroot {toolchain.sysroot!r}")
    if catalog.emulator.sysroot not in catalog.sysroot_names:
        path = catalog.layers.file("toolchains", "emulator.toml")
        yield Problem(where=at(catalog, path, "sysroot"), what=f"there is no sysroot {catalog.emulator.sysroot!r}")


def _cpus(catalog: Catalog) -> Iterator[Problem]:
    found = list(_of_cpus(catalog, _wrong))
    yield from found or _of_cpus(catalog, _misnumbered)


def _of_cpus(catalog: Catalog, ask: Callable[[Cpu, Catalog], Iterable[str]]) -> Iterator[Problem]:
    for path in catalog.layers.all("toolchains", "cpus.toml"):
        for number, cpu in enumerate(tables(Cpu, "cpu", lambda cpu: cpu.name, [path]).values()):
            where = at(catalog, path, "cpu", number)
            yield from (Problem(where=where, what=what) for what in ask(cpu, catalog))


def _wrong(cpu: Cpu, catalog: Catalog) -> Iterator[str]:
    if not (cpu.above or cpu.features):
        yield f"{cpu.name!r} has neither `features` nor a cpu that it stands `above`"
    elif cpu.above and cpu.above not in catalog.cpus:
        yield f"toolchains/cpus.toml has no cpu {cpu.above!r}"
    elif cpu.above and catalog.cpus[cpu.above].arch != cpu.arch:
        yield f"{cpu.name!r} is {cpu.arch}, and stands above {cpu.above!r}, which is not"
    loop = _loop(cpu, catalog)
    if loop and cpu.name == min(loop):
        yield f"no cpu stands above itself: {' above '.join((*loop, cpu.name))}"


def _loop(cpu: Cpu, catalog: Catalog) -> list[str]:
    """The cpus by which a cpu would stand above itself, from it on; none where it does not."""
    found, here = [cpu.name], cpu
    while here.above in catalog.cpus and here.above not in found:
        here = catalog.cpus[here.above]
        found.append(here.name)
    return found if here.above == cpu.name else []


def _misnumbered(cpu: Cpu, catalog: Catalog) -> Iterator[str]:
    """pip takes the highest build tag: it must not be that of the wheel that has less."""
    has = _features(cpu, catalog)
    for other in catalog.cpus.values():
        if other.name == cpu.name or other.arch != cpu.arch or cpu.build is None or other.build is None:
            continue
        if cpu.build == other.build and cpu.name > other.name:
            yield f"{cpu.name!r} and {other.name!r} have one `build`, {cpu.build}"
        elif _features(other, catalog) < has and other.build > cpu.build:
            yield f"{cpu.name!r} has all features of {other.name!r}, and a lower `build`: {cpu.build}, {other.build}"


def _features(cpu: Cpu, catalog: Catalog) -> frozenset[str]:
    """The features of a cpu and of all that it stands above."""
    found, seen, here = set(cpu.features), {cpu.name}, cpu
    while here.above in catalog.cpus and here.above not in seen:
        here = catalog.cpus[here.above]
        seen.add(here.name)
        found.update(here.features)
    return frozenset(found)


def _targets(catalog: Catalog) -> Iterator[Problem]:
    yield from each(catalog, catalog.target_names, catalog.target)
    toolchains = set(readable(catalog.toolchain_names, catalog.toolchain))
    sysroots = set(readable(catalog.sysroot_names, catalog.sysroot))
    for name in readable(catalog.target_names, catalog.target):
        target = catalog.target(name)
        path = catalog.layers.file("toolchains", "targets", f"{name}.toml")
        for key, cpu in (("cpu", target.cpu), ("avx_cpu", target.avx_cpu)):
            if cpu is not None and cpu not in catalog.cpus:
                yield Problem(where=at(catalog, path, key), what=f"toolchains/cpus.toml has no cpu {cpu!r}")
            elif cpu is not None and catalog.cpus[cpu].arch != target.arch:
                yield Problem(where=at(catalog, path, key), what=f"{cpu!r} is no {target.arch} processor")
        for number, system in enumerate(target.systems):
            where = at(catalog, path, "systems", number)
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
    yield from each(catalog, catalog.sysroot_names, catalog.sysroot)
    for name in readable(catalog.sysroot_names, catalog.sysroot):
        path = catalog.layers.file("sysroots", f"{name}.toml")
        sysroot = catalog.sysroot(name)
        for arch, archive in sysroot.ports.items():
            if archive not in catalog.archives:
                what = f"sysroots/archives.toml has no archive {archive!r}, which has {arch}"
                yield Problem(where=at(catalog, path, "ports"), what=what)
        for number, suite in enumerate(sysroot.suites):
            if suite.archive not in catalog.archives:
                what = f"sysroots/archives.toml has no archive {suite.archive!r}"
                yield Problem(where=at(catalog, path, "suites", number), what=what)


def _pythons(catalog: Catalog) -> Iterator[Problem]:
    yield from (Problem(where=where, what=what) for where, what in problems_of_pythons(catalog))


def _cuda(catalog: Catalog) -> Iterator[Problem]:
    folder = catalog.layers.under("toolchains")
    yield from each(catalog, catalog.cuda_versions, catalog.cuda)
    yield from each(catalog, catalog.cudnn_versions, catalog.cudnn)
    toolkits = {version: catalog.cuda(version) for version in readable(catalog.cuda_versions, catalog.cuda)}
    cudnns = {version: catalog.cudnn(version) for version in readable(catalog.cudnn_versions, catalog.cudnn)}
    files = [(folder / f"cuda/{version}.toml", item.parts) for version, item in toolkits.items()]
    files += [(folder / f"cudnn/{version}.toml", item.all_parts) for version, item in cudnns.items()]
    for path, parts in files:
        archives = {suite.archive for part in parts for suite in part.suites} - set(catalog.archives)
        for archive in sorted(archives):
            yield Problem(where=at(catalog, path), what=f"sysroots/archives.toml has no archive {archive!r}")
    for name in readable(catalog.target_names, catalog.target):
        path = folder / f"targets/{name}.toml"
        for number, system in enumerate(catalog.target(name).systems):
            own = system.cuda
            where = at(catalog, path, "systems", number)
            if own and own.toolkit not in catalog.cuda_versions:
                yield Problem(where=where, what=f"toolchains/cuda has no CUDA {own.toolkit}")
            if own and own.cudnn and own.cudnn not in catalog.cudnn_versions:
                yield Problem(where=where, what=f"toolchains/cudnn has no cuDNN {own.cudnn}")
            elif own and own.cudnn in cudnns and not SpecifierSet(cudnns[own.cudnn].cuda).contains(own.toolkit):
                yield Problem(where=where, what=f"cuDNN {own.cudnn} is for CUDA {cudnns[own.cudnn].cuda}")


def _ci(catalog: Catalog) -> Iterator[Problem]:
    path = catalog.layers.file("toolchains", "ci.toml")
    if path.is_file():
        yield from each(catalog, [path.name], lambda _name: load(Ci, path))


def _patches(catalog: Catalog) -> Iterator[Problem]:
    for folder in catalog.layers.glob("patches", "*"):
        if folder.is_dir():
            yield from _patches_of(catalog, folder.name)


def _patches_of(catalog: Catalog, name: str) -> Iterator[Problem]:
    all_series = catalog.layers.all("patches", name, "series.toml")
    folder = catalog.layers.shown(catalog.layers.file("patches", name))
    if not all_series:
        yield Problem(where=folder, what="this folder has no series.toml")
        return
    if name not in catalog.recipe_names:
        yield Problem(where=folder, what=f"there is no recipe {name!r}")
    try:
        catalog.series(name)
        each_series = [(path, load(Series, path)) for path in all_series]
    except DataError as error:
        yield told(catalog, error)
        return
    present = {path.name: path for path in catalog.layers.glob(f"patches/{name}", "*.patch")}
    for series_path, series in each_series:
        for number, patch in enumerate(series.patches):
            if patch.file not in present:
                where = at(catalog, series_path, "patches", number)
                yield Problem(where=where, what=f"the patch {patch.file!r} does not exist")
            else:
                yield from _patch_reads(catalog, present[patch.file])
    listed = {patch.file for _, series in each_series for patch in series.patches}
    for extra in sorted(set(present) - listed):
        what = "no series lists this patch; add it to series.toml or delete it"
        yield Problem(where=catalog.layers.shown(present[extra]), what=what)


def _patch_reads(catalog: Catalog, path: Path) -> Iterator[Problem]:
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        empty = not PatchSet(path.read_text(encoding="utf-8"))
    except (UnidiffParseError, UnicodeDecodeError) as error:
        yield Problem(where=at(catalog, path), what=f"this is no unified diff: {error}")
        return
    if empty:
        yield Problem(where=at(catalog, path), what="this patch changes nothing")
