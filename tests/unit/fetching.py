"""A server in this process that answers well or badly, and a run of a fetch step in a store of its own."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.fetch import run_fetch
from crosswheel.errors import FetchError
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.sources import Place

DATA = b"the source\n" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


class Server:
    """Answers by path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.headers.append(dict(self.headers))
                answers = outer.answers.get(self.path)
                if not answers:
                    self.send_error(404)
                    return
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def give(self, path: str, *answers: bytes | int | Callable[[BaseHTTPRequestHandler], None]) -> str:
        self.answers[path] = [_answer(answer) for answer in answers]
        return self.url + path


def _answer(answer: bytes | int | Callable[[BaseHTTPRequestHandler], None]) -> Callable[[BaseHTTPRequestHandler], None]:
    if callable(answer):
        return answer

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if isinstance(answer, int):
            handler.send_error(answer)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    return reply


def truncated(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    handler.wfile.write(DATA[:400])


def reset(handler: BaseHTTPRequestHandler) -> None:
    # SO_LINGER with 0 seconds: the kernel answers with RST instead of an orderly end.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.connection.close()


def dead() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/gone.tar.gz"


def step(*places: str | Place, file: str = "src-1.0.tar.gz", sha256: str = SHA, executable: bool = False) -> FetchStep:
    made = tuple(Place(uri=place) if isinstance(place, str) else place for place in places)
    return FetchStep(name=f"fetch {file}", file=file, sha256=sha256, places=made, executable=executable)


def without_index(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """pip without the machine's configuration; it asks no index but the one in ``settings``."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name, value in (settings or {"PIP_NO_INDEX": "1"}).items():
        monkeypatch.setenv(name, value)


class Run:
    """One run of a fetch step in a store of its own."""

    def __init__(self, tmp_path: Path, *, mirror: str | None = None, offline: bool = False) -> None:
        self.lines: list[str] = []
        self.store = tmp_path / "store"
        folder = self.store / "tmp" / "key"
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        self.job = Job(
            key="0" * 64,
            out=folder / "out",
            work=folder / "work",
            settings=Settings(store=self.store, mirror=mirror, offline=offline),
            log=self.lines.append,
            cancelled=threading.Event(),
        )

    def __call__(self, step: FetchStep) -> Path:
        run_fetch(step, {}, self.job, archives={})
        (file,) = self.job.out.iterdir()
        assert file.name == step.file
        return file

    def fails(self, step: FetchStep) -> FetchError:
        with pytest.raises(FetchError) as caught:
            run_fetch(step, {}, self.job, archives={})
        assert list(self.job.out.iterdir()) == []
        return caught.value

    def kept(self) -> list[bytes]:
        folder = self.store / "kept"
        return [path.read_bytes() for path in folder.iterdir()] if folder.exists() else []
