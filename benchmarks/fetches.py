"""A release's externals, fetched at once as a build fetches them, against one by one.

The files come from a server in this process that answers each request after :data:`LATENCY`, as a server far away does,
and sends each file at :data:`RATE`, as a line that is shared does; so nothing of it depends on anybody's network. There
are as many files as TensorFlow 1.5.0 has externals, each of the size that half of upstream's have. Both ways are the
real executor with real steps, each time into an empty store, where all bytes are hashed; the two alternate.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

from benchmarks.rows import Row, below, spread
from crosswheel.building import execute as executor
from crosswheel.building.job import Settings
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import DATA
from crosswheel.planning.steps import FetchStep, RepositoryCacheStep, Step
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import Place

RELEASE = ("tensorflow", "1.5.0")
LATENCY = 0.15
"""Seconds until a server's first byte: a TLS handshake and a redirect over a line of 50 ms."""
RATE = 4_000_000
"""Bytes per second of one connection."""
SIZE = 400_000
"""Bytes of a file: of the externals whose size is known, half are smaller."""
RATIO = 0.33
"""The most that fetching at once may take of fetching one by one."""

_CHUNK = 100_000


def measure(settings: Settings, runs: int = 3) -> list[Row]:
    """The medians of ``runs`` of both, and their ratio."""
    catalog = Catalog(DATA)
    name, version = RELEASE
    count = len({item.sha256 for item in catalog.externals(name, catalog.release(name, version), "aarch64")})
    at_once: list[float] = []
    one_by_one: list[float] = []
    with _server(count) as (url, bodies):
        goal = _goal(url, bodies)
        for _ in range(runs):
            at_once.append(_seconds(goal, catalog, executor.FETCHES))
            one_by_one.append(_seconds(goal, catalog, 1))
    ratio = statistics.median(at_once) / statistics.median(one_by_one)
    note = f"{count} files of {SIZE / 1e6:.1f} MB, {LATENCY * 1000:.0f} ms, {RATE / 1e6:.0f} MB/s a connection"
    return [
        Row(name="externals: one by one", value=statistics.median(one_by_one), unit="s", note=spread(one_by_one)),
        Row(
            name=f"externals: {executor.FETCHES} at once",
            value=statistics.median(at_once),
            unit="s",
            note=spread(at_once),
        ),
        below("externals: at once against one by one", ratio, "×", RATIO, note=note),
    ]


def _goal(url: str, bodies: list[bytes]) -> Step:
    """The step that lays all files out, as a build has it."""
    steps = {
        f"external-{number}": FetchStep(
            name=f"fetch {number}.tar.gz",
            file=f"{number}.tar.gz",
            sha256=hashlib.sha256(body).hexdigest(),
            places=(Place(uri=f"{url}/{number}.tar.gz"),),
        )
        for number, body in enumerate(bodies)
    }
    return RepositoryCacheStep(name="lay out externals", inputs=steps)


def _seconds(goal: Step, catalog: Catalog, fetches: int) -> float:
    with (
        tempfile.TemporaryDirectory(prefix="crosswheel-bench-") as folder,
        mock.patch.object(executor, "FETCHES", fetches),
    ):
        settings = Settings(store=Path(folder))
        began = time.perf_counter()
        with Screen(quiet=True) as screen:
            executor.execute(goal, Store(settings.store), settings, runners(catalog, settings), screen)
        return time.perf_counter() - began


@contextmanager
def _server(count: int) -> Iterator[tuple[str, list[bytes]]]:
    """A server on the loopback interface, by its URL, and the files that it has."""
    bodies = [bytes([number % 256]) * (SIZE - number) for number in range(count)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies[int(self.path.strip("/").partition(".")[0])]
            time.sleep(LATENCY)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            for start in range(0, len(body), _CHUNK):
                self.wfile.write(body[start : start + _CHUNK])
                time.sleep(_CHUNK / RATE)

        def log_message(self, format: str, *args: object) -> None:
            return

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        mock.patch.dict(os.environ, {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}),
    ):
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()
