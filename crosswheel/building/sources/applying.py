"""Applies patches with ``git apply``, which knows no fuzz, and says what stands where a patch does not fit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crosswheel.errors import DataError, MachineError

if TYPE_CHECKING:
    from unidiff.patch import Hunk, PatchedFile, PatchSet

NO_REPOSITORY = "/nonexistent/crosswheel"
"""Given as ``GIT_DIR``, so that git takes neither an enclosing repository nor a ``.git`` in the tree for its own."""

_SHOWN = 9
"""Lines of a hunk that an error shows."""


@dataclass(frozen=True)
class Mismatch:
    """The hunk at which a patch failed.

    ``hunk`` counts from 1 in its file; ``line`` is where the patch expects it. ``expected`` are the lines that the hunk
    wants to find, ``found`` those that stand there, ``found_line`` the place in the file that is most like the hunk.
    ``found`` is ``None`` if the file does not exist.
    """

    path: str
    hunk: int
    hunks: int
    line: int
    expected: tuple[str, ...]
    found: tuple[str, ...] | None
    found_line: int

    def described(self) -> str:
        """Several lines: the hunk, what it expects and what stands there, with ``>`` where the two differ."""
        head = f"hunk {self.hunk} of {self.hunks} in {self.path}, line {self.line}"
        if self.found is None:
            return f"{head}: the file {self.path} is not there"
        if self.expected == self.found:
            return f"{head}: the lines are as expected, but not where this hunk may look for them"
        pairs = enumerate(zip(self.expected, self.found, strict=False))
        shared = min(len(self.expected), len(self.found))
        first = next((number for number, (wanted, there) in pairs if wanted != there), shared)
        start = max(0, first - 2)
        expected = _marked(self.expected, self.found, start)
        found = _marked(self.found, self.expected, start)
        return "\n".join(
            [f"{head}, expects", *expected, f"what stands at line {self.found_line + start} of the file is", *found]
        )


def _marked(lines: tuple[str, ...], others: tuple[str, ...], start: int) -> list[str]:
    shown = []
    for number in range(start, min(len(lines), start + _SHOWN)):
        same = number < len(others) and lines[number] == others[number]
        shown.append(f"    {' ' if same else '>'} {lines[number][:160]}")
    left = len(lines) - start - _SHOWN
    return [*shown, f"      … and {left} more"] if left > 0 else shown or ["    > (nothing: the file ends before)"]


@dataclass(frozen=True)
class Applied:
    """How ``git apply`` ended. ``words`` are its own, ``mismatch`` the first hunk that did not fit, if there is one."""

    ok: bool
    words: str
    mismatch: Mismatch | None = None

    def described(self) -> str:
        """What a person needs: the hunk and what stands there, else git's own words."""
        return self.mismatch.described() if self.mismatch else self.words


def apply_patch(tree: Path, text: str, *, check: bool = False, reverse: bool = False) -> Applied:
    """Applies the patch ``text`` to the folder ``tree``, wholly or not at all; with ``check`` only tries it."""
    options = [*(["--check"] if check else []), *(["--reverse"] if reverse else [])]
    argv = ("git", "apply", "--verbose", "--whitespace=nowarn", "-p1", *options, "-")
    done = run_git(argv, cwd=tree, data=text.encode("utf-8", "surrogateescape"))
    words = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode == 0:
        return Applied(ok=True, words=words)
    return Applied(ok=False, words=_only_errors(words), mismatch=None if reverse else find_mismatch(tree, text, words))


def run_git(argv: tuple[str, ...], *, cwd: Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs git without the user's configuration and outside any repository. ``MachineError`` where git is missing."""
    if shutil.which("git") is None:
        raise MachineError(
            "git is not installed; patches are applied with it",
            hint="apt-get install --yes git   (or ./x doctor --fix)",
        )
    return subprocess.run(argv, cwd=cwd, input=data, capture_output=True, env=_git_environment(os.environ), check=False)


def _git_environment(environ: Mapping[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith("GIT_") and name != "XDG_CONFIG_HOME"}
    return kept | {
        "GIT_DIR": NO_REPOSITORY,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "HOME": NO_REPOSITORY,
        "LC_ALL": "C",
    }


def _only_errors(words: str) -> str:
    """git's lines that say what is wrong; with ``--verbose`` it also quotes the hunk, which is shown better."""
    errors = [line for line in words.splitlines() if line.startswith(("error: ", "fatal: "))]
    return "\n".join(line for line in errors if not line.startswith("error: while searching for")) or words


def find_mismatch(tree: Path, text: str, words: str) -> Mismatch | None:
    """The first hunk that git names in ``words``, with what it expects and what stands in ``tree``.

    ``None`` where git's trouble is not a hunk (a corrupt patch, say): then its own words are all there is.
    """
    failed = re.search(r"^error: patch failed: (.+):(\d+)$", words, re.MULTILINE)
    missing = re.search(r"^error: (.+): No such file or directory$", words, re.MULTILINE)
    if failed is None and missing is None:
        return None
    path = failed[1] if failed else missing[1] if missing else ""
    hunks = [(h.source_start, _wanted(h)) for file in _patched_files(text) if _old_path(file) == path for h in file]
    if not hunks:
        return None
    line = int(failed[2]) if failed else hunks[0][0]
    number = next((i for i, (start, _) in enumerate(hunks) if start == line), 0)
    expected = hunks[number][1]
    file = tree / path
    if failed is None or not file.is_file():
        return Mismatch(path, number + 1, len(hunks), line, expected, None, line)
    lines = file.read_text("utf-8", "replace").split("\n")
    at = most_alike(lines, expected, line - 1)
    return Mismatch(path, number + 1, len(hunks), line, expected, tuple(lines[at : at + len(expected)]), at + 1)


def most_alike(lines: list[str], wanted: tuple[str, ...], guess: int) -> int:
    """The index in ``lines`` where most of ``wanted`` stands, line by line; of equals the one nearest to ``guess``."""
    hits: dict[int, int] = {}
    places: dict[str, list[int]] = {}
    for index, line in enumerate(lines):
        places.setdefault(line, []).append(index)
    for offset, line in enumerate(wanted):
        if not line.strip():
            continue  # empty lines are everywhere and say nothing
        for index in places.get(line, ()):
            if index >= offset:
                hits[index - offset] = hits.get(index - offset, 0) + 1
    if not hits:
        return max(0, min(guess, len(lines) - len(wanted)))
    return min(hits, key=lambda index: (-hits[index], abs(index - guess)))


def touched(text: str) -> tuple[str, ...]:
    """The paths that a patch reads or writes, sorted. ``DataError`` if it cannot be parsed."""
    paths = set()
    for file in _patched_files(text):
        paths |= {_old_path(file), _without_prefix(file.target_file)}
    return tuple(sorted(paths - {""}))


def _patched_files(text: str) -> PatchSet:
    from unidiff.errors import UnidiffParseError
    from unidiff.patch import PatchSet

    try:
        return PatchSet(text)
    except UnidiffParseError as error:
        raise DataError("the patch cannot be parsed", why=str(error)) from error


def _old_path(file: PatchedFile) -> str:
    return _without_prefix(file.source_file)


def _without_prefix(name: str) -> str:
    return "" if name == "/dev/null" else name.partition("/")[2]


def _wanted(hunk: Hunk) -> tuple[str, ...]:
    return tuple(line.value.rstrip("\r\n") for line in hunk if line.is_context or line.is_removed)
