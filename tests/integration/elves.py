"""The programs and libraries in a wheel, read by pyelftools: another reader than the proof's own."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

from elftools.elf.elffile import ELFFile


def binaries(wheel: Path) -> dict[str, ELFFile]:
    """The ELF files in a wheel, as pyelftools reads them."""
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return {name: ELFFile(BytesIO(data)) for name, data in members.items() if data[:4] == b"\x7fELF"}
