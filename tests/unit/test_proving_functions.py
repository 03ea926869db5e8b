"""Where functions begin and end, what they are called, and who calls them; and files that lie about it."""

from __future__ import annotations

import struct

import pytest
from code_writer import (
    AARCH64,
    ARM_RET,
    AVX,
    BASE,
    LSE,
    SSE3,
    X86_64,
    X86_RET,
    Function,
    addresses,
    write_code,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswheel.proving import code, functions
from crosswheel.proving.code import Above, CodeFacts, read_code
from crosswheel.proving.elf_tables import Garbled
from crosswheel.proving.functions import Pieces, read_pieces
from crosswheel.proving.processor import Processor
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

PLAIN = bytes.fromhex("4889f8") + X86_RET  # mov rax, rdi
NEWER = AVX + X86_RET


def processor(catalog: Catalog, target: str, cpu: str = "") -> Processor:
    aim = catalog.target(target)
    has = catalog.instruction_set(aim, catalog.cpu(cpu or aim.cpu))
    machine = code.MACHINES[aim.arch]
    return Processor(
        machine=machine,
        features=frozenset(has.features),
        usual=frozenset(has.usual),
        harmless=frozenset(has.harmless),
    )


@pytest.fixture(scope="module")
def old(catalog: Catalog) -> Processor:
    return processor(catalog, "x86_64", "x86-64")


def pieces(data: bytes) -> Pieces:
    found = read_pieces(memoryview(data))
    assert found is not None
    return found


def spans(data: bytes) -> list[tuple[int, int, bool]]:
    found = pieces(data)
    return list(zip(found.starts.tolist(), found.ends.tolist(), found.known.tolist(), strict=True))


def above(data: bytes, judge: Processor, processes: int = 1) -> tuple[Above, ...]:
    facts = read_code(memoryview(data), judge, processes)
    assert facts is not None
    assert facts.trouble == ""
    return facts.above


@pytest.mark.parametrize("wide", [False, True])
def test_a_piece_begins_where_a_frame_or_a_symbol_does(wide: bool) -> None:
    rows = [
        Function("framed", PLAIN),
        Function("", b"\x90" * 5),
        Function("assembly", PLAIN, frame=False),
        Function("", b"\xcc" * 8, frame=False),
    ]
    data = write_code(rows, wide=wide)
    one, two, three, four = addresses(rows)
    assert spans(data) == [(one, two, True), (two, three, True), (three, four, True), (four, four + 8, False)]
    assert pieces(data).offsets.tolist() == addresses(rows)


def test_assembly_without_a_size_goes_on_to_the_next() -> None:
    rows = [Function("a", PLAIN * 3, size=0, frame=False), Function("b", PLAIN, frame=False)]
    data = write_code(rows)
    assert spans(data) == [(BASE, BASE + 12, True), (BASE + 12, BASE + 16, True)]
    assert pieces(data).symbols.at([BASE + 11, BASE + 12]) == [(("a",), False), (("b",), False)]


@pytest.mark.parametrize("sections", [True, False])
def test_a_stripped_file_has_its_frames(sections: bool, old: Processor) -> None:
    rows = [Function("a", PLAIN), Function("b", NEWER)]
    data = write_code(rows, names="none", sections=sections)
    assert [each[:2] for each in spans(data)] == [(BASE, BASE + 4), (BASE + 4, BASE + 9)]
    (found,) = above(data, old)
    assert (found.address, found.names, found.known) == (BASE + 4, (), True)
    assert not pieces(data).symbols.whole


def test_a_file_with_nothing_that_tells_of_functions_is_read_nevertheless(old: Processor) -> None:
    """Neither section headers nor unwind information."""
    data = write_code([Function("", NEWER, frame=False)], sections=False)
    facts = read_code(memoryview(data), old, 1)
    assert facts is not None
    assert [(each.names, each.known) for each in facts.above] == [((), False)]


def test_the_loaders_table_names_what_it_has(old: Processor) -> None:
    (found,) = above(write_code([Function("exported", NEWER)], names="loader"), old)
    assert found.names == ("exported",)
    assert not pieces(write_code([Function("exported", NEWER)], names="loader")).symbols.whole


def test_aliases_and_weak_ones(old: Processor) -> None:
    rows = [Function("b", NEWER, aliases=("a", "c")), Function("d", NEWER, weak=True), Function("e", PLAIN, weak=True)]
    assert [(each.names, each.weak) for each in above(write_code(rows), old)] == [
        (("a", "b", "c"), False),
        (("d",), True),
    ]


@pytest.mark.parametrize("first", ["bytes", "relative", "named", "irelative", ""])
@pytest.mark.parametrize("machine", [X86_64, AARCH64])
def test_what_the_loader_calls(first: str, machine: int) -> None:
    body = PLAIN if machine == X86_64 else ARM_RET
    rows = [Function("before", body), Function("a", body, first=first)]  # type: ignore[arg-type]
    assert pieces(write_code(rows, machine=machine)).first == (
        frozenset({addresses(rows)[1]}) if first else frozenset()
    )


def test_a_function_that_chooses_is_called_by_the_loader() -> None:
    assert pieces(write_code([Function("memcpy", PLAIN, kind=10)])).first == {BASE}


def test_constants_among_code() -> None:
    body = ARM_RET + LSE + ARM_RET
    marks = [("$x", 0, BASE, 0), ("$d.1", 0, BASE + 4, 0), ("$x.2", 0, BASE + 8, 0)]
    found = pieces(write_code([Function("a", body)], machine=AARCH64, more=marks))
    assert [found.is_data(BASE + at) for at in (0, 4, 7, 8)] == [False, True, True, False]
    assert not pieces(write_code([Function("a", body)], machine=AARCH64)).is_data(BASE + 4)


def test_constants_are_not_judged(catalog: Catalog) -> None:
    body = ARM_RET + LSE + ARM_RET
    judge = processor(catalog, "jetson-tx1")
    marks = [("$d", 0, BASE + 4, 0), ("$x", 0, BASE + 8, 0)]
    assert above(write_code([Function("a", body)], machine=AARCH64, more=marks), judge) == ()
    (found,) = above(write_code([Function("a", body)], machine=AARCH64), judge)
    assert (found.address, found.instruction, found.features) == (BASE + 4, "ldadd", ("LSE",))


def test_an_object_and_another_machine_are_not_read(old: Processor) -> None:
    data = bytearray(write_code([Function("a", NEWER)]))
    assert read_code(memoryview(write_code([Function("a", ARM_RET)], machine=AARCH64)), old) is None
    data[16] = 1
    assert read_pieces(memoryview(bytes(data))) is None


@pytest.mark.parametrize("machine", [X86_64, AARCH64])
def test_several_processes_find_the_same(machine: int, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = processor(catalog, "x86_64" if machine == X86_64 else "jetson-tx1")
    kinds = (NEWER, PLAIN, SSE3 + NEWER) if machine == X86_64 else (LSE + ARM_RET, ARM_RET)
    data = write_code([Function(f"f{number}", kinds[number % len(kinds)]) for number in range(200)], machine=machine)
    alone = above(data, judge)
    assert len(alone) > 60
    monkeypatch.setattr(code, "_WORTH", 0)
    assert above(data, judge, processes=2) == alone


# --- files that lie --------------------------------------------------------------------------------------------------


def facts_of(data: bytes, judge: Processor) -> CodeFacts | None:
    """As ``facts`` calls it: where the ELF file itself is garbled, another rule speaks."""
    facts = read_code(memoryview(data), judge, 1)
    assert facts is None or facts.trouble or facts.functions >= 0
    return facts


ROWS = [Function("a", PLAIN, first="relative"), Function("b", NEWER), Function("c", PLAIN, first="irelative")]
GOOD = write_code(ROWS)
SMALL = GOOD[:512] + GOOD[BASE:]
"""Where the changed bytes are to lie: without the emptiness before the code."""


@pytest.mark.timeout(30)
def test_every_truncation_is_trouble(old: Processor) -> None:
    for length in range(52, len(GOOD)):
        facts = facts_of(GOOD[:length], old)
        assert facts is not None, length
        assert facts.trouble, length


def place_of(number: int) -> int:
    return number if number < 512 else number - 512 + BASE


@settings(max_examples=250, deadline=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(4, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_garbled_bytes_are_read_or_trouble(old: Processor, changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for number, value in changes:
        data[place_of(number)] = value
    facts_of(bytes(data), old)


EXTREME = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@settings(max_examples=400, deadline=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, len(SMALL) // 4 - 2), st.sampled_from(EXTREME), st.sampled_from("IQ"))
def test_extreme_numbers_are_read_or_trouble(old: Processor, word: int, value: int, width: str) -> None:
    data = bytearray(GOOD)
    struct.pack_into(f"<{width}", data, place_of(4 * word), value & (2**32 - 1) if width == "I" else value)
    facts_of(bytes(data), old)


def test_a_table_that_claims_more_functions_than_it_has() -> None:
    data = bytearray(GOOD)
    at = data.index(bytes((1, 0x1B, 3, 0x3B)))
    for count in (2**32 - 1, functions.MOST_ROWS, 1000):
        struct.pack_into("<I", data, at + 8, count)
        with pytest.raises(Garbled, match="claims"):
            read_pieces(memoryview(data))


def test_numbers_without_an_end_in_unwind_information(old: Processor) -> None:
    data = bytearray(GOOD)
    at = data.index(b"zR\0")
    data[at + 3 : at + 23] = b"\xff" * 20
    facts_of(bytes(data), old)


def test_symbols_beyond_all_addresses_are_left_out() -> None:
    far = [("far", 0x12, 2**63, 8), ("high", 0x12, 2**62, 8), ("long", 0x12, BASE, 2**63 - 1)]
    found = pieces(write_code([Function("a", PLAIN)], more=far))
    assert found.symbols.at([BASE]) == [(("a", "long"), False)]
    assert spans(write_code([Function("a", PLAIN)], more=far)) == [(BASE, BASE + 4, True)]


def test_a_name_without_an_end_and_one_beyond_the_table(old: Processor) -> None:
    data = bytearray(write_code([Function("a" * 5000, NEWER)]))
    (found,) = above(bytes(data), old)
    assert len(found.names[0]) == 4096
    at = data.index(struct.pack("<BBHQQ", 0x12, 0, 1, BASE, len(NEWER)))
    struct.pack_into("<I", data, at - 4, 2**32 - 1)
    assert above(bytes(data), old)[0].names == ("",)


def test_parts_of_the_code_that_overlap(old: Processor) -> None:
    data = bytearray(GOOD)
    (headers,) = struct.unpack_from("<Q", data, 40)
    (count,) = struct.unpack_from("<H", data, 60)
    data += data[headers + 64 : headers + 128]
    struct.pack_into("<H", data, 60, count + 1)
    facts = facts_of(bytes(data), old)
    assert facts is not None
    assert "overlap" in facts.trouble


@pytest.mark.timeout(20)
def test_symbols_that_lie_over_one_another_are_trouble(old: Processor) -> None:
    """Each of thousands of functions begins at the same place, and ends at another: the square of them is not read."""
    body = NEWER * 4000
    many = [(f"f{number}", 0x12, BASE, 5 * number) for number in range(1, 4000)]
    facts = facts_of(write_code([Function("", body, frame=False)], more=many), old)
    assert facts is not None
    assert "over one another" in facts.trouble
