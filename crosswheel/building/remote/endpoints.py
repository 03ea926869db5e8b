"""What the user says of a remote cache and of remote execution, checked before anything runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from crosswheel.errors import InputError

HTTP = ("http", "https")
GRPC = ("grpc", "grpcs")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """The user's endpoints. Nothing of it is in a key.

    ``cache`` is the URL of a cache, ``executor`` that of a server that runs actions; at least one of them is there.
    ``instance`` is the name that such a server gives a part of itself. ``credentials`` is a command of Bazel's
    credential helper protocol, ``ca`` a file of certificates (PEM) that are trusted instead of the machine's. Without
    ``upload`` nothing is sent, and nothing runs elsewhere.
    """

    cache: str | None = None
    executor: str | None = None
    instance: str = ""
    credentials: tuple[str, ...] = ()
    ca: Path | None = None
    upload: bool = True

    @property
    def runs_elsewhere(self) -> str | None:
        """The executor, if it may be used: what it runs, it also keeps."""
        return self.executor if self.upload else None


def checked(remote: Remote, where: str) -> Remote | None:
    """``remote``, or None where it names no endpoint. ``InputError`` with all that is wrong with it; ``where`` is the
    file or the variable that says it."""
    problems = list(_problems(remote))
    if problems:
        raise InputError(
            "The settings of the remote cache cannot be used.",
            where=where,
            why="\n".join(problems),
            hint='such as: cache = "https://cache.example.org/bazel", or "grpcs://cache.example.org:443"',
        )
    return remote if remote.cache or remote.executor else None


def _problems(remote: Remote) -> Iterator[str]:
    if remote.cache:
        yield from _of_url("cache", remote.cache, (*GRPC, *HTTP))
    if remote.executor:
        yield from _of_url("executor", remote.executor, GRPC)
    if remote.cache and remote.executor and urlsplit(remote.cache).scheme in HTTP:
        yield "executor: an executor goes with a cache of grpc:// or grpcs:// or with none, and `cache` is one of HTTP"
    if remote.credentials and not shutil.which(remote.credentials[0]):
        yield f"credentials: there is no program {remote.credentials[0]}"
    if remote.ca and not remote.ca.is_file():
        yield f"ca: there is no file {remote.ca}"


def _of_url(name: str, url: str, schemes: tuple[str, ...]) -> Iterator[str]:
    shown = re.sub(r"//[^/]*@", "//…@", url)
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        yield f"{name}: {shown!r} is no URL ({error})"
        return
    if parts.scheme not in schemes:
        known = ", ".join(f"{scheme}://" for scheme in schemes)
        yield f"{name}: {shown!r} begins with none of {known}"
        return
    if not parts.hostname:
        yield f"{name}: {shown!r} names no host"
    if parts.username is not None or parts.password is not None:
        yield f"{name}: a URL with a password would stand in logs: let a helper say it (`credentials`)"
    if parts.query or parts.fragment:
        yield f"{name}: a query or a fragment cannot be used"
    if parts.scheme in GRPC and parts.path not in ("", "/"):
        yield f"{name}: {parts.scheme}:// takes no path; the part of a server is named by `instance`"


def address(parts: SplitResult) -> str:
    """``host:port`` of a URL; the port of TLS or of HTTP where none is given."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (80 if parts.scheme in ('http', 'grpc') else 443)}"
