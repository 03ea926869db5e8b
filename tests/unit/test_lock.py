from __future__ import annotations

import json
from typing import Any

import pytest

from crosswheel.building.debian.apt import parse_uris
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.mirrors import Mirror
from crosswheel.errors import DataError, FetchError

pytestmark = pytest.mark.unit


def _value() -> dict[str, Any]:
    return {
        "schema": 1,
        "architecture": "arm64",
        "requested": ["libc6-dev"],
        "resolved": "2026-11-21T10:00:00Z",
        "tool": "apt 2.6.2 (amd64)",
        "suites": [
            {"archive": "debian", "name": "bookworm", "components": ["main"], "date": "2026-07-11T10:16:37Z"},
            {"archive": "debian", "name": "bookworm-updates", "components": ["main"], "date": "2026-11-20T02:11:10Z"},
        ],
        "packages": [_package("libc6"), _package("libc6-dev"), _package("tzdata", architecture="all")],
    }


def _package(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "package": name,
        "version": "1:2.36-9+deb12u14",
        "architecture": "arm64",
        "archive": "debian",
        "path": f"pool/main/g/glibc/{name}_2.36-9+deb12u14_arm64.deb",
        "sha256": "ab" * 32,
        "size": 1234,
        **changes,
    }


def _refused(**changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        Lock.parse(json.dumps({**_value(), **changes}), "a.json")
    return str(caught.value)


def test_text_and_parse_are_inverse() -> None:
    lock = Lock.parse(json.dumps(_value()), "a.json")
    assert Lock.parse(lock.text(), "again") == lock
    assert json.loads(lock.text()) == _value()


def test_text_has_a_line_per_package() -> None:
    text = Lock.parse(json.dumps(_value()), "a.json").text()
    assert sum("pool/main" in line for line in text.splitlines()) == 3


def test_times() -> None:
    lock = Lock.parse(json.dumps(_value()), "a.json")
    assert lock.resolved_time().isoformat() == "2026-11-21T10:00:00"
    assert [time.isoformat() for time in lock.suite_times("debian")] == ["2026-11-20T02:11:10", "2026-07-11T10:16:37"]
    assert lock.suite_times("other") == []


def test_no_json_names_file_and_line() -> None:
    with pytest.raises(DataError, match=r"a\.json:2: The lock is no JSON"):
        Lock.parse('{"schema": 1,\n nonsense', "a.json")


@pytest.mark.parametrize("text", ['{"schema": 2}', "{}", "[]", "3"])
def test_other_schema(text: str) -> None:
    with pytest.raises(DataError, match="reads schema 1") as caught:
        Lock.parse(text, "a.json")
    assert "./x sysroot lock" in caught.value.hint


def test_every_fault_is_named_with_its_package() -> None:
    said = _refused(
        packages=[
            _package("aa", sha256="short"),
            _package("bb", path="/etc/passwd"),
            _package("cc", path="pool/../../etc/passwd"),
            _package("dd", size=0),
            _package("ee", extra="x"),
        ]
    )
    for name in ("aa", "bb", "cc", "dd", "ee"):
        assert f"({name})" in said
    assert said.count("leads out of the archive") == 2


def test_inconsistent_locks() -> None:
    assert "not sorted" in _refused(packages=[_package("b2"), _package("a1")])
    assert "listed twice: a1" in _refused(packages=[_package("a1"), _package("a1")])
    assert "the lock has no suite" in _refused(packages=[_package("a1", archive="other")])
    assert "a1 is for riscv64" in _refused(packages=[_package("a1", architecture="riscv64")])
    assert "packages" in _refused(packages=[])


# --- what apt prints -------------------------------------------------------------------------------------------------

MIRRORS = {
    name: Mirror(archive=name, base=f"http://mirror.test/{name}/", dated=False, reason="set")
    for name in ("debian", "debian-security")
}
_FILE = "libpython3.11-dev_3.11.2-6+deb12u9_arm64.deb"
_CXX = "libstdc++-12-dev_1%3a12.2.0-14_arm64.deb"
_BASE = "http://mirror.test/debian"
_POOL = "pool/updates/main/p/python3.11"
PRINTED = f"""\
Reading package lists...
Need to get 1 B of archives.
'{_BASE}-security/{_POOL}/libpython3.11-dev_3.11.2-6%2bdeb12u9_arm64.deb' {_FILE} 4391300 SHA256:{"fb" * 32}
'{_BASE}/pool/main/g/gcc-12/libstdc%2b%2b-12-dev_12.2.0-14_arm64.deb' {_CXX} 2006588 SHA256:{"b7" * 32}
"""


def test_uris_become_packages_without_their_mirror() -> None:
    python, stdcxx = parse_uris(PRINTED, MIRRORS)
    assert (python.package, python.version) == ("libpython3.11-dev", "3.11.2-6+deb12u9")
    assert python.archive == "debian-security"
    assert python.path == "pool/updates/main/p/python3.11/libpython3.11-dev_3.11.2-6+deb12u9_arm64.deb"
    assert (stdcxx.package, stdcxx.version, stdcxx.size) == ("libstdc++-12-dev", "1:12.2.0-14", 2006588)
    assert "mirror.test" not in stdcxx.model_dump_json()


def test_uri_without_sha256_is_refused() -> None:
    with pytest.raises(FetchError, match="without a sha256"):
        parse_uris("'http://mirror.test/debian/pool/a_1_all.deb' a_1_all.deb 5 MD5Sum:" + "0" * 32, MIRRORS)


def test_uri_of_another_mirror_is_refused() -> None:
    with pytest.raises(FetchError, match="outside the mirrors"):
        parse_uris(f"'http://other.test/a_1_all.deb' a_1_all.deb 5 SHA256:{'0' * 64}", MIRRORS)
