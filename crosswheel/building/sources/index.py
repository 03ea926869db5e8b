"""What the package index lists, asked through pip as the machine has it configured."""

from __future__ import annotations

import json
import subprocess
import sys

from packaging.utils import canonicalize_name

from crosswheel.errors import FetchError
from crosswheel.planning.wheelhouse import IndexFile, named

SECONDS = 300.0
"""How long pip may take for the pages of one project."""


def list_project(name: str) -> tuple[IndexFile, ...]:
    """The wheels and source archives of a project; none for one that no index knows. ``FetchError`` where an index
    cannot be asked."""
    argv = (sys.executable, "-P", "-m", "crosswheel.building.sources.pip_list", name)
    try:
        ended = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _failed(name, f"pip did not end within {SECONDS:.0f} seconds") from error
    if ended.returncode != 0:
        said = [line for line in ended.stderr.splitlines() if line.strip()]
        raise _failed(name, "\n".join(said[-6:]) or f"pip ended with status {ended.returncode}")
    files = (IndexFile(**json.loads(line)) for line in ended.stdout.splitlines())
    # A folder of pip's configuration (find-links) holds files of any project.
    return tuple(item for item in files if (known := named(item.file)) and known[0] == canonicalize_name(name))


def _failed(name: str, why: str) -> FetchError:
    return FetchError(
        f"the package index could not be asked for {name}",
        why=why,
        hint="`python3 -m pip download --no-deps " + name + "` shows whether pip itself can",
    )
