"""A server and a machine, made for a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fetching import Server
from machines import DEBIAN

from crosswheel.building.machine import Machine
from crosswheel.building.sources.places import http


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server in this process, which is tried again at once where it fails."""
    monkeypatch.setattr(http, "WAITS", (0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian of root's in a folder, with an empty PATH."""
    root = tmp_path / "root"
    for folder in ("etc", "proc", "usr/bin"):
        (root / folder).mkdir(parents=True)
    (root / "etc/os-release").write_text(DEBIAN)
    (root / "proc/meminfo").write_text("MemTotal:       16384000 kB\nMemFree: 1 kB\n")
    environ = {"PATH": str(root / "usr/bin"), "DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}
    return replace(Machine.here(tmp_path / "store", environ, root=root), uid=0)
