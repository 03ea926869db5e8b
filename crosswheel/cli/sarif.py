"""The option ``--sarif`` of `verify` and `build`: a file of findings for CI viewers, beside all else that they say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from crosswheel.errors import InputError

if TYPE_CHECKING:
    from crosswheel.proving.prove import Proof

SARIF_HELP = "Write the findings to this file besides, as SARIF 2.1.0 for CI viewers."


def sarif_file(asked: Path, wheels: Iterable[Path]) -> Path:
    """The file to which findings are written, as it is called behind links. ``InputError`` where it cannot be one."""
    where, path = f"--sarif {asked}", asked.resolve()
    if not path.parent.is_dir():
        raise InputError("there is no such folder to write this file into", where=where)
    if path.exists() and not path.is_file():
        raise InputError("this is no file that can be written", where=where, hint="name a file, such as proof.sarif")
    if path in (wheel.resolve() for wheel in wheels):
        raise InputError("this is one of the wheels", where=where, hint="name a file, such as proof.sarif")
    return path


def write_sarif(path: Path, wheels: Iterable[Path], proofs: Iterable[Proof]) -> None:
    """Writes the proofs of the wheels as SARIF to ``path``, all of it or nothing. Wheels below the current folder are
    named by their way from there, because a CI job runs where the viewer's files begin."""
    from importlib.metadata import version

    from crosswheel.proving.sarif import sarif

    here = Path.cwd()
    places = [Path(os.path.normpath(here / wheel)) for wheel in wheels]
    names = [(place.relative_to(here) if place.is_relative_to(here) else place).as_posix() for place in places]
    log = sarif(dict(zip(names, proofs, strict=True)), version=version("crosswheel"))
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(log, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError("this file cannot be written", where=f"--sarif {path}", why=str(error)) from error
