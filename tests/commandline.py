"""Runs crosswheel as its users do: by its command line, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INVOKE = Path(sys.executable).with_name("invoke")
PARTS = ("crosswheel", "recipes", "toolchains", "sysroots", "patches")
"""The folders of a checkout that commands read."""


@dataclass(frozen=True, kw_only=True)
class CommandLine:
    """``invoke`` in the checkout ``root``. ``env`` is what its environment has besides that of the tests, such as
    ``CROSSWHEEL_STORE``. Called with a command's words, it runs it to its end and captures what it says."""

    root: Path = ROOT
    env: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, *words: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, seconds: float = 900
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*words),
            env=self.environment(env),
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=seconds,
            check=False,
        )

    def json(self, *words: str | Path, status: int = 0, cwd: Path | None = None) -> Any:
        """What the command with ``--json`` prints on stdout."""
        done = self(*words, "--json", cwd=cwd)
        assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def start(self, *words: str | Path, **options: Any) -> subprocess.Popen[str]:
        """The command as a process that runs; its output goes into pipes unless ``options`` say otherwise."""
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            list(self.argv(*words)),
            env=self.environment(None),
            cwd=self.root,
            text=True,
            encoding="utf-8",
            **{**given, **options},
        )

    def argv(self, *words: str | Path) -> list[str]:
        """What ``./x`` executes."""
        return [str(INVOKE), "--write-pyc", "--search-root", str(self.root), *map(str, words)]

    def environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        """Plain lines, whatever terminal the tests run in; and the modules of this checkout."""
        mine = {"PYTHONPATH": str(self.root), "TERM": "dumb", "COLUMNS": "120"}
        return {**os.environ, **mine, **self.env, **(more or {})}

    def with_store(self, store: Path) -> CommandLine:
        """The same with another store."""
        return CommandLine(root=self.root, env={**self.env, "CROSSWHEEL_STORE": str(store)})


def copy_of_checkout(place: Path) -> CommandLine:
    """A checkout of its own, for a test to change: the code and the data of this one."""
    place.mkdir(parents=True)
    for part in PARTS:
        shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("tasks.py", "pyproject.toml"):
        shutil.copy2(ROOT / name, place / name)
    return CommandLine(root=place)


@dataclass(frozen=True)
class Built:
    """What ``build --json`` said, and where it put the wheel."""

    words: tuple[str, ...]
    out: Path
    answer: Mapping[str, Any]

    @property
    def wheel(self) -> Path:
        return Path(self.answer["wheel"])

    @cached_property
    def keys(self) -> dict[str, str]:
        """Key by the name of the step."""
        return {step["name"]: step["key"] for step in self.answer["steps"]}

    def key(self, kind: str) -> str:
        """The key of the only step of a kind (``run``, ``wheel``, ``proof``)."""
        (key,) = [step["key"] for step in self.answer["steps"] if step["kind"] == kind]
        return str(key)
