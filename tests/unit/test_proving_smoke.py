"""The import of a wheel on the emulated target, where no recipe's check can be run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from elf_writer import write_elf
from hypothesis import given
from hypothesis import strategies as st
from test_proofs_runner import PIP, Bench, FakeSandbox, bench, installing
from wheel_writer import EXTENSION, NAME, POLICY, SONAMES, good_files, wheel_file, write_wheel

from crosswheel.proving.emulate import CheckSpec, EmulatedRun, RunOutcome
from crosswheel.proving.facts import read_wheel
from crosswheel.proving.faults import Fault, Frame
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import prove
from crosswheel.proving.smoke import judge_smoke, libraries_of, modules_of, smoke_run

pytestmark = pytest.mark.unit
__all__ = ["bench", "installing"]  # fixtures

WHY = "no check is known for this wheel"
WORKED = b'{"failed": {}, "loading": false, "loaded": 0}'
DIED = "qemu: uncaught target signal 4 (Illegal instruction) - core dumped"


def left(loading: bool = False, loaded: int = 0, **failed: str) -> bytes:
    return json.dumps({"failed": failed, "loading": loading, "loaded": loaded}).encode()


def outcome(status: int = 0, data: bytes | None = WORKED, lines: tuple[str, ...] = ()) -> RunOutcome:
    return RunOutcome(status=status, timed_out=False, seconds=1.5, lines=lines, result=data)


def judged(ended: RunOutcome, *modules: str) -> Finding:
    (finding,) = judge_smoke(NAME, POLICY, modules or ("quick",), ended, script="", why=WHY)
    return finding


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ({}, ("quick",)),
        ({"other/__init__.py": b"", "tests/__init__.py": b"", "setup.py": b""}, ("quick",)),
        ({"_quick.cpython-311-aarch64-linux-gnu.so": write_elf()}, ("_quick", "quick")),
        ({"_quick.abi3.so": write_elf(), EXTENSION: b""}, ("_quick",)),
        ({"quick-1.0.data/platlib/fast.so": write_elf()}, ("fast", "quick")),
        ({"quick.libs/libown.so.1": write_elf()}, ("quick",)),
        ({"space/name/_fast.so": write_elf(), EXTENSION: b""}, ("quick",)),
        ({"class/__init__.py": b"", "class/a.so": write_elf(), "na-me/__init__.py": b""}, ("quick",)),
    ],
)
def test_what_is_imported_is_what_has_machine_code(
    files: dict[str, bytes], modules: tuple[str, ...], tmp_path: Path
) -> None:
    assert modules_of(read_wheel(write_wheel(tmp_path, {**good_files(), **files}))) == modules


def test_the_import_runs_and_tells_what_could_not_be_imported(tmp_path: Path) -> None:
    """The script, in the Python of this machine."""
    (tmp_path / "leaves.py").write_text("import sys; sys.exit(3)\n")
    modules = ("json", "leaves", "no_such_module")
    run = smoke_run(POLICY, modules, (str(tmp_path / "missing.so"), libm()), None)
    assert run.argv[-2:] == ("/check/check.py", "/out/result.json")
    assert not run.installed
    (tmp_path / "check.py").write_text(run.check)
    words = [sys.executable, str(tmp_path / "check.py"), str(tmp_path / "result.json")]
    subprocess.run(words, check=True)
    finding = judged(outcome(data=(tmp_path / "result.json").read_bytes()), *modules)
    assert finding.severity is Severity.NOT_PROVEN
    assert "leaves: SystemExit: 3, no_such_module: ModuleNotFoundError: No module named" in finding.message
    assert finding.message.endswith("; libraries of it that could be loaded by themselves: 1")


def libm() -> str:
    """The path of a library of this machine."""
    return next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libm.so" in line)


def test_where_all_can_be_imported_no_library_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "check.py").write_text(smoke_run(POLICY, ("json",), (libm(),), None).check)
    subprocess.run([sys.executable, str(tmp_path / "check.py"), str(tmp_path / "result.json")], check=True)
    assert json.loads((tmp_path / "result.json").read_text()) == {"failed": {}, "loading": False, "loaded": 0}


def test_a_library_that_dies_of_an_instruction_fails_the_wheel() -> None:
    finding = judged(outcome(status=132, data=left(loading=True, quick="No module named 'six'"), lines=(DIED,)))
    assert finding.severity is Severity.FAIL
    assert finding.message.startswith("loading its libraries, one by one, died of SIGILL under qemu-aarch64")


def test_libraries_that_are_no_friends_are_not_proven() -> None:
    """Two of them may define the same thing twice, and stop."""
    aborted = DIED.replace("4 (Illegal instruction)", "6 (Aborted)")
    for ended in (
        outcome(status=134, data=left(loading=True, quick="No module named 'six'"), lines=(aborted,)),
        replace(outcome(status=137, data=left(loading=True, quick="No module named 'six'")), timed_out=True),
    ):
        finding = judged(ended)
        assert finding.severity is Severity.NOT_PROVEN
        assert "No module named 'six'; and loading its libraries, one by one, d" in finding.message


def test_the_libraries_of_a_wheel(tmp_path: Path) -> None:
    files = {**good_files(), "quick.libs/libown.so.1": write_elf(), "quick/a.py": b"", "quick/\x1b.so": write_elf()}
    facts = read_wheel(write_wheel(tmp_path, files))
    assert libraries_of(facts) == ("/site/quick.libs/libown.so.1", f"/site/{EXTENSION}")


def test_an_import_that_works_proves_no_more_than_that() -> None:
    finding = judged(outcome())
    assert finding.severity is Severity.NOT_PROVEN
    assert finding.message.startswith(f"{WHY}; `import quick` works under qemu-aarch64 -cpu cortex-a72 (1.5 s)")


def test_an_import_that_dies_fails_the_wheel() -> None:
    finding = judged(outcome(status=132, data=None, lines=(DIED,)))
    assert finding.severity is Severity.FAIL
    assert finding.message.startswith("`import quick` died of SIGILL under qemu-aarch64 -cpu cortex-a72")
    assert f"Only its import was tried, because {WHY}." in finding.hint


@pytest.mark.parametrize(
    "ended",
    [
        outcome(status=3),
        outcome(status=139, data=None, lines=(DIED.replace("4 (Illegal instruction)", "11 (Segmentation fault)"),)),
        replace(outcome(status=137, data=None), timed_out=True),
        replace(
            outcome(status=132, data=None, lines=(DIED,)),
            fault=Fault(instruction="udf", features=(), frames=(Frame(file="a.so", symbol="stop", own=True),)),
        ),
    ],
    ids=["another status", "a crash", "a hang", "a program that stops itself"],
)
def test_an_end_that_may_be_the_emulators_is_not_proven(ended: RunOutcome) -> None:
    """/proc and /sys are those of another processor."""
    finding = judged(ended)
    assert finding.severity is Severity.NOT_PROVEN
    assert finding.message.startswith(f"{WHY}; `import quick` ")
    assert finding.hint.startswith("It may be the emulator's doing")


@given(
    st.one_of(
        st.none(),
        st.binary(max_size=70000),
        st.dictionaries(
            st.sampled_from(["failed", "loading", "loaded"]) | st.text(),
            st.text() | st.integers() | st.booleans() | st.dictionaries(st.just("quick"), st.text() | st.none()),
        ),
    )
)
def test_whatever_a_wheel_writes_is_never_a_pass(said: object) -> None:
    data = said if said is None or isinstance(said, bytes) else json.dumps(said).encode()
    finding = judged(outcome(data=data))
    assert finding.severity is Severity.NOT_PROVEN
    assert finding.message.isprintable()


def test_a_wheel_without_a_recipe_is_imported(tmp_path: Path) -> None:
    ran: list[EmulatedRun] = []

    def run(wanted: EmulatedRun) -> RunOutcome:
        ran.append(wanted)
        return outcome()

    proof = prove(write_wheel(tmp_path), POLICY, sonames=SONAMES, check=None, run=run)
    assert proof.findings[-1].severity is Severity.NOT_PROVEN
    assert "import quick\n" in ran[0].check
    pure = {**good_files("py3-none-any"), "quick-1.0.dist-info/WHEEL": wheel_file("py3-none-any")}
    del pure[EXTENSION]
    proof = prove(
        write_wheel(tmp_path, pure, name="quick-1.0-py3-none-any.whl"), POLICY, sonames=SONAMES, check=None, run=run
    )
    assert "it has no machine code, so nothing of it was run" in proof.findings[-1].message
    assert len(ran) == 1


def test_where_pip_lacks_a_requirement_a_wheel_from_elsewhere_is_imported(tmp_path: Path) -> None:
    check = CheckSpec(script="pass\n", tests=1, timeout=9, wheels=("pip-20.3.4-py2.py3-none-any.whl",), install=True)
    lacks = ("ERROR: No matching distribution found for grpcio>=1.8.6 (from quick==1.0)",)
    itself = ("ERROR: No matching distribution found for quick",)

    def said(lines: tuple[str, ...], built_here: bool, asked: CheckSpec = check) -> Finding:
        def run(wanted: EmulatedRun) -> RunOutcome:
            return outcome(status=1, data=None, lines=lines) if wanted.installed else outcome()

        path = write_wheel(tmp_path)
        return prove(path, POLICY, sonames=SONAMES, check=asked, run=run, built_here=built_here).findings[-1]

    imported = said(lacks, built_here=False)
    assert imported.severity is Severity.NOT_PROVEN
    assert imported.message.startswith("the recipe's check brings no grpcio, which this wheel requires; `import quick`")
    assert said(lacks, built_here=True).severity is Severity.FAIL
    assert said(itself, built_here=False).severity is Severity.FAIL
    no_pip = said((), built_here=False, asked=replace(check, wheels=()))
    assert no_pip.message.startswith("the recipe's check has no pip for Python 3.11; `import quick` works")


def test_the_import_sees_the_wheels_of_the_check_unpacked(installing: Bench, tmp_path: Path) -> None:
    (tmp_path / "support" / "pip").mkdir()
    role = "check wheel absl.whl"
    write_wheel(tmp_path / "support", {"absl/__init__.py": b""}, name="absl-1.0-py3-none-any.whl")
    (tmp_path / "pip" / PIP).unlink()
    step = replace(installing.step, built_here=False)

    def work(out: Path, log: object, _: object) -> int:
        if out.name == "site":
            assert callable(log)
            log("ERROR: No matching distribution found for six")
            return 1
        (out / "result.json").write_bytes(WORKED)
        return 0

    sandbox = FakeSandbox(work)
    proof = replace(installing, step=step).prove(sandbox)
    assert proof.passed
    assert "brings no six, which this wheel requires; `import quick` works" in proof.findings[-1].message
    mounts = {mount.target: mount.source for mount in sandbox.seen[-1].mounts}
    assert (mounts[f"/wheels/{role.removeprefix('check wheel ')}"] / "absl/__init__.py").is_file()
    assert (mounts["/site"] / EXTENSION).is_file()
