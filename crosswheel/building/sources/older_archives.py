"""Makes the bytes that a forge's archive had before its git changed, from those that it gives today.

In September 2017 GitHub took over git's commit 22f0dcd9634a ("archive-tar: split long paths more carefully"): the
header of a folder with a path of over 100 characters is written in another way since, so that the archive of the same
commit has another sha256 (GitHub's support says so in LibreELEC/LibreELEC.tv#1975). A release of before pins the older
bytes. What is made here has the pinned sha256, or is thrown away: no trust is put into it.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from crosswheel.building.sources.archives import LIMITS
from crosswheel.digest import sha256_file

_BLOCK = 512
_CHUNK = 1 << 20
_PREFIX = slice(345, 500)
_SUM = slice(148, 156)


def restore(archive: Path, sha256: str) -> bool:
    """Whether ``archive``, a ``.tar.gz``, has the ``sha256`` after its headers were written as git wrote them before
    2013, and GitHub before September 2017. It is then those bytes; else it stays as it is.

    The machine's ``gzip`` packs, as GitHub's did: Python's own makes other bytes. Where there is none, nothing is made.
    """
    program = shutil.which("gzip")
    if program is None:
        return False
    made = archive.with_name(f"{archive.name}.older")
    with made.open("wb") as target:
        packing = subprocess.Popen((program, "-n"), stdin=subprocess.PIPE, stdout=target)
        assert packing.stdin is not None
        try:
            changed = _copy(archive, packing.stdin)
        except (OSError, EOFError, ValueError, zlib.error):
            changed = 0  # no archive, or a damaged one: it is judged as it is
        finally:
            packing.stdin.close()
            packing.wait()
    if changed and packing.returncode == 0 and sha256_file(made) == sha256:
        made.replace(archive)
        return True
    made.unlink()
    return False


def _copy(archive: Path, target: IO[bytes]) -> int:
    """Writes the archive's tar with the headers of old; gives how many of them differ."""
    changed = whole = 0
    with gzip.open(archive, "rb") as source:
        for header, size in _headers(source, target):
            older = _older(header)
            changed += older != header
            target.write(older)
            whole += size
            if whole > LIMITS.size:
                raise ValueError("no source is as large as this")
            left = -(-size // _BLOCK) * _BLOCK
            while left:
                part = source.read(min(left, _CHUNK))
                if not part:
                    raise EOFError("the archive is cut off")
                target.write(part)
                left -= len(part)
    return changed


def _headers(source: gzip.GzipFile, target: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """The headers and their contents' sizes; what comes after the last one is written as it is."""
    while len(header := source.read(_BLOCK)) == _BLOCK and any(header):
        yield header, int(header[124:135].strip(b" \0") or b"0", 8)
    target.write(header)
    shutil.copyfileobj(source, target)


def _older(header: bytes) -> bytes:
    """A folder's header in which the whole path stands in the prefix and the name is empty: the older git split a path
    of over 100 characters at its last slash, and a folder's ends with one."""
    prefix, name = header[_PREFIX].rstrip(b"\0"), header[:100].rstrip(b"\0")
    path = prefix + b"/" + name
    if not prefix or not name.endswith(b"/") or header[156:157] != b"5" or len(path) > 155:
        return header
    made = bytearray(header)
    made[:100] = bytes(100)
    made[_PREFIX] = path[:-1].ljust(155, b"\0")
    made[_SUM] = b" " * 8
    made[_SUM] = b"%07o\0" % sum(made)
    return bytes(made)
