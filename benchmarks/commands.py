"""Commands as a user gives them: a new process each, its time from the start to the end."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crosswheel.cli.settings import DATA
from crosswheel.errors import StepError

X = str(DATA / "x")
INVOKE = str(DATA / ".venv" / "bin" / "invoke")


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A command that succeeded. ``seconds`` are of the wall clock."""

    stdout: str
    seconds: float


def ran(argv: Sequence[str], store: Path) -> Ran:
    """Runs a command in the checkout, not on a terminal, with the artefacts of ``store``. ``StepError`` where it
    fails."""
    env = {**os.environ, "CROSSWHEEL_STORE": str(store)}
    began = time.perf_counter()
    done = subprocess.run(
        argv, cwd=DATA, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        what = f"`{shlex.join(argv)}` ended with exit status {done.returncode}."
        raise StepError(what, why=done.stderr.strip()[-2000:])
    return Ran(stdout=done.stdout, seconds=seconds)
