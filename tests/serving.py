"""A plain static server, and one that is told to choose by what a client accepts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    """What ``python -m http.server`` answers with; it keeps the paths that were asked for."""

    asked: list[str]

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()


class Choosing(Quiet):
    """Gives the JSON to who accepts it, as the server's settings in the documents do."""

    def send_head(self):  # type: ignore[no-untyped-def]
        kind = "application/vnd.pypi.simple.v1+json"
        page = Path(self.translate_path(self.path)) / "index.v1_json"
        if kind in self.headers.get("Accept", "") and page.is_file():
            self.path = f"{self.path.rstrip('/')}/index.v1_json"
        return super().send_head()

    def guess_type(self, path: str) -> str:  # type: ignore[override]
        return "application/vnd.pypi.simple.v1+json" if str(path).endswith("v1_json") else super().guess_type(path)


@contextmanager
def served(folder: Path, handler: type[Quiet] = Quiet) -> Iterator[tuple[str, list[str]]]:
    """The URL of a server that gives the files of ``folder``, on this machine alone, and what it was asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
