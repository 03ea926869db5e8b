"""Whatever is called a wheel: a verdict or a refusal in words, never a traceback, a hang or a pass."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
from elf_writer import write_elf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheel_writer import EXTENSION, NAME, POLICY, SONAMES, good_files, write_wheel

from crosswheel.errors import InputError
from crosswheel.proving import archive, members
from crosswheel.proving.build_paths import BuildPaths
from crosswheel.proving.facts import read_wheel
from crosswheel.proving.prove import prove

pytestmark = pytest.mark.unit
RELAXED = settings(
    max_examples=200,
    deadline=5000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def verdict(path: Path) -> str:
    try:
        proof = prove(path, POLICY, sonames=SONAMES, check=None, run=None, built_here=True)
    except InputError as error:
        assert error.what
        assert error.where
        return "refused"
    return "passed" if proof.passed else "failed"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write_wheel(tmp_path_factory.mktemp("good"))
    assert verdict(path) == "passed"
    return path.read_bytes()


def test_every_truncation_is_refused(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / NAME
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        assert verdict(path) == "refused"


def contents(path: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as opened:
        return [(info.filename, opened.read(info)) for info in opened.infolist()]


@RELAXED
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=5))
def test_garbled_bytes_pass_only_where_every_file_is_unharmed(
    good: bytes, tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    """A time, an attribute or a bit after a file's end may differ without making another wheel of it."""
    path = tmp_path / NAME
    path.write_bytes(good)
    before = contents(path)
    data = bytearray(good)
    for place, change in changes:
        data[place % len(data)] ^= change
    path.write_bytes(bytes(data))
    if verdict(path) == "passed":
        assert contents(path) == before


@RELAXED
@given(noise=st.binary(max_size=300))
def test_noise_is_refused(noise: bytes, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(noise)
    assert verdict(path) == "refused"


@RELAXED
@given(changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=30))
def test_a_garbled_extension_is_never_a_traceback(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    """RECORD is right, the ELF file is not: it may still be one that loads."""
    data = bytearray(write_elf())
    for place, value in changes:
        data[place % len(data)] = value
    verdict(write_wheel(tmp_path, good_files(extension=bytes(data))))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such wheel"):
        read_wheel(tmp_path / NAME)


@pytest.mark.parametrize("name", ["quick.whl", "quick-1.0.zip", "quick-1.0-cp311-cp311.whl", "quick-x!-a-b-c.whl"])
def test_a_name_that_is_no_wheels(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(write_wheel(tmp_path).read_bytes())
    with pytest.raises(InputError, match="no file name of a wheel"):
        read_wheel(path)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = write_wheel(tmp_path, {**good_files(), "quick/zeros": bytes(archive.FREE_BYTES + 1)})
    with pytest.raises(InputError, match="zip bomb"):
        read_wheel(path)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", 3)
    with pytest.raises(InputError, match="zip bomb"):
        read_wheel(write_wheel(tmp_path))


def test_a_member_longer_than_its_directory_says(tmp_path: Path) -> None:
    """The content goes on after the size that the directory claims: no more than that is read, and it is a failure."""
    path = write_wheel(tmp_path, {**good_files(), "quick/long.txt": b"x" * 5000})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"quick/long.txt") - 46
    struct.pack_into("<I", data, at + 24, 10)
    path.write_bytes(bytes(data))
    member = next(item for item in read_wheel(path).members if item.name == "quick/long.txt")
    assert member.trouble
    assert verdict(path) == "failed"


def test_an_encrypted_member(tmp_path: Path) -> None:
    path = write_wheel(tmp_path)
    data = bytearray(path.read_bytes())
    at = data.rindex(b"quick/__init__.py") - 46
    data[at + 8] |= 1
    path.write_bytes(bytes(data))
    assert verdict(path) == "failed"


def test_a_large_elf_file_is_mapped_with_the_same_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elf = write_elf(text=b"\0/build/a.cc\0" + bytes(range(256)) * 8192)
    path = write_wheel(tmp_path, good_files(extension=elf))
    held = read_wheel(path)
    monkeypatch.setattr(members, "IN_MEMORY", 0)
    assert read_wheel(path) == held
    assert held.paths == {EXTENSION: ("/build/a.cc",)}


def test_a_large_garbled_elf_file_is_mapped_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "IN_MEMORY", 0)
    assert verdict(write_wheel(tmp_path, good_files(extension=write_elf()[:-40]))) == "failed"


@pytest.mark.parametrize("size", [1, 2, 7, 30, 1000])
def test_build_paths_in_a_list(size: int) -> None:
    """In whatever pieces the file is read."""
    data = b"\0/build/a:/home/b/c.so\0 $ORIGIN/../build/x a/tmp/b/c.cc /tmp/x/y.o," + b"x" * 500 + b"/root/z"
    paths = BuildPaths()
    for start in range(0, len(data), size):
        paths.feed(data[start : start + size])
    assert paths.found() == ("/build/a", "/home/b/c.so", "/tmp/x/y.o")
    paths.feed(b" /root/z")
    assert paths.found() == ("/build/a", "/home/b/c.so", "/root/z", "/tmp/x/y.o")
