"""`matrix plan` and `matrix run`: which cells, what is recorded, what is told, and with which exit code they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.building.artefacts import Artefact
from crosswheel.building.execute import Runner
from crosswheel.building.job import Job
from crosswheel.building.store import Store
from crosswheel.cli import matrix
from crosswheel.cli.nights import matches
from crosswheel.errors import FetchError, StepError
from crosswheel.planning.plan import Plan
from crosswheel.planning.steps import Step
from crosswheel.publishing.history import read_history

pytestmark = pytest.mark.unit

TEXT = 'name = "small"\n[axes]\nrecipe = "wrapt"\ntarget = ["rpi4", "rk3588", "x86_64"]\n'
RPI4, RK3588, X86 = (f"wrapt-1.16.0@{target}+cp311" for target in ("rpi4", "rk3588", "x86_64"))
REFUSED = '[[exclude]]\nrecipe = "ml-dtypes"\ntarget = ["rk3588", "x86_64"]\n'


class Night:
    """`matrix run` with runners that write small files. ``broken`` maps the beginnings of steps' names to errors;
    ``unfit`` are the targets on which proofs fail."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.file = folder / "matrix.toml"
        self.file.write_text(TEXT)
        self.broken: dict[str, Exception] = {}
        self.unfit: set[str] = set()
        self.before: Callable[[Step], None] = lambda _: None
        self.ran: list[str] = []
        monkeypatch.chdir(folder)
        monkeypatch.setenv("CROSSWHEEL_STORE", str(folder / "store"))
        monkeypatch.setattr("crosswheel.building.runners.runners", lambda *_: Everything(self._run))
        monkeypatch.setattr("crosswheel.cli.executing.prepare", lambda *_: set())
        monkeypatch.setattr(
            "crosswheel.building.execute.sandbox_for", lambda _: SimpleNamespace(sweep=lambda _key: None)
        )
        monkeypatch.setattr("crosswheel.cli.releasing.release_output", self._release)

    def _run(self, step: Step, _inputs: Mapping[str, Path], job: Job) -> None:
        self.ran.append(step.name)
        self.before(step)
        for name, error in self.broken.items():
            if step.name.startswith(name):
                job.log("cc1plus: fatal error: tree.h: No such file or directory")
                raise error
        (job.out / "wrapt.whl").write_text(step.name)

    def _release(
        self, plan: Plan, output: Artefact, _judged: Artefact, _store: Store, out: Path, *, failed: str
    ) -> tuple[Path, Any]:
        target = plan.resolution.target.name
        passed = target not in self.unfit
        path = out / (target if passed else failed) / "wrapt.whl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((output.path / "wrapt.whl").read_bytes())
        finding = SimpleNamespace(rule="glibc", subject="a.so", message="it needs GLIBC_2.99", severity="fail")
        return path, SimpleNamespace(passed=passed, findings=() if passed else (finding,))

    def __call__(self, status: int = 0, **options: Any) -> None:
        try:
            matrix.run_task(Context(), matrix=str(self.file), **options)
        except Exit as end:
            assert end.code == status
        else:
            assert status == 0

    @property
    def history(self) -> Any:
        return read_history(self.folder / "history")

    @property
    def outcomes(self) -> dict[str, str]:
        """Of the newest night."""
        return {cell: line.outcome for cell, line in self.history.parts[-1].cells.items()}


class Everything(dict[type[Step], Runner]):
    """One runner for every kind of step."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner

    def __contains__(self, _kind: object) -> bool:
        return True

    def __getitem__(self, _kind: type[Step]) -> Runner:
        return self.runner


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Night:
    return Night(tmp_path, monkeypatch)


def test_a_night_is_built_released_and_recorded(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    night()
    (part,) = night.history.parts
    assert part.ended and night.outcomes == {RPI4: "built", RK3588: "built", X86: "built"}
    line = part.cells[RPI4]
    assert (line.wheel, line.proof, line.passed) == ("rpi4/wrapt.whl", "rpi4/wrapt.whl.proof.json", True)
    assert line.size == (night.folder / "dist/rpi4/wrapt.whl").stat().st_size and len(line.sha256) == 64
    assert line.steps.total == line.steps.cached + line.steps.ran
    assert "Night of 3 cells: 3 built, 0 from the store, 0 failed" in capsys.readouterr().out


def test_again_builds_nothing_and_says_so(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    night()
    night.ran.clear()
    night()
    assert night.ran == [] and set(night.outcomes.values()) == {"cached"}
    assert "Nothing to do: all 3 cells are in the store" in capsys.readouterr().out
    assert len(night.history.parts) == 2


def test_a_failed_step_is_recorded_with_its_lines_and_told(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    night.broken["compile wrapt 1.16.0 for rpi4"] = StepError("A command failed.", hint="Look.")
    night(status=4)
    assert night.outcomes == {RPI4: "failed", RK3588: "built", X86: "built"}
    line = night.history.parts[-1].cells[RPI4]
    assert line.step == "compile wrapt 1.16.0 for rpi4" and line.passed is None and line.wheel is None
    assert line.error.what == "A command failed." and "./x log" in line.error.hint
    assert line.log == ("cc1plus: fatal error: tree.h: No such file or directory",)
    said = capsys.readouterr()
    assert f"error: {RPI4}: compile wrapt 1.16.0 for rpi4: A command failed." in said.err
    assert "2 built, 0 from the store, 1 failed" in said.out


def test_a_failed_proof_is_recorded_and_its_wheel_set_aside(night: Night) -> None:
    night.unfit.add("rpi4")
    night(status=1)
    line = night.history.parts[-1].cells[RPI4]
    assert (line.outcome, line.passed, line.wheel) == ("failed", False, "failed/rpi4/wrapt.whl")
    assert line.error.why == "glibc: a.so: it needs GLIBC_2.99" and line.key
    assert not (night.folder / "dist/rpi4").exists()


def test_the_exit_code_is_the_highest_of_the_failed_cells(night: Night) -> None:
    night.unfit.add("rpi4")
    night.broken["fetch wrapt"] = FetchError("The server is gone.")
    night(status=3)
    assert set(night.outcomes.values()) == {"failed"}
    night.broken.clear()
    night(status=1)


def test_an_interrupted_night_goes_on_in_the_same_file(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(step: Step) -> None:
        if step.name == "compile wrapt 1.16.0 for x86_64":
            import _thread

            _thread.interrupt_main()
            time.sleep(1)

    night.broken["compile wrapt 1.16.0 for rpi4"] = StepError("It failed.")
    night.before = interrupt
    night(status=130)
    (part,) = night.history.parts
    assert part.ended is None and X86 not in part.cells
    ended = set(part.cells)
    night.before = lambda _: None
    night.broken.clear()
    night.ran.clear()
    night()
    (part,) = night.history.parts  # the same night, with an end
    assert part.ended and set(part.cells) == {RPI4, RK3588, X86}
    assert set(night.outcomes.values()) == {"built"}  # what this night built before stays so
    assert f"going on with the night {part.night}: {len(ended)} cells had ended" in capsys.readouterr().err


def test_a_changed_matrix_begins_another_night(night: Night) -> None:
    night()
    path = night.history.parts[0].path
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))  # as if it had been killed before its end
    night.file.write_text(TEXT.replace('"rk3588", ', ""))
    night()
    assert [part.ended is None for part in night.history.parts] == [True, False]


def test_a_half_written_history_is_told_and_the_night_goes_on(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    night()
    path = night.history.parts[0].path
    path.write_bytes(path.read_bytes()[:-40])
    night()
    said = capsys.readouterr().err
    assert "the last line is torn" in said and "going on with the night" in said
    assert len(night.history.parts) == 1 and night.history.parts[0].ended


def test_a_named_night_is_one_of_shards(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in ("1/2", "2/2"):
        night(shard=shard, night="nightly-7")
    names = sorted(path.name for path in (night.folder / "history").iterdir())
    assert names == ["nightly-7.1-of-2.jsonl", "nightly-7.2-of-2.jsonl"]
    cells = [set(part.cells) for part in night.history.parts]
    assert cells[0] | cells[1] == {RPI4, RK3588, X86} and not cells[0] & cells[1]
    night.file.write_text(TEXT + 'python = "all"\n')
    night(status=2, shard="1/2", night="nightly-7")
    assert "this night is of other cells" in capsys.readouterr().err


def test_more_shards_than_cells_leave_nothing_to_do(night: Night) -> None:
    for number in range(1, 6):
        night(shard=f"{number}/5", night="n")
    assert sorted(len(part.cells) for part in night.history.parts) == [0, 0, 1, 1, 1]


def test_only_some_cells_are_run_and_all_are_listed(night: Night) -> None:
    night(only="wrapt-*@rpi4+*")
    (part,) = night.history.parts
    assert list(part.cells) == [RPI4] and len(part.start.cells) == 3 and part.start.only == "wrapt-*@rpi4+*"


@pytest.mark.parametrize(
    ("pattern", "yes"), [("wrapt", True), ("rpi4", True), (RPI4, True), ("*cp311", True), ("rpi", False), ("*", True)]
)
def test_a_pattern_is_of_the_whole_name_or_a_word(pattern: str, yes: bool) -> None:
    cell: Any = SimpleNamespace(id=RPI4, recipe="wrapt", target="rpi4")
    assert matches(cell, pattern) is yes


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"only": "wrap"}, "no cell is called 'wrap'"),
        ({"shard": "3/2"}, "'3/2' is no shard"),
        ({"night": "../up"}, "no name of a night"),
        ({"jobs": 0}, "--jobs 0"),
    ],
)
def test_bad_options_are_told(
    night: Night, options: dict[str, Any], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    night(status=2, **options)
    assert part in capsys.readouterr().err and not (night.folder / "history").exists()


def test_the_run_as_json_is_one_object(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    night.file.write_text(TEXT.replace('"wrapt"', '["wrapt", "ml-dtypes"]') + 'python = "3.11"\n' + REFUSED)
    night(json=True)
    said = json.loads(capsys.readouterr().out)
    assert [cell["outcome"] for cell in said["cells"]] == ["built"] * 4
    assert said["matrix"] == "small" and said["refused"] == [] and said["shard"] is None


# --- the plan


def plan(night: Night, **options: Any) -> None:
    matrix.plan_task(Context(), matrix=str(night.file), **options)


def test_the_plan_says_what_is_stored_shared_and_refused(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    night.file.write_text(TEXT.replace('"wrapt"', '["wrapt", "ml-dtypes"]').replace('"x86_64"', '"jetson-nano"'))
    plan(night)
    said = capsys.readouterr().out
    assert f"{RPI4}" in said and "0 of 14 steps" in said and "6 min" in said
    assert "Refused (1)\n  ml-dtypes-default@jetson-nano+default\n    0.5.4 serves CPython" in said
    assert "assemble emulator (to be done)" in said
    assert "5 cells, 0 stored, 5 to build (about 20 min), 1 refused." in said
    night(only=RPI4)
    capsys.readouterr()
    plan(night)
    said = capsys.readouterr().out
    assert "stored" in next(line for line in said.splitlines() if RPI4 in line)
    assert "5 cells, 1 stored, 4 to build" in said


def test_the_plan_as_json(night: Night, capsys: pytest.CaptureFixture[str]) -> None:
    plan(night, json=True)
    said = json.loads(capsys.readouterr().out)
    assert [cell["id"] for cell in said["cells"]] == [RPI4, RK3588, X86]
    first = said["cells"][0]
    assert first["state"] == "planned" and first["cached"] is False and len(first["key"]) == 64
    assert first["steps"]["cached"] == 0 and first["seconds"] > 0
    assert said["steps"]["distinct"] < said["steps"]["all"]
    assert all(each["cells"] > 1 for each in said["shared"])


def test_estimates_are_of_earlier_nights(
    night: Night, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    night()
    path = night.history.parts[0].path
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    told = [{**line, "seconds": 7200.0} if line.get("cell") == RPI4 else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    night.file.write_text(TEXT + "[cost]\nminutes = 90\n")
    monkeypatch.setenv("CROSSWHEEL_STORE", str(night.folder / "another"))
    capsys.readouterr()
    plan(night)
    said = capsys.readouterr().out
    assert "2 h 00 min" in next(line for line in said.splitlines() if RPI4 in line)
    assert f"warning: {RPI4} is thought to take longer than the 90 minutes" in said


def test_a_killed_night_goes_on(night: Night, tmp_path: Path) -> None:
    """kill -9, in a process of its own: what had ended is in the history, and the next run finishes the night."""
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        "from pathlib import Path\n"
        "import pytest\n"
        "from test_matrix_commands import Night\n"
        "folder = Path(sys.argv[1])\n"
        "night = Night(folder, pytest.MonkeyPatch())\n"
        "def stop(step):\n"
        "    if step.name == 'compile wrapt 1.16.0 for x86_64':\n"
        "        (folder / 'reached').touch()\n"
        "        time.sleep(60)\n"
        "night.before = stop\n"
        "night()\n"
    )
    process = subprocess.Popen([sys.executable, str(script), str(night.folder)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (night.folder / "reached").exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (part,) = night.history.parts
    assert part.ended is None and X86 not in part.cells
    night()
    (part,) = night.history.parts
    assert part.ended and set(part.cells) == {RPI4, RK3588, X86}
    assert "compile wrapt 1.16.0 for x86_64" in night.ran and "assemble emulator" not in night.ran
