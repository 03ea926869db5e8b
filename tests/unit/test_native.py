"""Nothing is ever compiled for the processor of whoever builds it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from crosswheel.errors import InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, RunStep
from crosswheel.planning.toolchains import Paths, bazel_files, toolchain_files, values_of
from crosswheel.spec.catalog import Catalog

NATIVE = re.compile(r"-m(arch|cpu|tune)[= ]native")


def compilations(catalog: Catalog) -> Iterator[RunStep]:
    """The step that compiles each release, for the first system of each architecture that it takes."""
    for name in catalog.recipe_names:
        for release in catalog.releases(name):
            done: set[str] = set()
            for target in map(catalog.target, catalog.target_names):
                for system in target.systems:
                    request = Request(recipe=name, target=target.name, version=release.version, python=system.python)
                    if target.arch in done:
                        continue
                    try:
                        made = plan(resolve(request, catalog), catalog, rules={})
                    except InputError:
                        continue
                    done.add(target.arch)
                    step = made.output.inputs["run"]
                    assert isinstance(step, RunStep)
                    yield step


def test_no_build_asks_for_it(catalog: Catalog) -> None:
    """Neither a command, nor an answer to ``configure``, nor a rendered file."""
    count = 0
    for step in compilations(catalog):
        words = [*itertools.chain.from_iterable(step.commands), *step.env.values(), *step.sized_env.values()]
        assert not NATIVE.search("\n".join(words)), step.name
        for given in step.inputs.values():
            if isinstance(given, FilesStep):
                assert not [path for path, file in given.files.items() if NATIVE.search(file.text)], step.name
        count += 1
    assert count > 10


def test_no_toolchain_asks_for_it(catalog: Catalog) -> None:
    renderer = Renderer(catalog)
    for target in map(catalog.target, catalog.target_names):
        for system in target.systems:
            chain, cpu = catalog.toolchain(system.toolchain), catalog.cpu(target.cpu)
            values = values_of(system, chain, cpu, target.arch, Paths())
            files = toolchain_files(renderer, values)
            for style in ("crosstool", "starlark", "platforms"):
                files |= bazel_files(renderer, values, style)
            assert not [path for path, file in files.items() if NATIVE.search(file.text)]
            assert not NATIVE.search(" ".join(cpu.flags))


def test_the_pattern_finds_it() -> None:
    assert NATIVE.search("-O2 -march=native") and NATIVE.search("-mcpu=native") and not NATIVE.search("-march=nehalem")
