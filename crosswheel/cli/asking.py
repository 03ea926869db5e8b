"""From options to a request: what every task that names a package has in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.errors import InputError
from crosswheel.planning.plan import LocalSource
from crosswheel.planning.resolve import AVX, Request

DEFAULT_TARGET = "x86_64"

PACKAGE_HELP = {
    "package": "A recipe or one of its aliases; `./x list` shows them.",
    "target": "The machine to build for (default: x86_64, any processor of it).",
    "version": "A release of the recipe (default: the newest that fits).",
    "python": "CPython of the wheel, such as 3.11 (default: the target's first that the release serves).",
    "cpu": "A processor or level of the target's architecture, such as x86-64-v2 (default: the target's own).",
    "feature": "Switch a feature on; `no-NAME` switches it off. May be given several times.",
    "cuda": "The same as --feature cuda.",
    "no-avx": "The same as --feature no-avx: nothing above SSE2 on x86_64.",
    "tool": "Choose a tool's version, such as --tool bazel=2.1.0. May be given several times.",
    "source": "NAME=PATH: take a source from a file or folder of yours. May be given several times.",
}


def request_of(
    *,
    package: str,
    target: str | None,
    version: str | None,
    python: str | None,
    cpu: str | None,
    feature: Iterable[str],
    cuda: bool,
    no_avx: bool,
    tool: Iterable[str],
) -> Request:
    """The request that the options make. Raises ``InputError`` for options that contradict each other."""
    features: dict[str, bool] = {}
    wishes = [*feature, *(["cuda"] if cuda else []), *([f"no-{AVX}"] if no_avx else [])]
    for wish in wishes:
        name, wanted = (wish.removeprefix("no-"), False) if wish.startswith("no-") else (wish, True)
        if features.get(name, wanted) is not wanted:
            raise InputError(f"the feature {name!r} is asked for and refused at once", where=f"--feature {wish}")
        features[name] = wanted
    return Request(
        recipe=package,
        target=target or DEFAULT_TARGET,
        version=version,
        python=python,
        cpu=cpu,
        features=features,
        tools=dict(_pair(text, "--tool", "bazel=2.1.0") for text in tool),
    )


def local_sources(given: Iterable[str]) -> dict[str, LocalSource]:
    """The sources of ``--source NAME=PATH``, hashed."""
    sources: dict[str, LocalSource] = {}
    for text in given:
        name, value = _pair(text, "--source", "dm-tree=../dm-tree")
        path = Path(value).expanduser().absolute()
        if not path.exists():
            raise InputError("this file or folder does not exist", where=f"--source {text}", why=str(path))
        folder = path.is_dir()
        sources[name] = LocalSource(
            path=str(path), sha256=sha256_tree(path) if folder else sha256_file(path), folder=folder
        )
    return sources


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        what = f"{text!r} is not of the form NAME=VALUE"
        raise InputError(what, where=option, hint=f"for example {option} {example}")
    return name, value
