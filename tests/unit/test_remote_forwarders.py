"""The forwarders of a remote cache: against servers that work, die, are slow, refuse, or lie."""

from __future__ import annotations

import hashlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswheel.building.remote import http as over_http
from crosswheel.building.remote import relay, rpc, wire
from crosswheel.building.remote.endpoints import Remote
from crosswheel.building.remote.http import HttpForwarder
from crosswheel.building.remote.opening import kept_apart
from crosswheel.building.remote.rpc import RpcForwarder
from crosswheel.building.remote.tally import FAILURES, Tally

pytestmark = pytest.mark.unit

CHANGED = kept_apart("tools")
BLOB = b"an object file" * 1000
DIGEST = hashlib.sha256(BLOB).hexdigest()
ACTION = hashlib.sha256(b"an action").hexdigest()


# --- HTTP ------------------------------------------------------------------------------------------------------------


class Upstream(BaseHTTPRequestHandler):
    """A cache in a dict; what it does with a request may be replaced."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]
    seen: list[tuple[str, str, str]]
    status: int
    wait: float

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.seen.append(("GET", self.path, self.headers.get("Authorization", "")))
        time.sleep(self.wait)
        body = self.kept.get(self.path)
        self.answer(self.status or (200 if body is not None else 404), body or b"")

    def do_PUT(self) -> None:
        self.seen.append(("PUT", self.path, self.headers.get("Authorization", "")))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.status:
            self.kept[self.path] = body
        self.answer(self.status or 201, b"")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def upstream() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Upstream,), {"kept": {}, "seen": [], "status": 0, "wait": 0.0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def handler_of(server: ThreadingHTTPServer) -> Any:
    return server.RequestHandlerClass


class Unix(http.client.HTTPConnection):
    """Bazel's side."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(str(self._path))


@contextmanager
def http_forwarder(url: str, tmp_path: Path, **remote: Any) -> Iterator[tuple[HttpForwarder, Any, list[str]]]:
    log: list[str] = []
    forwarder = HttpForwarder(url, Remote(cache=url, **remote), Tally("remote cache", log.append), CHANGED)
    path = tmp_path / "socket"
    forwarder.start(path)

    def ask(method: str, place: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = Unix(path)
        connection.request(method, place, body)
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        return answer.status, found

    yield forwarder, ask, log
    forwarder.stop()


def url_of(server: ThreadingHTTPServer, path: str = "/some/cache") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_http_what_is_sent_is_found_and_results_are_kept_apart(upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    with http_forwarder(url_of(upstream), tmp_path) as (forwarder, ask, _):
        assert forwarder.probe() == ""
        assert ask("GET", f"/ac/{ACTION}") == (404, b"")
        assert ask("PUT", f"/cas/{DIGEST}", BLOB)[0] == 200
        assert ask("PUT", f"/ac/{ACTION}", b"result")[0] == 200
        assert ask("GET", f"/ac/{ACTION}") == (200, b"result")
        assert ask("GET", f"/cas/{DIGEST}") == (200, BLOB)
        kept = handler_of(upstream).kept
        assert kept == {f"/some/cache/cas/{DIGEST}": BLOB, f"/some/cache/ac/{CHANGED(ACTION)}": b"result"}
        tally = forwarder.tally
        assert (tally.found, tally.missed, tally.sent, tally.wrong) == (1, 1, 1, 0)
        assert tally.fetched_bytes == len(BLOB) + len(b"result")
        assert "1 of 2 actions found" in tally.summary()


def test_http_wrong_bytes_are_not_handed_on(upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    handler_of(upstream).kept[f"/some/cache/cas/{DIGEST}"] = BLOB[:-1] + b"!"
    with http_forwarder(url_of(upstream), tmp_path) as (forwarder, ask, log):
        assert ask("GET", f"/cas/{DIGEST}") == (404, b"")
        assert forwarder.tally.wrong == 1
        assert f"gave wrong bytes for cas/{DIGEST[:16]}" in log[0]


def test_http_read_only_is_held_here_and_not_by_bazel(upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    with http_forwarder(url_of(upstream), tmp_path, upload=False) as (_, ask, _log):
        assert ask("PUT", f"/cas/{DIGEST}", BLOB) == (403, b"")
    assert handler_of(upstream).kept == {}
    assert handler_of(upstream).seen == []


@pytest.mark.parametrize(
    "place", ["/", "/etc/passwd", f"/ac/{ACTION}/../../x", "/cas/abc", f"/cas/{DIGEST}?x", f"/xx/{DIGEST}"]
)
def test_http_nothing_else_on_that_server_is_reached(place: str, upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    with http_forwarder(url_of(upstream), tmp_path) as (_, ask, _log):
        assert ask("GET", place) == (403, b"")
        assert ask("PUT", place, b"x") == (403, b"")
    assert handler_of(upstream).seen == []


def test_http_a_dead_server_has_nothing_and_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with http_forwarder(f"http://127.0.0.1:{port}", tmp_path) as (forwarder, ask, log):
        assert "refused" in forwarder.probe()
        for _ in range(FAILURES + 2):
            assert ask("GET", f"/ac/{ACTION}") == (404, b"")
            assert ask("PUT", f"/cas/{DIGEST}", BLOB) == (200, b"")
        assert forwarder.tally.gone
        assert forwarder.tally.away == 1
        assert len(log) == 1
        assert "does not answer (Connection refused); the build goes on without it" in log[0]


def test_http_a_server_that_comes_back_is_used_again(
    upstream: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with http_forwarder(url_of(upstream), tmp_path) as (forwarder, ask, log):
        for _ in range(FAILURES):
            forwarder.tally.failed("it was cut off")
        assert ask("GET", f"/ac/{ACTION}")[0] == 404
        assert handler_of(upstream).seen == []
        soon = time.monotonic() + 61
        monkeypatch.setattr("crosswheel.building.remote.tally.time.monotonic", lambda: soon)
        assert ask("GET", f"/ac/{ACTION}")[0] == 404
        assert len(handler_of(upstream).seen) == 1
        assert not forwarder.tally.gone
        assert log[-1] == "crosswheel: the remote cache answers again"


def test_http_a_slow_server_is_not_waited_for(
    upstream: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(over_http, "READ_SECONDS", 0.1)
    handler_of(upstream).wait = 1.0
    with http_forwarder(url_of(upstream), tmp_path) as (forwarder, ask, log):
        assert forwarder.probe() == "it does not answer in time"
        began = time.monotonic()
        for _ in range(FAILURES + 3):
            assert ask("GET", f"/ac/{ACTION}") == (404, b"")
        assert time.monotonic() - began < 5
        assert "(it does not answer in time)" in log[0]


@pytest.mark.parametrize("status", [302, 401, 403, 500, 507])
def test_http_a_server_that_refuses_is_told_of_once(status: int, upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    handler_of(upstream).status = status
    with http_forwarder(url_of(upstream), tmp_path) as (forwarder, ask, log):
        assert forwarder.probe() == f"it answers with HTTP status {status}"
        for _ in range(5):
            assert ask("GET", f"/ac/{ACTION}") == (404, b"")
            assert ask("PUT", f"/cas/{DIGEST}", BLOB) == (200, b"")
        assert len(log) == 2
        assert all(f"HTTP status {status}" in line for line in log)
        assert forwarder.tally.sent_bytes == 0


def test_http_credentials_are_added_on_this_side(upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    script = tmp_path / "helper.py"
    script.write_text('print(\'{"headers": {"Authorization": ["Bearer abc"]}}\')')
    with http_forwarder(url_of(upstream), tmp_path, credentials=(sys.executable, str(script))) as (_, ask, _log):
        ask("GET", f"/ac/{ACTION}")
        ask("PUT", f"/cas/{DIGEST}", BLOB)
    assert [seen[2] for seen in handler_of(upstream).seen] == ["Bearer abc"] * 2


def test_http_bodies_without_a_length_are_refused(upstream: ThreadingHTTPServer, tmp_path: Path) -> None:
    with http_forwarder(url_of(upstream), tmp_path):
        connection = Unix(tmp_path / "socket")
        connection.putrequest("PUT", f"/cas/{DIGEST}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        assert connection.getresponse().status == 411


# --- the Remote Execution API ----------------------------------------------------------------------------------------

AC, CAS = (f"/build.bazel.remote.execution.v2.{name}" for name in ("ActionCache", "ContentAddressableStorage"))
READ, WRITE = "/google.bytestream.ByteStream/Read", "/google.bytestream.ByteStream/Write"


class Server(grpc.GenericRpcHandler):
    """Answers as it is told; remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[bytes] | grpc.StatusCode] = {rpc._CAPABILITIES: [b"\x0a\x00"]}
        self.seen: list[tuple[str, list[bytes], dict[str, Any]]] = []
        self.wait = 0.0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        name = str(handler_call_details.method)

        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            self.seen.append((name, list(requests), dict(context.invocation_metadata() or ())))
            time.sleep(self.wait)
            found = self.answers.get(name, grpc.StatusCode.NOT_FOUND)
            if isinstance(found, grpc.StatusCode):
                context.abort(found, "as it was told")
            yield from found

        return grpc.stream_stream_rpc_method_handler(answer)


@pytest.fixture
def server() -> Iterator[tuple[Server, str, grpc.Server]]:
    handler = Server()
    running = grpc.server(ThreadPoolExecutor(8), handlers=[handler])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield handler, f"grpc://127.0.0.1:{port}", running
    running.stop(None)


@contextmanager
def rpc_forwarder(
    url: str, tmp_path: Path, executes: bool = False, **remote: Any
) -> Iterator[tuple[RpcForwarder, Any, list[str]]]:
    log: list[str] = []
    given = Remote(cache=url, **remote)
    forwarder = RpcForwarder(url, given, Tally("remote cache", log.append), CHANGED, executes=executes)
    forwarder.start(tmp_path / "socket")
    channel = grpc.insecure_channel(f"unix:{tmp_path}/socket", options=[("grpc.use_local_subchannel_pool", 1)])

    def ask(name: str, *requests: bytes) -> list[bytes]:
        call: Any = channel.stream_stream(name)
        return list(call(iter(requests), timeout=20, metadata=(("authorization", "from the container"),)))

    yield forwarder, ask, log
    channel.close()
    forwarder.stop()


def digest(sha256: str, size: int) -> bytes:
    return wire.of_bytes(1, sha256.encode()) + wire.of_number(2, size)


def get_result(sha256: str) -> bytes:
    return wire.of_bytes(2, digest(sha256, 142))


def read(sha256: str, size: int) -> bytes:
    return wire.of_bytes(1, f"blobs/{sha256}/{size}".encode())


def pieces(blob: bytes) -> list[bytes]:
    return [wire.of_bytes(wire.READ_DATA, blob[at : at + 4000]) for at in range(0, len(blob), 4000)]


def code_of(ask: Any, name: str, *requests: bytes) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        ask(name, *requests)
    return caught.value.code()  # type: ignore[no-any-return]


def test_rpc_results_are_kept_apart_and_all_else_passes(server: Any, tmp_path: Path) -> None:
    handler, url, _ = server
    result = b"\x12\x03abc"
    handler.answers |= {f"{AC}/GetActionResult": [result], f"{AC}/UpdateActionResult": [result], READ: pieces(BLOB)}
    with rpc_forwarder(url, tmp_path) as (forwarder, ask, _log):
        assert forwarder.probe() == ""
        assert ask(f"{AC}/GetActionResult", get_result(ACTION)) == [result]
        assert ask(f"{AC}/UpdateActionResult", get_result(ACTION) + wire.of_bytes(3, result)) == [result]
        assert b"".join(wire.contents_of(piece, 10) for piece in ask(READ, read(DIGEST, len(BLOB)))) == BLOB
        tally = forwarder.tally
        assert (tally.found, tally.missed, tally.sent, tally.wrong) == (1, 0, 1, 0)
    asked = {name: requests for name, requests, _ in handler.seen}
    assert asked[f"{AC}/GetActionResult"] == [get_result(CHANGED(ACTION))]
    assert asked[f"{AC}/UpdateActionResult"] == [get_result(CHANGED(ACTION)) + wire.of_bytes(3, result)]
    assert asked[READ] == [read(DIGEST, len(BLOB))]
    assert not any("authorization" in metadata for _, _, metadata in handler.seen)


def test_rpc_wrong_bytes_are_not_handed_on(server: Any, tmp_path: Path) -> None:
    handler, url, _ = server
    handler.answers[READ] = pieces(BLOB[:-1] + b"!")
    with rpc_forwarder(url, tmp_path) as (forwarder, ask, log):
        call: Any = grpc.insecure_channel(f"unix:{tmp_path}/socket").stream_stream(READ)
        answers = call(iter((read(DIGEST, len(BLOB)),)))
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert code_of(ask, READ, read(DIGEST, 5)) == grpc.StatusCode.NOT_FOUND
        assert forwarder.tally.wrong == 2
        assert "gave wrong bytes for blobs/" in log[0]


def test_rpc_a_part_of_a_blob_cannot_be_compared(server: Any, tmp_path: Path) -> None:
    handler, url, _ = server
    handler.answers[READ] = pieces(BLOB[4000:])
    with rpc_forwarder(url, tmp_path) as (forwarder, ask, _log):
        assert ask(READ, read(DIGEST, len(BLOB)) + wire.of_number(2, 4000)) == pieces(BLOB[4000:])
        assert forwarder.tally.wrong == 0


@pytest.mark.parametrize("how", ["dead", "failing"])
def test_rpc_a_cache_never_fails_a_call(how: str, server: Any, tmp_path: Path) -> None:
    """Bazel 2.1.0 ends with a stack trace where FindMissingBlobs is UNAVAILABLE."""
    handler, url, running = server
    result = b"\x12\x03abc"
    with rpc_forwarder(url, tmp_path) as (forwarder, ask, log):
        assert forwarder.probe() == ""
        if how == "dead":
            running.stop(None).wait()
        else:
            names = (f"{AC}/GetActionResult", f"{AC}/UpdateActionResult", f"{CAS}/FindMissingBlobs", READ, WRITE)
            handler.answers |= dict.fromkeys(names, grpc.StatusCode.RESOURCE_EXHAUSTED)
        for _ in range(FAILURES + 1):
            assert code_of(ask, f"{AC}/GetActionResult", get_result(ACTION)) == grpc.StatusCode.NOT_FOUND
            assert code_of(ask, READ, read(DIGEST, 3)) == grpc.StatusCode.NOT_FOUND
            assert ask(f"{CAS}/FindMissingBlobs", wire.of_bytes(2, digest(DIGEST, 3))) == [b""]
            assert ask(f"{AC}/UpdateActionResult", get_result(ACTION) + wire.of_bytes(3, result)) == [result]
            write = wire.of_bytes(1, f"main/uploads/some-uuid/blobs/{DIGEST}/14000".encode())
            assert ask(WRITE, write + wire.of_bytes(10, BLOB), wire.of_bytes(10, b"")) == [wire.of_number(1, 14000)]
        assert ask(rpc._CAPABILITIES, b"") == [b"\x0a\x00"]
        assert (forwarder.tally.found, forwarder.tally.sent) == (0, 0)
        assert forwarder.tally.missed == FAILURES + 1
        assert forwarder.tally.gone is (how == "dead")
    if how == "dead":
        assert len(log) == 1
        assert "the build goes on without it" in log[0]
    else:
        assert all("RESOURCE_EXHAUSTED" in line for line in log)
        assert len(log) == 5


def test_rpc_a_call_in_which_nothing_moves_is_ended(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler, url, _ = server
    monkeypatch.setattr(rpc, "STALLED_SECONDS", 0.2)
    handler.wait = 3.0
    with rpc_forwarder(url, tmp_path) as (forwarder, ask, log):
        began = time.monotonic()
        for _ in range(FAILURES + 2):
            assert code_of(ask, f"{AC}/GetActionResult", get_result(ACTION)) == grpc.StatusCode.NOT_FOUND
        assert time.monotonic() - began < 5
        assert forwarder.tally.gone
        assert "(it does not answer in time)" in log[0]


def test_rpc_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{probe.getsockname()[1]}"
    with rpc_forwarder(url, tmp_path) as (forwarder, _, _log):
        assert "refused" in forwarder.probe()


def test_rpc_a_server_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "PROBE_SECONDS", 0.3)
    silent = socket.create_server(("127.0.0.1", 0))
    with silent, rpc_forwarder(f"grpc://127.0.0.1:{silent.getsockname()[1]}", tmp_path) as (forwarder, _, _log):
        assert forwarder.probe() == "it does not answer"


def test_rpc_read_only_and_other_services(server: Any, tmp_path: Path) -> None:
    handler, url, _ = server
    with rpc_forwarder(url, tmp_path, upload=False) as (_, ask, _log):
        for name in (WRITE, f"{AC}/UpdateActionResult", f"{CAS}/BatchUpdateBlobs"):
            assert code_of(ask, name, get_result(ACTION)) == grpc.StatusCode.PERMISSION_DENIED
        execute = "/build.bazel.remote.execution.v2.Execution/Execute"
        for name in (execute, "/grpc.health.v1.Health/Check", "/google.longrunning.Operations/ListOperations"):
            assert code_of(ask, name, b"") == grpc.StatusCode.UNIMPLEMENTED
    assert handler.seen == []


def test_rpc_an_executor_runs_and_its_errors_are_bazels_to_see(server: Any, tmp_path: Path) -> None:
    handler, url, _ = server
    execute = "/build.bazel.remote.execution.v2.Execution/Execute"
    handler.answers[execute] = [b"\x0a\x01a", b"\x0a\x01b"]
    with rpc_forwarder(url, tmp_path, executes=True) as (forwarder, ask, _log):
        assert ask(execute, b"") == [b"\x0a\x01a", b"\x0a\x01b"]
        assert forwarder.tally.ran == 1
        handler.answers[execute] = grpc.StatusCode.FAILED_PRECONDITION
        assert code_of(ask, execute, b"") == grpc.StatusCode.FAILED_PRECONDITION


def test_rpc_credentials_are_added_on_this_side(server: Any, tmp_path: Path) -> None:
    handler, url, _ = server
    script = tmp_path / "helper.py"
    script.write_text('print(\'{"headers": {"Authorization": ["Bearer abc"]}}\')')
    with rpc_forwarder(url, tmp_path, credentials=(sys.executable, str(script))) as (forwarder, ask, _log):
        assert forwarder.probe() == ""
        code_of(ask, f"{AC}/GetActionResult", get_result(ACTION))
    assert [metadata["authorization"] for _, _, metadata in handler.seen] == ["Bearer abc"] * 2


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate for ``localhost`` that nobody else trusts."""
    folder = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "cert.pem"
    what = ("-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(file))
    subprocess.run(("openssl", "req", *what, *names), check=True, capture_output=True)
    return key, file


def test_tls_is_spoken_on_this_side_and_an_unknown_certificate_is_refused(
    certificate: tuple[Path, Path], upstream: ThreadingHTTPServer, tmp_path: Path
) -> None:
    import ssl

    key, file = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    upstream.socket = context.wrap_socket(upstream.socket, server_side=True)
    url = f"https://localhost:{upstream.server_port}/some/cache"
    with http_forwarder(url, tmp_path, ca=file) as (forwarder, ask, _):
        assert forwarder.probe() == ""
        assert ask("PUT", f"/cas/{DIGEST}", BLOB)[0] == 200
        assert ask("GET", f"/cas/{DIGEST}") == (200, BLOB)
    (tmp_path / "socket").unlink()
    with http_forwarder(url, tmp_path) as (forwarder, ask, _):
        assert "certificate" in forwarder.probe().lower()
        assert ask("GET", f"/cas/{DIGEST}") == (404, b"")


def test_rpc_tls_is_spoken_on_this_side(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    key, file = certificate
    running = grpc.server(ThreadPoolExecutor(2), handlers=[Server()])
    pair = grpc.ssl_server_credentials([(key.read_bytes(), file.read_bytes())])
    url = f"grpcs://localhost:{running.add_secure_port('localhost:0', pair)}"
    running.start()
    with rpc_forwarder(url, tmp_path, ca=file) as (forwarder, _, _log):
        assert forwarder.probe() == ""
    with rpc_forwarder(url, tmp_path) as (forwarder, _, _log):
        assert "certificate" in forwarder.probe().lower()
    running.stop(None)


# --- protobuf's encoding ---------------------------------------------------------------------------------------------

FIELDS = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 2**20), st.binary(max_size=300)).map(lambda pair: wire.of_bytes(*pair)),
        st.tuples(st.integers(1, 2**20), st.integers(0, 2**63)).map(lambda pair: wire.of_number(*pair)),
    ),
    max_size=8,
)


@given(FIELDS)
def test_a_message_is_the_sum_of_its_fields(encoded: list[bytes]) -> None:
    assert [raw for _, _, raw in wire.fields(b"".join(encoded))] == encoded


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    try:
        found = list(wire.fields(message))
    except wire.NotProtobuf:
        return
    assert b"".join(raw for _, _, raw in found) == message


@given(FIELDS.map(b"".join), st.integers(0, 2**31))
def test_the_hash_of_an_action_alone_is_changed(rest: bytes, size: int) -> None:
    rest = b"".join(raw for number, _, raw in wire.fields(rest) if number != wire.ACTION_DIGEST)
    request = wire.of_bytes(2, digest(ACTION, size)) + rest
    assert wire.with_action(request, CHANGED) == wire.of_bytes(2, digest(CHANGED(ACTION), size)) + rest
    assert wire.with_action(request, lambda same: same) == request


# --- the relay -------------------------------------------------------------------------------------------------------


def test_the_relay_joins_a_port_with_a_socket_and_ends_as_its_command(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def echo() -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while piece := connection.recv(65536):
                data += piece
            connection.sendall(data[::-1])

    threading.Thread(target=echo, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"""
import socket, sys
with socket.create_connection(("127.0.0.1", {port})) as connection:
    connection.sendall(b"abc" * 100000)
    connection.shutdown(socket.SHUT_WR)
    data = b""
    while piece := connection.recv(65536):
        data += piece
sys.exit(7 if data == b"cba" * 100000 else 1)
"""
    argv = (sys.executable, "-I", "-S", relay.__file__, f"{port}={path}", "--", sys.executable, "-c", script)
    assert subprocess.run(argv, timeout=30, check=False).returncode == 7
    listener.close()


@pytest.mark.parametrize(("command", "status"), [(("sh", "-c", "kill -9 $$"), 137), (("no-such-program",), 127)])
def test_the_relay_ends_as_a_shell_would(command: tuple[str, ...], status: int) -> None:
    argv = (sys.executable, "-I", "-S", relay.__file__, "--", *command)
    assert subprocess.run(argv, timeout=30, check=False, capture_output=True).returncode == status


def test_the_relay_closes_where_the_forwarder_is_gone(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"import socket; assert socket.create_connection(('127.0.0.1', {port})).recv(1) == b''"
    argv = (sys.executable, relay.__file__, f"{port}={tmp_path}/none", "--", sys.executable, "-c", script)
    assert subprocess.run(argv, timeout=30, check=False).returncode == 0


def test_the_relay_runs_on_the_oldest_python_of_a_builder() -> None:
    """Ubuntu 16.04's is 3.5: no f-strings, no annotated variables, no walrus."""
    import ast

    text = Path(relay.__file__).read_text()
    tree = ast.parse(text, feature_version=(3, 5))
    assert not any(isinstance(node, ast.JoinedStr | ast.AnnAssign | ast.NamedExpr) for node in ast.walk(tree))
