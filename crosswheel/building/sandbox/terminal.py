"""Connects the user's terminal with a program in a container."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from crosswheel.errors import InputError


class Connection(Protocol):
    """A socket, or what the docker SDK wraps around one."""

    def fileno(self) -> int: ...


def give_terminal(connection: Connection, resize: Callable[[int, int], None]) -> None:
    """Passes keys and output on until the other side closes. ``resize`` is told rows and columns, now and whenever the
    window changes. ``InputError`` where standard input is no terminal."""
    if not sys.stdin.isatty():
        raise InputError("A shell needs a terminal.", where="standard input")
    keyboard = sys.stdin.fileno()

    def resized(_signal: int = 0, _frame: FrameType | None = None) -> None:
        size = shutil.get_terminal_size()
        resize(size.lines, size.columns)

    before = termios.tcgetattr(keyboard)
    handler = signal.signal(signal.SIGWINCH, resized)
    other = socket.socket(fileno=os.dup(connection.fileno()))
    try:
        resized()
        tty.setraw(keyboard)
        _pump(keyboard, other)
    finally:
        other.close()
        signal.signal(signal.SIGWINCH, handler)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _pump(keyboard: int, other: socket.socket) -> None:
    sources: list[int | socket.socket] = [keyboard, other]
    while True:
        ready, _, _ = select.select(sources, (), ())
        if other in ready:
            output = other.recv(65536)
            if not output:
                return
            os.write(sys.stdout.fileno(), output)
        if keyboard in ready:
            keys = os.read(keyboard, 4096)
            if keys:
                other.sendall(keys)
            else:
                sources.remove(keyboard)
