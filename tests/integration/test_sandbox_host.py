"""The host sandbox: namespaces of this machine, as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import crosswheel
from crosswheel.building.diagnose import diagnose
from crosswheel.building.job import Cancelled, Container, Mount
from crosswheel.building.sandbox import ORDINARY_USER
from crosswheel.building.sandbox.host import WARNING, HostSandbox
from crosswheel.errors import MachineError

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEY = "4" * 64


@pytest.fixture(scope="module")
def sandbox(root: Path) -> HostSandbox:
    """Where the machine permits no namespaces, that is what the sandbox must say, and no test here can do more."""
    made = HostSandbox()
    try:
        made.run(sh(root, "true"), log=print, cancelled=threading.Event(), label_key=KEY)
    except MachineError as error:
        assert "namespaces" in error.what and "--privileged" in error.hint
        pytest.skip(f"this machine permits no namespaces: {error.why}")
    return made


def sh(root: Path, script: str, *mounts: Mount) -> Container:
    return Container(
        root=root,
        root_key="",
        argv=("sh", "-c", script),
        env={"GREETING": "hello"},
        cwd="/tmp",
        mounts=mounts,
        memory=64,
    )


def run(sandbox: HostSandbox, container: Container) -> tuple[int, list[str]]:
    log: list[str] = []
    status = sandbox.run(container, log=log.append, cancelled=threading.Event(), label_key=KEY)
    return status, log


def test_it_says_once_that_it_is_not_hermetic(sandbox: HostSandbox, root: Path) -> None:
    fresh = HostSandbox()
    assert run(fresh, sh(root, "echo $GREETING; exit 3")) == (3, [WARNING, "hello"])
    assert run(fresh, sh(root, "env"))[1].count(WARNING) == 0


def test_the_environment_is_not_this_machines(
    sandbox: HostSandbox, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "the host's")
    _, log = run(sandbox, sh(root, "env"))
    assert {line.partition("=")[0] for line in log} == {"GREETING", "PATH", "PWD", "SHLVL"}


def test_there_is_no_network_but_the_loopback(sandbox: HostSandbox, root: Path) -> None:
    _, log = run(sandbox, sh(root, "ip -o link; ip route; ping -c 1 127.0.0.1 > /dev/null 2>&1; echo end"))
    links = [line.split(":")[1].strip() for line in log if ": <" in line]
    assert links == ["lo"] and ",UP" in log[0] and log[-1] == "end"


def test_an_ordinary_user_without_capabilities(sandbox: HostSandbox, root: Path) -> None:
    _, log = run(sandbox, sh(root, "id -u; grep -E 'Cap(Prm|Eff)|NoNewPrivs' /proc/self/status"))
    assert int(log[0]) == (os.getuid() or ORDINARY_USER)
    facts = dict(line.split(":\t") for line in log[1:])
    assert facts.pop("NoNewPrivs") == "1"
    assert len(facts) == 2 and all(int(value, 16) == 0 for value in facts.values())


def test_only_tmp_and_writable_mounts_can_be_written(sandbox: HostSandbox, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/file").write_text("input\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "passwd").write_text("builder:x:1000:\n")
    mounts = (
        Mount(source=tmp_path / "in", target="/in/some/where"),
        Mount(source=tmp_path / "build", target="/build", writable=True),
        Mount(source=tmp_path / "passwd", target="/etc/passwd"),
    )
    script = """
    for place in /x /bin/x /etc/x /in/x /in/some/where/x /in/some/where/file /etc/passwd; do
        if echo x > $place; then echo wrote $place; fi
    done
    cat /in/some/where/file /etc/passwd
    echo x > /tmp/x && echo new > /build/new
    """
    before = sorted(path.name for path in root.rglob("*"))
    status, log = run(sandbox, sh(root, script, *mounts))
    assert status == 0
    assert not [line for line in log if line.startswith("wrote")]
    assert {"input", "builder:x:1000:"} <= set(log)
    assert (tmp_path / "build/new").read_text() == "new\n"
    assert sorted(path.name for path in root.rglob("*")) == before  # the artefact is as it was


def test_only_its_own_processes_are_seen(sandbox: HostSandbox, root: Path) -> None:
    if not sandbox._own_processes:
        pytest.skip("this machine permits no namespace of processes (/proc is masked)")
    _, log = run(sandbox, sh(root, "ps -o pid,comm; echo me $$"))
    assert len(log) < 8, log
    status, log = run(sandbox, sh(root, "readlink /proc/self; exec sh -c 'readlink /proc/$$/exe'"))
    assert status == 0 and log[-1] == "/bin/busybox"  # Bazel looks its own program up there


def test_a_program_that_is_not_there(sandbox: HostSandbox, root: Path) -> None:
    container = Container(root=root, root_key="", argv=("swig",), env={}, cwd="/", mounts=(), memory=64)
    status, log = run(sandbox, container)
    assert status == 127 and "not in the builder" in diagnose(log, status).cause


def test_a_signal_becomes_a_status(sandbox: HostSandbox, root: Path) -> None:
    assert run(sandbox, sh(root, "kill -9 $$"))[0] == 137


def processes(name: str) -> list[str]:
    """The command lines of this machine's processes that contain ``name``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if name in line and "pytest" not in line:
            found.append(line)
    return found


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize("own_processes", [True, False])
def test_cancelling_kills_all_of_it(sandbox: HostSandbox, root: Path, own_processes: bool) -> None:
    if own_processes and not sandbox._own_processes:
        pytest.skip("this machine permits no namespace of processes (/proc is masked)")
    sandbox = HostSandbox()
    sandbox.__dict__["_own_processes"] = own_processes
    cancelled, log = threading.Event(), list[str]()
    ended: list[float] = []

    def work() -> None:
        script = "trap '' TERM INT; sleep 61.25 & sleep 61.25 & echo ready; wait"
        with pytest.raises(Cancelled):
            sandbox.run(sh(root, script), log=log.append, cancelled=cancelled, label_key=KEY)
        ended.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: "ready" in log)
    start = time.monotonic()
    cancelled.set()
    thread.join(20)
    assert ended and ended[0] - start < 4
    until(lambda: not processes("61.25"), 5)


DRIVER = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_sandbox_host as t
container = t.sh(Path(sys.argv[1]), sys.argv[3])
status = t.HostSandbox().run(container, log=lambda line: print(line, flush=True), cancelled=threading.Event(),
                             label_key=t.KEY)
sys.exit(status)
"""


def test_kill_9_of_the_build_leaves_no_process(sandbox: HostSandbox, root: Path) -> None:
    here = str(Path(__file__).parent)
    argv = (sys.executable, "-c", DRIVER, str(root), here, "sleep 62.25 & echo ready; wait")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while "ready" not in process.stdout.readline():
            assert process.poll() is None
        assert len(processes("sleep 62.25")) >= 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not processes("sleep 62.25"), 5)


NOBODY = 65534
UNPRIVILEGED = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from crosswheel.building.job import Container, Mount
from crosswheel.building.sandbox.host import HostSandbox
from crosswheel.errors import MachineError
place = Path(sys.argv[1])
mounts = (Mount(source=place / "build", target="/build", writable=True), Mount(source=place / "root", target="/in"))
text = "id -u; echo x > /build/x; echo x > /in/y; echo x > /y; grep CapEff /proc/self/status; ip -o link"
argv = ("sh", "-c", text)
container = Container(root=place / "root", root_key="", argv=argv, env={}, cwd="/", mounts=mounts, memory=64)
try:
    sys.exit(HostSandbox().run(container, log=print, cancelled=threading.Event(), label_key=""))
except MachineError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def nobodys_python() -> str:
    """A Python that the user nobody may run, as far as this machine has one; it needs no packages."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for program in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run((program, "-c", check), user=NOBODY, group=NOBODY, extra_groups=(), check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return program
    pytest.skip("no Python 3.11 on this machine that the user nobody may run")


def test_an_ordinary_user_may_use_it_too(sandbox: HostSandbox, root: Path) -> None:
    """As nobody, in a user namespace: what is written belongs to nobody, and the caller's number is seen inside."""
    if os.geteuid() != 0:
        pytest.skip("the other tests here run as an ordinary user already")
    program = nobodys_python()
    with tempfile.TemporaryDirectory(prefix="crosswheel-nobody-") as folder:
        place = Path(folder)
        shutil.copytree(root, place / "root", symlinks=True)
        shutil.copytree(Path(crosswheel.__file__).parent, place / "crosswheel")
        (place / "build").mkdir()
        subprocess.run(("chown", "-R", f"{NOBODY}:{NOBODY}", folder), check=True)
        done = subprocess.run(
            (program, "-c", UNPRIVILEGED, folder),
            user=NOBODY, group=NOBODY, extra_groups=(), cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "needs Linux namespaces" in done.stdout:
            pytest.skip(f"this machine permits ordinary users no namespaces: {done.stdout}")
        assert done.returncode == 0, done.stderr + done.stdout
        lines = done.stdout.splitlines()
        assert lines[:2] == [WARNING, str(NOBODY)]
        assert sum("Read-only file system" in line or "Permission denied" in line for line in lines) == 2, lines
        assert any(line.startswith("CapEff:") and int(line.split()[1], 16) == 0 for line in lines)
        assert (place / "build/x").stat().st_uid == NOBODY
        assert not (place / "root/y").exists()
