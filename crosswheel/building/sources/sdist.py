"""What a source archive says of itself: its metadata, what builds it, what is imported. Nothing of it is run."""

from __future__ import annotations

import keyword
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from crosswheel.errors import InputError
from crosswheel.proving.facts import read_headers

MOST_TEXT = 4 * 2**20
"""Files are read up to this size (bytes)."""

_NO_MODULES = frozenset({"benchmarks", "doc", "docs", "example", "examples", "scripts", "test", "tests", "tools"})

_CMAKE = frozenset({"cmake", "ninja", "scikit-build", "scikit-build-core"})
_RUST = frozenset({"maturin", "setuptools-rust"})


@dataclass(frozen=True, kw_only=True)
class SdistFacts:
    """``backend`` is the PEP 517 backend, empty where none is named (setuptools as of old). ``requires`` are what
    ``[build-system]`` requires. ``modules`` are what one imports, as far as the archive tells. ``needs`` are the
    requirements of the installed package."""

    name: str
    version: str
    summary: str
    homepage: str
    requires_python: str
    backend: str
    requires: tuple[str, ...]
    modules: tuple[str, ...]
    needs: tuple[str, ...]
    tests: str
    setup_requires: bool

    @property
    def required(self) -> frozenset[str]:
        """The names of what its build requires."""
        return frozenset(canonicalize_name(Requirement(line).name) for line in self.requires)

    @property
    def by_cmake(self) -> bool:
        return self.backend.startswith("scikit_build_core") or bool(self.required & _CMAKE)

    @property
    def by_meson(self) -> bool:
        return self.backend.startswith("mesonpy")

    @property
    def by_rust(self) -> bool:
        return bool(self.required & _RUST)


def read_sdist(tree: Path, file: str) -> SdistFacts:
    """The facts of an unpacked source archive; ``file`` is its name. ``InputError`` for one that is none."""
    info = read_headers(_bytes(tree / "PKG-INFO"))
    if info is None or not info.get("name") or not info.get("version"):
        raise InputError("this source archive has no PKG-INFO with a name and a version", where=file)
    try:
        project = tomllib.loads(_text(tree / "pyproject.toml"))
    except tomllib.TOMLDecodeError as error:
        raise InputError("pyproject.toml is no valid TOML", where=file, why=str(error)) from error
    build = project.get("build-system", {})
    requires = build.get("requires", []) if isinstance(build, dict) else []
    return SdistFacts(
        name=_line(info, "name"),
        version=_line(info, "version"),
        summary=_line(info, "summary"),
        homepage=_homepage(info),
        requires_python=_line(info, "requires-python"),
        backend=str(build.get("build-backend", "")) if isinstance(build, dict) else "",
        requires=tuple(_requirement(str(line), file) for line in requires),
        modules=_modules(tree, info["name"][0]),
        needs=info.get("requires-dist", ()),
        tests=next((name for name in ("tests", "test") if (tree / name).is_dir()), ""),
        setup_requires="setup_requires" in _text(tree / "setup.py") + _text(tree / "setup.cfg"),
    )


def _requirement(line: str, file: str) -> str:
    try:
        return str(Requirement(line))
    except InvalidRequirement as error:
        raise InputError(f"what its build requires is no requirement: {line!r}", where=file, why=str(error)) from error


def _bytes(path: Path) -> bytes:
    if not path.is_file() or path.is_symlink():
        return b""
    with path.open("rb") as stream:
        return stream.read(MOST_TEXT)


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _line(info: Mapping[str, tuple[str, ...]], key: str) -> str:
    """The first header of a name as one line of text that UTF-8 can hold."""
    text = next(iter(info.get(key, ())), "").encode("utf-8", "replace").decode()
    return "".join(each if each.isprintable() else " " for each in " ".join(text.split()))


def _homepage(info: Mapping[str, tuple[str, ...]]) -> str:
    urls = {}
    for line in info.get("project-url", ()):
        label, _, url = line.partition(",")
        urls[label.strip().lower()] = url.strip()
    known = [urls.get(label, "") for label in ("source", "source code", "repository", "homepage", "home")]
    found = [_line(info, "home-page"), *known, *urls.values()]
    return next((url for url in found if url.startswith(("https://", "http://"))), "")


def _modules(tree: Path, name: str) -> tuple[str, ...]:
    """``top_level.txt``, which setuptools leaves in the archive; else the packages that lie in it."""
    listed = [_text(path).split() for path in sorted(tree.glob("*.egg-info/top_level.txt"))]
    listed += [_text(path).split() for path in sorted(tree.glob("src/*.egg-info/top_level.txt"))]
    found = [word for words in listed for word in words if _plain(word)]
    if not found:
        places: list[Any] = [path for base in (tree / "src", tree) for path in sorted(base.glob("*/__init__.py"))]
        found = [path.parent.name for path in places if _plain(path.parent.name)]
    shown = [word for word in dict.fromkeys(found) if not word.startswith("_")]
    return tuple(shown or dict.fromkeys(found) or [canonicalize_name(name).replace("-", "_")])


def _plain(word: str) -> bool:
    return word.isascii() and word.isidentifier() and not keyword.iskeyword(word) and word not in _NO_MODULES
