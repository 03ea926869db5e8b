"""Copies what a build needs and no archive has from a board, by the machine's own ssh."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from crosswheel.building.cudnn import header_version
from crosswheel.building.disk import write_at_once
from crosswheel.digest import sha256_tree
from crosswheel.errors import CrosswheelError, FetchError, InputError, MachineError

SECONDS = 120.0
"""How long a board may take to say what it has. Hashing the libraries of cuDNN 8, 1.3 GB, takes a Jetson Nano 20 s."""

# The host's key is checked as the user's own configuration of ssh says, and nobody is asked anything.
_SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=10")

_BOARD = re.compile(r"^(ssh://)?([A-Za-z0-9._-]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9._:-]*)$")

_LIST = """\
for file in /usr/include/cudnn*.h /usr/include/*/cudnn*.h /usr/lib/*/libcudnn*.so* /usr/lib64/libcudnn*.so* \\
    /usr/local/cuda*/include/cudnn*.h /usr/local/cuda*/targets/*/include/cudnn*.h \\
    /usr/local/cuda*/lib64/libcudnn*.so* /usr/local/cuda*/targets/*/lib/libcudnn*.so*
do
    if [ -f "$file" ] && [ ! -L "$file" ]; then sha256sum "$(readlink -f "$file")"; fi
done
"""
"""Where JetPack's packages put cuDNN, and where NVIDIA's archives are unpacked. Links are made anew when it is laid
out."""

_LISTED = re.compile(r"^([0-9a-f]{64})  (/usr/[A-Za-z0-9._/+-]+/(?:cudnn[A-Za-z0-9_]*\.h|libcudnn[a-z_]*\.so[0-9.]*))$")

_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What was copied: the folder and its digest, the version that the headers tell, each file's sha256, and where
    this is written down."""

    folder: Path
    sha256: str
    version: str
    files: Mapping[str, str]
    record: Path


def copy_cudnn(board: str, folder: Path, tell: Callable[[str], None]) -> Copied:
    """Copies the headers and libraries of the cuDNN of ``board`` (``user@board``, as ssh takes it) to ``folder``, which
    must not be there, or be empty; ``<folder>.json`` says what came. Nothing is left behind where it fails.

    ``InputError`` for a name that is none or a folder that is not empty, ``FetchError`` for a board that does not
    answer, is not known or has no cuDNN, ``MachineError`` where there is no ssh.
    """
    _usable(board, folder)
    files = _listed(board)
    tell(f"{board} has {len(files)} files of cuDNN")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        partial = Path(scratch, "tree")
        partial.mkdir()
        _copy(board, files, partial)
        versions = sorted({found for path in partial.rglob("*.h") if (found := header_version(path))})
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    copied = Copied(
        folder=folder,
        sha256=sha256_tree(folder),
        version=" and ".join(versions),
        files=files,
        record=folder.with_name(f"{folder.name}.json"),
    )
    told = {"from": board, "version": copied.version, "sha256": copied.sha256, "files": dict(sorted(files.items()))}
    write_at_once(copied.record, (json.dumps(told, indent=2) + "\n").encode())
    return copied


def _usable(board: str, folder: Path) -> None:
    if not _BOARD.match(board):
        raise InputError(f"{board!r} is no board that ssh could reach", where="--from", hint="for example nvidia@tx1")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("this folder is not empty", where=f"--to {folder}", hint="name a new one")
    if shutil.which(_SSH[0]) is None:
        raise MachineError("This machine has no ssh.", hint="install your distribution's package openssh-client")


# --- what the board has ----------------------------------------------------------------------------------------------


def _listed(board: str) -> dict[str, str]:
    """The board's files of cuDNN, and the sha256 of each."""
    try:
        done = subprocess.run(
            (*_SSH, board, "sh", "-s"), input=_LIST.encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"{board} did not say what it has within {SECONDS:.0f} seconds.", where="ssh") from error
    if done.returncode:
        raise _failed(board, done.returncode, done.stderr)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    found = {match[2]: match[1] for line in lines if (match := _LISTED.match(line)) and "/../" not in match[2]}
    headers = [path for path in found if path.endswith(".h")]
    lacking = [*(["header"] if not headers else []), *(["library"] if len(headers) == len(found) else [])]
    if lacking:
        raise FetchError(
            f"{board} has no {' and no '.join(lacking)} of cuDNN.",
            why="looked for in /usr/include, /usr/lib and /usr/local/cuda*, with the folders of architectures",
            hint="install JetPack's packages of cuDNN on it: libcudnn* and libcudnn*-dev",
        )
    return found


def _failed(board: str, status: int, said: bytes) -> CrosswheelError:
    """The error for an ssh that ended badly: 255 is its own exit status, any other the board's."""
    text = said.decode("utf-8", "replace").strip()
    why = "\n".join(text.splitlines()[-6:]) or f"exit status {status}"
    host = board.removeprefix("ssh://").rpartition("@")[2]
    if status != 255:
        return FetchError(f"{board} could not do what it was asked.", where="ssh", why=why)
    if "HOST IDENTIFICATION HAS CHANGED" in text:
        hint = (
            f"if it was set up anew: ssh-keygen -R {host}, then `ssh {board}`, and compare the key with the board's own"
        )
        return FetchError(
            f"{board} has another key than it had: it may be another machine.", where="ssh", why=why, hint=hint
        )
    if "Host key verification failed" in text or "host key is known" in text:
        hint = f"`ssh {board}` once by hand, and compare the key with the board's own: ssh-keygen -lf /etc/ssh/*.pub"
        return FetchError(f"the key of {board} is not known here.", where="ssh", why=why, hint=hint)
    if "Permission denied" in text:
        hint = f"ssh-copy-id {board}: nobody can be asked for a password here"
        return FetchError(f"{board} does not let this user in.", where="ssh", why=why, hint=hint)
    return FetchError(f"{board} does not answer.", where="ssh", why=why, hint=f"`ssh {board}` says more")


# --- copying ---------------------------------------------------------------------------------------------------------


def _copy(board: str, files: Mapping[str, str], folder: Path) -> None:
    """Brings the files, each with the sha256 that the board told."""
    names = " ".join(shlex.quote(path.lstrip("/")) for path in sorted(files))
    script = f"exec tar -c -f - -C / -- {names}\n"
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen((*_SSH, board, "sh", "-s"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said) as ssh,
    ):
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        try:
            ssh.stdin.write(script.encode())
            ssh.stdin.close()
            came = _unpack(board, ssh.stdout, files, folder)
        except (OSError, tarfile.TarError):
            came = set()
        except BaseException:
            ssh.kill()
            raise
        status = ssh.wait()
        said.seek(0)
        if status:
            raise _failed(board, status, said.read())
    missing = sorted(set(files) - came)
    if missing:
        raise FetchError(f"{board} did not send all that it has.", where="ssh", why=f"not sent: {', '.join(missing)}")


def _unpack(board: str, stream: IO[bytes], files: Mapping[str, str], folder: Path) -> set[str]:
    """Writes the files of a tar that were asked for, and nothing else; the paths of those that came."""
    came: set[str] = set()
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = f"/{member.name}"
            content = archive.extractfile(member) if member.isreg() and path in files else None
            if content is None:
                raise FetchError(f"{board} sent what it was not asked for: {member.name!r}.", where="ssh")
            target = folder / member.name
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with target.open("wb") as file:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != files[path]:
                raise FetchError(f"{path} is not what {board} said that it is.", where="ssh", why="its sha256 differs")
            came.add(path)
    return came
