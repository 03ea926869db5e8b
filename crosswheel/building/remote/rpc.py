"""Forwards calls of the Remote Execution API (https://github.com/bazelbuild/remote-apis), and no others, from a unix
socket to the user's server.

Messages pass as bytes. Read are the hash of an action, which is changed (see :func:`.opening.kept_apart`), and what
comes for a sha256, which is compared with that.
"""

from __future__ import annotations

import hashlib
import os
import ssl
from collections.abc import Callable, Iterator
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
CALL_SECONDS = 60.0
"""A call of a cache that takes longer has failed; what a server runs may take as long as it wants."""

THREADS = 256
"""So many calls at once: each action that runs elsewhere holds one."""

_API = "/build.bazel.remote.execution.v2."
_UNLIMITED = -1


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

_CAPABILITIES, _READ, _WRITE = (
    f"{_API}Capabilities/GetCapabilities",
    "/google.bytestream.ByteStream/Read",
    "/google.bytestream.ByteStream/Write",
)
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
            self._capabilities = call(asked, timeout=PROBE_SECONDS, metadata=self._metadata(()), wait_for_ready=True)
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
        import grpc

        if method.writes and not self._upload:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "nothing is sent to this cache")
        if self.tally.gone:
            yield from self._without(name, method, context)
            return
        try:
            passed_on = [item for item in context.invocation_metadata() or () if item[0] == _PASSED_ON]
            metadata = self._metadata(tuple((str(key), value) for key, value in passed_on))
        except HelperError as error:
            self.tally.failed(str(error))
            yield from self._without(name, method, context)
            return
        seconds = None if method.runs else CALL_SECONDS
        sent = self._seen_out(name, method, requests)
        check = _Check(name)
        start: Any = self._channel.stream_stream(name)
        call: Any = start(check.requests(sent), timeout=seconds, metadata=metadata)
        context.add_callback(call.cancel)
        try:
            for answer in call:
                check.answer(answer)
                if name == _READ:
                    self.tally.add(fetched_bytes=len(answer))
                yield answer
        except grpc.RpcError as error:
            self._failed(name, method, error, context)
        self.tally.answered()
        if check.wrong:
            self.tally.lied(check.resource)
            context.abort(grpc.StatusCode.DATA_LOSS, "the cache gave wrong bytes")
        self._count(method, found=True)

    def _seen_out(self, name: str, method: _Method, requests: Iterator[bytes]) -> Iterator[bytes]:
        for request in requests:
            if name == _WRITE:
                self.tally.add(sent_bytes=len(request))
            yield wire.with_action(request, self._changed) if method.action else request

    def _failed(self, name: str, method: _Method, error: Any, context: grpc.ServicerContext) -> None:
        import grpc

        code = error.code()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            self.tally.failed(
                "it does not answer in time" if code == grpc.StatusCode.DEADLINE_EXCEEDED else _told(error)
            )
        elif code != grpc.StatusCode.CANCELLED:
            self.tally.answered()
            if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                self.tally.refused(f"refuses {name.rpartition('/')[2]}: {_told(error)}")
        if not method.writes:
            self._count(method, found=False)
        if self.tally.gone and name == _CAPABILITIES and self._capabilities:
            return
        context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
        context.abort(code, error.details() or "")

    def _without(self, name: str, method: _Method, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The answers of a server that is gone: as one that has nothing, and takes nothing."""
        import grpc

        if name == _CAPABILITIES and self._capabilities:
            yield self._capabilities
            return
        if method.action and not method.writes:
            self._count(method, found=False)
            context.abort(grpc.StatusCode.NOT_FOUND, "the cache does not answer")
        context.abort(grpc.StatusCode.UNAVAILABLE, "the cache does not answer")

    def _count(self, method: _Method, *, found: bool) -> None:
        if method.action:
            self.tally.add(**{"sent" if method.writes else "found" if found else "missed": 1})
        elif method.runs and method.writes:
            self.tally.add(ran=1)

    def _metadata(self, passed_on: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, Any], ...]:
        return (*passed_on, *((name.lower(), value) for name, value in self._credentials.headers()))


class _Check:
    """Compares what a call of ``Read`` brings with the sha256 in the name of what was asked for."""

    def __init__(self, name: str) -> None:
        self._reads = name == _READ
        self._whole = ""
        self._seen = hashlib.sha256()
        self.resource = ""

    def requests(self, sent: Iterator[bytes]) -> Iterator[bytes]:
        for request in sent:
            if self._reads:
                self._asked(request)
            yield request

    def _asked(self, request: bytes) -> None:
        parts = wire.contents_of(request, wire.RESOURCE_NAME).decode("utf-8", "replace").split("/")
        self.resource = "/".join(parts)[:40] + "…"
        whole = [number for number, _, _ in wire.fields(request)] == [wire.RESOURCE_NAME]  # no offset, no limit
        if whole and len(parts) >= 3 and parts[-3] == "blobs" and len(parts[-2]) == 64:
            self._whole = parts[-2]

    def answer(self, answer: bytes) -> None:
        if self._whole:
            self._seen.update(wire.contents_of(answer, wire.READ_DATA))

    @property
    def wrong(self) -> bool:
        return bool(self._whole) and self._seen.hexdigest() != self._whole


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
