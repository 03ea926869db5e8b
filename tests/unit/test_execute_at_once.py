"""Two builds of one store at once, and builds that are killed or interrupted: what is left is of use to the next."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from executing import DEADLINE, Told, heavy, is_clean, join, leaf, run

from crosswheel.building.store import Store

pytestmark = [pytest.mark.unit, pytest.mark.timeout(60)]

DRIVER = """
import sys, threading, time
from pathlib import Path
sys.path[:0] = [sys.argv[4], str(Path(sys.argv[4]).parents[1])]
import executing as t
from crosswheel.building.job import Cancelled
from crosswheel.building import store as store_module

root, flags, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def pause(name):
    (flags / name).touch()
    time.sleep(60)

def work(step, inputs, job):
    with (flags / "made").open("a") as made:
        made.write(step.name + "\\n")
    if mode == "slow":
        (flags / "working").touch()
        deadline = time.monotonic() + 20
        while not (flags / "go").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    if mode == "in-step" and step.name == "top":
        (job.out / "name").write_text("half")
        pause("reached")
    if mode == "until-cancelled":
        (job.out / "name").write_text("half")
        (flags / "reached").touch()
        if job.cancelled.wait(30):
            raise Cancelled
    t.write_name(step, inputs, job)

class Listener(t.Told):
    def waiting(self, step):
        (flags / "waiting").touch()
    def started(self, step):
        if mode == "at-start" and step.name == "top":
            pause("reached")

if mode == "before-rename":
    seal = store_module.manifest.seal
    def slow_seal(out):
        listed = seal(out)
        if (out / "name").read_text().startswith("top"):
            pause("reached")
        return listed
    store_module.manifest.seal = slow_seal
if mode == "after-commit":
    commit = store_module.Store.commit
    def slow_commit(self, building, step, seconds, notes):
        artefact = commit(self, building, step, seconds, notes)
        if step.name == "top":
            pause("reached")
        return artefact
    store_module.Store.commit = slow_commit

try:
    result = t.run(t.join("top", x=t.leaf("a")), root, work, Listener())
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
print([(s.name, s.cached) for s in result.steps])
"""


class Process:
    """Another build, in a process of its own, of ``top`` made of ``a``."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.flags = folder / "flags"
        self.flags.mkdir(exist_ok=True)
        script = folder / "driver.py"
        script.write_text(DRIVER)
        here = str(Path(__file__).parent)
        argv = [sys.executable, str(script), str(folder / "store"), str(self.flags), mode, here]
        self.popen = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until(self, flag: str) -> None:
        end = time.monotonic() + DEADLINE
        while not (self.flags / flag).exists():
            if time.monotonic() > end or self.popen.poll() is not None:
                self.popen.kill()
                raise AssertionError(f"{flag}: {self.popen.communicate()}")
            time.sleep(0.01)

    def output(self) -> str:
        out, err = self.popen.communicate(timeout=DEADLINE)
        return out + err

    @property
    def made(self) -> list[str]:
        return (self.flags / "made").read_text().split()


def test_of_two_identical_builds_one_builds_and_the_other_takes_the_result(tmp_path: Path) -> None:
    first = Process(tmp_path, "slow")
    first.until("working")
    second = Process(tmp_path, "slow")
    second.until("waiting")
    (first.flags / "go").touch()
    seen = first.output() + second.output()
    assert first.popen.returncode == second.popen.returncode == 0
    assert seen.count("('a', False)") == seen.count("('top', False)") == 1
    assert seen.count("('a', True)") == seen.count("('top', True)") == 1
    assert sorted(first.made) == ["a", "top"]  # each step once, by whichever was first
    assert is_clean(tmp_path / "store")


@pytest.mark.parametrize("moment", ["at-start", "in-step", "before-rename", "after-commit"])
def test_a_build_that_is_killed_resumes_where_it_was(tmp_path: Path, moment: str) -> None:
    killed = Process(tmp_path, moment)
    killed.until("reached")
    killed.popen.send_signal(signal.SIGKILL)
    killed.output()
    store = Store(tmp_path / "store")
    goal = join("top", x=leaf("a"))
    assert store.has(goal.key) is (moment == "after-commit")
    assert is_clean(tmp_path / "store") is (moment in ("at-start", "after-commit"))
    told = Told()
    result = run(goal, tmp_path / "store", told=told)
    assert told.names("made") == ([] if moment == "after-commit" else ["top"])
    assert told.names("waiting") == [] and told.names("damaged") == []
    assert (result.artefacts[goal.key].path / "name").read_text() == "top(a())"
    assert is_clean(tmp_path / "store")


def test_what_a_killed_build_left_running_is_swept_before_its_folder_goes(tmp_path: Path) -> None:
    goal = heavy("h")
    stale = Store(tmp_path).open_tmp(goal).folder  # as a killed build leaves it
    swept: list[tuple[str, bool]] = []
    run(goal, tmp_path, sweep=lambda key: swept.append((key, stale.exists())))
    assert swept == [(goal.key, True)]
    assert not stale.exists()


def test_ctrl_c_stops_all_steps_and_leaves_nothing(tmp_path: Path) -> None:
    build = Process(tmp_path, "until-cancelled")
    build.until("reached")
    start = time.monotonic()
    build.popen.send_signal(signal.SIGINT)
    assert "interrupted" in build.output()
    assert build.popen.returncode == 130 and time.monotonic() - start < 5
    assert is_clean(tmp_path / "store")
    assert not (tmp_path / "store/failed").exists()
    run(join("top", x=leaf("a")), tmp_path / "store")


def test_ctrl_c_while_waiting_for_another_build(tmp_path: Path) -> None:
    first = Process(tmp_path, "slow")
    first.until("working")
    second = Process(tmp_path, "slow")
    second.until("waiting")
    second.popen.send_signal(signal.SIGINT)
    assert "interrupted" in second.output()
    (first.flags / "go").touch()
    first.output()
    assert first.popen.returncode == 0 and sorted(first.made) == ["a", "top"]
