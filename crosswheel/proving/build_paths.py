"""The paths of the machine of a build that stand in a file: where it lay, and where its headers were.

People write paths, too: into examples, comments and tests (``/home/user/data.csv``, ``/tmp/foo/bar``). Among 30 wheels
of the package index (NumPy, TensorFlow, PyArrow, CMake, Notebook …), all that stood in sources, headers, documents and
METADATA was of that kind. So what is looked for depends on who wrote the file: see :class:`Writer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

MOST_PATHS = 200
"""As many different paths of a file are kept."""

MOST_BYTECODE = 16 * 2**20
"""Compiled Python is read up to this size (bytes)."""

_LONGEST = 320

_PATH = re.compile(rb"/(?:build|home|root|tmp)/[\x21-\x39\x3b-\x7e]{1,300}")
_BEFORE = re.compile(rb"[\w./-]")
_BEFORE_IN_TEXT = re.compile(rb"[\w./~})>*@%$-]")
_URL = b"file://"
_SOURCE = re.compile(r"\.(?:a|c|cc|cpp|cu|cuh|cxx|h|hh|hpp|inc|inl|o|py|pyx|rs|s|so|tcc)$", re.IGNORECASE)
_TEXT = re.compile(r"[\w./+@~=-]+")

_OURS = r"/build/(?:src|out|home)/"
"""The folders of crosswheel's own builds: nobody writes these as an example."""

_PIPS = r"/tmp/(?:pip-[a-z-]+-\w{6,}|build-env-\w{6,})/"
"""Those of pip's and build's, which stand in people's reports of failures (gRPC's METADATA quotes one)."""


class Writer(Enum):
    """Who wrote a file, and so which paths in it are of a build.

    ``TOOL``: compilers, linkers and build systems, which write where things are. ``/build/…``, ``/home/…`` and
    ``/root/…`` always are of a build; ``/tmp/…`` where it leads into a folder or to a source or object file: programs
    lawfully name files of their own there (TensorFlow's ``/tmp/s3_filesystem_XXXXXX``). ``DATA``: nobody knows; home
    folders, pip's and our own. ``PERSON``: only our own.
    """

    TOOL = re.compile(r"/build/|/home/|/root/|/tmp/")
    DATA = re.compile(rf"/home/[^/]+/|{_OURS}|{_PIPS}")
    PERSON = re.compile(_OURS)


_OF_TOOLS = re.compile(
    r"(?:^|/)(?:"
    r"[^/]+\.(?:pc|la|prl)"  # pkg-config's, libtool's, qmake's
    r"|[^/]+(?:-c|C)onfig(?:-?[vV]ersion)?\.cmake|[^/]+[tT]argets(?:-[a-z]+)?\.cmake"  # CMake's exports
    r"|_sysconfigdata[^/]*\.py|__config__\.py|_?build_info\.py"
    r"|CMakeCache\.txt|compile_commands\.json|config\.(?:log|status)|Makefile"
    r")$"
)
_PAPERS = re.compile(r"(?:^|/)[^/]+\.(?:dist|egg)-info/[^/]+$")
_OF_PERSONS = re.compile(r"/(?:METADATA|PKG-INFO|AUTHORS|LICEN[CS]E|NOTICE|COPYING)[^/]*$")
_DATA = re.compile(r"\.(?:cfg|conf|ini|json|mk|toml|txt|xml|ya?ml)$")
_MACHINE = (b"\x7fELF", b"!<arch>\n", b"!<thin>\n", b"\x50\xed\x55\xba")


def writer_of(name: str, first: bytes) -> Writer:
    """Who wrote the member ``name``, whose first bytes are ``first``."""
    if first.startswith(_MACHINE) or _OF_TOOLS.search(name):
        return Writer.TOOL
    if _PAPERS.search(name):
        return Writer.PERSON if _OF_PERSONS.search(name) else Writer.TOOL
    return Writer.DATA if _DATA.search(name) else Writer.PERSON


class BuildPaths:
    """The paths of the machine of a build that stand in a file of ``writer``, which is given piece by piece."""

    def __init__(self, writer: Writer = Writer.TOOL, *, text: bool = False) -> None:
        """``text`` says that the file is no machine code: there, what stands before a path may say that it is the end
        of a longer one (``${prefix}/build``)."""
        self._found: set[str] = set()
        self._rest = b"\0"  # the byte before what has not been looked at, and that
        self._wanted = writer.value
        self._only = b"/build/" if writer is Writer.PERSON else b""  # most files of a wheel, and seldom there
        self._before = _BEFORE_IN_TEXT if text else _BEFORE

    def feed(self, piece: bytes) -> None:
        """Takes the next bytes of the file."""
        data = self._rest + piece
        end = max(len(data) - _LONGEST, 1)
        self._look(data, end)
        self._rest = data[max(end - len(_URL), 0) :] if end > 1 else data

    def found(self) -> tuple[str, ...]:
        """What was found in all that was given, sorted, at most :data:`MOST_PATHS`."""
        self._look(self._rest, len(self._rest))
        return tuple(sorted(self._found))

    def _look(self, data: bytes, end: int) -> None:
        if self._only and self._only not in data:
            return
        for place in _places(data, end):
            match = _PATH.match(data, place, place + _LONGEST)
            if not match or len(self._found) >= MOST_PATHS or self._goes_on(data, place):
                continue
            written = _TEXT.match(match.group().decode("latin-1"))
            text = written.group() if written else ""
            deep = text.count("/") >= 3 or _SOURCE.search(text)
            if len(text) > len("/tmp/") and (deep or not text.startswith("/tmp/")) and self._wanted.match(text):
                self._found.add(text)

    def _goes_on(self, data: bytes, place: int) -> bool:
        """Whether what begins at ``place`` is the rest of a longer path."""
        return bool(self._before.match(data, place - 1)) and data[max(place - len(_URL), 0) : place] != _URL


def _places(data: bytes, end: int) -> Iterable[int]:
    """Where, from the second byte on and before ``end``, a slash and the first two letters of one of the folders stand:
    numpy looks through a gigabyte in a second, in which ``re`` gets through a tenth of it."""
    import numpy as np

    view = np.frombuffer(data, dtype=np.uint8)
    at = np.flatnonzero(view[1 : max(min(end, len(view) - 2), 1)] == ord("/")) + 1
    first, second = view[at + 1], view[at + 2]
    wanted = np.zeros(len(at), np.bool_)
    for one, two in (b"bu", b"ho", b"ro", b"tm"):
        wanted |= (first == one) & (second == two)
    places: list[int] = at[wanted].tolist()
    return places


def shebang_path(first: bytes) -> str:
    """The interpreter in the first line of a script, where it is a path of a build: ``/home/me/venv/bin/python``."""
    if not first.startswith(b"#!"):
        return ""
    paths = BuildPaths(text=True)
    paths.feed(first[:_LONGEST].split(b"\n", 1)[0])
    return next(iter(paths.found()), "")


def bytecode_path(name: str, data: bytes) -> str:
    """The path of the source that compiled Python (``name``) says that it was compiled from, where it is absolute.

    It stands in ``data`` as marshal writes strings: its length before it, in one byte or in four (Python's
    ``marshal.c``), for every function. A path that the program has as a string of its own has another name at its end.
    """
    module = name.rpartition("/")[2].split(".", 1)[0]
    end = f"/{module}.py".encode()
    at = data.find(end)
    for _ in range(64):
        if at < 0:
            break
        stop = at + len(end)
        for start in range(at, max(stop - _LONGEST, 0), -1):
            size = stop - start
            if data[start] == ord("/") and _has_length(data, start, size):
                said = data[start:stop].decode("utf-8", "backslashreplace")
                return said if said.isprintable() else ascii(said)[1:-1]
        at = data.find(end, stop)
    return ""


def _has_length(data: bytes, start: int, size: int) -> bool:
    short = size < 256 and data[start - 1] == size and data[start - 2 : start - 1] in (b"z", b"Z", b"\xda", b"\xfa")
    return short or data[max(start - 4, 0) : start] == size.to_bytes(4, "little")
