"""Forwards the requests of Bazel's HTTP cache (``GET`` and ``PUT`` of ``/ac/<sha256>`` and ``/cas/<sha256>``), and no
others, from a unix socket to the user's server.

A cache may forget anything at any time, so a server that does not answer is one that has nothing. What it gives by its
sha256 is compared with that before Bazel sees it: old versions of Bazel do not look.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from crosswheel.building.remote.credentials import Credentials, HelperError
from crosswheel.building.remote.endpoints import Remote
from crosswheel.building.remote.tally import Tally

if TYPE_CHECKING:
    from requests import Response

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
"""A server that sends nothing for so long has failed."""

_PATH = re.compile(r"^/(ac|cas)/([0-9a-f]{64})$")
_PIECE = 1 << 18
_IN_MEMORY = 1 << 23
_PROBE = "0" * 64


class HttpForwarder:
    """See the module. ``changed`` gives the name under which an action's result is kept."""

    def __init__(self, url: str, remote: Remote, tally: Tally, changed: Callable[[str], str]) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        self.url = url.rstrip("/")
        self.upload = remote.upload
        self.tally = tally
        self._changed = changed
        self._credentials = Credentials(remote.credentials, url)
        self._session = requests.Session()
        self._session.mount(self.url, HTTPAdapter(pool_connections=1, pool_maxsize=128))
        self._ca = str(remote.ca) if remote.ca else None
        self._server: _Server | None = None

    def probe(self) -> str:
        """Why the cache cannot be used; empty if it can."""
        import requests

        try:
            with self._ask("GET", f"/ac/{_PROBE}") as answer:
                refused = answer.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.NO_CONTENT)
                return f"it answers with HTTP status {answer.status_code}" if refused else ""
        except HelperError as error:
            return str(error)
        except requests.RequestException as error:
            return reason(error)

    def start(self, path: Path) -> None:
        """Listens at the unix socket ``path``."""
        self._server = _Server(str(path), self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def stop(self) -> None:
        """Answers no more."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._session.close()

    # --- requests

    def get(self, kind: str, digest: str) -> IO[bytes] | None:
        """What the server has, whole and right; None if it has nothing that can be used. The caller closes it."""
        import requests

        if self.tally.gone:
            return None
        name = self._changed(digest) if kind == "ac" else digest
        spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        seen = hashlib.sha256()
        try:
            with self._ask("GET", f"/{kind}/{name}") as answer:
                if not self._useful(answer, "GET"):
                    spool.close()
                    return None
                for piece in answer.iter_content(_PIECE):
                    seen.update(piece)
                    spool.write(piece)
        except (requests.RequestException, HelperError) as error:
            self.tally.failed(str(error) if isinstance(error, HelperError) else reason(error))
            spool.close()
            return None
        if kind == "cas" and seen.hexdigest() != digest:
            self.tally.lied(f"cas/{digest[:16]}…")
            spool.close()
            return None
        self.tally.add(fetched_bytes=spool.tell())
        return spool

    def put(self, kind: str, digest: str, size: int, body: Iterator[bytes]) -> bool:
        """Sends what Bazel has made; whether the server took it. ``body`` is read to its end in any case."""
        import requests

        name = self._changed(digest) if kind == "ac" else digest
        try:
            if self.tally.gone:
                return False
            with self._ask("PUT", f"/{kind}/{name}", _Sized(body, size)) as answer:
                taken = HTTPStatus.OK <= answer.status_code < HTTPStatus.MULTIPLE_CHOICES
                self.tally.answered()
            if taken:
                self.tally.add(sent_bytes=size, sent=int(kind == "ac"))
            else:
                self.tally.refused(f"does not take results: HTTP status {answer.status_code}")
            return taken
        except (requests.RequestException, HelperError) as error:
            self.tally.failed(str(error) if isinstance(error, HelperError) else reason(error))
            return False
        finally:
            for _ in body:
                pass

    def _ask(self, method: str, path: str, body: _Sized | None = None) -> Response:
        headers = dict(self._credentials.headers())
        # What is stored is what is sent: an encoding on the way would have another digest.
        headers["Accept-Encoding"] = "identity"
        return self._session.request(
            method,
            self.url + path,
            data=body,
            headers=headers,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            stream=True,
            verify=self._ca,  # with each request: a session's would yield to the environment's
            allow_redirects=False,  # it would lead to another server, and take the credentials along
        )

    def _useful(self, answer: Response, method: str) -> bool:
        self.tally.answered()
        if answer.status_code == HTTPStatus.OK:
            return True
        if answer.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.NO_CONTENT):
            self.tally.refused(f"answers {method} with HTTP status {answer.status_code}")
        return False


class _Sized:
    """A body of a known length, so that no server has to take it in chunks."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces = pieces
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str, forwarder: HttpForwarder) -> None:
        self.forwarder = forwarder
        super().__init__(path, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Bazel went away in the middle of an answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "the container"

    def log_message(self, format: str, *args: object) -> None:
        """The tally tells what matters."""

    def do_GET(self) -> None:
        asked = _PATH.match(self.path)
        if not asked:
            self._answer(HTTPStatus.FORBIDDEN)
            return
        forwarder = self.server.forwarder
        body = forwarder.get(*asked.groups())
        if asked[1] == "ac":
            forwarder.tally.add(**{"found" if body else "missed": 1})
        if body is None:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        with body:
            size = body.tell()
            body.seek(0)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            shutil.copyfileobj(body, self.wfile, _PIECE)

    def do_PUT(self) -> None:
        asked = _PATH.match(self.path)
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal():
            self.close_connection = True  # what follows cannot be told from a next request
            self._answer(HTTPStatus.LENGTH_REQUIRED)
            return
        body = self._body(int(size))
        forwarder = self.server.forwarder
        if not asked or not forwarder.upload:
            for _ in body:
                pass
            self._answer(HTTPStatus.FORBIDDEN)
            return
        # A cache that is gone, or full, takes nothing: Bazel need not hear of that at every action.
        forwarder.put(asked[1], asked[2], int(size), body)
        self._answer(HTTPStatus.OK)

    def _body(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.rfile.read(min(_PIECE, size))
            if not piece:
                return
            size -= len(piece)
            yield piece

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def reason(error: Exception) -> str:
    """The innermost reason of an error of a request, in a few words."""
    inner: BaseException = error
    while isinstance(inner, Exception) and (deeper := _deeper(inner)) is not None:
        inner = deeper
    if isinstance(inner, TimeoutError) or "timed out" in str(inner).lower():
        return "it does not answer in time"
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return str(text)[:200]


def _deeper(error: BaseException) -> BaseException | None:
    for each in (getattr(error, "reason", None), *error.args[:2], error.__cause__):
        if isinstance(each, BaseException) and each is not error:
            return each
    return None
