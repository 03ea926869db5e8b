"""The way to a remote cache, as a step's container gets it: the socket, the relay, the flags, and what is noted."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_runs import Recorder

from crosswheel.building.execute import execute
from crosswheel.building.job import Container, Job, Settings
from crosswheel.building.remote.endpoints import Remote
from crosswheel.building.runs import run_run
from crosswheel.building.store import Store
from crosswheel.errors import StepError
from crosswheel.planning.remote import RemoteUse
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep, Step
from crosswheel.spec.targets import BazelRemote

pytestmark = pytest.mark.unit

BUILDER = FilesStep(name="builder", files={"usr/bin/python3": RenderedFile(text="python3.11", link=True)})
HOME = FilesStep(name="home", files={".bazelrc": RenderedFile(text="build --spawn_strategy=standalone\n")})
KNOWN = BazelRemote(
    http=("--remote_http_cache=http://{address}",),
    grpc=("--remote_cache={address}",),
    executor=('--properties={name:"crosswheel" value:"{tools}"}',),
    always=("--remote_timeout=60",),
)
USE = RemoteUse(bazel="0.24.1", flags=KNOWN, tools="t" * 64)


class Nothing(BaseHTTPRequestHandler):
    """An empty cache."""

    def log_message(self, format: str, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.send_error(404)


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/cache"
    server.shutdown()
    server.server_close()


class Listener:
    def plan(self, steps: object) -> None: ...

    def started(self, step: Step) -> None: ...

    def line(self, step: Step, text: str) -> None: ...

    def waiting(self, step: Step) -> None: ...

    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...

    def damaged(self, step: Step, what: str) -> None: ...

    def failed(self, step: Step, error: object) -> None: ...


def a_step(remote: RemoteUse | None = USE, builder: FilesStep = BUILDER) -> RunStep:
    return RunStep(
        name="compile",
        inputs={"builder": builder, "home": HOME},
        commands=(("bazel", "build", "//:x"),),
        env={},
        cwd="/build",
        mounts={},
        copies={"home": "/build/home"},
        outputs=("x",),
        remote=remote,
    )


def made(
    step: RunStep, store: Path, remote: Remote | None, act: Callable[[Container, Path], int]
) -> tuple[Store, Recorder]:
    """Executes the step; ``act`` sees the container and its build folder."""

    def in_container(container: Container, log: Callable[[str], None]) -> int:
        build = next(mount.source for mount in container.mounts if mount.target == "/build")
        return act(container, build)

    recorder = Recorder(in_container)

    def run(step: RunStep, inputs: dict[str, Path], job: Job) -> None:
        run_run(step, inputs, job, sandbox=recorder)

    def files(step: FilesStep, inputs: dict[str, Path], job: Job) -> None:
        from crosswheel.building.runs import run_files

        run_files(step, inputs, job)

    settings = Settings(store=store, remote=remote)
    runners = {RunStep: run, FilesStep: files}
    execute(step, Store(store), settings, runners, Listener(), sweep=lambda key: None)  # type: ignore[arg-type]
    return Store(store), recorder


def leave_result(container: Container, build: Path) -> int:
    (build / "out/x").write_text("")
    return 0


def test_the_container_gets_a_socket_a_relay_and_flags_that_win(tmp_path: Path, url: str) -> None:
    seen: dict[str, object] = {}

    def look(container: Container, build: Path) -> int:
        folder = next(mount for mount in container.mounts if mount.target == "/remote")
        assert not folder.writable
        seen["socket"] = stat.S_ISSOCK((folder.source / "cache").stat().st_mode)
        seen["mode"] = stat.S_IMODE(folder.source.stat().st_mode)
        seen["folder"] = folder.source
        seen["relay"] = (folder.source / "relay.py").read_text()
        seen["home"] = (build / "home/.bazelrc").read_text()
        seen["lines"] = (build / "machine/remote.bazelrc").read_text()
        return leave_result(container, build)

    store, recorder = made(a_step(), tmp_path, Remote(cache=url), look)
    (container,) = recorder.asked
    python = ("/usr/bin/python3", "-I", "-S", "/remote/relay.py", "8980=/remote/cache", "--")
    assert container.argv == (*python, "bazel", "build", "//:x")
    assert seen["socket"]
    assert seen["mode"] == 0o700
    assert "def serve" in str(seen["relay"])
    assert str(seen["home"]).splitlines()[-1] == "import /build/machine/remote.bazelrc"
    assert seen["lines"] == "build --remote_timeout=60\nbuild --remote_http_cache=http://127.0.0.1:8980\n"
    assert not Path(str(seen["folder"])).exists()  # with the step, the way ends
    meta = json.loads((store.path(a_step().key) / "meta.json").read_text())
    assert meta["notes"]["remote"]["cache"]["url"] == url
    assert meta["notes"]["remote"]["cache"]["reached"] is True
    log = (store.path(a_step().key) / "log.txt").read_text()
    assert f"crosswheel: the remote cache {url} is used" in log
    assert "crosswheel: remote cache: 0 of 0 actions found" in log


@pytest.mark.parametrize("which", ["no settings", "no Bazel", "no Python in the builder", "nobody answers"])
def test_without_a_way_the_step_runs_as_it_always_did(which: str, tmp_path: Path, url: str) -> None:
    remote = None if which == "no settings" else Remote(cache=url)
    if which == "nobody answers":
        remote = Remote(cache="http://127.0.0.1:9/cache")
    bare = FilesStep(name="builder", files={"bin/sh": RenderedFile(text="")})
    builder = bare if which == "no Python in the builder" else BUILDER
    step = a_step(None if which == "no Bazel" else USE, builder)
    store, recorder = made(step, tmp_path, remote, leave_result)
    (container,) = recorder.asked
    assert container.argv == ("bazel", "build", "//:x")
    assert not any(mount.target == "/remote" for mount in container.mounts)
    meta = json.loads((store.path(step.key) / "meta.json").read_text())
    if which == "nobody answers":
        assert meta["notes"]["remote"]["cache"] == {"url": "http://127.0.0.1:9/cache", "reached": False}
        assert "the build goes on without it" in (store.path(step.key) / "log.txt").read_text()
    else:
        assert "notes" not in meta


def test_a_read_only_build_has_no_executor(tmp_path: Path, url: str) -> None:
    remote = Remote(executor="grpc://127.0.0.1:9", upload=False)
    store, recorder = made(a_step(), tmp_path, remote, leave_result)
    assert recorder.asked[0].argv == ("bazel", "build", "//:x")
    assert "so nothing runs on the executor" in (store.path(a_step().key) / "log.txt").read_text()


def test_a_shell_in_a_failed_step_finds_no_dead_flags(tmp_path: Path, url: str) -> None:
    kept: list[Path] = []

    def fail(container: Container, build: Path) -> int:
        kept.append(build)
        os.link(build / "machine/remote.bazelrc", tmp_path / "seen")
        return 3

    with pytest.raises(StepError, match="ended with exit status 3"):
        made(a_step(), tmp_path / "store", Remote(cache=url), fail)
    assert (tmp_path / "seen").read_text() == ""


def test_flags_with_blanks_are_one_word_in_the_bazelrc(tmp_path: Path) -> None:
    import shlex

    from crosswheel.building.remote.opening import _write_bazelrc, flags

    (tmp_path / "home").mkdir()
    chosen = flags(KNOWN, Remote(executor="grpc://e"), {"executor": "grpc://e"}, "abc")
    _write_bazelrc(tmp_path, chosen)
    lines = (tmp_path / "machine/remote.bazelrc").read_text().splitlines()
    assert shlex.split(lines[-1]) == ["build", '--properties={name:"crosswheel" value:"abc"}']
