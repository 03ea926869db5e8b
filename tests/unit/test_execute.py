"""The executor: only what is needed runs, in parallel where the plan allows, and whatever stops it leaves a store that
the next build can use. The steps are real, their runners are not: they write small files and wait for one another."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from executing import DEADLINE, Told, Work, heavy, is_clean, join, leaf, run, write_name

from crosswheel.building.execute import FETCHES, PARALLEL
from crosswheel.building.job import Cancelled, Job
from crosswheel.building.store import Store
from crosswheel.errors import FetchError, MachineError, StepError
from crosswheel.planning.steps import FetchStep, Step
from crosswheel.spec.sources import Place

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

# --- what runs -------------------------------------------------------------------------------------------------------


def test_everything_is_made_once_inputs_first(tmp_path: Path) -> None:
    shared = leaf("a")
    goal = join("top", left=join("l", x=shared), right=join("r", x=shared, y=leaf("b")))
    told = Told()
    result = run(goal, tmp_path, told=told)
    assert (result.artefacts[goal.key].path / "name").read_text() == "top(l(a()),r(a(),b()))"
    assert sorted(told.names("made")) == ["a", "b", "l", "r", "top"]
    order = told.names("started")
    assert order.index("a") < order.index("l") and order[-1] == "top"
    assert told.events[0] == ("plan", "a l b r top")
    assert [(s.name, s.kind, s.cached) for s in result.steps] == [
        ("a", "files", False),
        ("l", "tree", False),
        ("b", "files", False),
        ("r", "tree", False),
        ("top", "tree", False),
    ]
    assert all(step.key for step in result.steps)
    assert "a: writing a" in told.lines
    assert (Store(tmp_path).path(goal.key) / "log.txt").read_text() == "writing top\n"
    assert is_clean(tmp_path)


def test_a_second_build_does_nothing(tmp_path: Path) -> None:
    goal = join("top", x=leaf("a"))
    run(goal, tmp_path)
    told = Told()
    result = run(goal, tmp_path, forbidden, told)
    assert told.events == [("plan", "a top"), ("cached", "top")]
    assert [(s.cached, s.seconds) for s in result.steps] == [(True, 0.0), (True, 0.0)]
    assert (result.artefacts[goal.key].path / "name").read_text() == "top(a())"


def forbidden(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
    raise AssertionError(f"{step.name} must not run")


def test_below_a_stored_artefact_nothing_is_needed(tmp_path: Path) -> None:
    bottom = leaf("a")
    middle = join("m", x=bottom)
    goal = join("top", x=middle)
    run(middle, tmp_path)
    (Store(tmp_path).path(bottom.key) / "meta.json").unlink()  # not even looked at
    told = Told()
    result = run(goal, tmp_path, told=told)
    assert told.events == [("plan", "a m top"), ("cached", "m"), ("started", "top"), ("made", "top")]
    assert [s.cached for s in result.steps] == [True, True, False]


def test_several_goals(tmp_path: Path) -> None:
    shared = leaf("a")
    goals = (join("one", x=shared), join("two", x=shared))
    result = run(goals, tmp_path)
    assert [(result.artefacts[g.key].path / "name").read_text() for g in goals] == ["one(a())", "two(a())"]
    assert len(result.steps) == 3


def test_using_an_artefact_makes_it_recent(tmp_path: Path) -> None:
    goal = leaf("a")
    run(goal, tmp_path)
    meta = Store(tmp_path).path(goal.key) / "meta.json"
    os.utime(meta, (1e9, 1e9))
    run(goal, tmp_path)
    assert meta.stat().st_mtime > time.time() - 100


def test_a_truncated_file_is_found_told_and_rebuilt(tmp_path: Path) -> None:
    bottom = leaf("a")
    goal = join("top", x=bottom)
    result = run(goal, tmp_path)
    damaged = result.artefacts[goal.key].path / "name"
    damaged.chmod(0o644)
    damaged.write_text("to")
    told = Told()
    again = run(goal, tmp_path, told=told)
    assert told.names("damaged") == ["top: out/name has 2 bytes instead of 8"]
    assert told.names("made") == ["top"] and told.names("cached") == ["a"]
    assert (again.artefacts[goal.key].path / "name").read_text() == "top(a())"


# --- at once ---------------------------------------------------------------------------------------------------------


def test_steps_that_do_not_need_each_other_run_at_once(tmp_path: Path) -> None:
    meeting = threading.Barrier(3)

    def meet(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if not inputs:
            meeting.wait(DEADLINE)  # breaks unless all three are here
        write_name(step, inputs, job)

    run(join("top", a=leaf("a"), b=leaf("b"), c=leaf("c")), tmp_path, meet)


def test_commands_run_one_at_a_time_beside_the_rest(tmp_path: Path) -> None:
    busy = threading.Lock()
    beside = threading.Event()

    def work(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.kind == "run":
            assert busy.acquire(blocking=False), "two at once"
            assert beside.wait(DEADLINE)
            busy.release()
        elif step.name == "light":
            beside.set()
        write_name(step, inputs, job)

    told = Told()
    goal = join("top", a=heavy("h1"), b=heavy("h2"), c=heavy("h3"), d=leaf("light"))
    run(goal, tmp_path, work, told)
    runs = [event for event in told.events if event[1] in ("h1", "h2", "h3")]
    assert [kind for kind, _ in runs] == ["started", "made"] * 3


def fetch(name: str) -> FetchStep:
    return FetchStep(name=name, file=name, sha256="0" * 64, places=(Place(uri=f"https://a.test/{name}"),))


def test_fetching_waits_for_servers_and_has_a_limit_of_its_own(tmp_path: Path) -> None:
    meeting = threading.Barrier(FETCHES + PARALLEL)
    count = {"fetch": 0, "files": 0}
    most = dict(count)
    guard = threading.Lock()

    def work(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.kind in count:
            with guard:
                count[step.kind] += 1
                most[step.kind] = max(most[step.kind], count[step.kind])
            if not step.name.startswith("later"):
                meeting.wait(DEADLINE)  # breaks unless all of them are here
            with guard:
                count[step.kind] -= 1
        write_name(step, inputs, job)

    first = {f"f{n}": fetch(f"f{n}") for n in range(FETCHES)} | {f"l{n}": leaf(f"l{n}") for n in range(PARALLEL)}
    later = {f"later{n}": fetch(f"later{n}") for n in range(FETCHES)} | {f"z{n}": leaf(f"later{n}") for n in range(9)}
    run(join("top", **first, **later), tmp_path, work)
    assert most == {"fetch": FETCHES, "files": PARALLEL}


def test_the_listener_is_never_told_two_things_at_once(tmp_path: Path) -> None:
    class Careful(Told):
        inside = 0

        def line(self, step: Step, text: str) -> None:
            self.inside += 1
            time.sleep(0.001)
            assert self.inside == 1
            self.inside -= 1

    def chatter(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        for i in range(20):
            job.log(str(i))
        write_name(step, inputs, job)

    run(join("top", a=leaf("a"), b=leaf("b"), c=leaf("c"), d=leaf("d")), tmp_path, chatter, Careful())


# --- failing ---------------------------------------------------------------------------------------------------------


def failing(error: Exception) -> Work:
    def work(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.name == "bad":
            job.log("a line of the log")
            (job.work / "scratch").write_text("x")
            raise error
        write_name(step, inputs, job)

    return work


@pytest.mark.parametrize("keep", [True, False])
def test_a_failed_step_is_explained_and_kept(tmp_path: Path, keep: bool) -> None:
    bad = heavy("bad")
    told = Told()
    with pytest.raises(StepError) as caught:
        run(join("top", x=bad), tmp_path, failing(StepError("It broke.", why="because")), told, keep_failed=keep)
    error = caught.value
    assert (error.where, error.what, error.why) == ("bad", "It broke.", "because")
    assert f"./x log {bad.key[:12]}" in error.hint
    assert (f"./x shell {bad.key[:12]}" in error.hint) is keep and ("--keep-failed" in error.hint) is not keep
    assert told.names("failed") == ["bad"] and "top" not in told.names("started")
    store = Store(tmp_path)
    assert "a line of the log" in store.log_path(bad.key).read_text()
    assert "It broke." in store.log_path(bad.key).read_text()
    assert (tmp_path / "failed" / bad.key / "work/scratch").exists() is keep
    assert is_clean(tmp_path) and not store.has(bad.key)
    run(join("top", x=bad), tmp_path)  # and the next build starts afresh
    assert not (tmp_path / "failed" / bad.key).exists()


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        run(leaf("bad"), tmp_path, failing(FetchError("All places failed.", where="https://example.invalid/x")))
    assert caught.value.where == "https://example.invalid/x" and caught.value.exit_code == 3


def test_a_fault_of_ours_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        run(leaf("bad"), tmp_path, failing(KeyError("oops")))
    assert "KeyError" in str(caught.value) and "report" in str(caught.value)


def test_a_failure_stops_the_others(tmp_path: Path) -> None:
    others = threading.Semaphore(0)
    stopped: list[str] = []

    def work(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.name == "bad":
            assert others.acquire(timeout=DEADLINE) and others.acquire(timeout=DEADLINE)
            raise StepError("It broke.")
        others.release()
        (job.out / "half").write_text("x")
        assert job.cancelled.wait(DEADLINE)
        stopped.append(step.name)
        if step.name == "polite":
            raise Cancelled
        raise RuntimeError("killed by the cancellation")

    told = Told()
    with pytest.raises(StepError, match=r"It broke\."):
        run(join("top", a=leaf("bad"), b=leaf("polite"), c=leaf("rude")), tmp_path, work, told)
    assert sorted(stopped) == ["polite", "rude"]
    assert told.names("failed") == ["bad"]
    assert is_clean(tmp_path)
    assert [path.name for path in (tmp_path / "failed").iterdir()] == [leaf("bad").key]


def test_a_full_disk_is_said_to_be_one(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")
    with pytest.raises(MachineError) as caught:
        run(leaf("bad"), tmp_path, failing(full))
    assert caught.value.exit_code == 5
    for part in ("no space left", str(tmp_path), "MiB free", "./x clean", "/some/file"):
        assert part in str(caught.value)
    assert is_clean(tmp_path)
    run(leaf("bad"), tmp_path)
