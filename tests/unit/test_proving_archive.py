"""Members of a zip, read by ISA-L: they are what ``zipfile`` itself reads, and unreadable where it says so."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswheel.errors import InputError
from crosswheel.proving import archive
from crosswheel.proving.archive import Unreadable, WheelArchive

pytestmark = pytest.mark.unit
RELAXED = settings(
    max_examples=120,
    deadline=5000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TEXT = b"The quick brown fox jumps over the lazy dog. " * 40 + bytes(range(256))


def zipped(content: bytes, *, method: int = zipfile.ZIP_DEFLATED, zip64: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        info = zipfile.ZipInfo("a.txt", (2020, 1, 1, 0, 0, 0))
        info.compress_type = method
        with opened.open(info, "w", force_zip64=zip64) as member:
            member.write(content)
        opened.writestr("b.txt", b"behind it")
    return stream.getvalue()


def directory(data: bytes, number: int = 0) -> int:
    """Where the directory's entry of a member begins."""
    place = data.index(b"PK\1\2")
    for _ in range(number):
        place = data.index(b"PK\1\2", place + 1)
    return place


def ours(path: Path) -> list[bytes | None] | None:
    """The content of each member, None where it cannot be read; None alone where the archive cannot."""
    try:
        with WheelArchive(path) as opened:
            return [_content(opened, index) for index in range(len(opened.entries()))]
    except InputError:
        return None


def _content(opened: WheelArchive, index: int) -> bytes | None:
    try:
        return b"".join(opened.pieces(index))
    except Unreadable as error:
        assert str(error)
        return None


def theirs(path: Path) -> list[bytes | None] | None:
    """The same by ``zipfile`` alone, which stops at the size that the directory says."""
    try:
        with zipfile.ZipFile(path) as opened:
            return [_read(opened, info) for info in opened.infolist() if not info.is_dir()]
    except Exception:  # whatever a garbled archive makes of it
        return None


def _read(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    try:
        content = opened.read(info)
    except Exception:
        return None
    return content if len(content) == info.file_size else None


@RELAXED
@given(content=st.binary(max_size=5000), level=st.integers(0, 9), zip64=st.booleans())
def test_content_is_that_of_zipfile(content: bytes, level: int, zip64: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(content, zip64=zip64))
    assert ours(path) == theirs(path) == [content, b"behind it"]
    path.write_bytes(zipped(content, method=zipfile.ZIP_STORED))
    assert ours(path) == [content, b"behind it"]


def test_a_long_member_comes_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    content = bytes(2**22) + TEXT
    path.write_bytes(zipped(content))
    with WheelArchive(path) as opened:
        pieces = list(opened.pieces(0))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 2**20
    assert len(pieces) >= 5


@RELAXED
@given(changes=st.lists(st.tuples(st.integers(0, 10**4), st.integers(1, 255)), min_size=1, max_size=3))
def test_garbled_bytes_are_never_another_content(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    """What both read is the same; what is read here and not by ``zipfile`` has the checksum of the directory."""
    data = bytearray(zipped(TEXT, zip64=True))
    for place, change in changes:
        data[place % len(data)] ^= change
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(data))
    one, two = ours(path), theirs(path)
    if one is None or two is None:
        assert one is None
        return
    assert len(one) == len(two)
    for mine, other in zip(one, two, strict=True):
        assert mine is None or mine == other


@RELAXED
@given(length=st.integers(0, 10**4))
def test_a_deflated_stream_that_is_cut_short(length: int, tmp_path: Path) -> None:
    """The directory says that it ends earlier. ``zipfile`` does not mind where only the mark of the end is lacking."""
    data = bytearray(zipped(TEXT))
    at = directory(data)
    (packed,) = struct.unpack_from("<I", data, at + 20)
    struct.pack_into("<I", data, at + 20, length % packed)
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(data))
    assert ours(path) == [None, b"behind it"]
    assert theirs(path) in ([None, b"behind it"], [TEXT, b"behind it"])


def test_a_wrong_checksum(tmp_path: Path) -> None:
    data = bytearray(zipped(TEXT))
    data[directory(data) + 16] ^= 1
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(data))
    with WheelArchive(path) as opened, pytest.raises(Unreadable, match="Bad CRC-32 for file"):
        list(opened.pieces(0))


@pytest.mark.parametrize("size", [0, 1, len(TEXT) - 1, len(TEXT) + 1, 2**31])
def test_a_size_that_lies(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FREE_BYTES", 2**40)
    data = bytearray(zipped(TEXT))
    struct.pack_into("<I", data, directory(data) + 24, size)
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(data))
    assert ours(path) == [None, b"behind it"]


def test_bytes_behind_the_end_of_the_stream(tmp_path: Path) -> None:
    """The stream ends, and more that is packed follows: the content is whole, and nothing of the rest is in it."""
    packer = zlib.compressobj(wbits=-15)
    raw = packer.compress(TEXT) + packer.flush()
    for rest in (b"", b"rest", raw, bytes(5000)):
        head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, zlib.crc32(TEXT), len(raw + rest), len(TEXT), 5, 0)
        central = b"PK\1\2" + struct.pack("<H", 20) + head + struct.pack("<HHHII", 0, 0, 0, 0, 0) + b"a.txt"
        local = b"PK\3\4" + head + b"a.txt" + raw + rest
        end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
        path = tmp_path / "a.zip"
        path.write_bytes(local + central + end)
        assert ours(path) == theirs(path) == [TEXT]


@pytest.mark.timeout(20)
def test_a_member_that_unpacks_to_far_more_than_it_says_is_let_go(tmp_path: Path) -> None:
    """A hundred megabytes of which the directory says ten bytes: nothing beyond is handed on."""
    data = bytearray(zipped(bytes(10**8)))
    struct.pack_into("<I", data, directory(data) + 24, 10)
    path = tmp_path / "a.zip"
    path.write_bytes(bytes(data))
    done = 0
    with WheelArchive(path) as opened, pytest.raises(Unreadable):
        for piece in opened.pieces(0):
            done += len(piece)
    assert done <= 10
