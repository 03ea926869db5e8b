"""The runner of proof steps, on a sandbox of the tests' own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from wheel_writer import EXTENSION, POLICY, good_files, write_wheel

from crosswheel.building.job import Cancelled, Container, Job, Settings
from crosswheel.building.proofs import run_proof, target_sonames, unpack_site
from crosswheel.errors import InputError, StepError
from crosswheel.planning.steps import LocalStep, ProofStep, Step
from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import RULES, Proof

pytestmark = pytest.mark.unit
Work = Callable[[Path, Callable[[str], None], threading.Event], int]


@dataclass
class FakeSandbox:
    """Answers the question after Python's version, and does ``work`` in the place of the check."""

    work: Work
    version: str = "python 3.11.2 aarch64"
    seen: list[Container] = field(default_factory=list)

    def run(
        self, container: Container, *, log: Callable[[str], None], cancelled: threading.Event, label_key: str
    ) -> int:
        self.seen.append(container)
        if any("platform.machine" in word for word in container.argv):
            log(self.version)
            return 0
        out = next(mount.source for mount in container.mounts if mount.writable)
        status = self.work(out, log, cancelled)
        if cancelled.is_set():
            raise Cancelled
        return status

    def shell(self, container: Container) -> int:
        raise NotImplementedError

    def sweep(self, key: str) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Bench:
    step: ProofStep
    inputs: dict[str, Path]
    job: Job
    lines: list[str]

    def prove(self, sandbox: FakeSandbox) -> Proof:
        run_proof(self.step, self.inputs, self.job, sandbox=sandbox)
        return Proof.read(self.job.out / "proof.json")


ROLES = {
    "wheel": "wheel",
    "root": "root",
    "emulator": "emulator",
    "source": "source",
    "check wheel absl.whl": "support",
}


def given(name: str) -> Step:
    return LocalStep(name=name, path=name, sha256="0" * 64, folder=True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    for folder in ("wheel", "root/usr/lib/aarch64-linux-gnu", "emulator/usr/bin", "source", "support", "out", "work"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "root/usr/lib/aarch64-linux-gnu/libc.so.6").touch()
    (tmp_path / "emulator/usr/bin/qemu-aarch64-static").touch()
    write_wheel(tmp_path / "wheel")
    lines: list[str] = []
    step = ProofStep(
        name="prove quick",
        inputs={role: given(role) for role in ROLES},
        policy=POLICY.model_dump(mode="json"),
        check="print('the check')\n",
        tests=2,
        timeout=1,
        install=False,
        rules=RULES,
        built_here=True,
    )
    job = Job(
        key=step.key,
        out=tmp_path / "out",
        work=tmp_path / "work",
        settings=Settings(store=tmp_path / "store", memory=1234),
        log=lines.append,
        cancelled=threading.Event(),
    )
    inputs = {role: tmp_path / folder for role, folder in ROLES.items()}
    return Bench(step, inputs, job, lines)


def passes(out: Path, log: Callable[[str], None], cancelled: threading.Event) -> int:
    log("ok")
    (out / "result.json").write_text('{"tests": 2, "failures": 0, "skipped": 0}')
    return 0


def test_a_wheel_that_passes(bench: Bench) -> None:
    sandbox = FakeSandbox(passes)
    proof = bench.prove(sandbox)
    assert proof.passed
    assert proof.run is not None
    assert proof.run.used == {"python": "3.11.2"}
    tried, checked = sandbox.seen
    assert checked.root == bench.inputs["root"]
    assert checked.root_key == bench.step.inputs["root"].key
    assert checked.memory == 1234
    places = {mount.target: mount for mount in checked.mounts}
    assert set(places) == {"/emulator", "/site", "/check", "/source", "/wheels/absl.whl", "/out"}
    assert checked.env["PYTHONPATH"] == "/site:/wheels/absl.whl"
    assert checked.argv[-2:] == ("/out/result.json", "/source")
    assert [target for target, mount in places.items() if mount.writable] == ["/out"]
    assert (places["/site"].source / EXTENSION).is_file()
    assert (places["/check"].source / "check.py").read_text() == "print('the check')\n"
    assert not any(mount.writable for mount in tried.mounts)
    assert any(line.startswith("passed: quick") for line in bench.lines)


PIP = "pip-1-py3-none-any.whl"


@pytest.fixture
def installing(bench: Bench, tmp_path: Path) -> Bench:
    """The bench with a check that lets the target's pip install the wheel."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / PIP).write_text("pip")
    role = f"check wheel {PIP}"
    step = replace(bench.step, install=True, inputs={**bench.step.inputs, role: given(role)})
    return replace(bench, step=step, inputs={**bench.inputs, role: tmp_path / "pip"})


def test_the_targets_pip_installs_the_wheel_and_the_check_sees_what_it_installed(installing: Bench) -> None:
    def work(out: Path, log: Callable[[str], None], cancelled: threading.Event) -> int:
        if out.name == "site":
            (out / "installed").write_text("by pip")
            return 0
        assert (out.parent / "site/installed").read_text() == "by pip"
        return passes(out, log, cancelled)

    sandbox = FakeSandbox(work)
    assert installing.prove(sandbox).passed
    _, installed, checked = sandbox.seen
    wheels = next(mount.source for mount in installed.mounts if mount.target == "/wheels")
    assert {PIP, next(installing.inputs["wheel"].glob("*.whl")).name} == {path.name for path in wheels.iterdir()}
    assert "install" in installed.argv
    assert "PYTHONPATH" not in checked.env
    assert not any(mount.target.startswith("/wheels") for mount in checked.mounts)


def test_a_wheel_that_the_targets_pip_refuses_fails_and_no_check_runs(installing: Bench) -> None:
    def work(_: Path, log: Callable[[str], None], __: object) -> int:
        log("ERROR: tf.whl is not a supported wheel on this platform.")
        return 1

    sandbox = FakeSandbox(work)
    proof = installing.prove(sandbox)
    assert not proof.passed
    assert proof.findings[-1].message.startswith("the installation by the target's pip ended with status 1")
    assert "not a supported wheel" in proof.findings[-1].hint
    assert len(sandbox.seen) == 2


def test_a_check_that_installs_needs_pip(bench: Bench) -> None:
    step = replace(bench.step, install=True)
    with pytest.raises(StepError, match="no wheel of pip"):
        replace(bench, step=step).prove(FakeSandbox(passes))


def test_a_wheel_that_fails_is_a_result(bench: Bench) -> None:
    proof = bench.prove(FakeSandbox(lambda *_: 1))
    assert not proof.passed
    assert any(line.startswith("FAILED: quick") for line in bench.lines)


def test_a_result_that_is_a_link_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"tests": 9, "failures": 0, "skipped": 0}')

    def work(out: Path, *_: object) -> int:
        (out / "result.json").symlink_to(tmp_path / "secret")
        return 0

    proof = bench.prove(FakeSandbox(work))
    assert "left no result" in proof.findings[-1].message


@pytest.mark.timeout(20)
def test_a_result_that_is_a_pipe_is_not_waited_for(bench: Bench) -> None:
    def work(out: Path, *_: object) -> int:
        os.mkfifo(out / "result.json")
        return 0

    assert "left no result" in bench.prove(FakeSandbox(work)).findings[-1].message


@pytest.mark.timeout(20)
def test_a_check_that_hangs_is_stopped(bench: Bench) -> None:
    def work(_: Path, __: object, cancelled: threading.Event) -> int:
        assert cancelled.wait(15)
        return 137

    proof = bench.prove(FakeSandbox(work))
    assert "did not end within 1 s" in proof.findings[-1].message


@pytest.mark.timeout(20)
def test_qemu_that_dies_and_hangs_is_stopped_and_explained(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosswheel.building.emulation._LAST_WORDS_SECONDS", 0.2)
    bench = Bench(replace_timeout(bench.step, 600), bench.inputs, bench.job, bench.lines)

    def work(_: Path, log: Callable[[str], None], cancelled: threading.Event) -> int:
        log("qemu: uncaught target signal 4 (Illegal instruction) - core dumped")
        assert cancelled.wait(15)
        return 137

    proof = bench.prove(FakeSandbox(work))
    assert "died of SIGILL" in proof.findings[-1].message


def replace_timeout(step: ProofStep, timeout: int) -> ProofStep:
    from dataclasses import replace

    return replace(step, timeout=timeout)


@pytest.mark.timeout(20)
def test_a_build_that_is_stopped_stops_the_check(bench: Bench) -> None:
    bench = Bench(replace_timeout(bench.step, 600), bench.inputs, bench.job, bench.lines)

    def work(_: Path, __: object, cancelled: threading.Event) -> int:
        bench.job.cancelled.set()
        assert cancelled.wait(15)
        return 137

    began = time.monotonic()
    with pytest.raises(Cancelled):
        bench.prove(FakeSandbox(work))
    assert time.monotonic() - began < 5


def test_a_target_that_does_not_run_is_no_fault_of_the_wheel(bench: Bench) -> None:
    with pytest.raises(StepError, match=r"Python 3\.11 does not run") as caught:
        bench.prove(FakeSandbox(passes, version="qemu: could not open '/usr/bin/python3.11'"))
    assert "could not open" in caught.value.why
    assert not (bench.job.out / "proof.json").exists()


def test_an_emulator_without_qemu(bench: Bench) -> None:
    (bench.inputs["emulator"] / "usr/bin/qemu-aarch64-static").unlink()
    with pytest.raises(StepError, match="has no qemu-aarch64-static"):
        bench.prove(FakeSandbox(passes))


def test_two_wheels_to_prove(bench: Bench) -> None:
    (bench.inputs["wheel"] / "other-1.0-py3-none-any.whl").touch()
    with pytest.raises(StepError, match="2 wheels"):
        bench.prove(FakeSandbox(passes))


def test_a_hostile_wheel_is_never_unpacked(bench: Bench, tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheel", {**good_files(), "../../evil.py": b"evil\n"})
    sandbox = FakeSandbox(passes)
    proof = bench.prove(sandbox)
    assert not proof.passed
    assert sandbox.seen == []
    assert not list(tmp_path.rglob("evil.py"))
    with pytest.raises(InputError):
        unpack_site(tmp_path / "wheel" / proof.file, tmp_path / "site")


def test_libraries_of_a_root(tmp_path: Path) -> None:
    for folder in ("usr/lib/aarch64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "usr/lib/python3"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/lib/aarch64-linux-gnu/libstdc++.so.6.0.30").touch()
    (tmp_path / "usr/lib/aarch64-linux-gnu/libstdc++.so.6").symlink_to("libstdc++.so.6.0.30")
    (tmp_path / "usr/lib/aarch64-linux-gnu/libgone.so.1").symlink_to("libgone.so.1.2")
    (tmp_path / "lib/aarch64-linux-gnu/libc.so.6").touch()
    (tmp_path / "lib/ld-linux-aarch64.so.1").touch()
    (tmp_path / "usr/lib/x86_64-linux-gnu/libhost.so.1").touch()
    (tmp_path / "usr/lib/python3/libnot.so").touch()
    expected = {"libstdc++.so.6", "libstdc++.so.6.0.30", "libc.so.6", "ld-linux-aarch64.so.1"}
    assert target_sonames(tmp_path, "aarch64") == expected


def test_purelib_and_platlib_go_to_site_packages(tmp_path: Path) -> None:
    path = write_wheel(
        tmp_path,
        {
            **good_files(),
            "quick-1.0.data/purelib/quick/more.py": b"",
            "quick-1.0.data/platlib/other/__init__.py": b"",
            "quick-1.0.data/scripts/go": b"#!python\n",
        },
    )
    unpack_site(path, tmp_path / "site")
    for name in (EXTENSION, "quick/more.py", "other/__init__.py", "quick-1.0.data/scripts/go"):
        assert (tmp_path / "site" / name).is_file(), name


def test_severity_words_are_those_of_the_json() -> None:
    assert [item.value for item in Severity] == ["fail", "warn", "not_proven", "pass"]
