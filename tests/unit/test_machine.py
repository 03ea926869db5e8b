"""What a machine has and lacks, with a root, a PATH and an engine made for the test."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from machines import DEBIAN, FEDORA, add, one

from crosswheel.building.machine import Machine, Need, System, missing, needs, read_system, read_version

pytestmark = pytest.mark.unit

# --- reading ---


@pytest.mark.parametrize(
    ("text", "identity", "version", "manager"),
    [
        (DEBIAN, "debian", "12", "apt"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "ubuntu", "24.04", "apt"),
        ("ID=linuxmint\nID_LIKE='ubuntu debian'\nVERSION_ID='22'\n", "linuxmint", "22", "apt"),
        (FEDORA, "fedora", "43", "dnf"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.5"\n', "rocky", "9.5", "dnf"),
        ("# rolling\nID=arch\n", "arch", "", "pacman"),
        ("ID=nixos\nVERSION_ID=25.05\n", "nixos", "25.05", None),
        ("", "", "", None),
    ],
)
def test_os_release(text: str, identity: str, version: str, manager: str | None) -> None:
    system = read_system(text)
    assert (system.id, system.version, system.manager) == (identity, version, manager)


def test_os_release_unescapes() -> None:
    assert read_system(r'PRETTY_NAME="A \"quoted\" \$ name"').title == 'A "quoted" $ name'


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("git version 2.39.5", "2.39.5"),
        ("apt 2.6.2 (amd64)", "2.6.2"),
        ("tar (GNU tar) 1.34\nCopyright (C) 2021", "1.34"),
        ("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "7.2.22"),
        ("11.19.1", "11.19.1"),
        ("no number here", ""),
    ],
)
def test_versions_are_read_from_what_programs_print(text: str, version: str) -> None:
    assert read_version(text) == version


# --- needs ---


def test_a_bare_machine_lacks_what_a_build_needs(machine: Machine) -> None:
    kinds = ("lock", "root", "tree", "run")
    names = {finding.need.name for finding in missing(machine, needs_for(machine, kinds))}
    assert names == {"Docker engine", "apt and dpkg-deb", "Debian's keyring", "git", "tar"}


def needs_for(machine: Machine, kinds: tuple[str, ...]) -> tuple[Need, ...]:
    return needs.needs_of(kinds, sandbox="docker", system=machine.system)


def test_a_build_of_nothing_needs_nothing(machine: Machine) -> None:
    assert needs_for(machine, ()) == ()


def test_the_host_sandbox_needs_no_docker(machine: Machine) -> None:
    assert needs.DOCKER not in needs.needs_of(("run", "proof"), sandbox="host", system=machine.system)


def test_without_apt_packages_are_assembled_in_docker() -> None:
    wanted = needs.needs_of(("lock",), sandbox="host", system=read_system(FEDORA))
    assert needs.DOCKER in wanted
    assert needs.APT not in wanted


def test_programs_are_found_on_the_path_and_asked_for_their_version(machine: Machine) -> None:
    add(machine, "git", text="#!/bin/sh\necho git version 2.39.5\n")
    finding = one(machine, needs.GIT, versions=True)
    assert (finding.status, finding.version, finding.command) == ("ok", "2.39.5", "")


def test_a_program_that_cannot_be_run_has_no_version(machine: Machine) -> None:
    add(machine, "git", text="\x7fELF is not a program")
    assert one(machine, needs.GIT, versions=True).version == ""


@pytest.mark.parametrize(
    ("system", "uid", "command"),
    [
        (DEBIAN, 0, "apt-get install -y --no-install-recommends git"),
        (DEBIAN, 1000, "sudo apt-get install -y --no-install-recommends git"),
        (FEDORA, 1000, "sudo dnf install -y git"),
        ("ID=arch\n", 0, "pacman -S --needed --noconfirm git"),
        ("ID=nixos\n", 0, "install git (Debian's names) with your package manager"),
    ],
)
def test_the_command_is_that_of_the_system(machine: Machine, system: str, uid: int, command: str) -> None:
    finding = one(replace(machine, system=read_system(system), uid=uid), needs.GIT)
    assert (finding.status, finding.command) == ("missing", command)


def test_qemu_is_optional_and_its_command_is_named(machine: Machine) -> None:
    finding = one(machine, needs.QEMU)
    assert finding.status == "optional"
    assert finding.command == "apt-get install -y --no-install-recommends qemu-user"
    add(machine, "qemu-aarch64-static", text="#!/bin/sh\necho qemu-aarch64 version 7.2.22\n")
    assert one(machine, needs.QEMU, versions=True).version == "7.2.22"


def test_apparmor_is_wanted_where_the_kernel_uses_it(machine: Machine) -> None:
    assert one(machine, needs.APPARMOR).status == "ok"
    switch = machine.root / "sys/module/apparmor/parameters/enabled"
    switch.parent.mkdir(parents=True)
    switch.write_text("Y\n")
    assert one(machine, needs.APPARMOR).packages == ("apparmor",)
    (machine.root / "sbin").mkdir()
    (machine.root / "sbin/apparmor_parser").touch(mode=0o755)
    assert one(machine, needs.APPARMOR).status == "ok"


def test_apt_names_what_of_it_is_missing(machine: Machine) -> None:
    add(machine, "apt-get")
    finding = one(machine, needs.APT)
    assert finding.detail == "dpkg-deb, apt-helper not installed"
    assert one(replace(machine, system=read_system(FEDORA)), needs.APT).status == "optional"


@pytest.mark.parametrize(
    ("free", "status"), [(500 << 20, "missing"), (3 << 30, "low"), (10 << 30, "ok")], ids=["0.5", "3", "10"]
)
def test_disk(machine: Machine, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    finding = one(machine, needs.STORE_DISK)
    assert finding.status == status
    assert (str(machine.store) in finding.detail) and ("./x clean" in finding.command) == (status != "ok")


def test_docker_may_keep_its_images_elsewhere(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * needs.GIB))
    assert one(machine, needs.DOCKER_DISK).detail == f"at {machine.root}/var/lib/docker"
    settings = machine.root / "etc/docker/daemon.json"
    settings.parent.mkdir()
    settings.write_text(f'{{"data-root": "{tmp_path}/images"}}')
    assert one(machine, needs.DOCKER_DISK).detail == f"at {tmp_path}/images"
    settings.write_text("{ not JSON")
    assert one(machine, needs.DOCKER_DISK).detail == f"at {machine.root}/var/lib/docker"


def test_memory(machine: Machine) -> None:
    assert one(machine, needs.MEMORY).version == "15.6 GiB"
    (machine.root / "proc/meminfo").write_text("MemTotal: 2097152 kB\n")
    finding = one(machine, needs.MEMORY)
    assert (finding.status, finding.detail) == ("low", "only 2.0 GiB")


def test_the_system_of_a_machine_without_os_release(tmp_path: Path) -> None:
    assert Machine.here(tmp_path, {}, root=tmp_path).system == System()
