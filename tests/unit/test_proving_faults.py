"""What a fault was: what the debugger wrote down, read and put into words."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheel_writer import NAME, POLICY

from crosswheel.proving.emulate import CheckSpec, RunOutcome, judge_run
from crosswheel.proving.faults import MOST_TEXT, Fault, Frame, escaped, read_fault, shortened
from crosswheel.proving.findings import Finding
from crosswheel.spec.base import Arch
from crosswheel.spec.isa import InstructionSet

pytestmark = pytest.mark.unit

VMOVDQU, VZEROUPPER, UD2 = "c5fe6f00", "c5f877", "0f0b"
LDADD = "000021b8"
FMLA_HALVES = "200c424e"  # fmla v0.8h, v1.8h, v2.8h
HASHTABLE = (
    "std::pair<std::__detail::_Node_iterator<std::pair<tensorflow::StringPiece const, bool (*)()>, false>, bool> "
    "std::_Hashtable<tensorflow::StringPiece, int>::_M_emplace<int>(std::integral_constant<bool, true>, int&&)"
)
LIBRARY = "/site/tensorflow/python/../libtensorflow_framework.so"
EXTENSION = "/site/tensorflow/python/_pywrap_tensorflow_internal.so"
MEMBERS = {"tensorflow/libtensorflow_framework.so", "tensorflow/python/_pywrap_tensorflow_internal.so", "own.so"}


def row(file: str, symbol: str = "", **more: Any) -> dict[str, Any]:
    return {"file": file, "symbol": symbol, "keyed": "", "signal": False, "code": "", "strings": [], **more}


TENSORFLOW = [
    row(LIBRARY, HASHTABLE, code=VMOVDQU),
    row(LIBRARY, "tensorflow::UnaryVariantOpRegistry::RegisterDecodeFn(std::string const&)"),
    row(LIBRARY, "_GLOBAL__sub_I_tensor.cc"),
    row("/lib64/ld-linux-x86-64.so.2"),
    row("/lib/x86_64-linux-gnu/libc.so.6", "_dl_catch_exception"),
    row("/lib/x86_64-linux-gnu/libdl.so.2", "dlopen", strings=["init_pywrap", EXTENSION]),
    row("/usr/bin/python2.7", "_PyImport_GetDynLoadFunc", strings=[EXTENSION]),
    row("/usr/bin/python2.7", "PyImport_ExecCodeModuleEx", strings=["tensorflow.python"]),
    row("/usr/bin/python2.7", "PyImport_ExecCodeModuleEx", strings=["tensorflow"]),
]
LOADED = [
    row("/lib/ld-linux-aarch64.so.1"),
    row("/lib/aarch64-linux-gnu/libc.so.6", "dlopen", strings=["/site/own.so"]),
]


def place(path: str) -> str | None:
    name = path.removeprefix("/site/")
    return name if name != path and name in MEMBERS else None


def read(rows: list[dict[str, Any]], arch: Arch = "x86_64") -> Fault:
    found = read_fault(json.dumps({"frames": rows}).encode(), arch, place)
    assert isinstance(found, Fault), found
    return found


def told(
    fault: Fault | None, *, signal: int = 4, lines: tuple[str, ...] = (), script: str = "", **more: Any
) -> Finding:
    """The finding on a check that died so."""
    outcome = RunOutcome(
        status=128 + signal, timed_out=False, seconds=1.0, lines=lines, result=None, fault=fault, **more
    )
    policy = POLICY.model_copy(update={"arch": "x86_64", "cpu": "x86-64", "qemu": "Conroe"})
    (finding,) = judge_run(NAME, policy, CheckSpec(script=script, tests=1, timeout=9), outcome)
    return finding


def test_the_fault_of_tensorflow_1_6() -> None:
    finding = told(read(TENSORFLOW))
    assert finding.message == (
        "the check died of SIGILL under qemu-x86_64 -cpu Conroe: vmovdqu (AVX) in std::_Hashtable<…>::_M_emplace<…> of "
        "tensorflow/libtensorflow_framework.so, reached from the static initialiser of tensor.cc, while `import "
        "tensorflow` loaded tensorflow/python/_pywrap_tensorflow_internal.so"
    )
    assert finding.hint.splitlines() == [
        "tensorflow/libtensorflow_framework.so was compiled with AVX: it has instructions that x86-64 (qemu's Conroe) "
        "lacks. Build it with `--no-avx`; or judge it for a processor that has AVX, with `--cpu`.",
        "The stack, from the fault on:",
        "  std::_Hashtable<…>::_M_emplace<…> of tensorflow/libtensorflow_framework.so",
        "  tensorflow::UnaryVariantOpRegistry::RegisterDecodeFn",
        "  the static initialiser of tensor.cc",
    ]


FAULTHANDLER = (
    "Fatal Python error: Illegal instruction",
    "",
    "Current thread 0x0000005500b48420 (most recent call first):",
    '  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed',
    '  File "/site/own/__init__.py", line 1 in <module>',
    '  File "/check/check.py", line 2 in load',
    '  File "/check/check.py", line 4 in <module>',
)


def test_behind_a_handler_of_the_signal_is_the_fault() -> None:
    """Python's faulthandler catches it, says where Python was, and raises it again."""
    rows = [
        row("/lib/aarch64-linux-gnu/libc.so.6", code="00"),
        row("/lib/aarch64-linux-gnu/libc.so.6", "raise"),
        row("", signal=True),
        row("/site/own.so", "registry::Box<long>::add(std::atomic<long>&, long)", code=LDADD),
        row("/site/own.so", "_GLOBAL__sub_I_counter.cc"),
        *LOADED,
    ]
    finding = told(read(rows, "aarch64"), lines=FAULTHANDLER, script="def load():\n    import own\n\nload()\n")
    assert finding.message.endswith(
        "ldadd (LSE) in registry::Box<…>::add of own.so, reached from the static initialiser of counter.cc, while "
        "`import own` (line 2 of the check) loaded it"
    )
    assert "Build it for x86-64; or judge it for a processor that has LSE" in finding.hint


def test_a_handler_that_crashes_in_turn() -> None:
    """Python 3.6's does under qemu, by an instruction that wants an aligned stack."""
    libc = "/lib/libc.so.6"
    handler = [row(libc, "raise", code="0f2984"), row(libc, code="48c7c0", signal=True)]
    fault = read([*handler, *handler, row("/site/own.so", "f", code=VZEROUPPER)])
    lines = (*FAULTHANDLER, "Fatal Python error: Segmentation fault", "", *FAULTHANDLER[2:])
    finding = told(fault, signal=11, lines=lines, script="a\nimport own\n")
    assert "died of SIGILL under qemu-x86_64 -cpu Conroe: vzeroupper (AVX) in f of own.so" in finding.message
    assert "The handler that told of it died of SIGSEGV in turn." in finding.hint


@pytest.mark.parametrize(
    ("script", "lines", "says"),
    [
        ("", FAULTHANDLER, "line 2 of the check loaded it"),
        ("a\nb\n", FAULTHANDLER, "`b` (line 2 of the check) loaded it"),
        ("a\nb\n", FAULTHANDLER[:4], "while it was being loaded"),
        ("a\nb\n", (*FAULTHANDLER[:4], "x", *FAULTHANDLER[5:]), "while it was being loaded"),
        ("a\nb\x1b[31m" + "b" * 400, FAULTHANDLER, "`b\\x1b[31mbbb"),
    ],
)
def test_the_line_of_the_check(script: str, lines: tuple[str, ...], says: str) -> None:
    fault = read([row("/site/own.so", "f", code=VZEROUPPER), *LOADED])
    assert says in told(fault, lines=lines, script=script).message


def test_a_file_without_names_has_initialisers_nevertheless() -> None:
    """The loader calls nothing else."""
    fault = read([row("/site/own.so", code=VZEROUPPER), row("/site/own.so"), *LOADED])
    assert fault.told("") == (
        "vzeroupper (AVX) in a function without a name of own.so, reached from a static initialiser, while it was "
        "being loaded"
    )
    assert [frame.initialiser for frame in fault.frames] == ["", "own.so"]


@pytest.mark.parametrize(
    ("symbol", "keyed", "says"),
    [
        ("_GLOBAL__sub_I_message.pb.cc", "", "the static initialiser of message.pb.cc of own.so"),
        ("_GLOBAL__sub_I__ZN1a1bEv", "a::b(int)", "the static initialiser of the source file of a::b of own.so"),
        ("_GLOBAL__sub_I_main", "", "the static initialiser of the source file of main of own.so"),
        ("_GLOBAL__I_000102", "", "_GLOBAL__I_000102 of own.so, which the loader called"),
        ("init_tables", "", "init_tables of own.so, which the loader called"),
        ("", "", "a static initialiser of own.so"),
        ("global constructors keyed to a::b()", "", "the static initialiser of the source file of a::b of own.so"),
    ],
)
def test_names_of_static_initialisers(symbol: str, keyed: str, says: str) -> None:
    fault = read([row("/site/own.so", symbol, keyed=keyed, code=VZEROUPPER), *LOADED])
    assert fault.told("").startswith(f"vzeroupper (AVX) in {says}, while it was")


def test_a_library_of_the_target_that_the_wheel_calls() -> None:
    fault = read([row("/lib/libc.so.6", "memcpy", code="90"), row("/site/own.so", "f(int)"), row("/site/own.so", "g")])
    assert told(fault, signal=11).message.endswith("in memcpy of /lib/libc.so.6, called by f of own.so")
    assert [frame.symbol for frame in fault.frames] == ["memcpy", "f", "g"]


def test_an_instruction_of_another_package() -> None:
    finding = told(read([row("/site/numpy/core.so", "f", code=VZEROUPPER)]))
    assert "/site/numpy/core.so, which another package brought, was compiled with AVX" in finding.hint


def test_code_that_the_program_wrote() -> None:
    finding = told(read([row("", code=VZEROUPPER), row("/site/own.so", "run")]))
    assert finding.message.endswith("vzeroupper (AVX) in code that lies in no file, called by run of own.so")
    assert finding.hint.startswith("The program wrote instructions that x86-64 (qemu's Conroe) lacks into memory")


def test_a_program_that_stops_itself() -> None:
    finding = told(read([row("/site/own.so", "f", code=UD2)]))
    assert finding.message.endswith(": ud2 in f of own.so")
    assert "stopped itself" in finding.hint
    aborted = told(read([row("/lib/libc.so.6", "raise", code="90"), row("/site/own.so", "f")]), signal=6)
    assert aborted.message.endswith(
        "SIGABRT under qemu-x86_64 -cpu Conroe: in raise of /lib/libc.so.6, called by f of own.so"
    )


@pytest.mark.parametrize(
    ("has", "named"),
    [
        (("V8_0a", "FPARMv8", "NEON"), "FullFP16"),
        (("V8_0a",), "FullFP16 and NEON"),
        (("FPARMv8", "NEON", "FullFP16"), "FullFP16 and NEON"),  # then it is qemu's model that lacks something
    ],
)
def test_of_the_features_those_are_named_that_the_processor_lacks(has: tuple[str, ...], named: str) -> None:
    fault = read([row("/site/own.so", "f", code=FMLA_HALVES)], "aarch64")
    assert sorted(fault.features) == ["FullFP16", "NEON"]
    policy = POLICY.model_copy(update={"instructions": InstructionSet(features=has)})
    outcome = RunOutcome(status=132, timed_out=False, seconds=1.0, lines=(), result=None, fault=fault)
    (finding,) = judge_run(NAME, policy, CheckSpec(script="", tests=1, timeout=9), outcome)
    words = " and ".join(sorted(named.split(" and ")))
    (told_in_message,) = re.findall(r"fmla \((.*?)\)", finding.message)
    assert " and ".join(sorted(told_in_message.split(" and "))) == words
    assert f"was compiled with {told_in_message}: " in finding.hint


def test_of_two_features_of_which_one_does_the_processor_has_one() -> None:
    assert InstructionSet(features=("SME",)).lacks(("SVEorSME", "SVE", "LSE")) == ("SVE", "LSE")


def test_what_could_not_be_traced_is_said() -> None:
    finding = told(None, untraced="qemu left no core file")
    assert finding.message.endswith("died of SIGILL under qemu-x86_64 -cpu Conroe")
    assert "instructions that x86-64 (qemu's Conroe) lacks" in finding.hint
    assert "It could not be traced to a function: qemu left no core file." in finding.hint


def test_an_instruction_that_nobody_knows() -> None:
    fault = read([row("/site/own.so", "f", code="ff")])
    assert (fault.instruction, fault.features) == ("", ())
    assert told(fault).message.endswith(": in f of own.so")
    assert "Look for -march" in told(fault).hint


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 60000,
        b"\xff\x00",
        b'{"frames": 1}',
        b'{"frames": [[]]}',
        b'{"frames": [{}]}',
        json.dumps({"frames": [row("a", code="xy")]}).encode(),
        *(
            json.dumps({"frames": [{**row("a"), key: [1]}]}).encode()
            for key in ("file", "symbol", "keyed", "code", "strings")
        ),
        b" " * (MOST_TEXT + 1),
    ],
)
def test_what_is_no_stack(text: bytes) -> None:
    assert read_fault(text, "x86_64", place) == "the debugger wrote no stack that can be read"


def test_a_stack_without_frames() -> None:
    assert read_fault(b'{"frames": []}', "x86_64", place) == "the debugger found no stack"


WORD = st.text(max_size=40) | st.sampled_from(
    ["_GLOBAL__sub_I_", "dlopen", "/lib/ld-linux.so.2", "/site/own.so", "\x1b[2J"]
)
ROWS = st.fixed_dictionaries(
    {
        "file": WORD,
        "symbol": WORD,
        "keyed": WORD,
        "signal": st.booleans(),
        "code": st.binary(max_size=16).map(bytes.hex),
        "strings": st.lists(WORD, max_size=3),
    }
)


@given(rows=st.lists(ROWS, min_size=1, max_size=8), arch=st.sampled_from(["x86_64", "aarch64"]))
def test_whatever_a_wheel_writes_into_names_is_shown_harmlessly(rows: list[dict[str, Any]], arch: Arch) -> None:
    fault = read_fault(json.dumps({"frames": rows}).encode(), arch, place)
    if isinstance(fault, Fault):
        finding = told(fault)
        shown = finding.message + finding.hint
        assert all(char == "\n" or char == "…" or (char.isascii() and char.isprintable()) for char in shown)
        assert len(finding.message) < 2000 and len(finding.hint) < 4000


@given(st.binary(max_size=200))
def test_garbage_is_no_stack(text: bytes) -> None:
    assert isinstance(read_fault(text, "x86_64", place), str)


@pytest.mark.parametrize(
    ("symbol", "short"),
    [
        (HASHTABLE, "std::_Hashtable<…>::_M_emplace<…>"),
        ("(anonymous namespace)::f(int)", "(anonymous namespace)::f"),
        ("bool (anonymous namespace)::g<int>(int) [clone .isra.0]", "(anonymous namespace)::g<…>"),
        ("std::ostream& operator<< <int>(std::ostream&, int)", "operator<< <…>"),
        ("void A<int>::operator->() const", "A<…>::operator->"),
        ("foo(int)::{lambda(int)#1}::operator()(int) const", "foo(int)::{lambda(int)#1}::operator()"),
        ("std::function<void ()>::operator()() const", "std::function<…>::operator()"),
        ("X::operator std::string() const", "X::operator std::string"),
        ("operator new(unsigned long)", "operator new"),
        ("a::b(int) (.constprop.3)", "a::b"),
        ("_start.part.0", "_start"),
        ("decltype (f(1)) g<int>(int)", "g<…>"),
        ("_GLOBAL__sub_I_tensor.cc", "_GLOBAL__sub_I_tensor.cc"),
        ("x<y", "x<y"),
        ("f\x1b[31m(int)", "f\\x1b[31m"),
        ("", ""),
    ],
)
def test_names_are_shortened(symbol: str, short: str) -> None:
    assert shortened(symbol) == short


def test_long_names_are_cut() -> None:
    assert len(escaped("x" * 5000)) == len(shortened("y" * 5000)) == 160
    assert escaped("a\nb\u202ec") == "a\\nb\\u202ec"


def test_a_long_stack_is_shown_in_part() -> None:
    fault = read([row("/site/own.so", f"f{number}", code="90") for number in range(50)])
    assert len(fault.frames) == 50
    assert [line.partition(" ")[0] for line in fault.stack()] == ["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f49"]
    assert replace(fault, frames=(Frame(file="a", symbol="b", own=True),)).stack() == []
