"""Downloads by https and http, with the proxies and certificates that the environment names."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from crosswheel.building.job import Cancelled
from crosswheel.building.sources.places import MAX_BYTES, PlaceError

if TYPE_CHECKING:
    from requests import Response, Session

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
WAITS = (1.0, 3.0)
"""Seconds before the second and the third attempt."""

_CHUNK = 1 << 18


class _Again(Exception):
    """A trouble that may be gone at the next attempt."""


def download(
    url: str,
    dest: Path,
    cancelled: threading.Event,
    *,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Writes what ``url`` gives to ``dest``, byte for byte as the server has it.

    A server's error (5xx), a connection that breaks and a body that is shorter than announced are tried again after
    :data:`WAITS`. ``PlaceError`` if it does not come, ``Cancelled`` when the build is being stopped.
    """
    import requests

    with requests.Session() as session:
        for wait in (*WAITS, None):
            try:
                _attempt(session, url, dest, cancelled, max_bytes)
                return
            except _Again as trouble:
                dest.unlink(missing_ok=True)
                if wait is None:
                    raise PlaceError(f"{trouble} ({len(WAITS) + 1} attempts)") from trouble
                if cancelled.wait(wait):
                    raise Cancelled from None
            except BaseException:
                dest.unlink(missing_ok=True)
                raise


def _attempt(session: Session, url: str, dest: Path, cancelled: threading.Event, max_bytes: int) -> None:
    import requests

    # `identity`: an archive must not be unpacked on the way, and its length must be the one that is announced.
    try:
        with session.get(
            url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS), headers={"Accept-Encoding": "identity"}
        ) as response:
            _check_status(response)
            _receive(response, dest, cancelled, max_bytes)
    except (requests.exceptions.ReadTimeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Again(reason(error)) from error
    except requests.exceptions.ConnectionError as error:
        why = reason(error)
        # A name that does not resolve, a refused connection or a bad certificate will be the same in a second.
        if any(word in why.lower() for word in ("reset", "aborted", "disconnected")):
            raise _Again(why) from error
        raise PlaceError(why) from error
    except requests.exceptions.RequestException as error:
        raise PlaceError(reason(error)) from error


def _check_status(response: Response) -> None:
    if response.status_code >= 500 or response.status_code == 429:
        raise _Again(f"the server answers {response.status_code} {response.reason}")
    if response.status_code != 200:
        raise PlaceError(f"the server answers {response.status_code} {response.reason}")


def _receive(response: Response, dest: Path, cancelled: threading.Event, max_bytes: int) -> None:
    import urllib3.exceptions

    length = response.headers.get("Content-Length", "")
    announced = int(length) if length.isdecimal() else None
    if announced is not None and announced > max_bytes:
        raise PlaceError(f"the file is {announced:,} bytes long; at most {max_bytes:,} are taken")
    size = 0
    try:
        with dest.open("wb") as target:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                if cancelled.is_set():
                    raise Cancelled
                size += len(chunk)
                if size > max_bytes:
                    raise PlaceError(f"the file is longer than {max_bytes:,} bytes")
                target.write(chunk)
    except urllib3.exceptions.HTTPError as error:
        # urllib3 2 finds a short body by itself, and wraps what it has found; release 1.26 does not.
        if not any(isinstance(found, urllib3.exceptions.IncompleteRead) for found in (error, *error.args)):
            raise _Again(f"the connection broke after {size:,} bytes: {reason(error)}") from error
    if announced is not None and size != announced:
        raise _Again(f"the body is cut off: {size:,} of {announced:,} bytes came")


def reason(error: BaseException) -> str:
    """The innermost cause in few words: requests and urllib3 wrap it several times and repeat the URL each time."""
    found: BaseException | None = error
    seen: list[BaseException] = []
    while found is not None and found not in seen:
        seen.append(found)
        inner = [getattr(found, "reason", None), *found.args, found.__cause__, found.__context__]
        found = next((e for e in inner if isinstance(e, BaseException) and e not in seen), None)
    for candidate in reversed(seen):
        if isinstance(candidate, OSError) and candidate.strerror:
            return f"{candidate.strerror}"[:300]
    return str(seen[-1])[:300] or type(error).__name__


def without_credentials(url: str) -> str:
    """``url`` as it may be shown: without user name, password and query."""
    parts = urlsplit(url)
    query = "…" if parts.query else ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))
