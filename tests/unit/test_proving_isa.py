"""The rule about instructions: what a list excuses, what it does not, and that no other rule speaks."""

from __future__ import annotations

import re
from dataclasses import replace
from fnmatch import translate
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from code_writer import AARCH64, ARM_RET, AVX, HALF, LSE, LZCNT, SSE3, X86_RET, Function, write_code
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_proving_rules import judge, speaking
from wheel_writer import POLICY, good_files, metadata, wheel_file, write_wheel

from crosswheel.proving.demangle import MOST_SHOWN, demangled
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.isa import NAME
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.isa import Dispatched
from crosswheel.spec.policy import Policy

pytestmark = pytest.mark.unit

X86_WHEEL = "quick-1.0-cp311-cp311-linux_x86_64.whl"
X86_EXTENSION = "quick/_fast.cpython-311-x86_64-linux-gnu.so"
NEWER = AVX + X86_RET
PLAIN = Function("plain", X86_RET)


def policy(catalog: Catalog, *dispatched: Dispatched, target: str = "x86_64", cpu: str = "x86-64") -> Policy:
    aim = catalog.target(target)
    has = catalog.instruction_set(aim, catalog.cpu(cpu)).model_copy(update={"dispatched": dispatched})
    changes: dict[str, Any] = {"target": target, "arch": aim.arch, "cpu": cpu, "instructions": has}
    return POLICY.model_copy(update=changes)


def wheel(folder: Path, *functions: Function, **how: Any) -> Path:
    """A wheel for x86_64 in which nothing is wrong but its functions."""
    files = {
        "quick/__init__.py": b"from quick._fast import go\n",
        X86_EXTENSION: write_code(functions, **how),
        "quick-1.0.dist-info/METADATA": metadata(),
        "quick-1.0.dist-info/WHEEL": wheel_file("cp311-cp311-linux_x86_64"),
    }
    return write_wheel(folder, files, name=X86_WHEEL)


def said(path: Path, against: Policy) -> list[Finding]:
    return [item for item in judge(path, against).findings if item.rule == NAME and item.severity is not Severity.PASS]


def one(path: Path, against: Policy) -> Finding:
    (finding,) = said(path, against)
    return finding


def listed(*symbols: str, **more: Any) -> Dispatched:
    return Dispatched(symbols=symbols, reason="it asks first", **more)


def test_a_good_wheel_passes_and_says_what_was_read(tmp_path: Path, catalog: Catalog) -> None:
    proof = judge(wheel(tmp_path, PLAIN, Function("other", X86_RET)), policy(catalog))
    assert speaking(proof) == set()
    assert proof.passed
    (passed,) = (item for item in proof.findings if item.rule == NAME)
    assert passed.message == "1 files with 2 functions (0.0 MB) were read: all instructions are such as x86-64 has"


def test_avx_planted_in_one_function_and_exactly_this_rule_speaks(tmp_path: Path, catalog: Catalog) -> None:
    proof = judge(wheel(tmp_path, PLAIN, Function("_ZN5quick4fastEv", NEWER)), policy(catalog))
    assert speaking(proof) == {NAME}
    assert not proof.passed
    finding = one(wheel(tmp_path, PLAIN, Function("_ZN5quick4fastEv", NEWER)), policy(catalog))
    assert (finding.severity, finding.subject) == (Severity.FAIL, X86_EXTENSION)
    assert finding.message == (
        "1 function has instructions that x86-64 lacks (AVX in 1), and no list says that they are called only where a "
        "processor has that: vmovdqu in quick::fast()"
    )
    assert "neither -mavx nor -march=native" in finding.hint


def test_stripped_and_exactly_this_rule_speaks(tmp_path: Path, catalog: Catalog) -> None:
    against = policy(catalog, listed("chosen"))
    assert speaking(judge(wheel(tmp_path, PLAIN, Function("chosen", NEWER)), against)) == set()
    proof = judge(wheel(tmp_path, PLAIN, Function("chosen", NEWER), names="none"), against)
    assert speaking(proof) == {NAME}
    assert proof.passed
    finding = one(wheel(tmp_path, PLAIN, Function("chosen", NEWER), names="none"), against)
    assert finding.severity is Severity.NOT_PROVEN
    assert "a function at 0x1001" in finding.message


def test_what_nothing_says_is_a_function(tmp_path: Path, catalog: Catalog) -> None:
    finding = one(wheel(tmp_path, PLAIN, Function("", NEWER, frame=False)), policy(catalog))
    assert finding.severity is Severity.NOT_PROVEN
    assert "what lies at 0x1001" in finding.message


def test_a_list_excuses_its_functions_in_its_files(tmp_path: Path, catalog: Catalog) -> None:
    path = wheel(tmp_path, Function("kernel_avx", NEWER, aliases=("other",)))
    assert said(path, policy(catalog, listed("kernel_*"))) == []
    assert said(path, policy(catalog, listed("nothing", "oth?r"))) == []
    assert said(path, policy(catalog, listed("kernel_*", files=("quick/_fast.*",)))) == []
    assert one(path, policy(catalog, listed("kernel_*", files=("quick.libs/*",)))).severity is Severity.FAIL
    assert one(path, policy(catalog, listed("kernel", "KERNEL_*"))).severity is Severity.FAIL


def test_a_weak_function_is_listed_as_that(tmp_path: Path, catalog: Catalog) -> None:
    path = wheel(tmp_path, Function("_Z3sumIfET_PKS0_i", NEWER, weak=True))
    finding = one(path, policy(catalog, listed("_Z3sum*")))
    assert finding.severity is Severity.FAIL
    assert "of which the linker keeps one copy" in finding.message
    assert "vmovdqu in float sum<float>(float const*, int)" in finding.message
    assert said(path, policy(catalog, listed("_Z3sum*", weak=True))) == []
    assert said(wheel(tmp_path, Function("strong", NEWER)), policy(catalog, listed("strong", weak=True))) == []


@pytest.mark.parametrize("first", ["bytes", "relative", "named", "irelative"])
@pytest.mark.parametrize("names", ["linker", "none"])
def test_what_the_loader_calls_fails_listed_or_not(first: Any, names: Any, tmp_path: Path, catalog: Catalog) -> None:
    path = wheel(tmp_path, PLAIN, Function("_GLOBAL__sub_I_tensor.cc", NEWER, first=first), names=names)
    finding = one(path, policy(catalog, listed("*", weak=True)))
    assert finding.severity is Severity.FAIL
    assert "which the loader calls when the file is loaded" in finding.message
    if names == "linker":
        assert finding.message.endswith("vmovdqu in the static initialiser of tensor.cc")


def test_usual_features_are_a_warning_where_nothing_is_worse(tmp_path: Path, catalog: Catalog) -> None:
    finding = one(wheel(tmp_path, PLAIN, Function("a", SSE3 + X86_RET)), policy(catalog))
    assert finding.severity is Severity.WARN
    assert finding.subject == X86_WHEEL
    assert "haddpd in a" in finding.message
    assert judge(wheel(tmp_path, Function("a", SSE3 + X86_RET, first="bytes")), policy(catalog)).passed
    finding = one(wheel(tmp_path, Function("a", SSE3 + NEWER)), policy(catalog))
    assert finding.severity is Severity.FAIL
    assert "vmovdqu in a" in finding.message
    assert said(wheel(tmp_path, Function("a", SSE3 + X86_RET)), policy(catalog, cpu="core2")) == []


def test_a_wrong_result_is_found_as_well(tmp_path: Path, catalog: Catalog) -> None:
    """LZCNT runs on every processor, and gives another number on an older one."""
    for cpu in ("x86-64", "goldmont", "sandybridge"):
        finding = one(wheel(tmp_path, Function("leading", LZCNT + X86_RET)), policy(catalog, cpu=cpu))
        assert finding.severity is Severity.FAIL
        assert f"that {cpu} lacks (LZCNT in 1)" in finding.message


def test_many_functions_are_counted_and_some_named(tmp_path: Path, catalog: Catalog) -> None:
    rows = [Function(f"f{number}", LZCNT + X86_RET if number % 2 else NEWER) for number in range(9)]
    assert (
        "9 functions have instructions that x86-64 lacks (AVX in 5, LZCNT in 4)"
        in one(wheel(tmp_path, *rows), policy(catalog)).message
    )
    assert one(wheel(tmp_path, *rows), policy(catalog)).message.endswith("vmovdqu in f2; and 6 more")


def test_aarch64(tmp_path: Path, catalog: Catalog) -> None:
    rows = [Function("plain", ARM_RET), Function("half", HALF + ARM_RET), Function("atomic", LSE + ARM_RET)]
    path = write_wheel(tmp_path, good_files(extension=write_code(rows, machine=AARCH64)))
    against = policy(catalog, target="rpi4", cpu="cortex-a72")
    assert speaking(judge(path, against)) == {NAME}
    finding = one(path, against)
    assert "2 functions have instructions that cortex-a72 lacks (FullFP16 in 1, LSE in 1)" in finding.message
    assert "-mcpu or -march for cortex-a72" in finding.hint
    assert said(path, policy(catalog, target="rk3588", cpu="cortex-a76.cortex-a55")) == []


def test_a_file_for_another_machine_is_left_to_the_rule_about_that(tmp_path: Path, catalog: Catalog) -> None:
    path = write_wheel(tmp_path, good_files(extension=write_code([Function("a", NEWER)])))
    proof = judge(path, policy(catalog, target="rpi4", cpu="cortex-a72"))
    assert speaking(proof) == {"machine"}
    (finding,) = (item for item in proof.findings if item.rule == NAME)
    assert finding.message == "no file has machine code for the target's processor"


def test_a_policy_that_is_older_than_the_rule(tmp_path: Path, catalog: Catalog) -> None:
    older = policy(catalog).model_copy(update={"instructions": None})
    proof = judge(wheel(tmp_path, Function("a", NEWER)), older)
    (finding,) = (item for item in proof.findings if item.rule == NAME)
    assert finding.message == "the policy does not say what the processor has"


def test_a_file_that_contradicts_itself_fails(tmp_path: Path, catalog: Catalog) -> None:
    """Its segments are whole, and of its section headers the last is cut off."""
    files = {
        "quick/__init__.py": b"",
        X86_EXTENSION: write_code([PLAIN])[:-8],
        "quick-1.0.dist-info/METADATA": metadata(),
        "quick-1.0.dist-info/WHEEL": wheel_file("cp311-cp311-linux_x86_64"),
    }
    path = write_wheel(tmp_path, files, name=X86_WHEEL)
    proof = judge(path, policy(catalog))
    assert speaking(proof) == {NAME}
    assert not proof.passed
    finding = one(path, policy(catalog))
    assert finding.message.startswith("its machine code cannot be read: its section headers lie beyond its end")


GOOD = write_code([PLAIN, Function("chosen", NEWER), Function("first", X86_RET, first="relative")])


@settings(
    max_examples=40,
    deadline=10_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(length=st.integers(4, len(GOOD) - 1))
def test_a_truncated_file_never_passes(length: int, tmp_path: Path, catalog: Catalog) -> None:
    files = {
        "quick/__init__.py": b"",
        X86_EXTENSION: GOOD[:length],
        "quick-1.0.dist-info/METADATA": metadata(),
        "quick-1.0.dist-info/WHEEL": wheel_file("cp311-cp311-linux_x86_64"),
    }
    proof = judge(write_wheel(tmp_path, files, name=X86_WHEEL), policy(catalog, listed("*")))
    assert not proof.passed


# --- the data --------------------------------------------------------------------------------------------------------


def test_every_list_of_a_recipe_can_be_read_and_says_why(catalog: Catalog) -> None:
    seen = 0
    for name in catalog.recipe_names:
        for item in catalog.recipe(name).dispatched:
            seen += 1
            assert len(item.reason) > 20, name
            for pattern in (*item.symbols, *item.files):
                example = re.sub(r"\[(.)[^]]*\]", r"\1", pattern).replace("*", "").replace("?", "x")
                assert re.match(translate(pattern), example), (name, pattern)
            re.compile("|".join(translate(pattern) for pattern in item.symbols))
    assert seen > 5


def test_every_harmless_instruction_has_a_reason_and_a_source(catalog: Catalog) -> None:
    for cpu in ("x86-64", "cortex-a72"):
        target = catalog.target("x86_64" if cpu == "x86-64" else "rpi4")
        assert catalog.instruction_set(target, catalog.cpu(cpu)).harmless


def test_features_are_those_of_the_cpus_below_as_well(catalog: Catalog) -> None:
    target = catalog.target("x86_64")

    def features(cpu: str) -> set[str]:
        return set(catalog.instruction_set(target, catalog.cpu(cpu)).features)

    levels = [features(cpu) for cpu in ("x86-64", "core2", "x86-64-v2", "x86-64-v3", "x86-64-v4")]
    assert all(lower < higher for lower, higher in pairwise(levels))
    assert not {"LZCNT", "AVX", "BMI1"} & features("goldmont")
    assert not set(catalog.instruction_set(target, catalog.cpu("core2")).usual)


# --- names for people ------------------------------------------------------------------------------------------------


def test_names_for_people() -> None:
    assert demangled("_ZN5quick4fastEv") == "quick::fast()"
    assert demangled("_GLOBAL__sub_I_tensor.cc") == "the static initialiser of tensor.cc"
    assert demangled("memcpy") == "memcpy"
    assert demangled("_Zno such") == "_Zno such"


@pytest.mark.timeout(10)
def test_a_symbol_that_doubles_itself_is_not_demangled() -> None:
    """`f(A, B<A, A>, C<B<A, A>, B<A, A>>, …)`: 240 letters that would become 100 MB."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

    def again(number: int) -> str:
        rest = digits[number // 36] if number >= 36 else ""
        return f"S{rest}{digits[number % 36]}_"

    for depth in (2, 10, 16, 17, 30, 60):
        symbol = "_Z1f1AIiiE" + "".join(f"1{chr(66 + at % 20)}I{again(2 * at)}{again(2 * at)}E" for at in range(depth))
        told = demangled(symbol)
        assert len(told) <= MOST_SHOWN
        assert told.startswith("f(A<int, int>" if depth <= 16 else symbol[:20])


@settings(max_examples=300, deadline=10_000)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="_ZNSTIEKPR0123456789abcdfilv", max_size=300)), st.booleans())
def test_any_symbol_is_shown_in_one_short_line(text: str, mangled: bool) -> None:
    told = demangled(f"_Z{text}" if mangled else text)
    assert len(told) <= MOST_SHOWN
    assert told.isprintable()


@pytest.mark.parametrize(
    "symbol", ["_Z" + "N1a" * 5000, "a\x1b[31m\nb\0", "_Z1f\x07", "é" * 300, "_GLOBAL__sub_I_" * 60]
)
def test_hostile_symbols(symbol: str) -> None:
    told = demangled(symbol)
    assert told.isprintable()
    assert len(told) <= MOST_SHOWN


def test_a_hostile_name_stands_in_a_message_in_one_line(tmp_path: Path, catalog: Catalog) -> None:
    path = wheel(tmp_path, replace(PLAIN, name="evil\n\x1b[2Jname", code=NEWER))
    assert one(path, policy(catalog)).message.endswith("vmovdqu in evil??[2Jname")
