"""The ELF reader: it agrees with pyelftools on real files, and no file keeps it busy or brings it down."""

from __future__ import annotations

import struct
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from elf_writer import write_elf
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswheel.proving.elf import ElfFacts, read_elf
from crosswheel.proving.elf_tables import Garbled

pytestmark = pytest.mark.unit


def real_files() -> list[Path]:
    """ELF files of this machine: the interpreter, its extension modules, and those of the installed packages."""
    places = (sysconfig.get_path("platlib"), sysconfig.get_config_var("DESTSHARED"))
    found = [path for place in places if place for path in sorted(Path(place).rglob("*.so"))[:40]]
    return [Path(sys.executable).resolve(), *found]


def test_agrees_with_pyelftools_on_real_files() -> None:
    compared = 0
    for path in real_files():
        facts = read_elf(path.name, path.read_bytes())
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            assert facts.bits == elf.elfclass
            assert facts.little_endian == elf.little_endian
            assert facts.machine == {"EM_X86_64": 62, "EM_AARCH64": 183}[elf["e_machine"]]
            dynamic = next(part for part in elf.iter_segments() if part.header.p_type == "PT_DYNAMIC")
            assert list(facts.needed) == [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]
            assert [facts.soname] == ([tag.soname for tag in dynamic.iter_tags("DT_SONAME")] or [""])
            assert sorted(versions(facts)) == sorted(versions_by_pyelftools(elf))
        compared += 1
    assert compared >= 2


def versions(facts: ElfFacts) -> Iterator[tuple[str, str, int]]:
    for need in facts.versions:
        yield need.library, need.version, need.count


def versions_by_pyelftools(elf: ELFFile) -> Iterator[tuple[str, str, int]]:
    """(library, version, how many symbols want it), by way of the section headers."""
    table = elf.get_section_by_name(".gnu.version")
    counts: dict[int, int] = {}
    for number in range(table.num_symbols() if table else 0):
        index = table.get_symbol(number).entry["ndx"]
        counts[index] = counts.get(index, 0) + 1
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for need, entries in section.iter_versions():
                for entry in entries:
                    yield need.name, entry.name, counts.get(entry["vna_other"], 0)


def test_reads_what_was_written() -> None:
    facts = read_elf(
        "a.so",
        write_elf(
            needed=["libc.so.6", "libm.so.6"],
            soname="liba.so.1",
            rpath="$ORIGIN:/x",
            runpath="$ORIGIN/..",
            versions={
                "libm.so.6": {"GLIBC_2.29": ["exp", "log"]},
                "libc.so.6": {"GLIBC_2.17": ["malloc"], "GLIBC_2.34": [f"s{number}" for number in range(20)]},
            },
            interpreter="/lib/ld-linux-aarch64.so.1",
            relr=True,
            stack=7,
        ),
    )
    assert (facts.needed, facts.soname) == (("libc.so.6", "libm.so.6"), "liba.so.1")
    assert (facts.rpath, facts.runpath) == (("$ORIGIN", "/x"), ("$ORIGIN/..",))
    assert facts.interpreter == "/lib/ld-linux-aarch64.so.1"
    assert (facts.relr, facts.exec_stack, facts.text_relocations, facts.kind) == (True, True, False, "shared")
    by_version = {need.version: need for need in facts.versions}
    assert by_version["GLIBC_2.29"].symbols == ("exp", "log")
    assert by_version["GLIBC_2.34"].count == 20
    assert len(by_version["GLIBC_2.34"].symbols) == 12


def test_32_bit_and_big_endian_headers_are_read() -> None:
    header = struct.pack(">HHIIIIIHHHHHH", 1, 20, 1, 0, 0, 0, 0, 52, 0, 0, 0, 0, 0)
    facts = read_elf("a.o", b"\x7fELF" + bytes((1, 2, 1, 0)) + bytes(8) + header)
    assert (facts.bits, facts.little_endian, facts.machine_name, facts.kind) == (
        32,
        False,
        "PowerPC (32-bit)",
        "object",
    )


@pytest.mark.timeout(10)
def test_a_version_table_that_claims_to_be_endless_ends() -> None:
    data = bytearray(write_elf())
    place = data.index(struct.pack("<Q", 0x6FFFFFFF))
    struct.pack_into("<Q", data, place + 8, 2**63)
    assert [need.version for need in read_elf("a.so", bytes(data)).versions] == ["GLIBC_2.17"]
    start = struct.unpack_from("<Q", data, data.index(struct.pack("<Q", 0x6FFFFFFE)) + 8)[0]
    struct.pack_into("<I", data, start + 12, 1)  # the next entry begins one byte on, again and again
    with pytest.raises(Garbled):
        read_elf("a.so", bytes(data))


@pytest.mark.timeout(10)
def test_a_version_table_that_overlaps_itself_ends() -> None:
    """65,535 rows of 65,535 rows each, in a file of 1.5 MB."""
    data = bytearray(write_elf()) + bytearray(1 << 20)
    start = struct.unpack_from("<Q", data, data.index(struct.pack("<Q", 0x6FFFFFFE)) + 8)[0]
    struct.pack_into("<Q", data, data.index(struct.pack("<Q", 0x6FFFFFFF)) + 8, 65535)
    struct.pack_into("<QQ", data, 64 + 32, len(data), len(data))  # the one segment has all of the file
    for place in range(len(data) - (1 << 20), len(data) - 16, 16):
        struct.pack_into("<IHHII", data, place, 0, 0, 2, 1, 16)
    struct.pack_into("<HHIII", data, start, 1, 65535, 1, len(data) - (1 << 20) - start, 0)
    with pytest.raises(Garbled):
        for _ in range(3):
            struct.pack_into("<I", data, start + 12, 16)
            read_elf("a.so", bytes(data))


GOOD = write_elf(soname="liba.so.1", runpath="$ORIGIN", interpreter="/lib/ld.so")


def read_or_garbled(data: bytes) -> None:
    try:
        read_elf("a.so", data)
    except Garbled as error:
        assert str(error)


def test_every_truncation_is_read_or_garbled() -> None:
    for length in range(len(GOOD)):
        read_or_garbled(GOOD[:length])


@settings(max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(4, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_garbled_bytes_are_read_or_garbled(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    read_or_garbled(bytes(data))


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(GOOD) // 8 - 1), st.sampled_from([0, 1, 2**15, 2**31, 2**32 - 1, 2**63, 2**64 - 1]))
def test_extreme_words_are_read_or_garbled(word: int, value: int) -> None:
    data = bytearray(GOOD)
    struct.pack_into("<Q", data, 8 * word, value)
    read_or_garbled(b"\x7fELF" + bytes(data[4:]))


@settings(max_examples=100, deadline=2000)
@given(st.binary(max_size=400))
def test_noise_after_the_magic_is_read_or_garbled(noise: bytes) -> None:
    read_or_garbled(b"\x7fELF\x02\x01\x01\x00" + noise)
