"""The few fields of the Remote Execution API's messages that a forwarder reads and changes, in protobuf's encoding
(https://protobuf.dev/programming-guides/encoding/). All else passes as it is.

Numbers of fields are those of ``build/bazel/remote/execution/v2/remote_execution.proto``
(https://github.com/bazelbuild/remote-apis) and ``google/bytestream/bytestream.proto``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

ACTION_DIGEST = 2
"""In GetActionResultRequest and UpdateActionResultRequest."""

ACTION_RESULT = 3
"""In UpdateActionResultRequest."""

DIGEST_HASH = 1
RESOURCE_NAME = 1
"""In ReadRequest and in WriteRequest."""

READ_DATA = 10
COMMITTED_SIZE = 1
"""In WriteResponse."""

INSTANCE_NAME = 1
"""In GetCapabilitiesRequest."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class NotProtobuf(ValueError):
    """A message that cannot be read."""


def fields(message: bytes) -> Iterator[tuple[int, bytes | None, bytes]]:
    """Number, contents (of a text, bytes or a message; else None) and the encoded field. ``NotProtobuf``."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        contents = None
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            size, at = _varint(message, at)
            contents = message[at : at + size]
            at += size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise NotProtobuf(f"a field of the type {kind}")
        if at > len(message):
            raise NotProtobuf("a message that is cut off")
        yield tag >> 3, contents, message[start:at]


def of_bytes(number: int, contents: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return _encoded(number << 3 | _BYTES) + _encoded(len(contents)) + contents


def of_number(number: int, value: int) -> bytes:
    """A field of a number that is not negative."""
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def contents_of(message: bytes, number: int) -> bytes:
    """The last field of that number, as protobuf has it; empty where it is absent."""
    return next((found for at, found, _ in reversed(list(fields(message))) if at == number and found is not None), b"")


def with_action(request: bytes, change: Callable[[str], str]) -> bytes:
    """A request for an action's result, or one that brings it, with another hash of the action."""

    def digest(message: bytes) -> bytes:
        return b"".join(
            of_bytes(number, change(found.decode("ascii")).encode()) if number == DIGEST_HASH and found else raw
            for number, found, raw in fields(message)
        )

    return b"".join(
        of_bytes(number, digest(found)) if number == ACTION_DIGEST and found is not None else raw
        for number, found, raw in fields(request)
    )


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise NotProtobuf("a number that is cut off")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
