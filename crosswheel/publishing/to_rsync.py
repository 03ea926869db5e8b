"""Publishes an index with rsync: over ssh, or to an rsync daemon. What is there is compared by its content.

rsync writes each file beside its place and moves it there, so that nobody reads half of one.
"""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crosswheel.publishing.carriers import Answer, Difference, failed, run

_CHANGE = re.compile(r"^[<>]f(?P<how>\S{9}) (?P<path>.+)$")
"""A file that would be sent, as ``--itemize-changes`` says it; ``+`` throughout for a new one (rsync(1))."""
_NEW = "+" * 9
_SOME_NOT_THERE = 23
"""rsync's exit status for "partial transfer due to error": also for a source that is not there."""


@dataclass(frozen=True, kw_only=True)
class Rsync:
    """``to`` is a folder as rsync takes it: ``user@host:folder`` or ``rsync://host/module/folder``. ``port`` and
    ``config`` are for ssh: its port, and a configuration file of the user's."""

    to: str
    port: int | None = None
    config: Path | None = None

    @property
    def place(self) -> str:
        return self.to

    @property
    def _command(self) -> list[str]:
        """``--protect-args``: no shell on the other side reads the folder's name."""
        ssh = ["ssh", "-o", "BatchMode=yes"]
        ssh += ["-p", str(self.port)] if self.port else []
        ssh += ["-F", str(self.config.absolute())] if self.config else []
        remote = [] if self.to.startswith("rsync://") else ["--rsh", shlex.join(ssh)]
        return ["rsync", "--protect-args", "--8-bit-output", *remote]

    def _there(self, path: str = "") -> str:
        return f"{self.to.rstrip('/')}/{path}"

    def read(self, path: str) -> bytes | None:
        with tempfile.TemporaryDirectory() as folder:
            argv = [*self._command, self._there(path), f"{folder}/"]
            answer = run(argv)
            if answer.status == _SOME_NOT_THERE and "No such file or directory" in answer.err:
                return None
            self._refuse(argv, answer)
            return (Path(folder) / Path(path).name).read_bytes()

    def compare(self, source: Path, paths: Sequence[str]) -> Difference:
        asked = ["--dry-run", "--checksum", "--out-format=%i %n"]
        argv = [*self._command, *asked, "--files-from=-", f"{source}/", self._there()]
        answer = run(argv, paths)
        self._refuse(argv, answer)
        lines = answer.out.decode("utf-8", "surrogateescape").splitlines()
        changes = [change for line in lines if (change := _CHANGE.match(line))]
        return Difference(
            missing=frozenset(each["path"] for each in changes if each["how"] == _NEW),
            changed=frozenset(each["path"] for each in changes if each["how"] != _NEW),
        )

    def send(self, source: Path, paths: Sequence[str]) -> None:
        argv = [*self._command, "--ignore-times", "--files-from=-", f"{source}/", self._there()]
        self._refuse(argv, run(argv, paths))

    def remove(self, paths: Sequence[str]) -> None:
        """rsync removes what is there and not here: of a folder that has none of ``paths``, and of nothing else."""
        with tempfile.TemporaryDirectory() as nothing:
            folders = {parent.as_posix() for path in paths for parent in list(PurePosixPath(path).parents)[:-1]}
            for folder in folders:
                (Path(nothing) / folder).mkdir(parents=True, exist_ok=True)
            rules = [*(f"+ /{folder}/" for folder in sorted(folders)), *(f"+ /{path}" for path in paths), "- *"]
            asked = ["--recursive", "--omit-dir-times", "--delete", "--include-from=-"]
            argv = [*self._command, *asked, f"{nothing}/", self._there()]
            self._refuse(argv, run(argv, rules))

    def _refuse(self, argv: Sequence[str], answer: Answer) -> None:
        if answer.status:
            raise failed(argv, answer, self.to)
