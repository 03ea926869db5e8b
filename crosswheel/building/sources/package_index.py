"""The package index, asked many things at once: one conversation with pip, as the machine has it configured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Any, Self

from crosswheel.errors import FetchError
from crosswheel.planning.wheelhouse import IndexFile, named

SECONDS = 120.0
"""How long the answers to one round of questions may take."""

SOON = {"PIP_RETRIES": "2"}
"""pip gives a question up soon, unless its user says otherwise: a build without a network need not wait for it."""

ARGV = (sys.executable, "-P", "-m", "crosswheel.building.sources.pip_ask")


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the index lists of a project, and why it, or one of several, did not answer."""

    files: tuple[IndexFile, ...] = ()
    trouble: str = ""


@dataclass(kw_only=True)
class PackageIndex:
    """Use it in a ``with`` statement. Nothing is asked twice; pip is started with the first question."""

    argv: Sequence[str] = ARGV
    seconds: float = SECONDS
    _pages: dict[str, Page] = field(default_factory=dict)
    _papers: dict[str, str | None] = field(default_factory=dict)
    _process: subprocess.Popen[str] | None = None
    _said: IO[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        process, self._process = self._process, None
        if process:
            process.kill()  # it has no work left, or is not waited for
            process.communicate()
        if self._said:
            self._said.close()

    def pages(self, projects: Iterable[str]) -> Mapping[str, Page]:
        """What the index lists of each project, by normalised name. ``FetchError`` where pip itself does not run."""
        asked = list(dict.fromkeys(projects))
        for answer in self._talk([{"project": name} for name in asked if name not in self._pages]):
            name = answer["question"]["project"]
            # A folder of pip's configuration (find-links) holds files of any project.
            files = (IndexFile(**item) for item in answer["files"])
            own = tuple(item for item in files if (known := named(item.file)) and known[0] == name)
            self._pages[name] = Page(files=own, trouble=answer["trouble"])
        return {name: self._pages[name] for name in asked}

    def papers(self, wheels: Iterable[tuple[str, str]]) -> Mapping[str, str | None]:
        """The text of the METADATA of wheels (project, file) that the index serves beside them, by file; None where it
        does not. ``FetchError`` where pip itself does not run."""
        asked = {file: project for project, file in wheels}
        new = [{"project": project, "file": file} for file, project in asked.items() if file not in self._papers]
        for answer in self._talk(new):
            self._papers[answer["question"]["file"]] = answer["metadata"]
        return {file: self._papers[file] for file in asked}

    def _talk(self, questions: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        if not questions:
            return []
        process = self._started()
        assert process.stdin is not None and process.stdout is not None
        watch = threading.Timer(self.seconds, process.kill)
        watch.start()
        try:
            process.stdin.write("".join(f"{json.dumps(question)}\n" for question in questions))
            process.stdin.flush()
            answers = [json.loads(line) for _, line in zip(questions, process.stdout, strict=False)]
        except (OSError, ValueError) as error:
            raise self._failed(str(error)) from error
        finally:
            watch.cancel()
        if len(answers) < len(questions):
            raise self._failed(f"of {len(questions)} questions {len(answers)} were answered in {self.seconds:.0f} s")
        return answers

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            # A pipe that nobody reads would fill.
            self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
            pipe = subprocess.PIPE
            environment = {**SOON, **os.environ}
            self._process = subprocess.Popen(
                self.argv, stdin=pipe, stdout=pipe, stderr=self._said, text=True, env=environment
            )
        return self._process

    def _failed(self, why: str) -> FetchError:
        said: list[str] = []
        if self._said:
            self._said.seek(0)
            said = [line for line in self._said.read().splitlines() if line.strip()]
        return FetchError(
            "the package index could not be asked",
            why="\n".join(said[-6:]) or why,
            hint="`python3 -m pip download --no-deps six` shows whether pip itself can",
        )
