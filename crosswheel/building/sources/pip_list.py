"""Lists the files of a project through pip, as the machine configures it; nothing is downloaded but index pages.

    python -P -m crosswheel.building.sources.pip_list NAME

One JSON object for each file on standard output: ``file``, ``sha256`` (null where the index tells none),
``requires_python``, ``yanked``, and whether its ``metadata`` is served beside it. A project that no index knows has no
files. Exit status: 0 done; 1 an index could not be asked, and standard error says why.
"""

from __future__ import annotations

import json
import logging
import sys
from optparse import Values
from typing import Any

from pip._internal.commands.download import DownloadCommand

from crosswheel.building.sources.pip_file import Pages, links_of, listed_sha256


class ListCommand(DownloadCommand):
    """pip's ``download``, with its options, for the index pages of one project alone."""

    def run(self, options: Values, args: list[str]) -> int:
        session = self.get_default_session(options)
        finder = self._build_package_finder(options=options, session=session)
        pages = Pages()
        logger = logging.getLogger("pip._internal.index.collector")
        logger.addHandler(pages)
        logger.setLevel(logging.DEBUG)
        for link in links_of(finder._link_collector, args[0]):
            print(json.dumps(told_of(link)))
        if pages.trouble:
            print("\n".join(pages.trouble), file=sys.stderr)
        return 1 if pages.trouble else 0


def told_of(link: Any) -> dict[str, Any]:
    """What is told of a file that an index lists."""
    return {
        "file": link.filename,
        "sha256": listed_sha256(link),
        "requires_python": link.requires_python,
        "yanked": link.is_yanked,
        "metadata": link.metadata_link() is not None,
    }


def main(arguments: list[str]) -> int:
    """Lists the files of the project that is the one argument; see the module."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    options = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check"]
    return int(ListCommand("download", "lists files").main([*options, "--", *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
