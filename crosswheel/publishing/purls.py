"""Package URLs of sources and packages.

Sources: purl-spec (https://github.com/package-url/purl-spec), of which packageurl-python is the implementation; its
types ``deb``, ``generic``, ``github``, ``npm`` and ``pypi``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from packageurl import PackageURL
from packaging.utils import canonicalize_name

_MIRRORED = re.compile(r"^/github\.com/")
"""A mirror of GitHub's archives has GitHub's own path below its host (mirror.bazel.build does)."""

_TAG = re.compile(r"^/(?P<owner>[^/]+)/(?P<name>[^/]+)/(?:archive/(?:refs/tags/)?|releases/download/)(?P<ref>[^/]+)")
_ARCHIVE = re.compile(r"\.(tar\.(gz|bz2|xz)|tgz|zip)$")


def pypi_purl(distribution: str, version: str | None, file: str | None = None) -> str:
    """``pkg:pypi/dm-tree@0.1.5``, with the file's name as a qualifier where one is meant."""
    name = canonicalize_name(distribution)
    return _text(PackageURL("pypi", None, name, version, {"file_name": file} if file else None))


@lru_cache(maxsize=8192)
def deb_purl(vendor: str | None, package: str, version: str, architecture: str) -> str:
    """``pkg:deb/debian/libc6-dev@2.36-9?arch=arm64``; without a vendor where nobody knows whose package it is."""
    return _text(PackageURL("deb", vendor, package, version, {"arch": architecture}))


def source_purl(file: str, sha256: str, places: Sequence[str]) -> tuple[str, str | None]:
    """The package URL of a source, and its version, where a place tells it: of its first place that is a package or a
    repository, else ``pkg:generic`` with the first URL and the sha256."""
    for place in places:
        found = _named(place, file)
        if found:
            return _text(found), found.version
    checked = {"checksum": f"sha256:{sha256}", **({"download_url": places[0]} if places else {})}
    return _text(PackageURL("generic", None, file, None, checked)), None


def _text(purl: PackageURL) -> str:
    """``ValueError`` for a name of which nothing is left, such as ``/``."""
    if not purl.name:
        raise ValueError("a package URL has a name, and this has none")
    return purl.to_string()


def _named(place: str, file: str) -> PackageURL | None:
    scheme, _, rest = place.partition(":")
    if scheme == "pypi":
        name, _, version = rest.partition("==")
        return PackageURL("pypi", None, canonicalize_name(name), version, {"file_name": file})
    if scheme == "npm":
        package, _, version = rest.rpartition("@")
        scope, slash, name = package.rpartition("/")
        return PackageURL("npm", scope if slash else None, name, version)
    if scheme == "deb-src":
        name, _, version = rest.partition("=")
        return PackageURL("deb", "debian", name, version, {"arch": "source"})
    return _on_github(place)


def _on_github(place: str) -> PackageURL | None:
    address = urlsplit(place)
    mirrored = _MIRRORED.match(address.path)
    if address.hostname != "github.com" and not mirrored:
        return None
    found = _TAG.match(address.path[mirrored.end() - 1 :] if mirrored else address.path)
    if not found:
        return None
    asset = {"download_url": place} if "/releases/download/" in address.path else None
    return PackageURL("github", found["owner"], found["name"], _ARCHIVE.sub("", found["ref"]), asset)
