"""What the outcome of an emulated run means."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from wheel_writer import NAME, POLICY, SONAMES, good_files, write_wheel

from crosswheel.proving.emulate import CheckSpec, EmulatedRun, RunOutcome, emulated_run, installing_run, judge_run
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import prove

pytestmark = pytest.mark.unit
CHECK = CheckSpec(script="pass\n", tests=10, timeout=60)
DIED = "qemu: uncaught target signal 4 (Illegal instruction) - core dumped"


def result(tests: object = 10, failures: object = 0, skipped: object = 0) -> bytes:
    return json.dumps({"tests": tests, "failures": failures, "skipped": skipped}).encode()


def outcome(
    status: int = 0, data: bytes | None = None, lines: tuple[str, ...] = ("a line",), timed_out: bool = False
) -> RunOutcome:
    return RunOutcome(
        status=status, timed_out=timed_out, seconds=1.5, lines=lines, result=data, used={"python": "3.11.2"}
    )


def judged(ended: RunOutcome) -> Finding:
    (finding,) = judge_run(NAME, POLICY, CHECK, ended)
    return finding


def test_the_run_is_one_process_on_the_targets_processor() -> None:
    run = emulated_run(POLICY, CHECK)
    assert run.argv[:4] == ("/emulator/qemu-aarch64-static", "-cpu", "cortex-a72", "/usr/bin/python3.11")
    assert run.argv[-2:] == ("/out/result.json", "/source")
    assert run.env["PYTHONPATH"] == "/site"
    assert run.timeout == 60


def test_wheels_that_the_check_needs_come_after_the_wheel_itself() -> None:
    check = CheckSpec(script="", tests=1, timeout=1, wheels=("absl-py", "numpy"))
    assert emulated_run(POLICY, check).env["PYTHONPATH"] == "/site:/wheels/absl-py:/wheels/numpy"


def test_without_avx_the_run_is_on_a_processor_without_it() -> None:
    policy = POLICY.model_copy(update={"arch": "x86_64", "cpu": "x86-64", "qemu": "Conroe"})
    assert emulated_run(policy, CHECK).argv[:3] == ("/emulator/qemu-x86_64-static", "-cpu", "Conroe")


def test_tests_that_pass() -> None:
    finding = judged(outcome(data=result(12, 0, 2)))
    assert finding.severity is Severity.PASS
    assert "10 tests passed, 2 skipped" in finding.message


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (outcome(data=result(12, 0, 3)), "the release promises 10"),
        (outcome(data=result(0)), "the release promises 10"),
        (outcome(data=result(10, 1)), "1 of 10 tests failed"),
        (outcome(1, result(10, 3)), "ended with status 1 under qemu-aarch64 -cpu cortex-a72 (3 of 10 tests failed)"),
        (outcome(1, result(10, 0)), "ended with status 1"),
        (outcome(1, None), "ended with status 1"),
        (outcome(0, None), "left no result"),
        (outcome(0, b"[]"), "no JSON object"),
        (outcome(0, b"\xff\x00"), "no JSON"),
        (outcome(0, b"[" * 60000), "no JSON"),
        (outcome(0, b" " * 70000), "70,000 bytes"),
        (outcome(0, b'{"tests": 10}'), "does not say"),
        (outcome(0, result(True)), "does not say"),
        (outcome(0, result(10.0)), "does not say"),
        (outcome(0, result(99, -1)), "does not say"),
        (outcome(0, result("10")), "does not say"),
        (outcome(132, None), "died of SIGILL"),
        (outcome(137, None, ("x", DIED)), "died of SIGILL"),
        (outcome(139, result()), "died of SIGSEGV"),
        (outcome(137, None), "died of SIGKILL"),
        (outcome(137, result(), timed_out=True), "did not end within 60 s"),
    ],
)
def test_what_fails(ended: RunOutcome, says: str) -> None:
    finding = judged(ended)
    assert finding.severity is Severity.FAIL
    assert says in finding.message


def test_an_illegal_instruction_is_explained_with_the_lines_above_it() -> None:
    lines = ("Fatal Python error: Illegal instruction", '  File "/site/quick/__init__.py", line 1', DIED)
    finding = judged(outcome(132, None, lines))
    assert "instructions that cortex-a72 (qemu's cortex-a72) lacks" in finding.hint
    assert all(line in finding.hint for line in lines)


def test_the_proof_knows_what_ran(tmp_path: Path) -> None:
    seen: list[EmulatedRun] = []

    def run(wanted: EmulatedRun) -> RunOutcome:
        seen.append(wanted)
        return outcome(data=result(11))

    proof = prove(write_wheel(tmp_path), POLICY, sonames=SONAMES, check=CHECK, run=run)
    assert proof.passed
    assert [wanted.check for wanted in seen] == ["pass\n"]
    assert proof.run is not None
    assert (proof.run.tests, proof.run.qemu, proof.run.used) == (11, "cortex-a72", {"python": "3.11.2"})


def test_a_failed_run_fails_the_proof(tmp_path: Path) -> None:
    proof = prove(write_wheel(tmp_path), POLICY, sonames=SONAMES, check=CHECK, run=lambda _: outcome(1))
    assert not proof.passed
    assert proof.run is not None
    assert proof.run.tests is None


@pytest.mark.parametrize("files", [{"../evil.py": b""}, {"quick/cut.so": b"\x7fELF"}])
def test_a_wheel_that_must_not_be_unpacked_is_not_run(files: dict[str, bytes], tmp_path: Path) -> None:
    def run(_: EmulatedRun) -> RunOutcome:
        raise AssertionError("it was run")

    path = write_wheel(tmp_path, {**good_files(), **files})
    proof = prove(path, POLICY, sonames=SONAMES, check=CHECK, run=run)
    assert not proof.passed
    assert proof.findings[-1].severity is Severity.NOT_PROVEN


def test_without_a_check_it_is_said_that_nothing_ran(tmp_path: Path) -> None:
    proof = prove(write_wheel(tmp_path), POLICY, sonames=SONAMES, check=None, run=None)
    assert proof.passed
    assert proof.findings[-1].severity is Severity.NOT_PROVEN
    assert proof.run is None


# --- a wheel that the target's pip installs


PIP = "pip-20.3.4-py2.py3-none-any.whl"


def test_the_targets_pip_installs_from_the_given_files_alone() -> None:
    check = CheckSpec(script="", tests=1, timeout=9, wheels=(PIP, "six.whl"), install=True)
    run = installing_run(POLICY, check, "tf.whl")
    assert run is not None and run.installs
    assert run.argv[:4] == ("/emulator/qemu-aarch64-static", "-cpu", "cortex-a72", "/usr/bin/python3.11")
    assert run.argv[run.argv.index("install") - 1] == f"/wheels/{PIP}/pip"
    assert {"--no-index", "--find-links=/wheels", "--prefix=/site"} <= set(run.argv)
    assert run.argv[-1] == "/wheels/tf.whl"
    checked = emulated_run(POLICY, check)
    assert "PYTHONPATH" not in checked.env
    program = checked.argv[checked.argv.index("-c") + 1]
    assert "/site/lib/python3.11/site-packages" in program
    assert checked.argv[-3:] == ("/check/check.py", "/out/result.json", "/source")


def test_what_was_installed_is_seen_as_site_packages_are(tmp_path: Path) -> None:
    check = CheckSpec(script="", tests=1, timeout=9, wheels=(PIP,), install=True)
    program = emulated_run(POLICY, check).argv[-4]
    site = tmp_path / "site/lib/python3.11/site-packages"
    (site / "hidden").mkdir(parents=True)
    (site / "hidden/inside.py").write_text("VALUE = 42\n")
    (site / "spaces.pth").write_text("hidden\n")
    script = tmp_path / "check.py"
    script.write_text("import inside, sys\nprint(__name__, inside.VALUE, sys.argv[1:])\n")
    program = program.replace("/site/", f"{tmp_path}/site/")
    done = subprocess.run((sys.executable, "-c", program, script, "a", "b"), capture_output=True, text=True, check=True)
    assert done.stdout == "__main__ 42 ['a', 'b']\n"


def test_without_pip_nothing_can_be_installed() -> None:
    assert installing_run(POLICY, CheckSpec(script="", tests=1, timeout=9, install=True), "tf.whl") is None


def test_an_installation_that_fails_is_told_as_one() -> None:
    refused = replace(outcome(status=1, lines=("ERROR: no matching distribution for numpy",)), what="the installation")
    finding = judged(refused)
    assert finding.severity is Severity.FAIL
    assert finding.message.startswith("the installation ended with status 1")
    assert "numpy" in finding.hint
