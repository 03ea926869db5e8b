"""Answers questions about projects through pip, as the machine configures it; nothing is downloaded but index pages and
the METADATA that an index serves beside a wheel (PEP 658).

    python -P -m crosswheel.building.sources.pip_ask

Questions are lines of JSON on standard input, and each gets one line on standard output, in any order, with the
question in it:

    {"project": "six"}                     → "files": as pip_list tells them; "trouble": why an index did not answer
    {"project": "six", "file": "….whl"}    → "metadata": the text, null where the index does not serve it

Eight are answered at once, each by a thread with a session of its own. Exit status: 0 when standard input ends.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from optparse import Values
from typing import Any

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import PipError
from pip._internal.network.utils import HEADERS, raise_for_status

from crosswheel.building.sources.pip_file import Pages, links_of
from crosswheel.building.sources.pip_list import told_of

AT_ONCE = 8
MOST_METADATA = 4 * 2**20
"""METADATA is read up to this size (bytes); it has the project's whole description."""


class _OwnPages(Pages):
    """What pip says in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            super().emit(record)


class AskCommand(DownloadCommand):
    """pip's ``download``, with its options, for what an index says."""

    def run(self, options: Values, args: list[str]) -> int:
        self._mine = threading.local()
        self._known: dict[str, list[Any]] = {}
        self._out = threading.Lock()
        logging.getLogger("pip._internal.index.collector").setLevel(logging.DEBUG)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for line in sys.stdin:
                pool.submit(self._answer, options, json.loads(line))
        return 0

    def _answer(self, options: Values, question: dict[str, str]) -> None:
        answer: dict[str, Any] = {"question": question}
        try:
            if "file" in question:
                answer["metadata"] = self._metadata(options, question["project"], question["file"])
            else:
                answer["files"], answer["trouble"] = self._files(options, question["project"])
        except Exception as error:  # every question gets its answer: who asked waits for it
            answer.update(files=[], metadata=None, trouble=f"{type(error).__name__}: {error}")
        with self._out:
            print(json.dumps(answer), flush=True)

    def _links(self, options: Values, project: str) -> list[Any]:
        mine = self._mine
        if not hasattr(mine, "session"):
            mine.session = self._build_session(options)
            mine.finder = self._build_package_finder(options=options, session=mine.session)
        if project not in self._known:
            self._known[project] = list(links_of(mine.finder._link_collector, project))
        return self._known[project]

    def _files(self, options: Values, project: str) -> tuple[list[dict[str, Any]], str]:
        pages = _OwnPages()
        logger = logging.getLogger("pip._internal.index.collector")
        logger.addHandler(pages)
        try:
            return [told_of(link) for link in self._links(options, project)], "\n".join(pages.trouble)
        finally:
            logger.removeHandler(pages)

    def _metadata(self, options: Values, project: str, file: str) -> str | None:
        links = [link for link in self._links(options, project) if link.filename == file]
        place = next((found for link in links if (found := link.metadata_link())), None)
        if place is None or place.is_file:
            return None
        try:
            response = self._mine.session.get(place.url_without_fragment, headers=HEADERS, stream=True)
            raise_for_status(response)
            text: bytes = response.raw.read(MOST_METADATA + 1, decode_content=True)
        except (PipError, OSError):
            return None
        if len(text) > MOST_METADATA or (place.hash_name == "sha256" and _sha256(text) != place.hash):
            return None
        return text.decode("utf-8", "replace")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    """Answers until standard input ends; see the module."""
    options = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check"]
    return int(AskCommand("download", "answers questions").main(options))


if __name__ == "__main__":
    sys.exit(main())
