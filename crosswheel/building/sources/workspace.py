"""Reads from an upstream tree what its build files download, as the externals of a release.

The rules differ (``http_archive``, ``tf_http_archive``, ``filegroup_external``, ``java_import_external``, …), their
arguments do not: a ``name``, and pairs of an address and its hash, ``urls`` with ``sha256``, ``jar_urls`` with
``jar_sha256``, or ``sha256_urls``, a table of both.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from crosswheel.building.sources.starlark import Reader
from crosswheel.building.sources.starlark_values import UNKNOWN, Call
from crosswheel.errors import InputError
from crosswheel.spec.sources import External, Place, Source

_TOPS = ("WORKSPACE", "WORKSPACE.bazel")

_MIRRORS = (
    "mirror.bazel.build/",
    "bazel-mirror.storage.googleapis.com/",
    "storage.googleapis.com/bazel-mirror/",
    "storage.googleapis.com/mirror.tensorflow.org/",
    "mirror.tensorflow.org/",
    "domain-registry-maven.storage.googleapis.com/",
)
"""Folders that hold ``HOST/PATH`` for ``https://HOST/PATH``. Upstream lists them first, for speed; here they come
after the place that they copy, which is the one that a person would trust."""

_PYPI = re.compile(r"^/packages/(?:[^/]+/){3}(?P<file>[^/]+)$")
_NPM = re.compile(r"^/(?P<name>(?:@[^/]+/)?[^/]+)/-/[^/]+?-(?P<version>[0-9][^/]*)\.tgz$")
_MAVEN = re.compile(r"^/(?:maven2|remotecontent|artifactory)(?:/|$)")
_DEBIAN = re.compile(r"^/(?:debian|ubuntu)/pool/")
_SDIST = re.compile(r"^(?P<name>.+?)-(?P<version>[0-9][A-Za-z0-9.]*?)(?:\.tar\.gz|\.tar\.bz2|\.zip|\.tgz)$")
_WHEEL = re.compile(r"^(?P<name>[^-]+)-(?P<version>[^-]+)(?:-[^-]+){3,4}\.whl$")
_HASH = re.compile(r"^[0-9a-f]{64}$")

_OF_BAZEL = ("bazel_tools",)
"""Repositories that come with Bazel. Their functions declare what they are given, and nothing else."""

_VERSION_FILES = ("tensorflow/core/public/version.h", "tensorflow/core/public/release_version.h")
_VERSION = re.compile(
    r'^#define TF_(MAJOR|MINOR|PATCH)_VERSION (\S+)$|^#define TF_VERSION_(SUFFIX) "(.*)"$', re.MULTILINE
)


@dataclass(frozen=True)
class Left:
    """A repository that is no external: ``why`` it is none, and where the tree declares it."""

    name: str
    why: str
    where: str


@dataclass(frozen=True)
class Workspace:
    """What a tree's build files download.

    ``read`` are the files that were read, with their sha256, and ``unread`` the functions of other repositories that
    were not, by repository: they may declare more. ``loaded`` are the externals that the build files themselves load
    from, so that Bazel gets them before it builds anything; ``wanting`` is what it gets then and is no external, with
    the reason.
    """

    externals: tuple[External, ...]
    left: tuple[Left, ...]
    read: Mapping[str, str]
    unread: Mapping[str, tuple[str, ...]]
    loaded: tuple[str, ...]
    wanting: Mapping[str, str]


def read_workspace(tree: Path, further: Mapping[str, Path] | None = None) -> Workspace:
    """The externals of an upstream tree, in the order of its build files.

    ``further`` are the trees of repositories whose functions it calls, by name: what these declare is read as well.
    ``InputError`` if the tree has no build file, or one that cannot be parsed.
    """
    reader = Reader(tree, wanted=_declares, further=further or {})
    tops = [name for name in _TOPS if (tree / name).is_file()]
    if not tops:
        raise InputError("this tree has no WORKSPACE", where=str(tree), hint="give the top of an unpacked source")
    for name in tops:
        reader.read_file(name)
    found: dict[str, list[Source]] = {}
    left: list[Left] = [Left(path, "the tree does not have this file, which it loads", path) for path in reader.missing]
    for call in reader.calls:
        files, why = _files(call)
        known = found.setdefault(_name(call), [])
        known += [file for file in files if file.sha256 not in {item.sha256 for item in known}]
        left += [Left(_name(call), reason, call.where) for reason in why]
    unread: dict[str, tuple[str, ...]] = {}
    for name, origin in dict.fromkeys((call.name, call.origin) for call in reader.others):
        if origin not in _OF_BAZEL:
            left.append(Left(name, f"what this function of @{origin} declares is not read", f"@{origin}"))
            unread[origin] = (*unread.get(origin, ()), name)
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in reader.read.items()}
    externals = [external for name, files in found.items() for external in _named(name, files)]
    loaded = tuple(name for name in sorted(reader.loaded) if found.get(name))
    told = {item.name: item.why for item in left}
    wanting = {name: told[name] for name in sorted(reader.loaded) if not found.get(name) and name in told}
    return Workspace(tuple(externals), tuple(dict.fromkeys(left)), hashes, unread, loaded, wanting)


def version_of(tree: Path) -> str | None:
    """The version that the tree says it is, if it has a file that says so (TensorFlow's ``version.h``)."""
    for name in _VERSION_FILES:
        if (tree / name).is_file():
            text = (tree / name).read_text(encoding="utf-8", errors="replace")
            said = {match[1] or match[3]: match[2] or match[4] for match in _VERSION.finditer(text)}
            if {"MAJOR", "MINOR", "PATCH"} <= set(said):
                return f"{said['MAJOR']}.{said['MINOR']}.{said['PATCH']}{said.get('SUFFIX', '')}"
    return None


# --- one declaration -------------------------------------------------------------------------------------------------


def _declares(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a call declares a repository that comes from elsewhere: it has a name, and says from where."""
    if not {"name", "repository"} & set(arguments):
        return False
    return any(
        key == "remote" or key.startswith("sha256_urls") or key.endswith(("sha256", "url", "urls")) for key in arguments
    )


def _name(call: Call) -> str:
    name = call.arguments.get("name", call.arguments.get("repository", ""))
    return name if isinstance(name, str) else "(a name that is not known)"


def _named(name: str, files: list[Source]) -> Iterator[External]:
    """A repository of several files, or one that is declared several times with other bytes, has numbered names."""
    for number, file in enumerate(files, start=1):
        own = name if number == 1 else f"{name}.{number}"
        yield External(name=own, file=file.file, sha256=file.sha256, places=file.places)


def _files(call: Call) -> tuple[list[Source], list[str]]:
    """The files of one call; and why there are not more."""
    if not isinstance(call.arguments.get("name", call.arguments.get("repository")), str):
        return [], [f"{call.name} has a name that only Bazel could tell"]
    files, why = [], []
    for urls, sha256 in _pairs(call.arguments):
        addresses = [url for url in ([urls] if isinstance(urls, str) else urls or []) if isinstance(url, str)]
        if urls is UNKNOWN or sha256 is UNKNOWN:
            why.append(f"{call.name} has arguments that only Bazel could tell")
        elif not isinstance(sha256, str) or not _HASH.match(sha256):
            where = ", ".join(addresses) or _revision(call.arguments)
            why.append(f"{call.name} pins no sha256: {where}")
        elif not (places := _places(addresses)):
            why.append(f"{call.name} names a package registry that has no client here")
        else:
            files.append(Source(file=_file(addresses), sha256=sha256, places=places))
    return files, why


def _revision(arguments: Mapping[str, Any]) -> str:
    """What a repository of git is taken from."""
    of = [arguments.get(key) for key in ("remote", "commit", "tag", "branch")]
    return " at ".join(word for word in of if isinstance(word, str)) or "no address"


def _pairs(arguments: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Addresses and their sha256."""
    for key, table in arguments.items():
        if key.startswith("sha256_urls"):
            if isinstance(table, dict):
                yield from ((urls, sha256) for sha256, urls in table.items())
            else:
                yield UNKNOWN, UNKNOWN
    prefixes = {
        key.removesuffix(ending)
        for key in arguments
        for ending in ("sha256", "urls", "url")
        if key.endswith(ending) and not key.startswith("sha256_")
    }
    for prefix in sorted(prefixes):
        urls = arguments.get(f"{prefix}urls", arguments.get(f"{prefix}url"))
        if urls:
            yield urls, arguments.get(f"{prefix}sha256", "")
    if "remote" in arguments:
        yield [], ""


# --- places ----------------------------------------------------------------------------------------------------------


def _places(addresses: list[str]) -> tuple[Place, ...]:
    """The places of addresses: upstream's own first, then mirrors of it. Package registries by their own scheme, since
    their clients know where they are; those that have none here are left out."""
    own: list[str] = []
    copies: list[str] = []
    for address in addresses:
        copied = _copied(address)
        (own if copied == address else copies).append(address)
    own = own or [_copied(address) for address in copies]  # mirrors alone: what they are mirrors of
    uris = [_uri(address) for address in (*own, *copies)]
    return tuple(Place(uri=uri) for uri in dict.fromkeys(uri for uri in uris if uri))


def _copied(address: str) -> str:
    """The address that a mirror's address is a copy of, or the address itself."""
    rest = address.partition("://")[2]
    for mirror in _MIRRORS:
        if rest.startswith(mirror):
            return f"https://{rest.removeprefix(mirror)}"
    return address


def _uri(address: str) -> str | None:
    """What a release says of an address; None where that is nothing. Registries are known by how they lay out files."""
    parts = urlsplit(_copied(address))
    path = unquote(parts.path)
    if parts.scheme not in ("http", "https"):
        return None
    if match := _PYPI.match(path):
        file = match["file"]
        release = _WHEEL.match(file) or _SDIST.match(file)
        return f"pypi:{release['name']}=={release['version']}" if release else None
    if match := _NPM.match(path):
        return f"npm:{match['name']}@{match['version']}"
    return None if _MAVEN.match(path) or _DEBIAN.match(path) else address


def _file(addresses: list[str]) -> str:
    """A file name that says what it is: a forge calls an archive after its commit alone, so its project goes first."""
    parts = urlsplit(_copied(addresses[0]))
    steps = [step for step in unquote(parts.path).split("/") if step]
    name = steps[-1] if steps else "file"
    for word in ("archive", "get", "tarball", "zipball"):
        if word in steps[2:-1] or (word in steps[:-1] and len(steps) > 3):
            project = steps[steps.index(word) - 1]
            name = name if name.startswith(project) else f"{project}-{name}"
            break
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip("._+-") or "file"
