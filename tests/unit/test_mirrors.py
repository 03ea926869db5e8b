from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from crosswheel.building.debian.aptrun import HELPER, Ran
from crosswheel.building.debian.mirrors import (
    candidates,
    choose,
    label_of,
    machine_mirrors,
    parse_configured,
    snapshot_date,
)
from crosswheel.building.job import Settings
from crosswheel.spec.sysroots import Archive

pytestmark = pytest.mark.unit

PRINTED = """\
'http://one.test/debian/dists/bookworm/InRelease' one.test_debian_dists_bookworm_InRelease 0 \n\
'http://one.test/debian/dists/bookworm-updates/InRelease' one.test_debian_dists_bookworm-updates_InRelease 0 \n\
'http://two.test/security/dists/bookworm-security/InRelease' two.test_security_dists_bookworm-security_InRelease 0 \n\
'http://three.test/debian/dists/bookworm/InRelease' three.test_debian_dists_bookworm_InRelease 0 \n\
'file:/srv/flat/./InRelease' _srv_flat_._InRelease 0 \n\
'file:/srv/local/dists/mine/InRelease' _srv_local_dists_mine_InRelease 0 \n\
'http://one.test/debian/dists/bookworm/main/binary-amd64/Packages.xz' one.test_debian_Packages 0 \n\
"""
LABELS = {"one.test": "Debian", "two.test": "Debian-Security", "three.test": "Debian", "/srv/local": "Mine"}


class FakeApt:
    """apt as it prints on a Debian 12 machine. ``downloads`` are the URIs that apt-helper was given."""

    shares_files = True

    def __init__(self, lists: Path, status: int = 0) -> None:
        self.lists = lists
        self.status = status
        self.downloads: list[str] = []

    def run(self, argv: Sequence[str], folders: Sequence[Path]) -> Ran:
        if argv[0] == "apt-get":
            return Ran(self.status, PRINTED, "")
        if argv[0] == "apt-config":
            return Ran(0, f"lists='{self.lists}'\n", "")
        assert argv[0] == HELPER
        uri, place = argv[-2:]
        self.downloads.append(uri)
        for part, label in LABELS.items():
            if part in uri:
                Path(place).write_text(f"Origin: X\nLabel: {label}\nSuite: s\n")
                return Ran(0, "", "")
        return Ran(100, "", "E: Failed")

    def has(self, path: Path) -> bool:
        return True


def _archive(name: str, label: str) -> Archive:
    return Archive(
        name=name,
        label=label,
        keyring="k.gpg",
        keyring_package="k",
        snapshot=f"http://snapshot.test/{name}/{{date}}/",
        source="a test",
    )


ARCHIVES = [_archive("debian", "Debian"), _archive("debian-security", "Debian-Security")]


def test_configured_suites_without_flat_repositories() -> None:
    found = parse_configured(PRINTED)
    assert [(entry.base, entry.suite) for entry in found] == [
        ("http://one.test/debian/", "bookworm"),
        ("http://one.test/debian/", "bookworm-updates"),
        ("http://two.test/security/", "bookworm-security"),
        ("http://three.test/debian/", "bookworm"),
        ("file:/srv/local/", "mine"),
    ]


def test_labels_come_from_apts_lists_where_there_are_any(tmp_path: Path) -> None:
    lists, work = tmp_path / "lists", tmp_path / "work"
    for folder in (lists, work):
        folder.mkdir()
    (lists / "one.test_debian_dists_bookworm_InRelease").write_text("-----BEGIN…\n\nOrigin: Debian\nLabel: Debian\n")
    apt = FakeApt(lists)
    mirrors = machine_mirrors(apt, work)
    assert mirrors["Debian"] == "http://one.test/debian/"  # the first one configured
    assert not any("one.test" in uri for uri in apt.downloads)


def test_labels_come_from_the_mirrors_on_a_machine_without_lists(tmp_path: Path) -> None:
    apt = FakeApt(tmp_path / "none")
    assert machine_mirrors(apt, tmp_path) == {
        "Debian": "http://one.test/debian/",
        "Debian-Security": "http://two.test/security/",
        "Mine": "copy:/srv/local/",
    }
    assert "http://two.test/security/dists/bookworm-security/InRelease" in apt.downloads
    assert "copy:/srv/local/dists/mine/InRelease" in apt.downloads


def test_a_machine_whose_apt_does_not_work_has_no_mirrors(tmp_path: Path) -> None:
    assert machine_mirrors(FakeApt(tmp_path, status=100), tmp_path) == {}


def test_label() -> None:
    assert label_of("Hash: SHA256\n\nOrigin: Debian\nLabel: Debian-Security \nSuite: x\n") == "Debian-Security"
    assert label_of("Origin: Debian\n") == ""


def _no_machine() -> Mapping[str, str]:
    raise AssertionError("the machine was asked although the user set all mirrors")


def test_the_users_mirror_comes_first() -> None:
    settings = Settings(
        store=Path("/s"), apt_mirrors={"debian": "http://mine.test/d", "debian-security": "file:/srv/sec ure/"}
    )
    chosen = choose(ARCHIVES, settings, _no_machine, "20260901T000000Z")
    assert chosen["debian"].base == "http://mine.test/d/"
    assert chosen["debian-security"].base == "copy:/srv/sec%20ure/"
    assert {mirror.reason for mirror in chosen.values()} == {"set by the user"}


def test_a_path_is_a_mirror_too() -> None:
    chosen = choose(ARCHIVES[:1], Settings(store=Path("/s"), apt_mirrors={"debian": "/srv/debian"}), _no_machine, "")
    assert chosen["debian"].base == "copy:/srv/debian/"


def test_then_the_machines_then_the_snapshot() -> None:
    machine = {"Debian": "http://one.test/debian/"}
    chosen = choose(ARCHIVES, Settings(store=Path("/s")), lambda: machine, "20260901T000000Z")
    assert chosen["debian"].base == "http://one.test/debian/"
    assert not chosen["debian"].dated
    assert chosen["debian-security"].base == "http://snapshot.test/debian-security/20260901T000000Z/"
    assert chosen["debian-security"].dated


def test_snapshot_date() -> None:
    assert snapshot_date(datetime(2026, 9, 1, 2, 3, 4)) == "20260901T020304Z"


# --- archives with URLs of their own ---------------------------------------------------------------------------------


def test_candidates_of_an_archive_with_urls_of_its_own(tmp_path: Path) -> None:
    ports = Archive(
        name="ports",
        uri="http://ports.test/ubuntu-ports/",
        older=("http://old.test/ubuntu/",),
        snapshot="http://snapshot.test/{date}/",
        keyring="k.gpg",
        keyring_package="k",
        source="a test",
    )
    found = candidates([ports], Settings(store=tmp_path), lambda: {"": "http://unnamed.test/"}, "20260101T000000Z")
    assert [(mirror.base, mirror.dated) for mirror in found["ports"]] == [
        ("http://ports.test/ubuntu-ports/", False),
        ("http://old.test/ubuntu/", True),
        ("http://snapshot.test/20260101T000000Z/", True),
    ]
    given = Settings(store=tmp_path, apt_mirrors={"ports": "/a copy"})
    assert [mirror.base for mirror in candidates([ports], given, dict, "")["ports"]] == ["copy:/a%20copy/"]


def test_the_machine_is_not_asked_for_an_archive_without_a_label(tmp_path: Path) -> None:
    def machine() -> Mapping[str, str]:
        raise AssertionError("asked")

    nowhere = Archive(name="boxed", uri="http://u.test/", keyring="k", keyring_package="k", source="a test")
    assert candidates([nowhere], Settings(store=tmp_path), machine, "")["boxed"][0].base == "http://u.test/"
