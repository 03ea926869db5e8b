"""Publishes an index with rclone: to an S3-like bucket, or to any remote that the user's rclone knows.

What is there is compared by the hashes that the remote keeps (MD5 on S3). An object is there whole or not at all.
Credentials are rclone's: the environment's (``AWS_ACCESS_KEY_ID`` and the like) or those of its configuration.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from crosswheel.publishing.carriers import Answer, Difference, failed, run
from crosswheel.publishing.pages import HTML, JSON, JSON_TYPE

CA_BUNDLE = "AWS_CA_BUNDLE"
"""The variable by which Amazon's tools are told of certificates; rclone ends where it is set ("unable to load custom CA
bundle"), and has an option for it."""

_NOT_THERE = (3, 4)
"""rclone's exit statuses for a folder and a file that are not there."""
_DIFFER = 1
"""rclone's exit status for any error; of `check`, also for files that differ."""

_PATIENCE = ("--retries", "2", "--low-level-retries", "3", "--contimeout", "15s")
"""By itself rclone tries a server that is not there for minutes."""

_LASTING = "Cache-Control: public, max-age=31536000, immutable"
_CHANGING = "Cache-Control: no-cache"
"""A page is asked for anew each time; a wheel never changes."""


@dataclass(frozen=True, kw_only=True)
class Rclone:
    """``remote`` is a folder as rclone takes it (``:s3:bucket/folder``, ``myremote:folder``), ``options`` are further
    flags, ``place`` is what the user called it. ``certificates`` is a file of those to believe in."""

    remote: str
    place: str
    options: tuple[str, ...] = ()
    certificates: str | None = None

    def _run(self, argv: Sequence[str]) -> Answer:
        return run(argv, without=(CA_BUNDLE,))

    def _argv(self, *words: str) -> list[str]:
        believed = ["--ca-cert", self.certificates] if self.certificates else []
        return ["rclone", *words, *_PATIENCE, *self.options, *believed]

    def _there(self, path: str) -> str:
        return f"{self.remote.rstrip('/')}/{path}"

    def read(self, path: str) -> bytes | None:
        argv = self._argv("cat", self._there(path))
        answer = self._run(argv)
        if answer.status in _NOT_THERE:
            return None
        self._refuse(argv, answer)
        return answer.out or None  # a bucket has no folders: one of this name, empty, is no file

    def compare(self, source: Path, paths: Sequence[str]) -> Difference:
        with _list(paths) as names:
            argv = self._argv(
                "check", "--one-way", "--combined", "-", "--files-from-raw", names, str(source), self.remote
            )
            answer = self._run(argv)
        found: dict[str, set[str]] = {}
        for line in answer.out.decode("utf-8", "surrogateescape").splitlines():
            found.setdefault(line[:1], set()).add(line[2:])
        told = found.get("=", set()) | found.get("+", set()) | found.get("*", set())
        if answer.status not in (0, _DIFFER) or found.get("!") or not told >= set(paths):
            raise failed(argv, answer, self.place)
        return Difference(missing=frozenset(found.get("+", ())), changed=frozenset(found.get("*", ())))

    def send(self, source: Path, paths: Sequence[str]) -> None:
        for headers, some in _by_headers(paths):
            told = [word for header in headers for word in ("--header-upload", header)]
            with _list(some) as names:
                argv = self._argv(
                    "copy",
                    "--ignore-times",
                    "--no-traverse",
                    *told,
                    "--files-from-raw",
                    names,
                    str(source),
                    self.remote,
                )
                self._refuse(argv, self._run(argv))

    def remove(self, paths: Sequence[str]) -> None:
        with _list(paths) as names:
            argv = self._argv("delete", "--files-from-raw", names, self.remote)
            self._refuse(argv, self._run(argv))

    def _refuse(self, argv: Sequence[str], answer: Answer) -> None:
        if answer.status:
            raise failed(argv, answer, self.place)


def _by_headers(paths: Iterable[str]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Files with the HTTP headers with which a bucket gives them."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        name = path.rpartition("/")[2]
        if name == JSON:
            headers: tuple[str, ...] = (_CHANGING, f"Content-Type: {JSON_TYPE}")
        elif name == HTML:
            headers = (_CHANGING, "Content-Type: text/html; charset=utf-8")
        else:
            headers = (_LASTING,) if name.endswith(".whl") else (_CHANGING,)
        kinds.setdefault(headers, []).append(path)
    yield from kinds.items()


@contextmanager
def _list(paths: Iterable[str]) -> Iterator[str]:
    """A file that lists paths."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", errors="surrogateescape", suffix=".txt") as stream:
        stream.writelines(f"{path}\n" for path in paths)
        stream.flush()
        yield stream.name
