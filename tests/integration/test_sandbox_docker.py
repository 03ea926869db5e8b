"""The Docker sandbox, with a real engine and a root that holds nothing but a static busybox."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from containers import KEY, ROOT, containers_of, run, sh, until

from crosswheel.building.diagnose import OUT_OF_MEMORY, diagnose
from crosswheel.building.job import Cancelled, Container, Mount
from crosswheel.building.sandbox import ORDINARY_USER, remove_images
from crosswheel.building.sandbox.docker_engine import DockerSandbox
from crosswheel.building.store import Store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def test_status_output_and_environment(sandbox: DockerSandbox, store: Store, root: Path, engine: Any) -> None:
    status, log = run(sandbox, sh(root, "echo $GREETING; echo oops >&2; env; exit 3"))
    assert status == 3
    assert "hello" in log and "oops" in log
    names = {line.partition("=")[0] for line in log if "=" in line}
    assert names <= {"GREETING", "PATH", "HOSTNAME", "HOME", "PWD", "SHLVL"}
    assert containers_of(engine, store, KEY) == []


def test_the_last_line_needs_no_newline_and_none_is_lost(sandbox: DockerSandbox, root: Path) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo -n end"
    assert run(sandbox, sh(root, script))[1] == [*(f"line {i}" for i in range(20000)), "end"]


def test_there_is_no_network(sandbox: DockerSandbox, root: Path) -> None:
    status, log = run(sandbox, sh(root, "ip -o link; ip route"))
    assert status == 0
    assert [line.split(":")[1].strip() for line in log] == ["lo"]
    assert "UP" in log[0]  # Bazel talks to its server over it


def test_an_ordinary_user_without_capabilities(sandbox: DockerSandbox, root: Path) -> None:
    _, log = run(sandbox, sh(root, "id -u; id -g; grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status"))
    expected = (os.getuid(), os.getgid()) if os.getuid() else (ORDINARY_USER, ORDINARY_USER)
    assert tuple(map(int, log[:2])) == expected
    facts = dict(line.split(":\t") for line in log[2:])
    assert facts.pop("NoNewPrivs") == "1"
    assert len(facts) == 4 and all(int(value, 16) == 0 for value in facts.values())


def test_only_tmp_and_writable_mounts_can_be_written(sandbox: DockerSandbox, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("input")
    (tmp_path / "build/deep").mkdir(parents=True)
    (tmp_path / "build/deep/old").write_text("old")
    mounts = (
        Mount(source=tmp_path / "in", target="/in/some/where"),
        Mount(source=tmp_path / "build", target="/build", writable=True),
    )
    script = """
    exec 2>&1  # two streams may end up in one line
    for place in /x /bin/x /etc/x /in/x /in/some/where/x /in/some/where/file; do
        if echo x > $place; then echo wrote $place; fi
    done
    cat /in/some/where/file; echo
    echo '#!/bin/sh
echo ran' > /tmp/program; chmod +x /tmp/program; /tmp/program
    echo new > /build/new; echo changed > /build/deep/old; echo more > /build/deep/more
    """
    status, log = run(sandbox, sh(root, script, *mounts))
    assert status == 0
    assert not [line for line in log if line.startswith("wrote")]
    assert {"input", "ran"} <= set(log), "\n".join(log)
    assert (tmp_path / "in/file").read_text() == "input"
    assert (tmp_path / "build/deep/old").read_text() == "changed\n"
    assert (tmp_path / "build/deep/more").read_text() == "more\n"


def test_the_memory_limit_kills_and_is_recognised(sandbox: DockerSandbox, root: Path, engine: Any) -> None:
    status, log = run(sandbox, sh(root, "tail /dev/zero", memory=32))
    assert status == 137
    assert log[-1].startswith(f"{OUT_OF_MEMORY} of 32 MiB")
    assert "memory ran out" in diagnose(log, status).cause
    # Also where the killed process is a child, and the command goes on to fail in its own way.
    status, log = run(sandbox, sh(root, "tail /dev/zero; echo error: no output; exit 1", memory=32))
    assert status == 1
    assert "memory ran out" in diagnose(log, status).cause
    assert run(sandbox, sh(root, "true", memory=32)) == (0, [])


def test_the_number_of_processes_is_limited(sandbox: DockerSandbox, root: Path) -> None:
    script = "i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done; echo all"
    status, log = run(sandbox, sh(root, script, pids=20))
    assert status != 0 and "all" not in log and any("fork" in line for line in log)


def test_a_program_that_is_not_there(sandbox: DockerSandbox, root: Path) -> None:
    container = Container(root=root, root_key=ROOT.key, argv=("swig", "-c"), env={}, cwd="/", mounts=(), memory=64)
    status, log = run(sandbox, container)
    assert status == 127
    assert "not in the builder" in diagnose(log, status).cause, log


def test_cancelling_stops_within_two_seconds_and_leaves_no_container(
    sandbox: DockerSandbox, store: Store, root: Path, engine: Any
) -> None:
    key, cancelled, log = "6" * 64, threading.Event(), list[str]()
    ended: list[float] = []

    def work() -> None:
        container = sh(root, "trap '' TERM INT; echo ready; sleep 60")
        with pytest.raises(Cancelled):
            sandbox.run(container, log=log.append, cancelled=cancelled, label_key=key)
        ended.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: "ready" in log)
    start = time.monotonic()
    cancelled.set()
    thread.join(20)
    assert ended and ended[0] - start < 4  # 2 s on a free machine
    assert containers_of(engine, store, key) == []


def test_the_root_is_imported_once(store: Store, root: Path, engine: Any) -> None:
    key = "7" * 64
    log: list[str] = []
    container = Container(root=root, root_key=key, argv=("true",), env={}, cwd="/", mounts=(), memory=64)

    def work(label: str) -> None:  # one key is built by one process at a time: the store's lock sees to it
        own = DockerSandbox(store.root)
        own.run(container, log=log.append, cancelled=threading.Event(), label_key=label)

    threads = [threading.Thread(target=work, args=(digit * 64,)) for digit in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([line for line in log if line.startswith("importing")]) == 1
    images = engine.images.list(filters={"label": f"crosswheel.root={key}"})
    assert len(images) == 1 and images[0].tags[0].startswith(f"crosswheel/root:{key[:24]}")
    assert remove_images(Store(store.root)) >= 1
    assert engine.images.list(filters={"label": f"crosswheel.root={key}"}) == []


def test_cancelling_the_import_leaves_no_image(store: Store, root: Path, engine: Any) -> None:
    key, cancelled = "8" * 64, threading.Event()
    cancelled.set()
    container = Container(root=root, root_key=key, argv=("true",), env={}, cwd="/", mounts=(), memory=64)
    with pytest.raises(Cancelled):
        DockerSandbox(store.root).run(container, log=print, cancelled=cancelled, label_key=KEY)
    assert engine.images.list(filters={"label": f"crosswheel.root={key}"}) == []


def test_the_shell_gets_the_terminal(store: Store, root: Path, tmp_path: Path) -> None:
    """``./x shell`` in a pseudo-terminal: what is typed arrives, and the exit status comes back."""
    script = f"""
from pathlib import Path
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import containers as t
container = t.sh(Path({str(root)!r}), "")
from dataclasses import replace
sys.exit(t.DockerSandbox(Path({str(store.root)!r})).shell(replace(container, argv=("sh",))))
"""
    pid, terminal = os.forkpty()
    if pid == 0:
        os.execv(sys.executable, (sys.executable, "-c", script))
    seen = b""

    def read_until(wanted: bytes) -> None:
        nonlocal seen
        end = time.monotonic() + 30
        while wanted not in seen:
            assert time.monotonic() < end, seen
            if select.select((terminal,), (), (), 0.2)[0]:
                seen += os.read(terminal, 4096)

    read_until(b"$ ")
    os.write(terminal, b"echo $((6*7)) from $PWD; exit 9\r")
    read_until(b"42 from /tmp")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 9
