"""The Docker engine of a machine: asked how it is, told of, started."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from machines import add, at_default, environ_with, one

from crosswheel.building.machine import Machine, needs
from crosswheel.building.sandbox import engine
from crosswheel.building.sandbox.engine import Engine
from crosswheel.errors import MachineError

pytestmark = pytest.mark.unit

# --- the Docker engine ---


@pytest.fixture
def serve(machine: Machine) -> Iterator[Callable[..., None]]:
    """Lets an engine answer at the machine's socket: replies by path, or silence."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(machine.docker_host.removeprefix("unix://"))
        listener.listen()

        def answer(replies: Mapping[str, bytes]) -> None:
            def loop() -> None:
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        path = connection.recv(4096).split()[1].decode()
                        connection.sendall(replies[path])

            threading.Thread(target=loop, daemon=True).start()

        yield answer
        listener.shutdown(socket.SHUT_RDWR)


PING = b"HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24+dfsg1 (linux)\r\n\r\nOK"


def test_an_engine_that_answers(machine: Machine, serve: Callable[..., None]) -> None:
    serve({"/_ping": PING})
    assert engine.ping(machine.docker_host) == Engine(
        host=machine.docker_host, state="answers", version="20.10.24+dfsg1"
    )
    assert one(machine, needs.DOCKER).status == "ok"


def test_an_engine_that_says_nothing(machine: Machine, serve: Callable[..., None]) -> None:
    assert engine.ping(machine.docker_host, seconds=0.1).state == "silent"


def test_a_snap_is_refused(machine: Machine, serve: Callable[..., None]) -> None:
    (machine.root / "var/snap/docker").mkdir(parents=True)
    info = b'HTTP/1.0 200 OK\r\n\r\n{"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}'
    serve({"/_ping": PING, "/info": info})
    finding = one(machine, needs.DOCKER)
    assert (finding.status, finding.fix) == ("missing", "person")
    assert "snap remove docker && apt-get install" in finding.command


def test_a_snap_beside_another_engine_does_no_harm(machine: Machine, serve: Callable[..., None]) -> None:
    (machine.root / "var/snap/docker").mkdir(parents=True)
    serve({"/_ping": PING, "/info": b'HTTP/1.0 200 OK\r\n\r\n{"DockerRootDir": "/var/lib/docker"}'})
    assert one(machine, needs.DOCKER).status == "ok"


def test_a_socket_without_a_listener_and_no_socket(machine: Machine, tmp_path: Path) -> None:
    assert engine.ping(machine.docker_host).state == "absent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
    assert engine.ping(machine.docker_host).state == "refuses"
    finding = one(machine, needs.DOCKER)
    assert (finding.fix, "DOCKER_HOST" in finding.command) == ("person", True)


def test_an_address_that_cannot_be_looked_at_is_left_to_the_sdk(machine: Machine) -> None:
    assert one(environ_with(machine, DOCKER_HOST="ssh://builder"), needs.DOCKER).status == "ok"


@pytest.mark.parametrize(
    ("state", "fix", "words"),
    [
        ("forbidden", "person", "usermod -aG docker"),
        ("silent", "person", "systemctl restart docker"),
        ("absent", "install", "docker.io iptables"),
    ],
)
def test_each_trouble_with_docker_has_its_remedy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str, fix: str, words: str
) -> None:
    found = at_default(machine, monkeypatch, state)
    finding = one(found, needs.DOCKER)
    assert (finding.status, finding.fix) == ("missing", fix)
    assert words in finding.command


@pytest.mark.parametrize(("uid", "prefix"), [(0, ""), (1000, "sudo ")])
def test_an_engine_that_is_installed_is_to_be_started(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, uid: int, prefix: str
) -> None:
    found = replace(at_default(machine, monkeypatch, "absent"), uid=uid)
    add(found, "dockerd")
    finding = one(found, needs.DOCKER)
    assert (finding.fix, finding.packages, finding.command) == ("start", (), f"{prefix}dockerd &")
    (found.root / "run/systemd/system").mkdir(parents=True)
    assert one(found, needs.DOCKER).command == f"{prefix}systemctl start docker"


def test_a_rootless_engine_is_pointed_to(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        needs, "ping", lambda host: Engine(host=host, state="answers" if str(tmp_path) in host else "absent")
    )
    (tmp_path / "docker.sock").touch()
    found = replace(machine, environ={"PATH": "", "XDG_RUNTIME_DIR": str(tmp_path)})
    assert one(found, needs.DOCKER).command == f"export DOCKER_HOST=unix://{tmp_path}/docker.sock"


def test_a_system_v_init_starts_the_service(machine: Machine) -> None:
    (machine.root / "etc/init.d").mkdir()
    (machine.root / "etc/init.d/docker").touch()
    (machine.root / "proc/1").mkdir()
    (machine.root / "proc/1/comm").write_text("init\n")
    assert engine.start_command(machine.root) == ("service", "docker", "start")
    (machine.root / "proc/1/comm").write_text("bash\n")
    assert engine.start_command(machine.root) == ("dockerd",)


# --- starting ---

SERVER = """#!/usr/bin/env python3
import os, socket, sys
print("started", os.getsid(0) == os.getpid(), flush=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.environ["STUB_SOCKET"])
listener.listen()
listener.settimeout(30)
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nServer: Docker/1.2.3 (linux)\\r\\n\\r\\n")
    connection.close()
    if os.path.exists(os.environ["STUB_SOCKET"] + ".stop"):
        sys.exit()
"""


def start(machine: Machine, said: list[str], seconds: float = 10) -> Engine:
    environ = {**machine.environ, "STUB_SOCKET": machine.docker_host.removeprefix("unix://")}
    environ["PATH"] += f"{os.pathsep}{os.environ['PATH']}"
    log = machine.store / "machine/dockerd.log"
    return engine.start(
        log, say=said.append, host=machine.docker_host, environ=environ, seconds=seconds, root=machine.root
    )


def test_an_engine_is_started_once_apart_from_us(machine: Machine) -> None:
    add(machine, "dockerd", text=SERVER)
    said: list[str] = []
    assert start(machine, said).version == "1.2.3"
    assert "started True" in (machine.store / "machine/dockerd.log").read_text()
    assert start(machine, said).state == "answers"
    assert len(said) == 1
    Path(machine.docker_host.removeprefix("unix://") + ".stop").touch()
    engine.ping(machine.docker_host)


def test_an_engine_that_dies_is_told_with_its_last_words(machine: Machine) -> None:
    (machine.store / "machine").mkdir(parents=True)
    (machine.store / "machine/dockerd.log").write_text('level=error msg="of yesterday"\n')
    add(
        machine,
        "dockerd",
        text="#!/bin/sh\necho 'level=info msg=\"all is well\"'\n"
        "echo 'failed to start daemon: Devices cgroup isn'\\''t mounted'\nexit 1\n",
    )
    with pytest.raises(MachineError) as caught:
        start(machine, [])
    assert caught.value.why == "failed to start daemon: Devices cgroup isn't mounted"
    assert "mount -t cgroup2" in caught.value.hint
    assert caught.value.exit_code == 5


def test_an_engine_that_never_answers(machine: Machine) -> None:
    add(machine, "dockerd", text="#!/bin/sh\necho waiting for something\nexec sleep 3\n")
    with pytest.raises(MachineError, match="did not answer within 0 s") as caught:
        start(machine, [], seconds=0.3)
    assert caught.value.why == "waiting for something"


def test_where_one_runs_already_none_is_started(machine: Machine) -> None:
    (machine.root / "proc/4711").mkdir()
    (machine.root / "proc/4711/comm").write_text("dockerd\n")
    add(machine, "dockerd", text="#!/bin/sh\necho must not run\n")
    said: list[str] = []
    with pytest.raises(MachineError):
        start(machine, said, seconds=0.3)
    assert said == ["dockerd runs and does not answer yet; waiting for it"]
    assert not (machine.store / "machine/dockerd.log").exists()
