"""Writes wheels for the tests, good ones and broken ones."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from elf_writer import write_elf

from crosswheel.spec.policy import Policy
from crosswheel.spec.sysroots import Floors

NAME = "quick-1.0-cp311-cp311-linux_aarch64.whl"
EXTENSION = "quick/_fast.cpython-311-aarch64-linux-gnu.so"
SONAMES = frozenset({"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-aarch64.so.1"})

POLICY = Policy(
    target="rpi4",
    arch="aarch64",
    python="3.11",
    cpu="cortex-a72",
    qemu="cortex-a72",
    avx=False,
    sysroot="debian-12",
    floors=Floors(GLIBC="2.36", GLIBCXX="3.4.30", CXXABI="1.3.13", GCC="11.0"),
)


def metadata(name: str = "quick", version: str = "1.0", more: str = "") -> bytes:
    """METADATA."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\nAbout it.\n".encode()


def wheel_file(*tags: str) -> bytes:
    """WHEEL."""
    lines = ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: false", *(f"Tag: {tag}" for tag in tags)]
    return ("\n".join(lines) + "\n").encode()


def good_files(tag: str = "cp311-cp311-linux_aarch64", extension: bytes | None = None) -> dict[str, bytes]:
    """The members of a wheel in which nothing is wrong, without RECORD."""
    return {
        "quick/__init__.py": b"from quick._fast import go\n",
        EXTENSION: write_elf() if extension is None else extension,
        "quick-1.0.dist-info/METADATA": metadata(),
        "quick-1.0.dist-info/WHEEL": wheel_file(tag),
    }


def row(name: str, data: bytes) -> str:
    """A line of RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def write_wheel(
    folder: Path,
    files: Mapping[str, bytes] | None = None,
    *,
    name: str = NAME,
    record: Callable[[list[str]], list[str]] = lambda rows: rows,
    unlisted: Mapping[str, bytes] | None = None,
) -> Path:
    """A wheel of ``files`` with a RECORD that ``record`` may change, and of ``unlisted``, which are not in it."""
    files = good_files() if files is None else files
    path = folder / name
    record_name = "quick-1.0.dist-info/RECORD"
    rows = record([row(member, data) for member, data in files.items()] + [f"{record_name},,"])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in {**files, **(unlisted or {}), record_name: "\n".join(rows).encode()}.items():
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return path
