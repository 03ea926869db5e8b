"""Instructions of aarch64: what a processor lacks, what asks by itself, and what only looks like it."""

from __future__ import annotations

import struct

import pytest
from capstone import CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN, Cs
from code_writer import AARCH64, ARM_RET, LSE, OUTLINED, Function, write_code
from test_proving_functions import above, processor

from crosswheel.proving.aarch64 import Decoder
from crosswheel.proving.code import Above
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

A57 = ("jetson-tx1", "cortex-a57")


def found(words: bytes, catalog: Catalog, target: str, cpu: str) -> tuple[Above, ...]:
    return above(write_code([Function("a", words + ARM_RET)], machine=AARCH64), processor(catalog, target, cpu))


def word(number: int) -> bytes:
    return struct.pack("<I", number)


NEWER = {
    0xB8200041: ("ldadd", "LSE"),
    0x88A07C41: ("cas", "LSE"),
    0x1EE22820: ("fadd", "FullFP16"),
    0x4E829420: ("sdot", "DotProd"),
    0x04A00000: ("add", "SVEorSME"),
    0x2598E3E0: ("ptrue", "SVEorSME"),
    0xDAC11020: ("autia", "PAuth"),
    0xD65F0BFF: ("retaa", "PAuth"),
    0x38BFC020: ("ldaprb", "RCPC"),
    0xD500401F: ("cfinv", "FlagM"),
    0xD500405F: ("axflag", "AltNZCV"),
    0x6E40EC20: ("bfmmla", "BF16"),
}


@pytest.mark.parametrize("number", NEWER, ids=hex)
def test_what_a_cortex_a57_lacks(number: int, catalog: Catalog) -> None:
    instruction, feature = NEWER[number]
    (one,) = found(word(number), catalog, *A57)
    assert one.instruction.startswith(instruction)
    assert feature in one.features


@pytest.mark.parametrize("number", [0xD503233F, 0xD50323BF, 0xD503245F, 0xD503201F, 0xD50320FF, 0xD503221F], ids=hex)
def test_hints_do_no_harm(number: int, catalog: Catalog) -> None:
    """``paciasp``, ``autiasp``, ``bti c``, ``nop``, ``xpaclri``, ``esb``."""
    assert found(word(number), catalog, *A57) == ()


def test_cryptography_is_the_chips(catalog: Catalog) -> None:
    aes = word(0x4E284820)
    assert found(aes, catalog, "jetson-tx1", "cortex-a57") == ()
    (one,) = found(aes, catalog, "rpi4", "cortex-a72")
    assert (one.instruction, one.features) == ("aese", ("AES",))


def test_crc_is_usual_in_armv8(catalog: Catalog) -> None:
    """It is told, and a worse one behind it rather than it."""
    crc = word(0x1AC04000)
    (one,) = found(crc, catalog, "rpi4", "armv8-a")
    assert (one.instruction, one.features) == ("crc32b", ("CRC",))
    assert "CRC" in processor(catalog, "rpi4", "armv8-a").usual
    (one,) = found(crc + LSE, catalog, "rpi4", "armv8-a")
    assert one.instruction == "ldadd"
    assert found(crc, catalog, *A57) == ()


def test_outlined_atomics_ask_by_themselves(catalog: Catalog) -> None:
    asked = OUTLINED + LSE
    assert found(asked, catalog, *A57) == ()
    later = asked + word(0xD503201F) + LSE
    (one,) = found(later, catalog, *A57)
    assert one.address == 0x1000 + 20
    (one,) = found(OUTLINED + word(0x1EE22820), catalog, *A57)  # who asks for LSE does not ask for half precision
    assert one.features == ("FullFP16",)


def test_others_registers_do_not_ask(catalog: Catalog) -> None:
    wrong = bytearray(OUTLINED)
    wrong[0] ^= 1  # adrp x17
    assert [one.instruction for one in found(bytes(wrong) + LSE, catalog, *A57)] == ["ldadd"]


@pytest.mark.parametrize("number", [0, 1, 0xFFFFFFFF, 0x00000010], ids=hex)
def test_words_that_are_no_instructions(number: int, catalog: Catalog) -> None:
    assert found(word(number), catalog, *A57) == ()
    (one,) = found(word(number) + LSE, catalog, *A57)
    assert one.instruction == "ldadd"


def test_one_word_of_a_class_does_not_hide_another(catalog: Catalog) -> None:
    """System instructions are told apart by the low bits as well: ``cfinv`` among others of its class."""
    (one,) = found(word(0xD500401F) + word(0xD50040BF), catalog, *A57)  # cfinv; msr spsel, #0
    assert one.instruction == "cfinv"
    (one,) = found(word(0xD50040BF) + word(0xD500401F), catalog, *A57)
    assert one.instruction == "cfinv"


def test_by_processor(catalog: Catalog) -> None:
    words = LSE + ARM_RET
    assert found(words, catalog, "rpi4", "armv8.1-a") == ()
    assert found(words, catalog, "rk3588", "cortex-a76.cortex-a55") == ()
    assert len(found(words, catalog, "rpi4", "cortex-a72")) == 1
    assert len(found(word(0x04A00000), catalog, "rk3588", "armv8.6-a")) == 1
    assert found(word(0x04A00000), catalog, "rk3588", "armv9-a") == ()


def test_all_names_in_the_data_are_the_decoders(catalog: Catalog) -> None:
    decoder = Cs(CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN)
    groups = {(decoder.group_name(number) or "") for number in range(1024)}
    known = {group.removeprefix("Has") for group in groups if group.startswith("Has")}
    assert "LSE" in known
    checked = 0
    for name in catalog.target_names:
        target = catalog.target(name)
        for cpu in catalog.cpus.values():
            if target.arch == cpu.arch == "aarch64":
                has = catalog.instruction_set(target, cpu)
                assert set(has.features) | set(has.usual) <= known, (name, cpu.name)
                checked += 1
    assert checked


def test_the_harmless_are_instructions(catalog: Catalog) -> None:
    """Each of the hints is one that the decoder names so: they lie in one space (CRm and op2 of HINT)."""
    decoder = Decoder(processor(catalog, *A57))
    named = {decoder.instruction(0xD503201F | number << 5) for number in range(128)}
    others = {"gcsb", "psb", "tsb", "hint", "chkfeat", "clrbhb"}
    harmless = set(processor(catalog, *A57).harmless)
    assert {"paciasp", "autiasp", "bti", "xpaclri", "esb"} <= named
    assert harmless - named <= others
