"""A board's cuDNN is copied, or it is said why not; ``ssh`` is a script here. The real one is tried with a real server
in ``tests/integration``."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from crosswheel.building.boards import copy_cudnn
from crosswheel.digest import sha256_tree
from crosswheel.errors import CrosswheelError, FetchError, InputError, MachineError

pytestmark = pytest.mark.unit

HEADER = "/usr/include/aarch64-linux-gnu/cudnn_v6.h"
LIBRARY = "/usr/lib/aarch64-linux-gnu/libcudnn.so.6.0.21"
FILES = {
    HEADER: b"#define CUDNN_MAJOR 6\n#define CUDNN_MINOR 0\n#define CUDNN_PATCHLEVEL 21\n",
    LIBRARY: b"\x7fELF and so on",
}

_SSH = """\
#!/bin/sh
printf '%s\\n' "$*" >> "{folder}/asked"
script=$(cat)
cat "{folder}/error" >&2
case $script in
*'exec tar'*) cat "{folder}/tar"; exit "$(cat "{folder}/second")" ;;
*) cat "{folder}/list"; exit "$(cat "{folder}/first")" ;;
esac
"""


class Board:
    """What the stand-in of ssh answers: the listing, the tar, what it says on stderr, and how it ends."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path / "board"
        self.folder.mkdir()
        self.to = tmp_path / "copied" / "cudnn"
        program = tmp_path / "bin" / "ssh"
        program.parent.mkdir()
        program.write_text(_SSH.format(folder=self.folder))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        self.answers()

    def answers(
        self,
        files: Mapping[str, bytes] = FILES,
        *,
        sent: Mapping[str, bytes] | None = None,
        noise: str = "",
        error: str = "",
        first: int = 0,
        second: int = 0,
    ) -> None:
        lines = [f"{hashlib.sha256(content).hexdigest()}  {path}" for path, content in files.items()]
        (self.folder / "list").write_text(noise + "\n".join(lines) + "\n")
        (self.folder / "tar").write_bytes(tar(files if sent is None else sent))
        (self.folder / "error").write_text(error)
        (self.folder / "first").write_text(str(first))
        (self.folder / "second").write_text(str(second))

    def fails(self, board: str = "nvidia@tx1") -> CrosswheelError:
        with pytest.raises(CrosswheelError) as caught:
            copy_cudnn(board, self.to, lambda line: None)
        assert not self.to.exists()
        assert list(self.to.parent.glob("*")) == []
        return caught.value


def tar(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


def test_what_a_board_has_is_copied_and_written_down(board: Board) -> None:
    told: list[str] = []
    copied = copy_cudnn("nvidia@tx1", board.to, told.append)
    assert (board.to / HEADER[1:]).read_bytes() == FILES[HEADER]
    assert (board.to / LIBRARY[1:]).read_bytes() == FILES[LIBRARY]
    assert told == ["nvidia@tx1 has 2 files of cuDNN"]
    assert copied.version == "6.0.21"
    record = json.loads((board.to.parent / "cudnn.json").read_text())
    assert record["sha256"] == sha256_tree(board.to)
    assert record["files"][LIBRARY] == hashlib.sha256(FILES[LIBRARY]).hexdigest()
    assert (record["from"], record["version"]) == ("nvidia@tx1", "6.0.21")


def test_the_hosts_key_is_checked_as_the_users_ssh_does(board: Board) -> None:
    copy_cudnn("nvidia@tx1", board.to, lambda line: None)
    asked = (board.folder / "asked").read_text()
    assert "BatchMode=yes" in asked
    assert "StrictHostKeyChecking" not in asked
    assert "UserKnownHostsFile" not in asked


def test_an_empty_folder_is_filled(board: Board) -> None:
    board.to.mkdir(parents=True)
    copy_cudnn("tx1", board.to, lambda line: None)
    assert (board.to / HEADER[1:]).is_file()


def test_what_a_shells_start_says_is_left_out(board: Board) -> None:
    board.answers(noise="Welcome to Ubuntu\n" + "0" * 64 + "  /etc/shadow\n")
    copied = copy_cudnn("tx1", board.to, lambda line: None)
    assert sorted(copied.files) == sorted(FILES)


@pytest.mark.parametrize(
    ("error", "what", "hint"),
    [
        ("ssh: connect to host tx1 port 22: Connection timed out", "does not answer", "`ssh nvidia@tx1` says more"),
        ("ssh: Could not resolve hostname tx1: Name or service not known", "does not answer", "says more"),
        ("ssh: connect to host tx1 port 22: Connection refused", "does not answer", "says more"),
        ("Host key verification failed.", "the key of nvidia@tx1 is not known here", "compare the key"),
        (
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
            "has another key than it had",
            "ssh-keygen -R tx1",
        ),
        ("nvidia@tx1: Permission denied (publickey,password).", "does not let this user in", "ssh-copy-id nvidia@tx1"),
    ],
)
def test_what_ssh_says(board: Board, error: str, what: str, hint: str) -> None:
    board.answers(error=error, first=255)
    found = board.fails()
    assert isinstance(found, FetchError)
    assert found.exit_code == 3
    assert what in found.what
    assert hint in found.hint
    assert error.splitlines()[-1] in found.why


def test_a_board_that_goes_away_while_it_sends(board: Board) -> None:
    board.answers(sent={}, error="client_loop: send disconnect: Broken pipe", second=255)
    assert "does not answer" in board.fails().what


def test_a_board_without_a_tool(board: Board) -> None:
    board.answers(error="sh: 1: sha256sum: not found", first=127)
    error = board.fails()
    assert "could not do what it was asked" in error.what
    assert "sha256sum: not found" in error.why


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "has no header and no library of cuDNN"),
        ({LIBRARY: b"x"}, "has no header of cuDNN"),
        ({HEADER: b"x"}, "has no library of cuDNN"),
    ],
)
def test_a_board_without_cudnn(board: Board, files: dict[str, bytes], what: str) -> None:
    board.answers(files)
    error = board.fails()
    assert what in error.what
    assert "libcudnn*-dev" in error.hint


def test_other_bytes_than_were_told(board: Board) -> None:
    board.answers(sent={**FILES, LIBRARY: b"other"})
    assert f"{LIBRARY} is not what nvidia@tx1 said that it is" in board.fails().what


@pytest.mark.parametrize("path", ["/etc/passwd", "/../../etc/passwd", "/usr/include/cudnn.h"])
def test_more_than_was_asked_for(board: Board, path: str) -> None:
    board.answers(sent={path: b"x"})
    assert "sent what it was not asked for" in board.fails().what


def test_less_than_was_asked_for(board: Board) -> None:
    board.answers(sent={HEADER: FILES[HEADER]})
    error = board.fails()
    assert "did not send all that it has" in error.what
    assert LIBRARY in error.why


@pytest.mark.parametrize("name", ["", "-oProxyCommand=touch /tmp/x", "tx1 ls", "a@b@c", "tx1;ls", "$(ls)"])
def test_a_name_that_is_none(board: Board, name: str) -> None:
    with pytest.raises(InputError, match="is no board that ssh could reach"):
        copy_cudnn(name, board.to, lambda line: None)
    assert not (board.folder / "asked").exists()


def test_a_folder_that_is_not_empty(board: Board) -> None:
    board.to.mkdir(parents=True)
    (board.to / "mine").write_text("x")
    with pytest.raises(InputError, match="this folder is not empty"):
        copy_cudnn("tx1", board.to, lambda line: None)
    assert (board.to / "mine").read_text() == "x"


def test_a_machine_without_ssh(board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="has no ssh"):
        copy_cudnn("tx1", board.to, lambda line: None)
