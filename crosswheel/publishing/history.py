"""The history of nights: one file of JSON lines per night and shard, which is only ever appended to.

``<folder>/<night>[.<k>-of-<n>].jsonl``: the first line is a :class:`Start` with all cells, then one :class:`Ended` per
cell that ended, and at last an :class:`End`. A night that was interrupted has no end; where it goes on, a
:class:`Resumed` stands between. Each line is on the disk before the next thing happens, so a machine that stops loses
at most the line that it was writing: a torn line is told by the reader, and left out.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from crosswheel.errors import InputError, MachineError
from crosswheel.spec.base import Model, Sha256

_SHARD = re.compile(r"^([1-9][0-9]{0,3})/([1-9][0-9]{0,3})$")
_NIGHT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")


def _readable(value: object) -> object:
    """Text that any UTF-8 file can hold: what a tool printed may be none."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_readable)]
Night = Annotated[str, StringConstraints(pattern=_NIGHT.pattern)]
Shard = Annotated[str, StringConstraints(pattern=_SHARD.pattern)]


class CellLine(Model):
    """A cell of the matrix. ``features`` are those of the wheel; of a refused cell, those asked for. ``version``,
    ``python`` and ``cpu`` are None in a refused cell that left them to crosswheel. ``why`` has the reasons of a refused
    cell, a line each."""

    id: str
    recipe: str
    version: str | None
    target: str
    cpu: str | None
    python: str | None
    features: tuple[str, ...] = ()
    state: Literal["planned", "refused"]
    why: Text = ""


class Start(Model):
    """The first line. ``cells`` are all of the matrix, or of the shard; ``only`` is the pattern of those that the night
    was to run, and None for all. Nights of several shards have the same ``night``."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    version_of_schema: Literal[1] = Field(default=1, alias="schema")
    night: Night
    matrix: Text
    matrix_sha256: Sha256
    crosswheel: str
    shard: Shard | None = None
    only: Text | None = None
    started: AwareDatetime
    cells: tuple[CellLine, ...]


class Steps(Model):
    """How many steps a cell has, how many of them were there already, and how many ran in this night. A step that
    several cells share ran for the first of them."""

    total: int = Field(ge=0)
    cached: int = Field(ge=0)
    ran: int = Field(ge=0)


class Fault(Model):
    """The error of a failed cell, as :class:`~crosswheel.errors.CrosswheelError` has it."""

    where: Text = ""
    what: Text
    why: Text = ""
    hint: Text = ""


class Ended(Model):
    """What became of a cell. ``built``: a step ran for it; ``cached``: all was in the store. ``seconds`` is the time of
    the steps that ran for it. ``wheel`` and ``proof`` are paths below the folder of released wheels; ``size`` in bytes.
    ``passed`` is the verdict, None where nothing was judged. ``step`` is the step that failed; ``log`` are its lines
    that matter. ``key`` is that of the proof's step: the same key is the same wheel with the same proof."""

    cell: str
    outcome: Literal["built", "cached", "failed"]
    started: AwareDatetime
    seconds: float = Field(ge=0)
    steps: Steps
    key: str | None = None
    wheel: str | None = None
    sha256: Sha256 | None = None
    size: int | None = Field(default=None, ge=0)
    proof: str | None = None
    passed: bool | None = None
    step: Text | None = None
    error: Fault | None = None
    log: tuple[Text, ...] = ()


class Resumed(Model):
    """The interrupted night goes on."""

    resumed: AwareDatetime


class End(Model):
    """The last line of a night that came to its end."""

    ended: AwareDatetime


Line = Ended | Resumed | End

_MODELS: Mapping[str, type[Start | Line]] = {"schema": Start, "cell": Ended, "resumed": Resumed, "ended": End}
"""Which key makes a line one of what."""


def now() -> datetime:
    """The time in UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def night_of(moment: datetime) -> str:
    """The name of a night that starts at a moment: ``2026-11-21T23-00-00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def parts_of(shard: str) -> tuple[int, int]:
    """``2/5`` as (2, 5). ``InputError`` for what is no such thing."""
    found = _SHARD.match(shard)
    if not found or int(found[1]) > int(found[2]):
        raise InputError(f"{shard!r} is no shard", where="--shard", hint="such as 2/5: the second of five")
    return int(found[1]), int(found[2])


def file_name(night: str, shard: str | None) -> str:
    """The name of a night's file in the folder of the history. ``InputError`` for a name that no file should have."""
    if not _NIGHT.match(night):
        raise InputError(f"{night!r} is no name of a night", where="--night", hint="letters, digits, `-` and `_`")
    return f"{night}.jsonl" if shard is None else "{}.{}-of-{}.jsonl".format(night, *parts_of(shard))


# --- writing ----------------------------------------------------------------------------------------------------


class Writer:
    """Appends to one night's file, a line at a time, each on the disk before the call returns.

    The file is locked while the writer is open: a night whose file is locked is running, and one whose file is neither
    locked nor ended was interrupted. ``MachineError`` where the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise InputError(
                "this night is running", where=str(path), hint="let it end, or name another one: --night NAME"
            ) from None

    def append(self, line: Start | Line) -> None:
        """Writes a line. One that a stopped machine left torn is ended first, so that it spoils no other."""
        text = json.dumps(line.model_dump(mode="json", by_alias=True), separators=(",", ":"))
        try:
            data = ("" if self._at_line_start() else "\n") + text + "\n"
            left = data.encode()
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _at_line_start(self) -> bool:
        size = os.fstat(self._file).st_size
        return size == 0 or os.pread(self._file, 1, size - 1) == b"\n"

    def _unwritable(self, error: OSError) -> MachineError:
        return MachineError(
            "The history cannot be written.",
            where=str(self.path),
            why=error.strerror or str(error),
            hint="make room, or name another folder: --history FOLDER",
        )


def is_running(path: Path) -> bool:
    """Whether a process writes this night's file."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


# --- reading ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file: a night, or a shard of one. ``cells`` has the last line of each cell that ended; ``ended`` is None
    for a night that runs or was interrupted."""

    path: Path
    start: Start
    cells: Mapping[str, Ended]
    ended: datetime | None

    @property
    def night(self) -> str:
        return self.start.night


@dataclass(frozen=True, kw_only=True)
class History:
    """All nights of a folder, oldest first (by their start, then by name and shard). ``problems`` are sentences about
    what could not be read and was left out, each with its file and line."""

    parts: tuple[Part, ...]
    problems: tuple[str, ...]

    def nights(self) -> dict[str, tuple[Part, ...]]:
        """The shards of each night, oldest night first."""
        found: dict[str, list[Part]] = {}
        for part in self.parts:
            found.setdefault(part.night, []).append(part)
        return {night: tuple(parts) for night, parts in found.items()}

    def of_cell(self, cell: str) -> tuple[tuple[str, Ended], ...]:
        """(night, what became of the cell) for each night in which it ended, oldest first."""
        return tuple((part.night, part.cells[cell]) for part in self.parts if cell in part.cells)

    def latest(self) -> dict[str, tuple[str, Ended]]:
        """(night, what became of it) of every cell that ever ended, in the newest night that tried it."""
        return {cell: (part.night, line) for part in self.parts for cell, line in part.cells.items()}


def read_history(folder: Path) -> History:
    """The history in a folder; one that is not there is empty. No file's content is an error: see ``problems``."""
    parts: list[Part] = []
    problems: list[str] = []
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
        part = read_part(path, problems)
        if part:
            parts.append(part)
    parts.sort(key=lambda part: (part.start.started, part.night, part.path.name))
    return History(parts=tuple(parts), problems=tuple(problems))


def read_part(path: Path, problems: list[str]) -> Part | None:
    """One night's file; None where no line of it is its start. ``problems`` takes a sentence for each line that
    is left out."""
    try:
        data = path.read_bytes()
    except OSError as error:
        problems.append(f"{path}: this file cannot be read ({error.strerror or error})")
        return None
    start: Start | None = None
    known: set[str] = set()
    cells: dict[str, Ended] = {}
    ended: datetime | None = None
    lines = data.split(b"\n")
    torn = lines.pop()  # empty where the last line is whole
    for number, raw in enumerate(lines, start=1):
        line = _line(raw)
        if isinstance(line, str):
            problems.extend([f"{path}:{number}: {line}; the line is left out"] if line else [])
        elif start is None or isinstance(line, Start):
            if start is None and isinstance(line, Start):
                start, known = line, {cell.id for cell in line.cells}
        elif isinstance(line, End):
            ended = line.ended
        elif isinstance(line, Resumed):
            ended = None
        elif line.cell in known:
            cells[line.cell] = line
        else:
            problems.append(f"{path}:{number}: {line.cell!r} is no cell of this night; the line is left out")
    if torn:
        problems.append(f"{path}:{len(lines) + 1}: the last line is torn, and left out")
    if start is None:
        problems.append(f"{path}: no line says what this night was to do; the night is left out")
        return None
    return Part(path=path, start=start, cells=cells, ended=ended)


def _line(raw: bytes) -> Start | Line | str:
    """A line, or why it is none; empty for an empty line."""
    if not raw.strip():
        return ""
    try:
        data = json.loads(raw)
        for key, model in _MODELS.items():
            if isinstance(data, dict) and key in data:
                return model.model_validate(data)
    except ValidationError as error:
        return _first(error)
    except (ValueError, RecursionError):
        return "this is no whole JSON"
    return "this is no line of a history"


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"`{place}`: {problem['msg']}" if place else problem["msg"]


def unfinished(parts: Iterable[Part], like: Start) -> Part | None:
    """The newest night of the same matrix, shard, cells and version of crosswheel, where it was interrupted. Only the
    newest: a night before one that ended is over."""
    same = [part for part in parts if (part.start.matrix, part.start.shard) == (like.matrix, like.shard)]
    if not same or same[-1].ended or is_running(same[-1].path):
        return None
    start = same[-1].start
    equal = start.model_copy(update={"night": like.night, "started": like.started}) == like
    return same[-1] if equal else None
