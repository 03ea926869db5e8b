"""Gets one named file of a release through pip, as the machine configures it; nothing is built or run.

    python -P -m crosswheel.building.sources.pip_file NAME VERSION FILENAME SHA256 DEST

``pip download`` would run an sdist's build backend to learn its metadata, and refuses wheels of other platforms. This
module uses pip's own session, link collector and configuration (index, find-links, proxy, certificates, credentials),
looks at every file that is listed for NAME, and downloads the one whose listed sha256 is SHA256, else the one called
FILENAME. It needs nothing but the pip of the Python that runs it; tried with pip 23.0.1, 23.2.1 and 26.3.

Exit status: 0 done; 3 no such file is listed; 4 the bytes have another sha256, and lie at DEST; 1 anything else. What
went wrong is said on standard error.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from collections.abc import Iterable, Iterator
from optparse import Values
from pathlib import Path
from typing import Any

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import NetworkConnectionError
from pip._internal.index.collector import parse_links
from pip._internal.network.utils import HEADERS, raise_for_status, response_chunks

ATTEMPTS = 3


class Pages(logging.Handler):
    """Keeps what pip says about index pages that it could not get: it goes on without a word otherwise."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.trouble: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        # A page that is not there only means that this index does not know the project.
        if text.startswith("Could not fetch URL") and ": 404 Client Error" not in text:
            self.trouble.append(text)


class FileCommand(DownloadCommand):
    """pip's ``download``, with its options, for one file and without a resolver."""

    def run(self, options: Values, args: list[str]) -> int:
        name, version, filename, sha256, dest = args
        session = self.get_default_session(options)
        finder = self._build_package_finder(options=options, session=session)
        pages = Pages()
        logger = logging.getLogger("pip._internal.index.collector")
        logger.addHandler(pages)
        logger.setLevel(logging.DEBUG)
        links = list(links_of(finder._link_collector, name))
        wanted = _wanted(links, filename, sha256)
        if not wanted:
            _say(_not_listed(links, name, version, filename, sha256))
            _say("\n".join(pages.trouble))
            return 3 if not pages.trouble else 1
        return _first(wanted, session, sha256, Path(dest))


def links_of(collector: Any, name: str) -> Iterator[Any]:
    """Every file that the configured places list for a project, whatever its format or platform."""

    def on_page(page: Any) -> Iterable[Any]:
        content = collector.fetch_response(page)
        return [] if content is None else list(parse_links(content))

    sources = collector.collect_sources(project_name=name, candidates_from_page=on_page)
    for source in (*sources.find_links, *sources.index_urls):
        if source is not None:
            yield from source.page_candidates()
    for source in sources.find_links:  # an index' own "file" is its page
        if source is not None:
            yield from source.file_links()


def _wanted(links: list[Any], filename: str, sha256: str) -> list[Any]:
    """By the hash that the index lists; else by name, where the index does not say that it has another hash."""
    by_hash = [link for link in links if listed_sha256(link) == sha256]
    by_name = [link for link in links if link.filename == filename and listed_sha256(link) is None]
    return by_hash + by_name


def listed_sha256(link: Any) -> str | None:
    return link.hash if link.hash_name == "sha256" else None


def _not_listed(links: list[Any], name: str, version: str, filename: str, sha256: str) -> str:
    others = [link for link in links if link.filename == filename]
    if others:
        return f"the index lists {filename} with the sha256 {others[0].hash}, not {sha256}"
    if not links:
        return f"no index that pip uses here lists a project {name}"
    spellings = (version, version.replace("-", "_"))
    same = {link.filename for link in links if any(f"-{text}" in link.filename for text in spellings)}
    first = sorted(same, key=lambda file: (file.endswith(".whl"), file))  # the sdist is what is mostly wanted
    shown = ", ".join(first[:4]) + (f" and {len(first) - 4} more" if len(first) > 4 else "")
    return f"no index lists {filename}; of {name} {version} there are: {shown or 'no files'}"


def _first(links: list[Any], session: Any, sha256: str, dest: Path) -> int:
    """Downloads from one link after the other until the bytes are right."""
    status = 1
    for link in links:
        shown = link.redacted_url if hasattr(link, "redacted_url") else link.url_without_fragment.rpartition("@")[2]
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = _download(link, session, dest)
            except NetworkConnectionError as error:  # the server's answer: no use in asking again
                _say(str(error))
                break
            except OSError as error:  # those of requests, too
                dest.unlink(missing_ok=True)
                if attempt == ATTEMPTS:
                    _say(f"{shown}: {error}")
                continue
            if found == sha256:
                return 0
            _say(f"{shown}: the bytes have the sha256 {found}")
            status = 4
            break
    return status


def _download(link: Any, session: Any, dest: Path) -> str:
    """Writes the file as it is stored (not unpacked on the way) and returns its sha256."""
    if link.is_file:
        shutil.copyfile(link.file_path, dest)
        with dest.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    response = session.get(link.url_without_fragment, headers=HEADERS, stream=True)
    raise_for_status(response)
    digest = hashlib.sha256()
    size = 0
    with dest.open("wb") as target:
        for chunk in response_chunks(response):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) != size:
        raise OSError(f"the body is cut off: {size} of {length} bytes came")
    return digest.hexdigest()


def _say(text: str) -> None:
    if text:
        print(text, file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Runs pip's machinery with the five arguments; see the module."""
    if len(arguments) != 5:
        _say(__doc__ or "")
        return 2
    # pip's own talk would stand between the user and the reason; errors still come through.
    options = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check"]
    return int(FileCommand("download", "gets one file").main([*options, "--", *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
