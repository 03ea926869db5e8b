"""Object files and static libraries: what is read of them, and what is said where they cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from code_writer import AARCH64, ARM_RET, AVX, LSE, X86_RET, Function
from fatbin_writer import container, with_sections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_writer import write_library, write_object
from wheel_writer import POLICY, SONAMES, good_files, write_wheel

from crosswheel.proving import ar, members
from crosswheel.proving.code import read_code
from crosswheel.proving.elf_tables import Garbled
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.isa import processor_of
from crosswheel.proving.objects import located
from crosswheel.proving.processor import Processor
from crosswheel.proving.prove import Proof, prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy

pytestmark = pytest.mark.unit
RELAXED = settings(
    max_examples=80,
    deadline=5000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

PLAIN, NEWER = Function("plain", ARM_RET), Function("newer", LSE + ARM_RET)
GOOD = write_object([PLAIN], machine=AARCH64)
BAD = write_object([PLAIN, NEWER], machine=AARCH64)
LIBRARY = "quick/lib/libown.a"
LONG = "a_name_of_more_than_sixteen_letters.o"


@pytest.fixture(scope="module")
def policy(catalog: Catalog) -> Policy:
    has = catalog.instruction_set(catalog.target("rpi4"), catalog.cpu("cortex-a72"))
    return POLICY.model_copy(update={"instructions": has, "capabilities": ("5.3",)})


@pytest.fixture(scope="module")
def arm(policy: Policy) -> Processor:
    found = processor_of(policy)
    assert found is not None
    return found


def judge(folder: Path, policy: Policy, files: dict[str, bytes]) -> Proof:
    path = write_wheel(folder, {**good_files(extension=write_object([PLAIN], machine=AARCH64)), **files})
    return prove(path, policy, sonames=SONAMES, check=None, run=None)


def said(proof: Proof, rule: str) -> list[Finding]:
    return [item for item in proof.findings if item.rule == rule and item.severity is not Severity.PASS]


# --- objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [True, False])
def test_functions_of_an_object_are_read_and_named(arm: Processor, apart: bool) -> None:
    weak = Function("_Z3addv", LSE + ARM_RET, weak=True)
    data = write_object([PLAIN, NEWER, weak], machine=AARCH64, apart=apart)
    facts = read_code(located(memoryview(data)), arm)
    assert facts is not None and facts.trouble == ""
    assert (facts.functions, facts.named) == (3, True)
    assert [(each.names, each.weak, each.features) for each in facts.above] == [
        (("newer",), False, ("LSE",)),
        (("_Z3addv",), True, ("LSE",)),
    ]


def test_what_is_no_object_stays_as_it_is() -> None:
    data = memoryview(good_files()["quick/__init__.py"] * 9)
    with pytest.raises(Garbled):
        located(data)
    from elf_writer import write_elf

    library = memoryview(write_elf())
    assert located(library) is library


@RELAXED
@given(st.lists(st.tuples(st.integers(16, len(BAD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_garbled_object_is_read_or_trouble(arm: Processor, changes: list[tuple[int, int]]) -> None:
    data = bytearray(BAD)
    for place, value in changes:
        data[place] = value
    gathered = members.Gathered({}, arm)
    gathered._read_elf("a.o", memoryview(data), None)
    assert gathered.elfs or gathered.garbled


def test_every_truncation_of_an_object_ends(arm: Processor) -> None:
    for length in range(4, len(BAD)):
        gathered = members.Gathered({}, arm)
        gathered._read_elf("a.o", memoryview(BAD[:length]), None)
        assert gathered.garbled or "a.o" not in gathered.code or gathered.code["a.o"].trouble, length


# --- libraries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bsd", [False, True])
def test_the_members_of_a_library(bsd: bool) -> None:
    given_ = [("a.o", b"odd"), (LONG, b"even"), ("a.o", b""), ("name with spaces.o", b"x")]
    data = memoryview(write_library(given_, bsd=bsd))
    found = [(name, bytes(content)) for name, content in ar.members(data)]
    assert found == given_


def test_nothing_of_a_thin_library_is_there() -> None:
    with pytest.raises(Garbled, match="its members are not in it"):
        list(ar.members(memoryview(b"!<thin>\n" + write_library([("a.o", GOOD)])[8:])))


@pytest.mark.parametrize(
    ("place", "text", "why"),
    [
        (48, b"99999999  ", "lies beyond its end"),
        (48, b"-1        ", "a size in it is no number"),
        (58, b"xx", "no header of a member"),
        (0, b"/99             ", "the name of a member lies beyond the names"),
        (0, b"#1/999          ", "is longer than the member"),
        (0, b"#1/             ", "is no number"),
    ],
)
def test_a_library_that_contradicts_itself(place: int, text: bytes, why: str) -> None:
    data = bytearray(write_library([("a.o", b"object")]))
    at = data.index(b"a.o/") + place
    data[at : at + len(text)] = text
    with pytest.raises(Garbled, match=why):
        list(ar.members(memoryview(bytes(data))))


@given(st.binary(max_size=400))
def test_noise_after_the_magic_is_read_or_garbled(noise: bytes) -> None:
    try:
        found = list(ar.members(memoryview(ar.MAGIC + noise)))
    except Garbled as error:
        assert str(error)
    else:
        assert sum(len(content) for _, content in found) <= len(noise)


@RELAXED
@given(changes=st.lists(st.tuples(st.integers(8, 3000), st.integers(0, 255)), max_size=8), cut=st.integers(0, 3000))
def test_a_garbled_library_is_never_a_traceback(
    changes: list[tuple[int, int]], cut: int, tmp_path: Path, policy: Policy
) -> None:
    whole = write_library([("a.o", BAD), (LONG, GOOD)])
    data = bytearray(whole)
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: len(data) - cut % len(data)]
    path = write_wheel(tmp_path, {**good_files(), LIBRARY: bytes(data)})
    proof = prove(path, policy, sonames=SONAMES, check=None, run=None)
    if data == whole:
        assert not proof.passed


# --- what the rules say ----------------------------------------------------------------------------------------------


def test_an_object_for_a_newer_processor(tmp_path: Path, policy: Policy) -> None:
    proof = judge(tmp_path, policy, {"quick/own.o": BAD})
    (finding,) = said(proof, "instructions")
    assert finding.severity is Severity.FAIL
    assert finding.subject == "quick/own.o"
    assert "1 function has instructions that cortex-a72 lacks (LSE in 1)" in finding.message


@pytest.mark.parametrize("bsd", [False, True])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_library_with_such_an_object(
    bsd: bool, mapped: bool, tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mapped:
        monkeypatch.setattr(members, "IN_MEMORY", 0)
    library = write_library([("good.o", GOOD), (LONG, BAD), ("good.o", BAD)], bsd=bsd)
    proof = judge(tmp_path, policy, {LIBRARY: library})
    assert {item.subject for item in said(proof, "instructions")} == {f"{LIBRARY}({LONG})", f"{LIBRARY}(good.o#2)"}


def test_names_of_objects_are_shown_harmlessly(tmp_path: Path, policy: Policy) -> None:
    library = write_library([("\x1b[31m\u202e.o", BAD), ("x" * 3000, BAD)])
    subjects = [item.subject for item in said(judge(tmp_path, policy, {LIBRARY: library}), "instructions")]
    assert len(subjects) == 2
    assert all(subject.isprintable() and len(subject) < 250 and "\u202e" not in subject for subject in subjects)


def test_a_library_for_another_machine(tmp_path: Path, policy: Policy) -> None:
    library = write_library([("host.o", write_object([Function("f", AVX + X86_RET)]))])
    (finding,) = said(judge(tmp_path, policy, {LIBRARY: library}), "machine")
    assert (finding.severity, finding.subject) == (Severity.FAIL, f"{LIBRARY}(host.o)")
    assert "is for x86_64; rpi4 is aarch64" in finding.message


def test_gpu_code_in_a_library(tmp_path: Path, policy: Policy) -> None:
    kernel = with_sections(GOOD, {".nv_fatbin": container(["70"])})
    library = write_library([("kernel.o", kernel)])
    (finding,) = said(judge(tmp_path, policy, {LIBRARY: library}), "cuda")
    assert (finding.severity, finding.subject) == (Severity.FAIL, f"{LIBRARY}(kernel.o)")


@pytest.mark.parametrize(
    ("library", "why"),
    [
        (b"!<thin>\n" + write_library([("a.o", GOOD)])[8:], "its members are not in it"),
        (write_library([("a.o", GOOD)])[:-40], "lies beyond its end"),
        (
            write_library([("a.o", GOOD), ("b.o", b"BC\xc0\xde")]),
            "are no ELF files (of another compiler, or bitcode): 1",
        ),
    ],
)
def test_a_library_that_cannot_be_read_is_not_proven(library: bytes, why: str, tmp_path: Path, policy: Policy) -> None:
    proof = judge(tmp_path, policy, {LIBRARY: library})
    (finding,) = said(proof, "machine")
    assert (finding.severity, finding.subject) == (Severity.NOT_PROVEN, LIBRARY)
    assert why in finding.message
    assert proof.passed


def test_objects_without_end(tmp_path: Path, policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MOST_OBJECTS", 5)
    files: dict[str, Any] = {LIBRARY: write_library([(f"{number}.o", GOOD) for number in range(9)])}
    (finding,) = said(judge(tmp_path, policy, files), "machine")
    assert "more than 5 files of machine code" in finding.message
