"""The runners of commands, files and local sources, with a sandbox that records what it is asked for."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from crosswheel.building.diagnose import OUT_OF_MEMORY
from crosswheel.building.job import Cancelled, Container, Job, Settings
from crosswheel.building.runs import copy_writable, open_shell, run_files, run_local, run_run
from crosswheel.building.sandbox import environment
from crosswheel.building.store import Store
from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.errors import InputError, MachineError, StepError
from crosswheel.planning.steps import FilesStep, LocalStep, RenderedFile, RunStep

pytestmark = pytest.mark.unit

BUILDER = FilesStep(name="builder", files={"bin/bash": RenderedFile(text="")})
SOURCE = FilesStep(name="source", files={"setup.py": RenderedFile(text="x")})


@dataclass
class Recorder:
    """A sandbox that runs a function instead of a container."""

    act: Callable[[Container, Callable[[str], None]], int]
    asked: list[Container] = field(default_factory=list)
    shells: list[Container] = field(default_factory=list)

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        assert len(label_key) == 64
        self.asked.append(container)
        return self.act(container, log)

    def shell(self, container: Container) -> int:
        self.shells.append(container)
        return 7

    def sweep(self, key: str) -> None:
        raise AssertionError("the executor does that")


def a_run(*commands: tuple[str, ...], outputs: tuple[str, ...] = ("*.whl",)) -> RunStep:
    return RunStep(
        name="dm-tree: build",
        inputs={"builder": BUILDER, "source": SOURCE, "tools": SOURCE},
        commands=commands or (("make",),),
        env={"SOURCE_DATE_EPOCH": "0", "LANG": "C"},
        cwd="/build/src",
        mounts={"tools": "/opt/tools"},
        copies={"source": "/build/src"},
        outputs=outputs,
        sized_env={"MAKEFLAGS": "-j{jobs}"},
        sized_files={"/build/machine/rc": "memory {memory} and {jobs} jobs {kept}\n"},
    )


def a_job(tmp_path: Path, key: str, log: list[str] | None = None) -> Job:
    out, work = tmp_path / "job/out", tmp_path / "job/work"
    out.mkdir(parents=True)
    work.mkdir()
    return Job(
        key=key,
        out=out,
        work=work,
        settings=Settings(store=tmp_path / "store", jobs=3, memory=1234),
        log=(log if log is not None else []).append,
        cancelled=threading.Event(),
    )


@pytest.fixture
def inputs(tmp_path: Path) -> Mapping[str, Path]:
    source = tmp_path / "inputs/source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/setup.py").write_text("x")
    (source / "sub/setup.py").chmod(0o555)
    (source / "link").symlink_to("sub/setup.py")
    os.utime(source / "sub/setup.py", (1e9, 1e9))
    builder = tmp_path / "inputs/builder"
    (builder / "bin").mkdir(parents=True)
    (builder / "bin/bash").write_text("")
    return {"builder": builder, "source": source, "tools": source}


def build_of(container: Container) -> Path:
    return next(mount.source for mount in container.mounts if mount.writable)


def leave_wheel(container: Container, log: Callable[[str], None]) -> int:
    log("building")
    (build_of(container) / "out/x.whl").write_text("wheel")
    return 0


def test_the_container_sees_what_the_step_says(
    tmp_path: Path, inputs: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "the host's")
    step = a_run(("make", "a b"), ("make", "install"))
    log: list[str] = []
    job = a_job(tmp_path, step.key, log)
    sandbox = Recorder(leave_wheel)
    run_run(step, inputs, job, sandbox=sandbox)
    assert [container.argv for container in sandbox.asked] == [("make", "a b"), ("make", "install")]
    container = sandbox.asked[0]
    assert (container.root, container.root_key) == (inputs["builder"], BUILDER.key)
    assert (container.cwd, container.memory) == ("/build/src", 1234)
    seen = {mount.target: (mount.source, mount.writable) for mount in container.mounts}
    assert seen == {"/build": (job.work / "build", True), "/opt/tools": (inputs["tools"], False)}
    assert container.env == {
        "SOURCE_DATE_EPOCH": "0",
        "LANG": "C",
        "HOME": "/build/home",
        "USER": "builder",
        "LOGNAME": "builder",
        "MAKEFLAGS": "-j3",
    }
    assert (job.work / "build/machine/rc").read_text() == "memory 1234 and 3 jobs {kept}\n"
    assert (job.work / "build/home").is_dir()
    assert log == ["$ make 'a b'", "building", "$ make install", "building"]
    assert (job.out / "x.whl").read_text() == "wheel"


def test_the_search_path_is_not_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/of/the/host")
    base = Container(root=Path("/"), root_key="", argv=(), env={}, cwd="/", mounts=(), memory=1)
    assert "host" not in environment(base)["PATH"] and "/usr/bin" in environment(base)["PATH"]


def test_copies_are_writable_and_keep_links_times_and_modes(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    target = tmp_path / "copy"
    copy_writable(inputs["source"], target)
    copied = target / "sub/setup.py"
    assert copied.stat().st_mode & 0o777 == 0o755 and copied.stat().st_mtime == 1e9
    assert (target / "link").is_symlink() and (target / "link").read_text() == "x"
    copied.write_text("changed")
    assert (inputs["source"] / "sub/setup.py").read_text() == "x"


def test_a_failing_command_is_explained(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def fail(container: Container, log: Callable[[str], None]) -> int:
        log("a.cc:3:1: error: 'x' was not declared in this scope")
        return 2

    step = a_run(("g++", "a.cc"), ("never",))
    sandbox = Recorder(fail)
    with pytest.raises(StepError) as caught:
        run_run(step, inputs, a_job(tmp_path, step.key), sandbox=sandbox)
    assert caught.value.what == "The command `g++ a.cc` ended with exit status 2."
    assert "was not declared" in caught.value.why and "compiler refused" in caught.value.hint
    assert len(sandbox.asked) == 1


def test_out_of_memory_is_said(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def fail(container: Container, log: Callable[[str], None]) -> int:
        log("a.cc:3:1: error: something")
        log(f"{OUT_OF_MEMORY} of 64 MiB, and a process was killed")
        return 137

    step = a_run()
    with pytest.raises(StepError) as caught:
        run_run(step, inputs, a_job(tmp_path, step.key), sandbox=Recorder(fail))
    assert "memory ran out" in caught.value.hint


def test_a_full_disk_is_the_machines_fault(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def fail(container: Container, log: Callable[[str], None]) -> int:
        log("cc1: fatal error: error writing to a.s: No space left on device")
        return 1

    step = a_run()
    with pytest.raises(MachineError) as caught:
        run_run(step, inputs, a_job(tmp_path, step.key), sandbox=Recorder(fail))
    assert "./x clean" in caught.value.hint and "error writing" in caught.value.why


def test_a_missing_output_is_named_with_what_is_there(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def leave_other(container: Container, log: Callable[[str], None]) -> int:
        (build_of(container) / "out/readme").write_text("")
        return 0

    step = a_run(outputs=("readme", "*.whl"))
    with pytest.raises(StepError) as caught:
        run_run(step, inputs, a_job(tmp_path, step.key), sandbox=Recorder(leave_other))
    assert "*.whl" in caught.value.what and "readme" in caught.value.why


def test_a_link_is_no_output(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")

    def link_file(container: Container, log: Callable[[str], None]) -> int:
        (build_of(container) / "out/x.whl").symlink_to(secret)
        return 0

    def link_folder(container: Container, log: Callable[[str], None]) -> int:
        (build_of(container) / "out").rmdir()
        (build_of(container) / "out").symlink_to(tmp_path)
        return 0

    step = a_run()
    for number, act in enumerate((link_file, link_folder)):
        with pytest.raises(StepError):
            run_run(step, inputs, a_job(tmp_path / str(number), step.key), sandbox=Recorder(act))


def test_a_cancelled_build_does_not_start_a_container(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    step = a_run()
    job = a_job(tmp_path, step.key)
    job.cancelled.set()
    sandbox = Recorder(leave_wheel)
    with pytest.raises(Cancelled):
        run_run(step, inputs, job, sandbox=sandbox)
    assert sandbox.asked == []


def test_the_shell_opens_the_container_that_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "store")
    paths = {}
    for role, source in (("builder", BUILDER), ("source", SOURCE), ("tools", SOURCE)):
        building = store.open_tmp(source)
        (building.out / "bin").mkdir()
        (building.out / "bin/bash").write_text("")
        paths[role] = store.commit(building, source, 0).path
    step = a_run(("make", "a b"))
    for keep in (False, True):
        with store.hold(step.key):
            building = store.open_tmp(step)
            job = Job(
                key=step.key,
                out=building.out,
                work=building.work,
                settings=Settings(store=store.root),
                log=print,
                cancelled=threading.Event(),
            )
            with pytest.raises(StepError):
                run_run(step, paths, job, sandbox=Recorder(lambda container, log: 1))
            store.fail(building, keep_work=keep)
        sandbox = Recorder(leave_wheel)
        if keep:
            assert open_shell(store, step.key[:10], sandbox) == 7
            (container,) = sandbox.shells
            assert container.argv == ("/bin/bash",)
            assert container.root == paths["builder"]
            assert build_of(container) == tmp_path / "store/failed" / step.key / "work/build"
            assert build_of(container).is_dir()
            assert (container.mounts[1].source, container.mounts[1].target) == (paths["tools"], "/opt/tools")
            assert "make 'a b'" in capsys.readouterr().out
        else:
            with pytest.raises(InputError, match="not kept"):
                open_shell(store, step.key, sandbox)
    with pytest.raises(InputError, match="no failed container"):
        open_shell(store, SOURCE.key, sandbox)


def test_rendered_files_are_written(tmp_path: Path) -> None:
    step = FilesStep(
        name="toolchain",
        files={"bin/gcc": RenderedFile(text="#!/bin/sh\n", executable=True), "ä.txt": RenderedFile(text="ä")},
    )
    job = a_job(tmp_path, step.key)
    run_files(step, {}, job)
    assert (job.out / "bin/gcc").stat().st_mode & 0o777 == 0o755
    assert (job.out / "ä.txt").read_bytes() == "ä".encode()
    assert (job.out / "ä.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_rendered_files_stay_inside(tmp_path: Path, name: str) -> None:
    step = FilesStep(name="bad", files={name: RenderedFile(text="")})
    with pytest.raises(ValueError, match="leads out"):
        run_files(step, {}, a_job(tmp_path, step.key))


def test_a_local_source_is_copied_and_hashed_again(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    folder = inputs["source"]
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"bytes")
    for number, (path, digest, is_folder) in enumerate(
        ((folder, sha256_tree(folder), True), (archive, sha256_file(archive), False))
    ):
        step = LocalStep(name="local", path=str(path), sha256=digest, folder=is_folder)
        job = a_job(tmp_path / str(number), step.key)
        run_local(step, {}, job)
        assert (job.out / ("sub/setup.py" if is_folder else "a.tar.gz")).is_file()


def test_a_local_source_that_has_changed_is_refused(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    folder = inputs["source"]
    step = LocalStep(name="local", path=str(folder), sha256=sha256_tree(folder), folder=True)
    (folder / "new").write_text("x")
    with pytest.raises(InputError, match="has changed since"):
        run_local(step, {}, a_job(tmp_path, step.key))
    gone = LocalStep(name="local", path=str(tmp_path / "gone"), sha256="0" * 64, folder=False)
    with pytest.raises(InputError, match="cannot be read"):
        run_local(gone, {}, a_job(tmp_path / "2", gone.key))


# --- memory that runs out, and caches


def killed_with_many_jobs(container: Container, log: Callable[[str], None]) -> int:
    text = (build_of(container) / "machine/rc").read_text()
    if "3 jobs" in text:
        (build_of(container) / "half").write_text("done")
        log("c++: fatal error: Killed signal terminated program cc1plus")
        return 1
    assert (build_of(container) / "half").is_file(), "the second try goes on in the same folder"
    return leave_wheel(container, log)


def test_a_compiler_killed_for_want_of_memory_is_tried_once_more_with_fewer_jobs(
    tmp_path: Path, inputs: Mapping[str, Path]
) -> None:
    step = a_run(("configure",), ("make",))
    log: list[str] = []
    attempts: list[tuple[str, str]] = []

    def act(container: Container, say: Callable[[str], None]) -> int:
        attempts.append((container.argv[0], container.env["MAKEFLAGS"]))
        return 0 if container.argv == ("configure",) else killed_with_many_jobs(container, say)

    run_run(step, inputs, a_job(tmp_path, step.key, log), sandbox=Recorder(act))
    assert attempts == [("configure", "-j3"), ("make", "-j3"), ("make", "-j1")]
    assert "crosswheel: memory ran out with 3 jobs; once more with 1" in log


def test_memory_that_runs_out_twice_is_a_failure_that_says_so(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def act(_container: Container, say: Callable[[str], None]) -> int:
        say("c++: fatal error: Killed signal terminated program cc1plus")
        return 1

    step = a_run()
    sandbox = Recorder(act)
    with pytest.raises(StepError, match="memory ran out"):
        run_run(step, inputs, a_job(tmp_path, step.key), sandbox=sandbox)
    assert len(sandbox.asked) == 2


def test_an_error_of_the_source_is_not_tried_again(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def act(_container: Container, say: Callable[[str], None]) -> int:
        say("x.cc:1: error: expected ';'")
        return 1

    step = a_run()
    sandbox = Recorder(act)
    with pytest.raises(StepError):
        run_run(step, inputs, a_job(tmp_path, step.key), sandbox=sandbox)
    assert len(sandbox.asked) == 1


def test_a_cache_outlives_the_step_and_is_in_no_key(tmp_path: Path, inputs: Mapping[str, Path]) -> None:
    def act(container: Container, log: Callable[[str], None]) -> int:
        cache = next(mount for mount in container.mounts if mount.target == "/cache")
        assert cache.writable
        (cache.source / "object").write_text("compiled")
        return leave_wheel(container, log)

    step = a_run()
    cached = replace(step, caches={"bazel-0123": "/cache"})
    assert cached.key == step.key
    job = a_job(tmp_path, step.key)
    run_run(cached, inputs, job, sandbox=Recorder(act))
    assert (Store(job.settings.store).cache("bazel-0123") / "object").read_text() == "compiled"
