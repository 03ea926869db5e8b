"""cuDNN is copied over ssh from a real server on this machine, which sees a board's files in a mount namespace."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from crosswheel.building.boards import copy_cudnn
from crosswheel.errors import FetchError

pytestmark = pytest.mark.integration

HEADER = b"#define CUDNN_MAJOR 6\n#define CUDNN_MINOR 0\n#define CUDNN_PATCHLEVEL 21\n"

_SERVER = """\
set -e
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/local" /usr/local
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
exec "$2" -D -e -f "$1/sshd_config"
"""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A server with the name ``board``: ``known`` is the file of the keys that its client knows."""

    folder: Path
    port: int
    known: Path

    @property
    def key(self) -> str:
        return (self.folder / "host_key.pub").read_text()

    def is_known(self) -> None:
        self.known.write_text(f"[127.0.0.1]:{self.port} {self.key}")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The machine's sshd, or that of a package that is fetched and not installed; and its environment."""
    folder = tmp_path_factory.mktemp("sshd")
    own = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if own:
        return Path(own), {}
    if not shutil.which("apt-get"):
        pytest.skip("there is no sshd, and no apt to get one")
    fetched = subprocess.run(("apt-get", "download", "openssh-server", "libwrap0"), cwd=folder, capture_output=True)
    if fetched.returncode:
        pytest.skip(f"there is no sshd, and apt gives none: {fetched.stderr.decode()[-200:]}")
    for package in folder.glob("*.deb"):
        subprocess.run(("dpkg-deb", "-x", str(package), str(folder / "root")), check=True)
    libraries = ":".join(str(path) for path in (folder / "root").glob("*/lib/*-linux-gnu"))
    return folder / "root/usr/sbin/sshd", {"LD_LIBRARY_PATH": libraries}


def _key(path: Path) -> None:
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)), check=True)


@pytest.fixture
def board(program: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    if os.geteuid() != 0:
        pytest.skip("a server for this user, and a board's files in its folders, want root")
    if not (shutil.which("ssh") and shutil.which("unshare")):
        pytest.skip("there is no ssh or no unshare")
    cuda = tmp_path / "local/cuda-8.0"
    (cuda / "include").mkdir(parents=True)
    (cuda / "lib64").mkdir()
    (cuda.parent / "cuda").symlink_to("cuda-8.0")
    (cuda / "include/cudnn.h").write_bytes(HEADER)
    (cuda / "lib64/libcudnn.so.6.0.21").write_bytes(os.urandom(3 << 20))
    (cuda / "lib64/libcudnn.so.6").symlink_to("libcudnn.so.6.0.21")
    passwd = Path("/etc/passwd").read_text().splitlines()
    users = [line for line in passwd if not line.startswith(("root:", "sshd:"))]
    (tmp_path / "passwd").write_text(
        "\n".join(["root:x:0:0:root:/:/bin/sh", "sshd:x:110:65534::/run/sshd:/usr/sbin/nologin", *users]) + "\n"
    )
    for name in ("host_key", "user_key"):
        _key(tmp_path / name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/user_key.pub\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication no\n"
    )
    known = tmp_path / "known_hosts"
    (tmp_path / "ssh_config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {tmp_path}/user_key\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile /dev/null\n"
    )
    # The user's own configuration, which `ssh` takes from the home folder of /etc/passwd.
    client = tmp_path / "bin/ssh"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/ssh_config "$@"\n')
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{client.parent}:{os.environ['PATH']}")
    with (tmp_path / "log").open("wb") as log:
        argv = ("unshare", "--mount", "sh", "-c", _SERVER, "sh", str(tmp_path), str(program[0]))
        with subprocess.Popen(argv, env={**os.environ, **program[1]}, stderr=log, start_new_session=True) as server:
            try:
                _wait(port, server, tmp_path / "log")
                yield Board(folder=tmp_path, port=port, known=known)
            finally:
                server.terminate()


def _wait(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        if server.poll() is not None:
            pytest.skip(f"no server can be started here: {log.read_text()[-300:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"the server does not listen: {log.read_text()}")


def test_a_boards_cudnn_comes_over_ssh(board: Board, tmp_path: Path) -> None:
    board.is_known()
    copied = copy_cudnn("board", tmp_path / "cudnn", lambda line: None)
    assert copied.version == "6.0.21"
    assert sorted(copied.files) == [
        "/usr/local/cuda-8.0/include/cudnn.h",
        "/usr/local/cuda-8.0/lib64/libcudnn.so.6.0.21",
    ]
    library = "cuda-8.0/lib64/libcudnn.so.6.0.21"
    assert (tmp_path / "cudnn/usr/local" / library).read_bytes() == (board.folder / "local" / library).read_bytes()


def test_a_host_that_is_not_known_is_asked_for_nothing(board: Board, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="the key of board is not known here"):
        copy_cudnn("board", tmp_path / "cudnn", lambda line: None)
    assert not (tmp_path / "cudnn").exists()
    assert not board.known.exists() or not board.known.read_text()


def test_a_host_with_another_key_than_it_had(board: Board, tmp_path: Path) -> None:
    _key(tmp_path / "other")
    board.known.write_text(f"[127.0.0.1]:{board.port} {(tmp_path / 'other.pub').read_text()}")
    with pytest.raises(FetchError, match="has another key than it had"):
        copy_cudnn("board", tmp_path / "cudnn", lambda line: None)


def test_a_user_whom_it_does_not_know(board: Board, tmp_path: Path) -> None:
    board.is_known()
    (board.folder / "user_key.pub").write_text("")
    (board.folder / "user_key").unlink()
    _key(board.folder / "new")
    (board.folder / "new").rename(board.folder / "user_key")
    with pytest.raises(FetchError, match="does not let this user in"):
        copy_cudnn("board", tmp_path / "cudnn", lambda line: None)


def test_a_board_without_cudnn(board: Board, tmp_path: Path) -> None:
    board.is_known()
    shutil.rmtree(board.folder / "local/cuda-8.0")
    with pytest.raises(FetchError, match="has no header and no library of cuDNN"):
        copy_cudnn("board", tmp_path / "cudnn", lambda line: None)


def test_a_board_that_does_not_answer(board: Board, tmp_path: Path) -> None:
    text = (board.folder / "ssh_config").read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (board.folder / "ssh_config").write_text(text.replace(f"Port {board.port}", f"Port {port}"))
    with pytest.raises(FetchError, match=r"board does not answer") as caught:
        copy_cudnn("board", tmp_path / "cudnn", lambda line: None)
    assert "Connection refused" in caught.value.why
