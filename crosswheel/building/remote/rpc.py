"""Forwards calls of the Remote Execution API (https://github.com/bazelbuild/remote-apis), and no others, from a unix
socket to the user's server.

Messages pass as bytes. Read are the hash of an action, which is changed (see :func:`.opening.kept_apart`), and what
comes for a sha256, which is compared with that.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from crosswheel.building.remote import wire
from crosswheel.building.remote.credentials import Credentials, HelperError
from crosswheel.building.remote.endpoints import Remote, address
from crosswheel.building.remote.tally import Tally

if TYPE_CHECKING:
    import grpc

PROBE_SECONDS = 5.0
STALLED_SECONDS = 30.0
"""A call of a cache in which nothing comes and nothing goes for so long has failed."""

THREADS = 256
"""So many calls at once: each action that runs elsewhere holds one."""

_API = "/build.bazel.remote.execution.v2."
_UNLIMITED = -1
_IN_MEMORY = 1 << 23
_LENGTH = struct.Struct(">L")


@dataclass(frozen=True, kw_only=True)
class _Method:
    """``writes``: it changes what the server keeps. ``runs``: it is for an executor. ``action`` counts what came of an
    action's result. Others pass as they are."""

    writes: bool = False
    runs: bool = False
    action: bool = False


METHODS = {
    f"{_API}Capabilities/GetCapabilities": _Method(),
    f"{_API}ActionCache/GetActionResult": _Method(action=True),
    f"{_API}ActionCache/UpdateActionResult": _Method(action=True, writes=True),
    f"{_API}ContentAddressableStorage/FindMissingBlobs": _Method(),
    f"{_API}ContentAddressableStorage/BatchReadBlobs": _Method(),
    f"{_API}ContentAddressableStorage/GetTree": _Method(),
    f"{_API}ContentAddressableStorage/BatchUpdateBlobs": _Method(writes=True),
    "/google.bytestream.ByteStream/Read": _Method(),
    "/google.bytestream.ByteStream/Write": _Method(writes=True),
    "/google.bytestream.ByteStream/QueryWriteStatus": _Method(writes=True),
    f"{_API}Execution/Execute": _Method(writes=True, runs=True),
    f"{_API}Execution/WaitExecution": _Method(runs=True),
}
"""What passes."""

_CAPABILITIES = f"{_API}Capabilities/GetCapabilities"
_UPDATE = f"{_API}ActionCache/UpdateActionResult"
_MISSING = f"{_API}ContentAddressableStorage/FindMissingBlobs"
_BATCH_UPDATE = f"{_API}ContentAddressableStorage/BatchUpdateBlobs"
_READ, _WRITE, _WRITE_STATUS = (
    f"/google.bytestream.ByteStream/{name}" for name in ("Read", "Write", "QueryWriteStatus")
)
_SHA256 = 64
_PASSED_ON = "build.bazel.remote.execution.v2.requestmetadata-bin"


class RpcForwarder:
    """See the module. ``changed`` gives the name under which an action's result is kept; ``executes``: this is the
    endpoint of an executor."""

    def __init__(
        self, url: str, remote: Remote, tally: Tally, changed: Callable[[str], str], *, executes: bool = False
    ) -> None:
        self.tally = tally
        self._upload = remote.upload
        self._instance = remote.instance
        self._executes = executes
        self._changed = changed
        self._credentials = Credentials(remote.credentials, url.replace("grpc", "http", 1))
        self._channel = _channel(url, remote)
        self._capabilities = b""
        self._server: grpc.Server | None = None

    def probe(self) -> str:
        """Why the server cannot be used; empty if it can."""
        import grpc

        asked = wire.of_bytes(wire.INSTANCE_NAME, self._instance.encode()) if self._instance else b""
        try:
            call: Any = self._channel.unary_unary(_CAPABILITIES)
            self._capabilities = call(asked, timeout=PROBE_SECONDS, metadata=self._metadata(()))
        except HelperError as error:
            return str(error)
        except grpc.RpcError as error:
            code = error.code()
            if code == grpc.StatusCode.UNIMPLEMENTED:  # as some caches answer, which are none the worse for it
                return ""
            return "it does not answer" if code == grpc.StatusCode.DEADLINE_EXCEEDED else _told(error)
        return ""

    def start(self, path: Path) -> None:
        """Listens at the unix socket ``path``."""
        from concurrent.futures import ThreadPoolExecutor

        import grpc

        forwarder = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
                name = str(handler_call_details.method)
                method = METHODS.get(name)
                if method is None or (method.runs and not forwarder._executes):
                    return None

                def forward(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
                    return forwarder._forward(name, method, requests, context)

                return grpc.stream_stream_rpc_method_handler(forward)

        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="remote"),
            handlers=[Handler()],
            options=[("grpc.max_receive_message_length", _UNLIMITED), ("grpc.max_send_message_length", _UNLIMITED)],
        )
        self._server.add_insecure_port(f"unix:{path}")
        self._server.start()

    def stop(self) -> None:
        """Answers no more."""
        if self._server:
            self._server.stop(grace=None).wait(5)
        self._channel.close()

    # --- calls

    def _forward(
        self, name: str, method: _Method, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        """The answers of one call. A cache's own calls never fail: Bazel 2.1.0 crashes where one does (see
        :func:`_instead`)."""
        import grpc

        if method.writes and not self._upload:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "nothing is sent to this cache")
        call = _Call(name, method, self._changed)
        try:
            if self.tally.gone:
                raise _NotThere
            passed_on = [(str(key), value) for key, value in context.invocation_metadata() or () if key == _PASSED_ON]
            yield from self._answers(call, requests, self._metadata(tuple(passed_on)), context)
            self.tally.answered()
            if not call.wrong:
                self._count(call, found=True)
                return
            self.tally.lied(call.resource)
        except HelperError as error:
            self.tally.failed(str(error))
        except _NotThere:
            pass
        except grpc.RpcError as error:
            self._failed(call, error, context)
        self._count(call, found=False)
        yield from self._instead(call, requests, context)

    def _answers(
        self, call: _Call, requests: Iterator[bytes], metadata: tuple[tuple[str, Any], ...], context: Any
    ) -> Iterator[bytes]:
        start: Any = self._channel.stream_stream(call.name)
        running: Any = start(call.seen_out(requests), metadata=metadata)
        context.add_callback(running.cancel)
        with self._watched(call, running), _Kept() as kept:
            for answer in running:
                call.seen_in(answer)
                if call.checked:
                    kept.add(answer)
                else:
                    yield answer
            if not call.wrong:
                yield from kept

    @contextmanager
    def _watched(self, call: _Call, running: Any) -> Iterator[None]:
        """Ends the call where nothing moves in it; what a server runs may take as long as it wants."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(STALLED_SECONDS / 10):
                if time.monotonic() - call.moved > STALLED_SECONDS:
                    call.stalled = True
                    running.cancel()
                    return

        if not call.method.runs:
            threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _failed(self, call: _Call, error: Any, context: grpc.ServicerContext) -> None:
        import grpc

        code = error.code()
        if call.stalled or code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self.tally.failed("it does not answer in time" if call.stalled else _told(error))
        elif code not in (grpc.StatusCode.CANCELLED, grpc.StatusCode.NOT_FOUND):
            self.tally.answered()
            self.tally.refused(f"fails in {call.name.rpartition('/')[2]}: {code.name}, {_told(error)}")
        if call.method.runs:
            context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
            context.abort(code, error.details() or "")

    def _instead(self, call: _Call, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """What a cache answers that has nothing, and forgets what it is sent: that is none that fails."""
        import grpc

        if call.name == _CAPABILITIES and self._capabilities:
            yield self._capabilities
        elif call.method.runs:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the executor does not answer")
        elif call.answer_of_none is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "the cache has nothing")
        else:
            for request in () if call.moving_out else requests:
                call.seen_first(request)
            yield call.answer_of_none()

    def _count(self, call: _Call, *, found: bool) -> None:
        self.tally.add(fetched_bytes=call.fetched_bytes, sent_bytes=call.sent_bytes if found else 0)
        if call.method.action and not (call.method.writes and not found):
            self.tally.add(**{"sent" if call.method.writes else "found" if found else "missed": 1})
        elif call.method.runs and call.method.writes and found:
            self.tally.add(ran=1)

    def _metadata(self, passed_on: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        return (*passed_on, *((name.lower(), value) for name, value in self._credentials.headers()))


class _Kept:
    """Answers that Bazel must not see before the last has come; many are kept in a file."""

    def __enter__(self) -> _Kept:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, answer: bytes) -> None:
        self._file.write(_LENGTH.pack(len(answer)) + answer)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while length := self._file.read(_LENGTH.size):
            yield self._file.read(_LENGTH.unpack(length)[0])


class _NotThere(Exception):
    """The server is left alone."""


class _Call:
    """One call: what is seen of it on its way."""

    def __init__(self, name: str, method: _Method, changed: Callable[[str], str]) -> None:
        self.name = name
        self.method = method
        self.moved = time.monotonic()
        self.stalled = self.moving_out = False
        self.fetched_bytes = self.sent_bytes = 0
        self.resource = ""
        self._changed = changed
        self._first = b""
        self._whole = ""
        self._seen = hashlib.sha256()

    def seen_out(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """The requests, as the server gets them."""
        self.moving_out = True
        for request in requests:
            self.moved = time.monotonic()
            self.seen_first(request)
            if self.name == _WRITE:
                self.sent_bytes += len(request)
            yield wire.with_action(request, self._changed) if self.method.action else request

    def seen_first(self, request: bytes) -> None:
        """Remembers the first request: of those that follow it, none names anything."""
        if self._first:
            return
        self._first = request
        if self.name not in (_READ, _WRITE):
            return
        parts = wire.contents_of(request, wire.RESOURCE_NAME).decode("utf-8", "replace").split("/")
        self.resource = "/".join(parts[-3:])[:40] + "…"
        whole = [number for number, _, _ in wire.fields(request)] == [wire.RESOURCE_NAME]  # no offset, no limit
        if self.name == _READ and whole and len(parts) >= 3 and parts[-3] == "blobs" and len(parts[-2]) == _SHA256:
            self._whole = parts[-2]

    def seen_in(self, answer: bytes) -> None:
        """An answer on its way to Bazel."""
        self.moved = time.monotonic()
        if self.name == _READ:
            self.fetched_bytes += len(answer)
        if self._whole:
            self._seen.update(wire.contents_of(answer, wire.READ_DATA))

    @property
    def checked(self) -> bool:
        """Whether what comes has a sha256 to be compared with."""
        return bool(self._whole)

    @property
    def wrong(self) -> bool:
        """Whether what came has another sha256 than was asked for."""
        return bool(self._whole) and self._seen.hexdigest() != self._whole

    @property
    def answer_of_none(self) -> Callable[[], bytes] | None:
        """Makes the answer of a cache that forgets what it is sent; None for a question that such a one denies."""
        return {
            _UPDATE: lambda: wire.contents_of(self._first, wire.ACTION_RESULT),
            _WRITE: lambda: wire.of_number(wire.COMMITTED_SIZE, self._size),
            # No digest in it: nothing is missing, so nothing is sent.
            _MISSING: lambda: b"",
            _BATCH_UPDATE: lambda: b"",
            _WRITE_STATUS: lambda: b"",
        }.get(self.name)

    @property
    def _size(self) -> int:
        """Of ``…/blobs/<sha256>/<size>``, what a cache that has taken all would say."""
        parts = wire.contents_of(self._first, wire.RESOURCE_NAME).decode("utf-8", "replace").split("/")
        sizes = [part for name, part in zip(parts, parts[2:], strict=False) if name == "blobs"]
        return int(sizes[0]) if sizes and sizes[0].isdecimal() else 0


def _channel(url: str, remote: Remote) -> grpc.Channel:
    import grpc

    parts = urlsplit(url)
    options = [
        ("grpc.max_receive_message_length", _UNLIMITED),
        ("grpc.max_send_message_length", _UNLIMITED),
        ("grpc.max_reconnect_backoff_ms", 5000),
        # Else channels of one process to one address share a connection, and its state.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if parts.scheme == "grpc":
        return grpc.insecure_channel(address(parts), options=options)
    return grpc.secure_channel(address(parts), grpc.ssl_channel_credentials(_trusted(remote.ca)), options=options)


def _trusted(ca: Path | None) -> bytes | None:
    """The certificates that are trusted: the user's, or the machine's; gRPC would bring its own."""
    machine = ssl.get_default_verify_paths().cafile
    file = ca or (Path(machine) if machine and os.access(machine, os.R_OK) else None)
    return file.read_bytes() if file else None


def _told(error: Any) -> str:
    return str(error.details() or error.code().name)[:200]
