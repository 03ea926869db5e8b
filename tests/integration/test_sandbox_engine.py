"""The Docker sandbox where the engine is at fault: gone, mute, refusing, of another kind."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from containers import KEY, SLOW, a_step, build, containers_of, ready, sh, start_build, until

from crosswheel.building.sandbox.docker_engine import DockerSandbox
from crosswheel.building.sandbox.engine import DEFAULT_HOST
from crosswheel.building.store import Store
from crosswheel.errors import MachineError
from tests.waiting import emptied

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Proxy:
    """Passes on what is said to the real engine, until it is told to be dead. The real one is never touched."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._open: list[socket.socket] = []
        self._dead = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._dead:
                client.close()
                continue
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(DEFAULT_HOST.removeprefix("unix://"))
            self._open += [client, engine]
            for source, target in ((client, engine), (engine, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def die(self) -> None:
        """As a killed daemon: all connections end, and new ones get no answer."""
        self._dead = True
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def test_a_daemon_that_is_killed_in_mid_step(root: Path, tmp_path: Path, own: Store, engine: Any) -> None:
    store = own
    step = a_step(root, SLOW)
    proxy = Proxy(tmp_path / "docker.sock")
    caught: list[BaseException] = []

    def work() -> None:
        try:
            build(step, root, store, host=proxy.host)
        except MachineError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: ready(store), 60)
    proxy.die()
    thread.join(20)
    assert caught and "The Docker daemon went away" in str(caught[0]), caught
    assert emptied(store.root / "tmp")
    log = store.log_path(step.key).read_text()
    assert "could not be removed" in log
    # The container lives on, as with a killed daemon whose containers have a shim of their own. Whoever builds the
    # step next removes it, even though no folder tells of it any more.
    (left,) = containers_of(engine, store, step.key)
    again = start_build(root, store)
    assert left.id not in [container.id for container in containers_of(engine, store, step.key)]
    again.send_signal(signal.SIGINT)
    assert again.wait(20) == 130
    assert containers_of(engine, store, step.key) == []


def refused(host: str, root: Path, store: Path, seconds: int = 60) -> MachineError:
    with pytest.raises(MachineError) as caught:
        DockerSandbox(store, host=host, seconds=seconds).run(
            sh(root, "true"), log=print, cancelled=threading.Event(), label_key=KEY
        )
    assert caught.value.hint and caught.value.exit_code == 5
    return caught.value


def test_no_engine(root: Path, tmp_path: Path) -> None:
    error = refused(f"unix://{tmp_path}/none.sock", root, tmp_path)
    assert "no Docker engine" in error.what and "./x doctor --fix" in error.hint


def test_a_socket_without_a_daemon(root: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "dead.sock"))
        error = refused(f"unix://{tmp_path}/dead.sock", root, tmp_path)
    assert "does not run" in error.what


def test_a_daemon_that_does_not_answer(root: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "mute.sock"))
        server.listen()
        error = refused(f"unix://{tmp_path}/mute.sock", root, tmp_path)
    assert "does not answer" in error.what


class Impostor:
    """An engine that answers what it is told to: path (a pattern) → status and body."""

    def __init__(self, path: Path, answers: Mapping[str, tuple[int, str]]) -> None:
        import http.server
        import socketserver

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.read_request()
                for pattern, (status, body) in answers.items():
                    if re.search(pattern, self.path):
                        self.send_response(status)
                        self.send_header("Content-Type", "application/json")
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body.encode())
                        return
                self.send_error(500, self.path)

            def read_request(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *arguments: object) -> None: ...

            def address_string(self) -> str:
                return "unix"

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.host = f"unix://{path}"
        self._server = Server(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


VERSION = {"/_ping": (200, "OK"), "/version": (200, '{"ApiVersion": "1.41"}')}
INFO = '{"DockerRootDir": "/var/lib/docker", "SecurityOptions": []}'


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"/info": (200, '{"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}')}, "installed by snap"),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (200, '{"Id": "x"}'),
                "/containers/create": (400, '{"message": "invalid mount config: bind source path does not exist: /x"}'),
            },
            "does not see the files",
        ),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (200, '{"Id": "x"}'),
                "/containers/create": (201, '{"Id": "abc"}'),
                "/containers/abc/archive": (404, '{"message": "Could not find the file /mnt/token"}'),
                "/containers/abc": (204, ""),
            },
            "does not see the files",
        ),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (200, '{"Id": "x"}'),
                "/containers/create": (500, '{"message": "mkdir /var/lib/docker/x: no space left on device"}'),
            },
            "no space left where Docker keeps",
        ),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (404, '{"message": "No such image"}'),
                "/images/create": (200, '{"error": "write /var/lib/docker/tmp: no space left on device"}'),
            },
            "no space left where Docker keeps",
        ),
        ({"/info": (500, '{"message": "something else"}')}, "Docker failed while"),
    ],
)
def test_what_an_engine_says_is_put_plainly(
    root: Path, tmp_path: Path, answers: dict[str, tuple[int, str]], said: str
) -> None:
    impostor = Impostor(tmp_path / "docker.sock", {**answers, **VERSION})
    try:
        assert said in refused(impostor.host, root, tmp_path / "store").what
    finally:
        impostor.close()


def test_no_permission_on_the_socket(root: Path, tmp_path: Path) -> None:
    """As an ordinary user, where the tests run as root; else the socket is simply closed to all."""
    script = f"""
import os, sys
from crosswheel.building.sandbox.engine import ping
from crosswheel.building.sandbox.docker_errors import check_engine
from crosswheel.errors import MachineError
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    check_engine(ping("unix://{tmp_path}/closed.sock"))
except MachineError as error:
    print(error); sys.exit(error.exit_code)
"""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/closed.sock")
        server.listen()
        (tmp_path / "closed.sock").chmod(0o000)
        done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "You may not use the Docker daemon" in done.stdout and "usermod -aG docker" in done.stdout
