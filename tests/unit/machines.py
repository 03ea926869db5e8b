"""A machine that is made for a test: its programs, its environment and its engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crosswheel.building.machine import Finding, Machine, Need, look, needs
from crosswheel.building.sandbox.engine import Engine

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
FEDORA = 'NAME="Fedora Linux"\nVERSION_ID=43\nID=fedora\n'


def add(machine: Machine, *programs: str, text: str = "#!/bin/sh\nexit 0\n") -> None:
    for program in programs:
        path = machine.root / "usr/bin" / program
        path.write_text(text)
        path.chmod(0o755)


def one(machine: Machine, need: Need, *, versions: bool = False) -> Finding:
    return look(machine, [need], versions=versions)[0]


def environ_with(machine: Machine, **more: str) -> Machine:
    return replace(machine, environ={**machine.environ, **more})


def at_default(machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str) -> Machine:
    """The machine with DOCKER_HOST unset and an engine in this state at the usual place."""
    monkeypatch.setattr(needs, "ping", lambda host: Engine(host=host, state=state))
    return replace(machine, environ={"PATH": machine.environ["PATH"]})
