"""The Docker sandbox, with a real engine and a root that holds nothing but a static busybox."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import pytest
from busybox import make_root

from crosswheel.building.cleaning import clean
from crosswheel.building.diagnose import OUT_OF_MEMORY, diagnose
from crosswheel.building.execute import Runner, execute
from crosswheel.building.job import Cancelled, Container, Job, Mount, Settings
from crosswheel.building.runs import run_run
from crosswheel.building.sandbox import ORDINARY_USER, remove_images
from crosswheel.building.sandbox.docker_engine import DockerSandbox, store_label
from crosswheel.building.sandbox.engine import DEFAULT_HOST
from crosswheel.building.store import Store
from crosswheel.errors import CrosswheelError, MachineError, StepError
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep, Step
from tests.waiting import emptied

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

ROOT = FilesStep(name="a tiny root", files={"only for its key": RenderedFile(text="busybox")})
KEY = "5" * 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("busybox"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store"))
    yield made
    remove_images(made)  # none of the roots is in it


@pytest.fixture(scope="module")
def sandbox(store: Store) -> DockerSandbox:
    return DockerSandbox(store.root)


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    client = docker.from_env()
    yield client
    client.close()


def containers(engine: Any, store: Store, key: str = "") -> list[Any]:
    """All containers of the store, running or not; with ``key`` those of a step."""
    labels = [f"crosswheel.store={store_label(store.root)}", *([f"crosswheel.key={key}"] if key else [])]
    return list(engine.containers.list(all=True, filters={"label": labels}))


@pytest.fixture
def own(tmp_path: Path, engine: Any) -> Iterator[Store]:
    """A store for one test, which leaves no container and no image behind even when it fails."""
    made = Store(tmp_path / "store")
    yield made
    for container in containers(engine, made):
        container.remove(force=True)
    clean(made, None, 0, time.time())
    remove_images(made)


def sh(root: Path, script: str, *mounts: Mount, memory: int = 256, pids: int = 64) -> Container:
    return Container(
        root=root,
        root_key=ROOT.key,
        argv=("sh", "-c", script),
        env={"GREETING": "hello"},
        cwd="/tmp",
        mounts=mounts,
        memory=memory,
        pids=pids,
    )


def run(sandbox: DockerSandbox, container: Container, key: str = KEY) -> tuple[int, list[str]]:
    log: list[str] = []
    status = sandbox.run(container, log=log.append, cancelled=threading.Event(), label_key=key)
    return status, [line for line in log if not line.startswith("importing")]


def test_status_output_and_environment(sandbox: DockerSandbox, store: Store, root: Path, engine: Any) -> None:
    status, log = run(sandbox, sh(root, "echo $GREETING; echo oops >&2; env; exit 3"))
    assert status == 3
    assert "hello" in log and "oops" in log
    names = {line.partition("=")[0] for line in log if "=" in line}
    assert names <= {"GREETING", "PATH", "HOSTNAME", "HOME", "PWD", "SHLVL"}
    assert containers(engine, store, KEY) == []


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
    container = Container(
        root=root, root_key=ROOT.key, argv=("swig", "-c"), env={}, cwd="/", mounts=(), memory=64
    )
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
    assert containers(engine, store, key) == []


def until(condition: Any, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


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
import test_sandbox_docker as t
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


# --- steps -----------------------------------------------------------------------------------------------------------


def a_step(root: Path, script: str) -> RunStep:
    return RunStep(
        name="a step",
        inputs={"builder": ROOT, "input": ROOT},
        commands=(("sh", "-c", script), ("sh", "-c", "cat /input/bin/sh > /dev/null")),
        env={},
        cwd="/build/src",
        mounts={"input": "/input"},
        copies={"input": "/build/src"},
        outputs=("*.txt",),
        sized_env={"SIZE": "{jobs} {memory}"},
    )


class Listener:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def plan(self, steps: object) -> None: ...

    def started(self, step: Step) -> None: ...

    def line(self, step: Step, text: str) -> None:
        self.lines.append(text)

    def waiting(self, step: Step) -> None: ...

    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...

    def damaged(self, step: Step, what: str) -> None: ...

    def failed(self, step: Step, error: CrosswheelError) -> None: ...


def build(step: RunStep, root: Path, store: Store, **options: Any) -> Path:
    """Executes the step with the busybox root as its builder."""
    host = options.pop("host", None)

    def give_root(step: FilesStep, inputs: Mapping[str, Path], job: Job) -> None:
        subprocess.run(("cp", "-a", f"{root}/.", str(job.out)), check=True)

    def run_step(step: RunStep, inputs: Mapping[str, Path], job: Job) -> None:
        run_run(step, inputs, job, sandbox=DockerSandbox(store.root, host=host))

    settings = Settings(store=store.root, memory=64, **options)
    runners: Mapping[type[Step], Runner] = {FilesStep: give_root, RunStep: run_step}
    return execute(step, store, settings, runners, Listener()).artefacts[step.key].path


def test_a_step_leaves_its_output_to_the_caller(root: Path, own: Store) -> None:
    store = own
    script = """
    id -u > /build/out/who.txt
    mkdir -m 700 /build/out/deep; echo x > /build/out/deep/x
    echo changed > bin/new; echo $HOME $SIZE > /build/out/env.txt
    """
    step = a_step(root, script)
    out = build(step, root, store, jobs=3)
    everything = [out, *out.rglob("*")]
    assert len(everything) == 5
    assert {path.stat().st_uid for path in everything} == {os.getuid()}
    assert {path.stat().st_gid for path in everything} == {os.getgid()}
    assert int((out / "who.txt").read_text()) != 0
    assert (out / "env.txt").read_text() == "/build/home 3 64\n"
    assert emptied(store.root / "tmp")
    assert not (store.path(ROOT.key) / "out/bin/new").exists()  # the copy was changed, not the input


def test_a_failed_step_shows_the_lines_that_matter(root: Path, own: Store) -> None:
    store = own
    step = a_step(root, "echo \"a.cc:1:1: error: 'x' was not declared\"; exit 1")
    with pytest.raises(StepError) as caught:
        build(step, root, store, keep_failed=True)
    assert "was not declared" in caught.value.why and f"./x shell {step.key[:12]}" in caught.value.hint
    assert "was not declared" in store.log_path(step.key).read_text()
    assert (store.root / "failed" / step.key / "work/container.json").is_file()


KILLED_BUILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_sandbox_docker as t
root, store = Path(sys.argv[1]), t.Store(Path(sys.argv[2]))
step = t.a_step(root, sys.argv[4])
try:
    t.build(step, root, store)
except KeyboardInterrupt:
    sys.exit(130)
"""
SLOW = "echo ready > /build/ready; sleep 60; echo x > /build/out/x.txt"


def start_build(root: Path, store: Store) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    argv = (sys.executable, "-c", KILLED_BUILD, str(root), str(store.root), here, SLOW)
    before = set(ready(store))
    process = subprocess.Popen(argv)
    until(lambda: set(ready(store)) - before, 60)
    return process


def ready(store: Store) -> list[Path]:
    """A file for each container that has begun to work."""
    return list((store.root / "tmp").glob("*/work/build/ready"))


def test_a_killed_build_leaves_a_container_which_the_next_one_removes(
    root: Path, own: Store, engine: Any
) -> None:
    store = own
    key = a_step(root, SLOW).key
    process = start_build(root, store)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = containers(engine, store, key)
    assert left.status == "running"
    again = start_build(root, store)  # the same step in the same store
    (mine,) = containers(engine, store, key)
    assert mine.id != left.id
    assert len(list((store.root / "tmp").glob(f"{key}.*"))) == 1
    again.send_signal(signal.SIGINT)
    assert again.wait(20) == 130
    assert containers(engine, store, key) == []
    assert emptied(store.root / "tmp")


def test_ctrl_c_leaves_no_container(root: Path, own: Store, engine: Any) -> None:
    store = own
    process = start_build(root, store)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - start < 6  # Python's end included
    assert containers(engine, store) == []
    assert emptied(store.root / "tmp")


def test_a_full_disk_is_said_to_be_one(root: Path, tmp_path: Path) -> None:
    """The store lies on a small disk of its own, and the step fills it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root; as another user the unit test with ENOSPC stands for it")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)), check=True)
    store = Store(disk / "store")
    step = a_step(root, "dd if=/dev/zero of=/build/out/big.txt bs=1M count=100")
    try:
        with pytest.raises(MachineError) as caught:
            build(step, root, store)
        for part in ("no space left", str(store.root), "MiB free", "./x clean"):
            assert part in str(caught.value)
        assert store.has(ROOT.key) and not store.has(step.key)
        assert emptied(store.root / "tmp")
    finally:
        clean(store, None, 0, time.time())
        remove_images(store)
        subprocess.run(("umount", str(disk)), check=True)


# --- the engine at fault ---------------------------------------------------------------------------------------------


class Proxy:
    """Passes on what is said to the real engine, until it is told to be dead. The real one is never touched."""

    def __init__(self, path: Path) -> None:
        self.host = f"unix://{path}"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._open: list[socket.socket] = []
        self._dead = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._dead:
                client.close()
                continue
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(DEFAULT_HOST.removeprefix("unix://"))
            self._open += [client, engine]
            for source, target in ((client, engine), (engine, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def die(self) -> None:
        """As a killed daemon: all connections end, and new ones get no answer."""
        self._dead = True
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def test_a_daemon_that_is_killed_in_mid_step(root: Path, tmp_path: Path, own: Store, engine: Any) -> None:
    store = own
    step = a_step(root, SLOW)
    proxy = Proxy(tmp_path / "docker.sock")
    caught: list[BaseException] = []

    def work() -> None:
        try:
            build(step, root, store, host=proxy.host)
        except MachineError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: ready(store), 60)
    proxy.die()
    thread.join(20)
    assert caught and "The Docker daemon went away" in str(caught[0]), caught
    assert emptied(store.root / "tmp")
    log = store.log_path(step.key).read_text()
    assert "could not be removed" in log
    # The container lives on, as with a killed daemon whose containers have a shim of their own. Whoever builds the
    # step next removes it, even though no folder tells of it any more.
    (left,) = containers(engine, store, step.key)
    again = start_build(root, store)
    assert left.id not in [container.id for container in containers(engine, store, step.key)]
    again.send_signal(signal.SIGINT)
    assert again.wait(20) == 130
    assert containers(engine, store, step.key) == []


def refused(host: str, root: Path, store: Path, seconds: int = 60) -> MachineError:
    with pytest.raises(MachineError) as caught:
        DockerSandbox(store, host=host, seconds=seconds).run(
            sh(root, "true"), log=print, cancelled=threading.Event(), label_key=KEY
        )
    assert caught.value.hint and caught.value.exit_code == 5
    return caught.value


def test_no_engine(root: Path, tmp_path: Path) -> None:
    error = refused(f"unix://{tmp_path}/none.sock", root, tmp_path)
    assert "no Docker engine" in error.what and "./x doctor --fix" in error.hint


def test_a_socket_without_a_daemon(root: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "dead.sock"))
        error = refused(f"unix://{tmp_path}/dead.sock", root, tmp_path)
    assert "does not run" in error.what


def test_a_daemon_that_does_not_answer(root: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "mute.sock"))
        server.listen()
        error = refused(f"unix://{tmp_path}/mute.sock", root, tmp_path)
    assert "does not answer" in error.what


class Impostor:
    """An engine that answers what it is told to: path (a pattern) → status and body."""

    def __init__(self, path: Path, answers: Mapping[str, tuple[int, str]]) -> None:
        import http.server
        import socketserver

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.read_request()
                for pattern, (status, body) in answers.items():
                    if re.search(pattern, self.path):
                        self.send_response(status)
                        self.send_header("Content-Type", "application/json")
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body.encode())
                        return
                self.send_error(500, self.path)

            def read_request(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        self.rfile.read(size + 2)
                    self.rfile.readline()

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *arguments: object) -> None: ...

            def address_string(self) -> str:
                return "unix"

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.host = f"unix://{path}"
        self._server = Server(str(path), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


VERSION = {"/_ping": (200, "OK"), "/version": (200, '{"ApiVersion": "1.41"}')}
INFO = '{"DockerRootDir": "/var/lib/docker", "SecurityOptions": []}'


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"/info": (200, '{"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}')}, "installed by snap"),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (200, '{"Id": "x"}'),
                "/containers/create": (400, '{"message": "invalid mount config: bind source path does not exist: /x"}'),
            },
            "does not see the files",
        ),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (200, '{"Id": "x"}'),
                "/containers/create": (201, '{"Id": "abc"}'),
                "/containers/abc/archive": (404, '{"message": "Could not find the file /mnt/token"}'),
                "/containers/abc": (204, ""),
            },
            "does not see the files",
        ),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (200, '{"Id": "x"}'),
                "/containers/create": (500, '{"message": "mkdir /var/lib/docker/x: no space left on device"}'),
            },
            "no space left where Docker keeps",
        ),
        (
            {
                "/info": (200, INFO),
                "/images/.*json": (404, '{"message": "No such image"}'),
                "/images/create": (200, '{"error": "write /var/lib/docker/tmp: no space left on device"}'),
            },
            "no space left where Docker keeps",
        ),
        ({"/info": (500, '{"message": "something else"}')}, "Docker failed while"),
    ],
)
def test_what_an_engine_says_is_put_plainly(
    root: Path, tmp_path: Path, answers: dict[str, tuple[int, str]], said: str
) -> None:
    impostor = Impostor(tmp_path / "docker.sock", {**answers, **VERSION})
    try:
        assert said in refused(impostor.host, root, tmp_path / "store").what
    finally:
        impostor.close()


def test_no_permission_on_the_socket(root: Path, tmp_path: Path) -> None:
    """As an ordinary user, where the tests run as root; else the socket is simply closed to all."""
    script = f"""
import os, sys
from crosswheel.building.sandbox.engine import ping
from crosswheel.building.sandbox.docker_errors import check_engine
from crosswheel.errors import MachineError
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    check_engine(ping("unix://{tmp_path}/closed.sock"))
except MachineError as error:
    print(error); sys.exit(error.exit_code)
"""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/closed.sock")
        server.listen()
        (tmp_path / "closed.sock").chmod(0o000)
        done = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "You may not use the Docker daemon" in done.stdout and "usermod -aG docker" in done.stdout
