"""From options to a request: what every task that names a package has in common."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invoke.context import Context

from crosswheel.cli.arguments import Task, task
from crosswheel.cli.settings import the_catalog
from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.errors import InputError
from crosswheel.planning.resolve import AVX, Request
from crosswheel.planning.sources import LocalSource

DEFAULT_TARGET = "x86_64"

PACKAGE_HELP = {
    "package": "A recipe or one of its aliases; `./x list` shows them.",
    "target": "The machine to build for (default: x86_64, any processor of it).",
    "version": "A release of the recipe (default: the recipe's own, else the newest that fits).",
    "python": "CPython of the wheel, such as 3.11 (default: the target's first that the release serves).",
    "system": "A system of the target by its name, such as jetpack-3.1 (default: the first that fits).",
    "cpu": "A processor or level of the target's architecture, such as x86-64-v2 (default: the target's own).",
    "feature": "Switch a feature on; `no-NAME` switches it off. May be given several times.",
    "cuda": "The same as --feature cuda: for the target's GPU.",
    "capability": "Compile for a GPU's compute capability, such as 5.3 (default: the target's). Several times.",
    "no-avx": "The same as --feature no-avx: nothing above SSE2 on x86_64.",
    "tool": "Choose a tool's version, such as --tool bazel=2.1.0. May be given several times.",
    "builder-from": "IMAGE@sha256:…: make the builder from this image (default: from Debian's packages alone).",
    "output": "What to build: wheel, or another output of the recipe, such as libc (default: the recipe's first).",
    "apt-force": "Install CUDA's packages for the target in the builder, by dpkg --force-architecture.",
    "source": "NAME=PATH: take a source or an apt archive from a file or folder of yours. May be given several times.",
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the options of a package say: the request, and the sources that the user gave, hashed; ``mirrors`` are
    folders that they gave as mirrors of archives, which are not, because signatures are checked."""

    request: Request
    sources: Mapping[str, LocalSource]
    mirrors: Mapping[str, str] = field(default_factory=dict)


def _options(
    package: str,
    target: str | None = None,
    version: str | None = None,
    python: str | None = None,
    system: str | None = None,
    cpu: str | None = None,
    feature: Sequence[str] = (),
    cuda: bool = False,
    capability: Sequence[str] = (),
    no_avx: bool = False,
    tool: Sequence[str] = (),
    source: Sequence[str] = (),
    builder_from: str | None = None,
    output: str | None = None,
    apt_force: bool = False,
) -> Asked:
    """What every task that names a package takes. Raises ``InputError`` for options that contradict each other."""
    features: dict[str, bool] = {}
    wishes = [*feature, *(["cuda"] if cuda else []), *([f"no-{AVX}"] if no_avx else [])]
    for wish in wishes:
        name, wanted = (wish.removeprefix("no-"), False) if wish.startswith("no-") else (wish, True)
        if features.get(name, wanted) is not wanted:
            raise InputError(f"the feature {name!r} is asked for and refused at once", where=f"--feature {wish}")
        features[name] = wanted
    request = Request(
        recipe=package,
        target=DEFAULT_TARGET if target is None else target,
        version=version,
        python=python,
        system=system,
        cpu=cpu,
        capabilities=tuple(capability),
        features=features,
        tools=dict(_pair(text, "--tool", "bazel=2.1.0") for text in tool),
        builder_from=builder_from,
        output=output,
        apt_force=apt_force,
    )
    sources, mirrors = local_sources(source)
    return Asked(request=request, sources=sources, mirrors=mirrors)


_LISTS = ("feature", "tool", "source", "capability")


def package_task(*, help: Mapping[str, str], many: bool = False, **more: Any) -> Callable[[Callable[..., None]], Task]:
    """A task whose function takes the context and an :class:`Asked`; on the command line the options of a package
    stand in the place of the latter. With ``many`` it takes any number of packages, and a tuple of :class:`Asked`."""

    def decorate(function: Callable[..., None]) -> Task:
        own = inspect.signature(function).parameters
        options_of = inspect.signature(_options).parameters
        context = next(iter(own.values()))
        rest = [parameter for parameter in own.values() if parameter.name not in (context.name, "asked")]
        words = options_of["package"]
        if many:
            words = inspect.Parameter("packages", words.kind, default=(), annotation=Sequence[str])
        asked = {words.name: words, **{name: item for name, item in options_of.items() if name != "package"}}

        @functools.wraps(function)
        def body(context: Context, **options: Any) -> None:
            given = {name: options.pop(name) for name in asked}
            if not many:
                function(context, _options(**given), **options)
                return
            packages = given.pop("packages")
            if not packages:
                raise InputError("no package is named", hint="`./x list` shows what there is")
            function(context, tuple(_options(package=package, **given) for package in packages), **options)

        signature = inspect.Signature([context, *asked.values(), *rest])
        body.__dict__["__signature__"] = signature
        about = {**PACKAGE_HELP, **help}
        if many:
            about["packages"] = about.pop("package").replace("A recipe or one of its", "Recipes or their")
            more["rest"] = "packages"
        return task(iterable=_LISTS, help=about, **more)(body)

    return decorate


_NAMED = "#sha256="


def local_sources(given: Iterable[str]) -> tuple[dict[str, LocalSource], dict[str, str]]:
    """The sources of ``--source NAME=PATH[#sha256=…]``, hashed, and the folders that are mirrors of archives."""
    sources: dict[str, LocalSource] = {}
    mirrors: dict[str, str] = {}
    for text in given:
        name, value = _pair(text, "--source", "dm-tree=../dm-tree")
        value, named, wanted = value.partition(_NAMED)
        path = _existing(value, f"--source {text}")
        if path.is_dir() and not named and name in the_catalog().archives:
            mirrors[name] = str(path)
            continue
        sha256 = sha256_tree(path) if path.is_dir() else sha256_file(path)
        if named and sha256 != wanted:
            raise InputError(
                f"this is not the file of sha256 {wanted}", where=f"--source {text}", why=f"it is {sha256}"
            )
        sources[name] = LocalSource(path=str(path), sha256=sha256, folder=path.is_dir(), named=bool(named))
    return sources, mirrors


def local_source(value: str, where: str) -> LocalSource:
    """A file or a folder of the user's, hashed. ``InputError`` where it does not exist."""
    path = _existing(value, where)
    folder = path.is_dir()
    return LocalSource(path=str(path), sha256=sha256_tree(path) if folder else sha256_file(path), folder=folder)


def _existing(value: str, where: str) -> Path:
    path = Path(value).expanduser().absolute()
    if not path.exists():
        raise InputError("this file or folder does not exist", where=where, why=str(path))
    return path


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        what = f"{text!r} is not of the form NAME=VALUE"
        raise InputError(what, where=option, hint=f"for example {option} {example}")
    return name, value
