from __future__ import annotations

import base64
import hashlib
import subprocess
import threading
from pathlib import Path

import pytest

from crosswheel.building.debian.keys import _found, chosen, kept_key, keyring_of, packets
from crosswheel.building.job import Job, Settings
from crosswheel.errors import FetchError
from crosswheel.spec.sysroots import Archive, ArchiveKey

pytestmark = pytest.mark.unit


def packet(tag: int, body: bytes, *, new: bool = False) -> bytes:
    if new:
        size = len(body)
        assert size < 192
        return bytes([0xC0 | tag, size]) + body
    return bytes([0x80 | tag << 2 | 1]) + len(body).to_bytes(2, "big") + body


def public(tag: int, name: bytes) -> tuple[bytes, str]:
    """A packet that looks like a key of version 4, and its fingerprint."""
    body = b"\x04" + name.ljust(60, b".")
    return packet(tag, body), hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()


PRIMARY, PRINT = public(6, b"primary")
SUBKEY, SUBPRINT = public(14, b"sub")
STRANGER, STRANGE = public(14, b"stranger")
OTHER, OTHER_PRINT = public(6, b"other")
NAME, SIGNATURE = packet(13, b"Somebody", new=True), packet(2, b"\x04signature")
FILE = PRIMARY + NAME + SIGNATURE + SUBKEY + SIGNATURE + STRANGER + SIGNATURE + OTHER + NAME + SIGNATURE


def key(fingerprint: str = PRINT, *subkeys: str, places: tuple[str, ...] = ("http://127.0.0.1:1/key",)) -> ArchiveKey:
    return ArchiveKey(fingerprint=fingerprint, subkeys=subkeys, places=places, source="a test")


def armored(data: bytes) -> bytes:
    head, end = (b"-----%s PGP PUBLIC KEY BLOCK-----\n" % word for word in (b"BEGIN", b"END"))
    return head + b"Version: GnuPG v1\n\n" + base64.encodebytes(data) + b"=abcd\n" + end


def test_packets_of_both_forms() -> None:
    assert [item.tag for item in packets(FILE)] == [6, 13, 2, 14, 2, 14, 2, 6, 13, 2]
    assert b"".join(item.whole for item in packets(FILE)) == FILE
    assert next(packets(FILE)).fingerprint == PRINT


def test_only_the_wanted_key_is_taken() -> None:
    assert chosen(FILE, key()) == PRIMARY + NAME + SIGNATURE
    assert chosen(FILE, key(PRINT, SUBPRINT)) == PRIMARY + NAME + SIGNATURE + SUBKEY + SIGNATURE
    assert chosen(FILE, key(OTHER_PRINT, SUBPRINT)) == OTHER + NAME + SIGNATURE
    assert chosen(FILE, key("0" * 40)) == b""
    assert chosen(FILE, key(SUBPRINT)) == b"", "a subkey is no primary key"
    assert STRANGE != SUBPRINT


def test_armor() -> None:
    assert chosen(armored(FILE), key()) == PRIMARY + NAME + SIGNATURE
    assert chosen(armored(FILE).replace(b"\n", b"\r\n"), key()) == PRIMARY + NAME + SIGNATURE
    assert chosen(armored(FILE).replace(b"Version: GnuPG v1\n", b""), key()) == PRIMARY + NAME + SIGNATURE


@pytest.mark.parametrize("data", [b"<html>not a key</html>", FILE[:-3], armored(FILE).replace(b"A", b"?"), b"\x9b\xff"])
def test_no_key_file(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"OpenPGP|cut short|damaged|without a length"):
        chosen(data, key())


def _job(folder: Path, **settings: bool) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir()
    return Job(
        key="k",
        out=folder / "out",
        work=folder / "work",
        settings=Settings(store=folder / "store", **settings),
        log=lambda line: None,
        cancelled=threading.Event(),
    )


def archive(*keys: ArchiveKey) -> Archive:
    return Archive(name="test", uri="http://archive.test/", keys=keys, source="a test")


def test_a_key_beside_the_archive(tmp_path: Path) -> None:
    job = _job(tmp_path)
    (tmp_path / "given").mkdir()
    (tmp_path / "given/7fa2af80.pub").write_bytes(armored(FILE))
    (tmp_path / "given/a.gpg").write_bytes(b"damaged")
    ring = keyring_of(archive(key(PRINT, SUBPRINT), key(OTHER_PRINT)), [tmp_path / "given", tmp_path / "none"], job)
    assert ring.read_bytes() == PRIMARY + NAME + SIGNATURE + SUBKEY + SIGNATURE + OTHER + NAME + SIGNATURE


def test_a_key_in_the_store(tmp_path: Path) -> None:
    job = _job(tmp_path, offline=True)
    place = kept_key(job.settings.store, key())
    place.parent.mkdir(parents=True)
    place.write_bytes(FILE)
    assert keyring_of(archive(key()), [], job).read_bytes() == PRIMARY + NAME + SIGNATURE


def test_a_package_of_keyrings(tmp_path: Path) -> None:
    (tmp_path / "tree/usr/share/keyrings").mkdir(parents=True)
    (tmp_path / "tree/DEBIAN").mkdir()
    control = "Package: ubuntu-keyring\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.org>\nDescription: x\n"
    (tmp_path / "tree/DEBIAN/control").write_text(control)
    (tmp_path / "tree/usr/share/keyrings/a.gpg").write_bytes(OTHER)
    (tmp_path / "tree/usr/share/keyrings/b.gpg").write_bytes(FILE)
    deb = tmp_path / "ubuntu-keyring.deb"
    subprocess.run(("dpkg-deb", "-b", "-Znone", str(tmp_path / "tree"), str(deb)), check=True, capture_output=True)
    assert _found(deb, key()) == PRIMARY + NAME + SIGNATURE
    assert _found(deb, key("0" * 40)) == b""


def test_a_key_that_cannot_be_had(tmp_path: Path) -> None:
    job = _job(tmp_path)
    with pytest.raises(FetchError, match=f"The key {PRINT} of the archive test cannot be had") as caught:
        keyring_of(archive(key()), [], job)
    assert "http://127.0.0.1:1/key: " in caught.value.why
    assert str(kept_key(job.settings.store, key())) in caught.value.hint
