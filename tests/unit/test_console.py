"""What a person sees: the running build, errors, tables and proofs, with and without a terminal."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from wheel_writer import POLICY

from crosswheel.cli.console import HEARTBEAT, Screen, proof_text, show_error, show_table, table_text
from crosswheel.errors import InputError, StepError
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep, Step
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof

pytestmark = pytest.mark.unit

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


# --- the running build ---


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def step(name: str, **inputs: Step) -> FilesStep:
    return FilesStep(name=name, inputs=inputs, files={name: RenderedFile(text=name)})


def run_step(name: str, **inputs: Step) -> RunStep:
    return RunStep(
        name=name, inputs=inputs, commands=((name,),), env={}, cwd="/build", mounts={}, copies={}, outputs=("*",)
    )


SOURCES = step("sources")
ROOT = step("root", sources=SOURCES)
BUILD = run_step("build", root=ROOT)
PROOF = step("proof", build=BUILD)
PLAN = (SOURCES, ROOT, BUILD, PROOF)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def screen(clock: Clock, stream: io.StringIO) -> Iterator[Screen]:
    """Not on a terminal."""
    made = Screen(stream=stream, clock=clock)
    made.plan(PLAN)
    yield made


def test_plain_lines_say_what_begins_what_is_done_and_what_is_left(
    screen: Screen, clock: Clock, stream: io.StringIO
) -> None:
    with screen:
        screen.finished(ROOT, 0.0, True)  # what lies below it is not looked at
        screen.started(BUILD)
        screen.line(BUILD, "\x1b[32m[1 / 2]\x1b[0m Compiling")
        clock.now = 42.0
        screen.finished(BUILD, 42.0, False)
        screen.started(PROOF)
        clock.now = 43.5
        screen.finished(PROOF, 1.5, False)
    assert stream.getvalue() == (
        "→ build …\n✓ build  (42 s, 3/4)\n✓ proof  (1.5 s, 4/4)\n✓ 2 of 4 steps done in 44 s, 2 from the store\n"
    )


def test_nothing_to_do_is_one_line(screen: Screen, stream: io.StringIO) -> None:
    with screen:
        screen.finished(PROOF, 0.0, True)
    assert stream.getvalue() == "✓ nothing to do: the result is in the store\n"


def test_a_step_of_another_build_is_waited_for_and_taken(screen: Screen, stream: io.StringIO) -> None:
    with screen:
        screen.finished(BUILD, 0.0, True)
        screen.waiting(PROOF)
        screen.finished(PROOF, 0.0, True)
    assert stream.getvalue() == ("→ proof: another build makes it; waiting …\n✓ nothing to do: another build made it\n")


def test_a_long_step_is_heard_of_now_and_then(screen: Screen, clock: Clock, stream: io.StringIO) -> None:
    screen.started(BUILD)
    for second in range(0, int(2.5 * HEARTBEAT), 10):
        clock.now = second
        screen.line(BUILD, f"[{second} / 1000] Compiling")
    assert stream.getvalue() == (
        "→ build …\n… build (5:00): 300 / 1,000  Compiling\n… build (10:00): 600 / 1,000  Compiling\n"
    )


def test_damage_and_failure_are_told(screen: Screen, clock: Clock, stream: io.StringIO) -> None:
    with pytest.raises(StepError), screen:
        screen.damaged(ROOT, "lib.so has another hash")
        screen.started(BUILD)
        clock.now = 3.0
        error = StepError("The compiler refused the source.", where="build")
        screen.failed(BUILD, error)
        raise error
    assert stream.getvalue() == (
        "! root was damaged in the store (lib.so has another hash); making it anew\n"
        "→ build …\n"
        "✗ build failed after 3.0 s\n"
    )


def test_quiet_tells_only_damage_and_failure(stream: io.StringIO) -> None:
    with Screen(quiet=True, stream=stream) as screen:
        screen.plan(PLAN)
        screen.finished(ROOT, 0.0, True)
        screen.started(BUILD)
        screen.line(BUILD, "words")
        screen.waiting(BUILD)
        screen.finished(BUILD, 1.0, False)
    assert stream.getvalue() == ""


def test_a_hostile_name_and_line_write_no_control_character(screen: Screen, clock: Clock, stream: io.StringIO) -> None:
    evil = run_step("\x1b]0;owned\x07build\r\x9b2J")
    screen.plan([evil])
    screen.started(evil)
    clock.now = HEARTBEAT
    screen.line(evil, "\x1b[2J\x1b]52;c;eA==\x07 words \u202e")
    screen.finished(evil, 1.0, False)
    assert not CONTROL.search(stream.getvalue())


class Terminal(io.StringIO):
    """What is drawn."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("CI", raising=False)
    return Terminal()


def test_on_a_terminal_a_line_for_each_running_step_is_drawn(terminal: Terminal, clock: Clock) -> None:
    with Screen(stream=terminal, clock=clock) as screen:
        screen.plan(PLAN)
        screen.finished(ROOT, 0.0, True)
        screen.started(BUILD)
        screen.line(BUILD, "\x1b[32m[123 / 456]\x1b[0m Compiling tree.cc")
        clock.now = 61.0
        drawn = _drawn(screen)
        screen.finished(BUILD, 61.0, False)
    assert re.search(r"build +1:01 123 / 456  Compiling tree.cc", drawn)
    assert "2 of 4 steps · 2 from the store · 1:01" in drawn
    assert "✓ build  (1:01)" in _uncoloured(terminal.getvalue())


def test_more_running_steps_than_rows_are_counted(terminal: Terminal, clock: Clock) -> None:
    steps = [step(f"fetch {number}") for number in range(11)]
    with Screen(stream=terminal, clock=clock) as screen:
        screen.plan(steps)
        for each in steps:
            screen.started(each)
        drawn = _drawn(screen)
    assert "fetch 7" in drawn
    assert "fetch 8" not in drawn
    assert "3 more running" in drawn


def _drawn(screen: Screen) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=100, color_system=None)
    with console.capture() as capture:
        console.print(screen._picture())
    return capture.get()


def _uncoloured(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_build_with_nothing_to_do_imports_no_rich() -> None:
    code = (
        "import sys\n"
        "from crosswheel.cli.console import Screen, show_table\n"
        "with Screen() as screen:\n    screen.plan([])\n"
        "show_table('t', ('a',), [('b',)])\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'rich'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- errors, tables, proofs ---

ERROR = StepError(
    "The compiler refused the source.",
    where="build dm-tree",
    why="tree.cc:17: \x1b[31merror:\x1b[0m no such file\n\n   17 | #include",
    hint="Add the header.\n`./x log 1a2b` shows the whole log.",
)


def test_an_error_is_where_what_why_and_what_to_do(stream: io.StringIO) -> None:
    show_error(ERROR, stream=stream)
    assert stream.getvalue() == (
        "error: build dm-tree: The compiler refused the source.\n"
        "    tree.cc:17: error: no such file\n"
        "\n"
        "       17 | #include\n"
        "→ Add the header.\n"
        "  `./x log 1a2b` shows the whole log.\n"
    )


def test_an_error_without_more_is_one_line(stream: io.StringIO) -> None:
    show_error(InputError("there is no recipe 'tenserflow'"), stream=stream)
    assert stream.getvalue() == "error: there is no recipe 'tenserflow'\n"


def test_an_error_as_json_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(ERROR, as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["exit_code"] == 4
    assert json.loads(printed.out)["error"]["where"] == "build dm-tree"
    assert printed.err.startswith("error: build dm-tree: ")


def test_colours_are_for_terminals_that_want_them(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    show_error(ERROR, stream=terminal)
    assert "\x1b[1;31merror: " in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    other = Terminal()
    show_error(ERROR, stream=other)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", other.getvalue())
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal()
    show_error(ERROR, stream=dumb)
    assert "\x1b" not in dumb.getvalue()


def test_a_command_to_copy_is_not_broken_at_the_width(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    command = "apt-get install -y --no-install-recommends docker.io iptables"
    show_error(InputError("it lacks Docker", hint=command), stream=terminal)
    assert command in _uncoloured(terminal.getvalue())


def test_tables_are_aligned_without_a_terminal(stream: io.StringIO) -> None:
    show_table("Recipes", ("recipe", "versions"), [("dm-tree", "0.1.5"), ("wrapt\x1b[2J", "")], stream=stream)
    assert stream.getvalue() == "Recipes\n  recipe   versions\n  dm-tree  0.1.5\n  wrapt\n\n"


def test_a_table_without_headings_or_rows() -> None:
    assert table_text(("", ""), [("a", "b")]) == "  a  b\n"
    assert table_text(("a", "b"), []) == "  a  b\n"


def test_tables_on_a_terminal(terminal: Terminal) -> None:
    show_table("This machine", ("what", "state"), [("Docker", "missing")], stream=terminal)
    assert re.search(r"Docker +missing", _uncoloured(terminal.getvalue()))


def proof_of(*findings: Finding) -> Proof:
    return Proof(
        file=WHEEL,
        sha256="a" * 64,
        size=1,
        policy=POLICY,
        policy_sha256="b" * 64,
        rules={},
        findings=findings,
        run=None,
    )


WHEEL = "a-1-cp311-cp311-linux_aarch64.whl"
FITS = Finding(rule="tag", severity=Severity.PASS, subject=WHEEL, message="the tag is that of its files")
TOO_NEW = Finding(
    rule="floors", severity=Severity.FAIL, subject="a/\x1b[31m_a.so", message="needs GLIBC_2.38", hint="Build it anew."
)


def shown(proof: Proof, folder: str) -> list[str]:
    return "".join(text for text, _ in proof_text(proof, Path(folder) / WHEEL, 12.0)).splitlines()


def test_a_proof_that_passed() -> None:
    lines = shown(proof_of(FITS), "dist/rpi4")
    assert lines[0] == f"✓ dist/rpi4/{WHEEL}  (12 s)"
    assert lines[1].startswith("  for rpi4: debian-12, aarch64, cortex-a72")
    assert re.fullmatch(r"  pass +tag +the tag is that of its files", lines[-1])


def test_a_proof_that_failed_shows_the_worst_first_with_what_to_do() -> None:
    lines = shown(proof_of(FITS, TOO_NEW), "dist/failed")
    assert lines[0].startswith("✗ dist/failed/")
    assert re.fullmatch(r"  FAIL +floors +a/\\x1b\[31m_a.so: needs GLIBC_2.38", lines[-4])
    assert lines[-3].strip() == "→ Build it anew."
    assert lines[-2].split()[:2] == ["pass", "tag"]
    assert lines[-1] == "The proof failed: this wheel does not fit its target."
    assert ("FAIL", "bold red") in proof_text(proof_of(TOO_NEW), Path(WHEEL), None)


def test_a_long_finding_is_wrapped_at_words_on_a_terminal() -> None:
    text = "".join(piece for piece, _ in proof_text(proof_of(TOO_NEW), Path(WHEEL), None, width=80))
    whole = "".join(piece for piece, _ in proof_text(proof_of(TOO_NEW), Path(WHEEL), None))
    assert text.split() == whole.split()
    assert all(len(line) <= 80 or " " not in line.strip() for line in text.splitlines()[1:])
    assert any(line.startswith(" " * 26) and line[26] != " " for line in text.splitlines())
