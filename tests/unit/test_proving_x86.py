"""Instructions of x86_64: the search that does without decoding forgets none; decoding begins where functions do."""

from __future__ import annotations

import random

import iced_x86
import pytest
from code_writer import AVX, LZCNT, SSE3, X86_RET, Function, write_code
from hypothesis import given, settings
from hypothesis import strategies as st
from iced_x86 import EncodingKind, MandatoryPrefix, OpCodeInfo, OpCodeTableKind
from test_proving_functions import above, processor

from crosswheel.proving import x86
from crosswheel.proving.processor import Processor
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

MAPS = {
    OpCodeTableKind.NORMAL: 0,
    OpCodeTableKind.T0F: 1,
    OpCodeTableKind.T0F38: 2,
    OpCodeTableKind.T0F3A: 3,
    OpCodeTableKind.MAP5: 5,
    OpCodeTableKind.MAP6: 6,
    OpCodeTableKind.MAP8: 8,
    OpCodeTableKind.MAP9: 9,
    OpCodeTableKind.MAP10: 10,
}
PREFIXES = {MandatoryPrefix.P66: 0x66, MandatoryPrefix.PF3: 0xF3, MandatoryPrefix.PF2: 0xF2}
ESCAPES = {0: b"", 1: b"\x0f", 2: b"\x0f\x38", 3: b"\x0f\x3a"}


@pytest.fixture(scope="module")
def old(catalog: Catalog) -> Processor:
    return processor(catalog, "x86_64", "x86-64")


def guess(about: OpCodeInfo, chance: random.Random) -> bytes:
    """Bytes that may be an instruction of a code: its prefixes, its opcode, and whatever behind it."""
    kind, table, pp = about.encoding, MAPS[about.table], PREFIXES.get(about.mandatory_prefix, 0)
    number = {0: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}[pp]
    behind = bytearray(chance.randbytes(12))
    if chance.random() < 0.3:
        behind[0] = behind[0] & 0x38 | 0xC0
    if chance.random() < 0.3:
        behind[:2] = behind[0] & 0x38 | 4, behind[1] & 0x3F  # a scaled index
    if about.is_group:
        behind[0] = behind[0] & 0xC7 | about.group_index << 3
    opcode = about.op_code.to_bytes(about.op_code_len, "big")
    one, two, three = chance.randbytes(3)
    if chance.random() < 0.6:  # most of those with two operands have nothing in the field of a third
        two, three, one = two | 0x78, three & 0x60 | 0x08 | chance.randrange(2), one | 0xE0
    if kind == EncodingKind.VEX and table == 1 and chance.random() < 0.3:
        return bytes((0xC5, one & 0xFC | number)) + opcode + behind
    if kind in (EncodingKind.VEX, EncodingKind.XOP):
        lead = 0xC4 if kind == EncodingKind.VEX else 0x8F
        return bytes((lead, one & 0xE0 | table, two & 0xFC | number)) + opcode + behind
    if kind == EncodingKind.EVEX:
        return bytes((0x62, one & 0xF0 | table, two & 0xF8 | 4 | number, three)) + opcode + behind
    if kind == EncodingKind.D3NOW:
        modrm = chance.randrange(0xC0, 0x100)
        return bytes((0x0F, 0x0F, modrm)) + opcode
    size = [b"", b"\x66"][chance.random() < 0.3] + (bytes((pp,)) if pp else b"")
    wide = [b"", b"\x48", b"\x41"][chance.randrange(3)]
    short = [b"", b"\x67"][chance.random() < 0.2]
    return short + size + wide + ESCAPES[table] + opcode + behind


@pytest.mark.timeout(60)
def test_the_search_lets_every_instruction_of_the_set_through(old: Processor) -> None:
    """Of each of the thousands of codes that a processor may lack, an example or two."""
    chance = random.Random(5)
    codes = x86.above(old.features, old.harmless)
    sieve = x86._filter(codes)
    left = set()
    for code in sorted(codes):
        about, seen = x86._about(code), 0
        if {"KNC", "MPX"} & set(x86.features(code)):  # they are not decoded: another processor's, and no operations
            continue
        for _ in range(400):
            raw = guess(about, chance)
            decoded = iced_x86.Decoder(64, raw).decode()
            if decoded.code in codes:
                assert len(x86._candidates(raw[: decoded.len], sieve)), (str(about), raw.hex())
            seen += decoded.code == code
            if seen == 2:
                break
        if not seen:
            left.add(str(about))
    assert len(codes) > 3000
    assert len(left) <= 10, sorted(left)


@settings(max_examples=1500, deadline=None)
@given(
    lead=st.sampled_from(["", "66", "f3", "f2", "48", "f348", "67", "f0"]),
    escape=st.sampled_from(["", "0f", "0f38", "0f3a", "c4", "c5", "62", "8f", "0f0f", "d9", "dd", "df", "db"]),
    rest=st.binary(min_size=10, max_size=12),
)
def test_the_search_lets_whatever_the_decoder_finds_through(
    old: Processor, lead: str, escape: str, rest: bytes
) -> None:
    codes = x86.above(old.features, old.harmless)
    raw = bytes.fromhex(lead + escape) + rest
    decoded = iced_x86.Decoder(64, raw).decode()
    if decoded.code in codes:
        assert len(x86._candidates(raw[: decoded.len], x86._filter(codes))), raw.hex()


ENCODINGS = {
    "c5fe6f07": ("vmovdqu", "AVX"),
    "c4e27d589000000000": ("vpbroadcastd", "AVX2"),
    "c4e2f1b8c2": ("vfmadd231pd", "FMA"),
    "62f17c48580a": ("vaddps", "AVX512F"),
    "62f57c4858c1": ("vaddph", "AVX512_FP16"),
    "8fe97881c1": ("vfrczpd", "XOP"),
    "660f7cc1": ("haddpd", "SSE3"),
    "660f3800c1": ("pshufb", "SSSE3"),
    "660f3a0fc108": ("palignr", "SSSE3"),
    "660f3a14c001": ("pextrb", "SSE4_1"),
    "f20f38f1c1": ("crc32", "SSE4_2"),
    "0f0fc19e": ("pfadd", "D3NOW"),
    "dd08": ("fisttp", "SSE3"),
    "f3480fbdc7": ("lzcnt", "LZCNT"),
    "f3480fb8c7": ("popcnt", "POPCNT"),
    "480f38f007": ("movbe", "MOVBE"),
    "480fc70f": ("cmpxchg16b", "CMPXCHG16B"),
    "0f01f9": ("rdtscp", "RDTSCP"),
    "0fae27": ("xsave", "XSAVE"),
    "c7f800000000": ("xbegin", "RTM"),
    "0fc7f0": ("rdrand", "RDRAND"),
    "f30fc7f8": ("rdpid", "RDPID"),
    "660f38dcc1": ("aesenc", "AES"),
    "0f38c8c1": ("sha1nexte", "SHA"),
}


@pytest.mark.parametrize("raw", ENCODINGS)
def test_every_kind_of_encoding(raw: str, old: Processor) -> None:
    instruction, feature = ENCODINGS[raw]
    (found,) = above(write_code([Function("a", b"\x90" * 40 + bytes.fromhex(raw) + X86_RET)]), old)
    assert (found.instruction, found.address) == (instruction, 0x1000 + 40)
    assert feature in found.features


HARMLESS = ["f30fbcc7", "f30f1efa", "0f01d0", "0f0d0f", "f3480f1ec8", "f390", "0f1f00", "f20f11c1"]
"""``tzcnt``, ``endbr64``, ``xgetbv``, ``prefetchw``, ``rdsspq``, ``pause``, ``nop``, ``movsd``."""


@pytest.mark.parametrize("raw", HARMLESS)
def test_what_does_no_harm(raw: str, old: Processor) -> None:
    assert above(write_code([Function("a", bytes.fromhex(raw) + X86_RET)]), old) == ()


def test_decoding_begins_where_the_function_does(old: Processor) -> None:
    """The last byte before it would make ``vmovdqu`` of the function's first instruction; and an AVX instruction that
    is the number in another is none."""
    inside = b"\x48\xb8" + AVX + bytes(4) + X86_RET  # mov rax, 0x76ffec5
    rows = [Function("", b"\xc5", frame=False), Function("a", b"\xfe\x6f\x07"[1:] + b"\x90" * 8 + X86_RET)]
    assert above(write_code(rows), old) == ()
    assert above(write_code([Function("a", inside)]), old) == ()
    (found,) = above(write_code([Function("a", inside), Function("b", AVX + X86_RET)]), old)
    assert found.names == ("b",)


def test_the_first_is_told_and_the_worse_one_before_the_milder(old: Processor) -> None:
    (found,) = above(write_code([Function("a", SSE3 + LZCNT + AVX + X86_RET)]), old)
    assert (found.instruction, found.features) == ("lzcnt", ("LZCNT",))
    (found,) = above(write_code([Function("a", SSE3 + SSE3 + X86_RET)]), old)
    assert (found.instruction, found.address) == ("haddpd", 0x1000)


def test_by_processor(catalog: Catalog) -> None:
    data = write_code([Function("a", SSE3 + X86_RET), Function("b", LZCNT + X86_RET), Function("c", AVX + X86_RET)])

    def names(cpu: str) -> list[str]:
        return [each.names[0] for each in above(data, processor(catalog, "x86_64", cpu))]

    assert names("x86-64") == ["a", "b", "c"]
    assert names("core2") == names("goldmont") == ["b", "c"]
    assert names("sandybridge") == ["b"]
    assert names("haswell") == names("x86-64-v3") == names("x86-64-v4") == []


def test_all_names_in_the_data_are_the_decoders(catalog: Catalog) -> None:
    known, mnemonics = set(x86.FEATURES.values()), {name.lower() for name in x86._names(iced_x86.Mnemonic).values()}
    cpus = [cpu for cpu in catalog.cpus.values() if cpu.arch == "x86_64"]
    assert cpus
    for cpu in cpus:
        has = catalog.instruction_set(catalog.target("x86_64"), cpu)
        assert set(has.features) | set(has.usual) <= known, cpu.name
        assert set(has.harmless) <= mnemonics
