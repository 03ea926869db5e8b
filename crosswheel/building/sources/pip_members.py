"""Gets some members of a wheel through pip, as the machine configures it, without the rest of the wheel.

    python -P -m crosswheel.building.sources.pip_members NAME FILENAME RECORD_SHA256 DEST PATTERN…

The wheel's RECORD is got first and must have the sha256 RECORD_SHA256; it lists the sha256 of every member, with which
each is compared. pip's own reader of wheels over HTTP (``LazyZipOverHTTP``) asks the index for parts of the file; it
needs a server that serves parts. Tried with pip 23.0.1 and 26.3.

Exit status: 0 done; 3 no such file is listed; 5 the index does not serve parts of this file; 4 something has another
sha256; 1 anything else. What went wrong is said on standard error.
"""

from __future__ import annotations

import sys
from optparse import Values
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from pip._internal.commands.download import DownloadCommand
from pip._internal.exceptions import NetworkConnectionError
from pip._internal.network.lazy_wheel import HTTPRangeRequestUnsupported, LazyZipOverHTTP

from crosswheel.building.sources.pip_file import links_of
from crosswheel.building.sources.record import Mismatch, take_members


class MembersCommand(DownloadCommand):
    """pip's ``download``, with its options, for members of one wheel."""

    def run(self, options: Values, args: list[str]) -> int:
        name, filename, record, dest, *patterns = args
        session = self.get_default_session(options)
        finder = self._build_package_finder(options=options, session=session)
        links = [link for link in links_of(finder._link_collector, name) if link.filename == filename]
        if not links:
            return _say(f"no index lists {filename} for {name}", 3)
        try:
            return self._take(links[0], session, record, Path(dest), patterns)
        except HTTPRangeRequestUnsupported:
            return _say("the index does not serve parts of files", 5)
        except Mismatch as error:
            return _say(str(error), 4)
        except (NetworkConnectionError, OSError, BadZipFile) as error:
            return _say(str(error), 1)

    @staticmethod
    def _take(link: Any, session: Any, record: str, dest: Path, patterns: list[str]) -> int:
        if not link.url.startswith(("https:", "http:")):
            raise HTTPRangeRequestUnsupported("a local file is read as a whole")
        with LazyZipOverHTTP(link.url_without_fragment, session) as remote, ZipFile(remote) as wheel:
            take_members(wheel, record, patterns, dest)
        return 0


def _say(text: str, status: int) -> int:
    print(text, file=sys.stderr)
    return status


def main(arguments: list[str]) -> int:
    """Gets the members that the arguments name; see the module."""
    if len(arguments) < 5:
        print(__doc__, file=sys.stderr)
        return 2
    options = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check"]
    return int(MembersCommand("download", "gets members").main([*options, "--", *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
