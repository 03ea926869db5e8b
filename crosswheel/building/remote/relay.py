"""Runs in the container: makes the forwarder's unix sockets look like ports of the container's own loopback device,
which no other container and no machine can reach, and runs a command.

    python3 relay.py PORT=SOCKET… -- COMMAND…

Old versions of Bazel speak to a unix socket for some caches and not for others; all of them speak to 127.0.0.1. It is a
program of its own that imports nothing of crosswheel, and runs on the builder's Python, from 3.5 on. It ends with the
command's status, 128 + the signal for one that a signal ended.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading

PIECE = 65536


def copy(source: socket.socket, sink: socket.socket) -> None:
    """Copies what comes until its end, and passes the end on."""
    with contextlib.suppress(OSError):
        while True:
            data = source.recv(PIECE)
            if not data:
                break
            sink.sendall(data)
    for one, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
        with contextlib.suppress(OSError):
            one.shutdown(how)


def join(inner: socket.socket, path: str) -> None:
    """Joins one connection with the forwarder's socket until both ends have been heard."""
    outer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        outer.connect(path)
        back = threading.Thread(target=copy, args=(outer, inner), daemon=True)
        back.start()
        copy(inner, outer)
        back.join()
    except OSError:
        pass  # the forwarder is gone: Bazel sees a connection that closes
    finally:
        outer.close()
        inner.close()


def serve(listener: socket.socket, path: str) -> None:
    """Takes connections for ever."""
    while True:
        inner, _ = listener.accept()
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=join, args=(inner, path), daemon=True).start()


def main(words: "list[str]") -> None:
    """The command line; see the module."""
    split = words.index("--")
    for word in words[:split]:
        port, _, path = word.partition("=")
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(port)))
        listener.listen(128)
        threading.Thread(target=serve, args=(listener, path), daemon=True).start()
    try:
        status = subprocess.call(words[split + 1 :])
    except OSError as error:
        print("cannot run {}: {}".format(words[split + 1], error.strerror), file=sys.stderr)
        status = 127
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main(sys.argv[1:])
