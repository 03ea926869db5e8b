"""Tracing a fault, on a sandbox of the tests' own: what gdb is given, and what becomes of what it wrote."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crosswheel.building.emulation import Place
from crosswheel.building.job import Cancelled, Container, Job, Mount, Settings
from crosswheel.building.later import made_later
from crosswheel.building.tracing import Died, Tracer, members_at, traced
from crosswheel.errors import FetchError, StepError
from crosswheel.planning.steps import FilesStep, RenderedFile, Step
from crosswheel.proving.emulate import RunOutcome
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

CORE = "qemu_python3.11_20261121-195416_6.core"
STACK = {
    "frames": [
        {"file": "/site/own.so", "symbol": "f", "keyed": "", "signal": False, "code": "c5f877", "strings": []},
    ]
}
Work = Callable[[Path, Callable[[str], None], threading.Event], int]


def writes(text: str) -> Work:
    """What gdb does, instead of it."""

    def work(folder: Path, _: Callable[[str], None], __: threading.Event) -> int:
        assert (folder / "in_debugger.py").is_file()
        (folder / "stack.json").write_text(text)
        return 0

    return work


@dataclass
class FakeSandbox:
    """Does ``work`` in the place of gdb."""

    work: Work
    seen: list[Container] = field(default_factory=list)

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        self.seen.append(container)
        (folder,) = (mount.source for mount in container.mounts if mount.writable)
        status = self.work(folder, log, cancelled)
        if cancelled.is_set():
            raise Cancelled
        return status

    def shell(self, container: Container) -> int:
        raise NotImplementedError

    def sweep(self, key: str) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Bench:
    catalog: Catalog
    died: Died
    job: Job
    lines: list[str]

    def trace(self, sandbox: FakeSandbox, *, signal: int = 4, make: Callable[[Job], Path] | None = None) -> RunOutcome:
        tracer = Tracer(debugger=self.catalog.emulator.debugger, make=make or (lambda _: Path("/the/debugger")))
        ended = RunOutcome(status=128 + signal, timed_out=False, seconds=1.0, lines=(), result=None)
        return traced(ended, self.died, tracer, self.job, sandbox)


@pytest.fixture
def bench(catalog: Catalog, tmp_path: Path) -> Bench:
    for folder in ("out", "work", "left", "site"):
        (tmp_path / folder).mkdir()
    (tmp_path / "left" / CORE).write_text("a core")
    (tmp_path / "left" / "core").write_text("of qemu itself")
    (tmp_path / "left" / "result.json").write_text("{}")
    lines: list[str] = []
    job = Job(
        key="0" * 64,
        out=tmp_path / "out",
        work=tmp_path / "work",
        settings=Settings(store=tmp_path / "store", memory=1234),
        log=lines.append,
        cancelled=threading.Event(),
    )
    mounts = (
        Mount(source=tmp_path / "site", target="/site"),
        Mount(source=tmp_path / "left", target="/out", writable=True),
    )
    died = Died(
        program="/usr/bin/python3.11",
        place=Place(root=tmp_path / "root", root_key="1" * 64, mounts=mounts),
        cwd="/out",
        cores=tmp_path / "left",
        arch="x86_64",
        member=members_at(["own.so"], ["/site"]),
    )
    return Bench(catalog, died, job, lines)


def left(bench: Bench) -> set[str]:
    return {path.name for path in bench.died.cores.iterdir()}


def test_gdb_reads_the_core_in_the_place_where_the_process_died(bench: Bench) -> None:
    sandbox = FakeSandbox(writes(json.dumps(STACK)))
    fault = bench.trace(sandbox).fault
    assert fault is not None
    assert (fault.instruction, fault.features, fault.file, fault.symbol) == ("vzeroupper", ("AVX",), "own.so", "f")
    (container,) = sandbox.seen
    assert (container.root, container.root_key) == (bench.died.place.root, "1" * 64)
    assert container.memory == 1234
    assert container.core == 0
    places = {mount.target: mount for mount in container.mounts}
    assert set(places) == {"/site", "/out", "/debugger", "/trace"}
    assert [target for target, mount in places.items() if mount.writable] == ["/trace"]
    assert container.argv[0] == "/debugger/lib64/ld-linux-x86-64.so.2"
    assert "/debugger/usr/bin/gdb-multiarch" in container.argv
    assert container.argv[-3:] == ("/trace/in_debugger.py", "/usr/bin/python3.11", f"/out/{CORE}")
    before = container.argv[: container.argv.index("-x")]
    assert {"-nx", "set auto-load off", "set debuginfod enabled off"} <= set(before)
    assert left(bench) == {"result.json"}


@pytest.mark.parametrize("signal", [0, 2, 9, 15])
def test_other_ends_are_not_traced(bench: Bench, signal: int) -> None:
    sandbox = FakeSandbox(writes(""))
    outcome = bench.trace(sandbox, signal=signal)
    assert (outcome.fault, outcome.untraced, sandbox.seen) == (None, "", [])


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (writes("no JSON"), "the debugger wrote no stack that can be read"),
        (writes('{"frames": []}'), "the debugger found no stack"),
        (lambda *_: 137, "gdb ended with status 137 and wrote no stack"),
    ],
)
def test_where_gdb_fails_it_is_said(bench: Bench, work: Work, says: str) -> None:
    outcome = bench.trace(FakeSandbox(work))
    assert outcome.fault is None
    assert outcome.untraced == says
    assert f"the fault could not be traced: {says}" in bench.lines
    assert left(bench) == {"result.json"}


def test_a_stack_that_is_a_link_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(json.dumps(STACK))

    def work(folder: Path, *_: object) -> int:
        (folder / "stack.json").symlink_to(tmp_path / "secret")
        return 0

    assert bench.trace(FakeSandbox(work)).untraced == "gdb ended with status 0 and wrote no stack"


@pytest.mark.timeout(20)
def test_gdb_that_hangs_is_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosswheel.building.tracing._SECONDS", 0.3)

    def work(_: Path, __: object, cancelled: threading.Event) -> int:
        assert cancelled.wait(15)
        return 137

    assert bench.trace(FakeSandbox(work)).untraced == "gdb did not end within 0.3 s and wrote no stack"


def test_without_a_core_file(bench: Bench) -> None:
    core = bench.died.cores / CORE
    core.unlink()
    sandbox = FakeSandbox(writes(""))
    assert bench.trace(sandbox).untraced == "qemu left no core file"
    core.symlink_to("/etc/passwd")
    assert bench.trace(sandbox).untraced == "qemu left no core file"
    assert sandbox.seen == []
    assert left(bench) == {"result.json"}


def test_the_core_file_of_another_program(bench: Bench) -> None:
    (bench.died.cores / CORE).rename(bench.died.cores / CORE.replace("python3.11", "protoc"))
    assert "but of a program that it started" in bench.trace(FakeSandbox(writes(""))).untraced


def test_a_debugger_that_cannot_be_had(bench: Bench) -> None:
    def make(_: Job) -> Path:
        raise FetchError("Packages cannot be resolved offline.", why="no mirror is set")

    outcome = bench.trace(FakeSandbox(writes("")), make=make)
    assert outcome.untraced == "Packages cannot be resolved offline. no mirror is set"
    assert left(bench) == {"result.json"}


def test_without_any_debugger(bench: Bench) -> None:
    ended = RunOutcome(status=132, timed_out=False, seconds=1.0, lines=(), result=None)
    assert traced(ended, bench.died, None, bench.job, FakeSandbox(writes(""))).untraced == "no debugger is at hand"


def test_a_build_that_is_stopped_stops_gdb(bench: Bench) -> None:
    def work(_: Path, __: object, cancelled: threading.Event) -> int:
        bench.job.cancelled.set()
        assert cancelled.wait(15)
        return 137

    with pytest.raises(Cancelled):
        bench.trace(FakeSandbox(work))
    assert left(bench) == {"result.json"}


def test_members_are_known_by_their_names() -> None:
    member = members_at(["a/b.so"], ["/site", "/site/lib/python3.11/site-packages"])
    assert member("/site/a/b.so") == "a/b.so"
    assert member("/site/lib/python3.11/site-packages/a/b.so") == "a/b.so"
    assert [member(path) for path in ("/site/c.so", "/usr/lib/a/b.so", "a/b.so", "/sites/a/b.so")] == [None] * 4


# --- what is made later


def step(name: str = "the debugger") -> Step:
    return FilesStep(name=name, files={"file": RenderedFile(text=name)})


def runner(work: Callable[[Job], None]) -> dict[type[Step], Callable[..., None]]:
    def run(_: FilesStep, __: object, job: Job) -> None:
        work(job)
        (job.out / "file").write_text("made")

    return {FilesStep: run}


def test_it_is_made_once(bench: Bench) -> None:
    made: list[str] = []
    for _ in range(2):
        path = made_later(step(), bench.job, runner(lambda job: made.append(job.key)), seconds=60)
        assert (path / "file").read_text() == "made"
    assert len(made) == 1
    assert "the debugger …" in bench.lines


def test_that_it_cannot_be_made_does_not_stop_the_build(bench: Bench) -> None:
    def fails(_: Job) -> None:
        raise FetchError("It cannot be had.")

    with pytest.raises(FetchError, match="cannot be had"):
        made_later(step(), bench.job, runner(fails), seconds=60)
    assert not bench.job.cancelled.is_set()


def waits(job: Job) -> None:
    assert job.cancelled.wait(15)
    raise Cancelled


@pytest.mark.timeout(30)
def test_that_it_takes_too_long_does_not_stop_the_build(bench: Bench) -> None:
    with pytest.raises(StepError, match="longer than 0 s"):
        made_later(step(), bench.job, runner(waits), seconds=0.2)
    assert not bench.job.cancelled.is_set()


@pytest.mark.timeout(30)
def test_a_build_that_is_stopped_stops_it(bench: Bench) -> None:
    def stops(job: Job) -> None:
        bench.job.cancelled.set()
        waits(job)

    began = time.monotonic()
    with pytest.raises(Cancelled):
        made_later(step(), bench.job, runner(stops), seconds=600)
    assert time.monotonic() - began < 10
