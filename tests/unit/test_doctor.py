"""`doctor`, and what a build asks of the machine, with an engine that is not there."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crosswheel.building.job import Settings
from crosswheel.cli import doctor
from crosswheel.errors import MachineError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]


def run_doctor(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """With DOCKER_HOST at a socket that is not there: a person's affair, so nothing is installed or started."""
    environ = {
        **os.environ,
        "DOCKER_HOST": f"unix://{tmp_path}/docker.sock",
        "CROSSWHEEL_STORE": str(tmp_path / "store"),
        "CROSSWHEEL_SETTINGS": "",
    }
    return subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", str(ROOT), "doctor", *words],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_is_missing_is_named_and_the_exit_code_says_so(tmp_path: Path) -> None:
    done = run_doctor(tmp_path)
    assert done.returncode == 5, done.stderr
    line = next(line for line in done.stdout.splitlines() if "Docker engine" in line)
    assert line.split()[:3] == ["Docker", "engine", "missing"]
    assert f"Docker engine: start the engine at unix://{tmp_path}/docker.sock, or unset DOCKER_HOST" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("words", [("--json",), ("--json", "--fix")])
def test_json_is_one_object(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run_doctor(tmp_path, *words)
    assert done.returncode == 5, done.stderr
    needs = {need["name"]: need for need in json.loads(done.stdout)["needs"]}
    assert needs["Docker engine"]["status"] == "missing"
    assert needs["processor cores"]["status"] == "ok"
    assert needs["qemu-user"]["status"] in ("ok", "optional")


def test_a_build_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with pytest.raises(MachineError, match="Docker engine") as caught:
        doctor.prepare_for_build(Settings(store=tmp_path), kinds={"run"})
    assert caught.value.exit_code == 5
    assert "unset DOCKER_HOST" in caught.value.why


def test_a_build_whose_steps_need_nothing_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    doctor.prepare_for_build(Settings(store=tmp_path), kinds=())
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        doctor.prepare_for_build(Settings(store=tmp_path, sandbox="host"), kinds={"fetch", "files"})
        best = min(best, time.perf_counter() - start)
    assert best < 0.02  # seconds


@pytest.mark.parametrize(
    ("typed", "answer"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_question_is_answered_with_y(
    typed: str, answer: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert doctor.ask("Install it?") is answer
    assert capsys.readouterr() == ("", "crosswheel: Install it? [y/N] ")
