"""What a machine has and lacks, with a root, a PATH and an engine made for the test."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from crosswheel.building.machine import (
    Finding,
    Machine,
    Need,
    Seen,
    System,
    look,
    missing,
    needs,
    provide,
    read_system,
    read_version,
)
from crosswheel.building.sandbox import engine
from crosswheel.building.sandbox.engine import Engine
from crosswheel.errors import MachineError

pytestmark = pytest.mark.unit

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
FEDORA = 'NAME="Fedora Linux"\nVERSION_ID=43\nID=fedora\n'


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A Debian of root's in a folder, with an empty PATH."""
    root = tmp_path / "root"
    for folder in ("etc", "proc", "usr/bin"):
        (root / folder).mkdir(parents=True)
    (root / "etc/os-release").write_text(DEBIAN)
    (root / "proc/meminfo").write_text("MemTotal:       16384000 kB\nMemFree: 1 kB\n")
    environ = {"PATH": str(root / "usr/bin"), "DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}
    return replace(Machine.here(tmp_path / "store", environ, root=root), uid=0)


def add(machine: Machine, *programs: str, text: str = "#!/bin/sh\nexit 0\n") -> None:
    for program in programs:
        path = machine.root / "usr/bin" / program
        path.write_text(text)
        path.chmod(0o755)


def one(machine: Machine, need: Need, *, versions: bool = False) -> Finding:
    return look(machine, [need], versions=versions)[0]


def environ_with(machine: Machine, **more: str) -> Machine:
    return replace(machine, environ={**machine.environ, **more})


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


# --- the Docker engine ---


@pytest.fixture
def serve(machine: Machine) -> Iterator[Callable[..., None]]:
    """Lets an engine answer at the machine's socket: replies by path, or silence."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(machine.docker_host.removeprefix("unix://"))
        listener.listen()

        def answer(replies: Mapping[str, bytes]) -> None:
            def loop() -> None:
                while True:
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        path = connection.recv(4096).split()[1].decode()
                        connection.sendall(replies[path])

            threading.Thread(target=loop, daemon=True).start()

        yield answer
        listener.shutdown(socket.SHUT_RDWR)


PING = b"HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\nServer: Docker/20.10.24+dfsg1 (linux)\r\n\r\nOK"


def test_an_engine_that_answers(machine: Machine, serve: Callable[..., None]) -> None:
    serve({"/_ping": PING})
    assert engine.ping(machine.docker_host) == Engine(
        host=machine.docker_host, state="answers", version="20.10.24+dfsg1"
    )
    assert one(machine, needs.DOCKER).status == "ok"


def test_an_engine_that_says_nothing(machine: Machine, serve: Callable[..., None]) -> None:
    assert engine.ping(machine.docker_host, seconds=0.1).state == "silent"


def test_a_snap_is_refused(machine: Machine, serve: Callable[..., None]) -> None:
    (machine.root / "var/snap/docker").mkdir(parents=True)
    info = b'HTTP/1.0 200 OK\r\n\r\n{"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}'
    serve({"/_ping": PING, "/info": info})
    finding = one(machine, needs.DOCKER)
    assert (finding.status, finding.fix) == ("missing", "person")
    assert "snap remove docker && apt-get install" in finding.command


def test_a_snap_beside_another_engine_does_no_harm(machine: Machine, serve: Callable[..., None]) -> None:
    (machine.root / "var/snap/docker").mkdir(parents=True)
    serve({"/_ping": PING, "/info": b'HTTP/1.0 200 OK\r\n\r\n{"DockerRootDir": "/var/lib/docker"}'})
    assert one(machine, needs.DOCKER).status == "ok"


def test_a_socket_without_a_listener_and_no_socket(machine: Machine, tmp_path: Path) -> None:
    assert engine.ping(machine.docker_host).state == "absent"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
    assert engine.ping(machine.docker_host).state == "refuses"
    finding = one(machine, needs.DOCKER)
    assert (finding.fix, "DOCKER_HOST" in finding.command) == ("person", True)


def test_an_address_that_cannot_be_looked_at_is_left_to_the_sdk(machine: Machine) -> None:
    assert one(environ_with(machine, DOCKER_HOST="ssh://builder"), needs.DOCKER).status == "ok"


@pytest.mark.parametrize(
    ("state", "fix", "words"),
    [
        ("forbidden", "person", "usermod -aG docker"),
        ("silent", "person", "systemctl restart docker"),
        ("absent", "install", "docker.io iptables"),
    ],
)
def test_each_trouble_with_docker_has_its_remedy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str, fix: str, words: str
) -> None:
    found = at_default(machine, monkeypatch, state)
    finding = one(found, needs.DOCKER)
    assert (finding.status, finding.fix) == ("missing", fix)
    assert words in finding.command


def at_default(machine: Machine, monkeypatch: pytest.MonkeyPatch, state: str) -> Machine:
    """The machine with DOCKER_HOST unset and an engine in this state at the usual place."""
    monkeypatch.setattr(needs, "ping", lambda host: Engine(host=host, state=state))
    return replace(machine, environ={"PATH": machine.environ["PATH"]})


@pytest.mark.parametrize(("uid", "prefix"), [(0, ""), (1000, "sudo ")])
def test_an_engine_that_is_installed_is_to_be_started(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, uid: int, prefix: str
) -> None:
    found = replace(at_default(machine, monkeypatch, "absent"), uid=uid)
    add(found, "dockerd")
    finding = one(found, needs.DOCKER)
    assert (finding.fix, finding.packages, finding.command) == ("start", (), f"{prefix}dockerd &")
    (found.root / "run/systemd/system").mkdir(parents=True)
    assert one(found, needs.DOCKER).command == f"{prefix}systemctl start docker"


def test_a_rootless_engine_is_pointed_to(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        needs, "ping", lambda host: Engine(host=host, state="answers" if str(tmp_path) in host else "absent")
    )
    (tmp_path / "docker.sock").touch()
    found = replace(machine, environ={"PATH": "", "XDG_RUNTIME_DIR": str(tmp_path)})
    assert one(found, needs.DOCKER).command == f"export DOCKER_HOST=unix://{tmp_path}/docker.sock"


def test_a_system_v_init_starts_the_service(machine: Machine) -> None:
    (machine.root / "etc/init.d").mkdir()
    (machine.root / "etc/init.d/docker").touch()
    (machine.root / "proc/1").mkdir()
    (machine.root / "proc/1/comm").write_text("init\n")
    assert engine.start_command(machine.root) == ("service", "docker", "start")
    (machine.root / "proc/1/comm").write_text("bash\n")
    assert engine.start_command(machine.root) == ("dockerd",)


# --- starting ---

SERVER = """#!/usr/bin/env python3
import os, socket, sys
print("started", os.getsid(0) == os.getpid(), flush=True)
listener = socket.socket(socket.AF_UNIX)
listener.bind(os.environ["STUB_SOCKET"])
listener.listen()
listener.settimeout(30)
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(b"HTTP/1.0 200 OK\\r\\nServer: Docker/1.2.3 (linux)\\r\\n\\r\\n")
    connection.close()
    if os.path.exists(os.environ["STUB_SOCKET"] + ".stop"):
        sys.exit()
"""


def start(machine: Machine, said: list[str], seconds: float = 10) -> Engine:
    environ = {**machine.environ, "STUB_SOCKET": machine.docker_host.removeprefix("unix://")}
    environ["PATH"] += f"{os.pathsep}{os.environ['PATH']}"
    log = machine.store / "machine/dockerd.log"
    return engine.start(
        log, say=said.append, host=machine.docker_host, environ=environ, seconds=seconds, root=machine.root
    )


def test_an_engine_is_started_once_apart_from_us(machine: Machine) -> None:
    add(machine, "dockerd", text=SERVER)
    said: list[str] = []
    assert start(machine, said).version == "1.2.3"
    assert "started True" in (machine.store / "machine/dockerd.log").read_text()
    assert start(machine, said).state == "answers"
    assert len(said) == 1
    Path(machine.docker_host.removeprefix("unix://") + ".stop").touch()
    engine.ping(machine.docker_host)


def test_an_engine_that_dies_is_told_with_its_last_words(machine: Machine) -> None:
    (machine.store / "machine").mkdir(parents=True)
    (machine.store / "machine/dockerd.log").write_text("level=error msg=\"of yesterday\"\n")
    add(
        machine,
        "dockerd",
        text="#!/bin/sh\necho 'level=info msg=\"all is well\"'\n"
        "echo 'failed to start daemon: Devices cgroup isn'\\''t mounted'\nexit 1\n",
    )
    with pytest.raises(MachineError) as caught:
        start(machine, [])
    assert caught.value.why == "failed to start daemon: Devices cgroup isn't mounted"
    assert "mount -t cgroup2" in caught.value.hint
    assert caught.value.exit_code == 5


def test_an_engine_that_never_answers(machine: Machine) -> None:
    add(machine, "dockerd", text="#!/bin/sh\necho waiting for something\nexec sleep 3\n")
    with pytest.raises(MachineError, match="did not answer within 0 s") as caught:
        start(machine, [], seconds=0.3)
    assert caught.value.why == "waiting for something"


def test_where_one_runs_already_none_is_started(machine: Machine) -> None:
    (machine.root / "proc/4711").mkdir()
    (machine.root / "proc/4711/comm").write_text("dockerd\n")
    add(machine, "dockerd", text="#!/bin/sh\necho must not run\n")
    said: list[str] = []
    with pytest.raises(MachineError):
        start(machine, said, seconds=0.3)
    assert said == ["dockerd runs and does not answer yet; waiting for it"]
    assert not (machine.store / "machine/dockerd.log").exists()


# --- installing, and consent ---

APT = """#!/bin/sh
echo "$@" >>"$STUB_CALLS"
case "$*" in
  *update*) touch "$STUB_LISTS/x_Packages" ;;
  *install*) [ -e "$STUB_LISTS/x_Packages" ] || { echo "E: Unable to locate package"; exit 100; }
     [ -z "$STUB_FAIL" ] || { echo "Reading lists"; echo "E: $STUB_FAIL"; exit 100; } ;;
esac
"""


@pytest.fixture
def debian(machine: Machine, tmp_path: Path) -> Machine:
    """The machine with an apt-get that writes down what it was asked."""
    add(machine, "apt-get", text=APT)
    lists = machine.root / "var/lib/apt/lists"
    lists.mkdir(parents=True)
    path = f"{machine.environ['PATH']}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return environ_with(machine, PATH=path, STUB_CALLS=str(tmp_path / "calls"), STUB_LISTS=str(lists))


def calls(machine: Machine) -> list[str]:
    path = Path(machine.environ["STUB_CALLS"])
    words = path.read_text().splitlines() if path.exists() else []
    return [call.replace("-q -y -o DPkg::Lock::Timeout=120 ", "") for call in words]


INSTALL = "install --no-install-recommends docker.io iptables"


def test_lists_are_renewed_where_there_are_none(debian: Machine) -> None:
    provide.install(debian, ["docker.io", "iptables"], say=lambda text: None)
    assert calls(debian) == ["update", INSTALL]
    provide.install(debian, ["docker.io", "iptables"], say=lambda text: None)
    assert calls(debian) == ["update", INSTALL, INSTALL]


def test_lists_are_renewed_again_where_the_first_try_fails(debian: Machine) -> None:
    (Path(debian.environ["STUB_LISTS"]) / "x_Packages").touch()
    broken = environ_with(debian, STUB_FAIL="Failed to fetch it")
    with pytest.raises(MachineError) as caught:
        provide.install(broken, ["docker.io", "iptables"], say=lambda text: None)
    assert calls(debian) == [INSTALL, "update", INSTALL]
    assert caught.value.why == "E: Failed to fetch it"
    assert caught.value.hint == "apt-get update && apt-get install -y --no-install-recommends docker.io iptables"


@pytest.mark.parametrize(
    ("task", "environ", "terminal", "fix", "consent"),
    [
        ("build", {}, False, False, "no"),
        ("build", {}, True, False, "ask"),
        ("build", {"CROSSWHEEL_YES": "1"}, False, False, "yes"),
        ("build", {"CROSSWHEEL_YES": "0"}, False, False, "no"),
        ("build", {"CI": "true"}, False, False, "yes"),
        ("build", {"CI": "false"}, False, False, "no"),
        ("test", {}, False, False, "yes"),
        ("doctor", {}, False, True, "yes"),
    ],
)
def test_consent(
    debian: Machine, task: str, environ: dict[str, str], terminal: bool, fix: bool, consent: str
) -> None:
    given = environ_with(debian, **environ)
    assert provide.consent_for(given, task=task, terminal=terminal, fix=fix) == consent


@pytest.mark.parametrize("change", [{"uid": 1000}, {"system": read_system(FEDORA)}, {"environ": {"PATH": ""}}])
def test_only_root_on_debian_can_consent(debian: Machine, change: dict[str, object]) -> None:
    other = replace(debian, **change)
    assert provide.consent_for(other, task="test", terminal=True, fix=True) == "no"


def flag(path: Path, name: str = "git") -> Need:
    """Is there when ``path`` is."""

    def seen(machine: Machine) -> Seen:
        return Seen(status="ok") if path.exists() else Seen(status="missing", detail="not installed", fix="install")

    return Need(name=name, why="applies the patches", look=seen, packages={"apt": (name,)})


def never(question: str) -> bool:
    raise AssertionError(f"asked: {question}")


def test_nothing_is_asked_or_done_where_nothing_is_missing(debian: Machine) -> None:
    need = flag(Path("/"))
    provide.ensure(debian, [need], consent="ask", ask=never, say=never)
    assert calls(debian) == []


def test_with_a_yes_it_is_installed(debian: Machine) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    need = flag(Path(debian.environ["STUB_LISTS"]) / "x_Packages")
    provide.ensure(debian, [need], consent="ask", ask=yes, say=lambda text: None)
    assert asked == ["This machine lacks: git (not installed). Install git now?"]
    assert calls(debian) == ["update", "install --no-install-recommends git"]


@pytest.mark.parametrize("consent", ["ask", "no"])
def test_without_it_all_that_is_missing_is_named(debian: Machine, consent: provide.Consent) -> None:
    lacking = [flag(Path("/nowhere")), flag(Path("/nowhere"), "tar")]
    with pytest.raises(MachineError) as caught:
        provide.ensure(debian, lacking, consent=consent, ask=lambda question: False, say=never)
    assert caught.value.what == "this machine lacks: git, tar"
    assert "apt-get install -y --no-install-recommends tar" in caught.value.why
    assert caught.value.hint == "./x doctor --fix installs and starts it"
    assert calls(debian) == []


def test_what_a_person_must_do_is_left_to_the_person(debian: Machine) -> None:
    def seen(machine: Machine) -> Seen:
        return Seen(status="missing", detail="forbidden", fix="person", command="usermod …")

    needs_both = [flag(Path("/nowhere")), Need(name="Docker engine", why="builds", look=seen)]
    with pytest.raises(MachineError) as caught:
        provide.ensure(debian, needs_both, consent="yes", ask=never, say=never)
    assert "usermod …" in caught.value.why
    assert "--fix" not in caught.value.hint
    assert calls(debian) == []


def test_what_is_still_missing_after_the_installation_is_an_error(debian: Machine) -> None:
    with pytest.raises(MachineError, match="this machine lacks: git"):
        provide.ensure(debian, [flag(Path("/nowhere"))], consent="yes", ask=never, say=lambda text: None)


def test_the_question_says_what_will_be_done(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(at_default(machine, monkeypatch, "absent"), [needs.DOCKER, needs.KEYRING])
    assert provide.question(found).endswith(
        "Install debian-archive-keyring docker.io iptables and start Docker now?"
    )


def test_the_system_of_a_machine_without_os_release(tmp_path: Path) -> None:
    assert Machine.here(tmp_path, {}, root=tmp_path).system == System()
