"""A real night of two small cells: killed, gone on with, and again with nothing to do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import CommandLine

from crosswheel.building.store import Store
from crosswheel.publishing.history import Part, read_history

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

MATRIX = """
name = "tiny"

[axes]
recipe = "wrapt"
target = ["rpi4", "rk3588"]
python = "3.11"

[cost]
minutes = 30
"""
CELLS = {"wrapt-1.16.0@rpi4+cp311", "wrapt-1.16.0@rk3588+cp311"}


def test_a_night_is_killed_goes_on_and_has_nothing_to_do_again(
    crosswheel: CommandLine, borrowed: Callable[..., Store], tmp_path: Path
) -> None:
    file, history, out = tmp_path / "matrix.toml", tmp_path / "history", tmp_path / "dist"
    file.write_text(MATRIX)
    words = ("matrix", "run", "--matrix", file, "--history", history, "--out", out)
    mine = crosswheel.with_store(borrowed("wrapt").root)

    night = mine.start(*words, start_new_session=True)
    _until(lambda: len(_part(history).cells) == 1 if list(history.glob("*")) else False)
    os.killpg(night.pid, signal.SIGKILL)
    night.communicate()
    killed = _part(history)
    assert killed.ended is None
    (first,) = killed.cells.values()
    assert first.outcome == "built" and first.passed and first.steps.ran > 0

    done = mine(*words)
    assert done.returncode == 0, done.stderr
    assert f"going on with the night {killed.night}: 1 cells had ended" in done.stderr
    whole = _part(history)
    assert whole.night == killed.night and whole.ended and set(whole.cells) == CELLS
    assert whole.cells[first.cell] == first  # built by this night; that it is stored now is no news
    for line in whole.cells.values():
        assert line.outcome == "built" and line.wheel and line.proof
        assert (out / line.wheel).stat().st_size == line.size and (out / line.proof).is_file()
    wheels = {path: path.stat().st_mtime_ns for path in out.rglob("*.whl*")}

    began = time.monotonic()
    again = mine.json(*words)
    assert time.monotonic() - began < 30  # the benchmark `matrix` says how long it is on a machine that is idle
    assert [(cell["outcome"], cell["steps"]["ran"]) for cell in again["cells"]] == [("cached", 0)] * 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.whl*")} == wheels
    assert len(read_history(history).parts) == 2


def _part(folder: Path) -> Part:
    (part,) = read_history(folder).parts
    return part


def _until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 400
    while not reached():
        assert time.monotonic() < end, "no cell ended"
        time.sleep(0.1)
