"""Which cells a command of the matrix is about, and the lines that a night leaves in the history."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from crosswheel.cli.settings import the_catalog
from crosswheel.errors import CrosswheelError, InputError
from crosswheel.planning.cells import Cell
from crosswheel.planning.matrix import Cells, balanced, plan_matrix, usual_minutes
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.matrix import Matrix, read_matrix

if TYPE_CHECKING:
    from crosswheel.building.night import Ending
    from crosswheel.building.store import Store
    from crosswheel.proving.prove import Proof
    from crosswheel.publishing.history import CellLine, Ended, Fault, History, Start, Writer

FILE = "matrix.toml"
"""The matrix that is read where none is named: the user's own beside their data, else the one that is shipped."""

_LOG_LINES = 30
_REASONS_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The cells of a command: ``cells`` are those of the matrix or of the ``shard``, ``wanted`` those of them that
    ``only`` matches and that are not refused."""

    catalog: Catalog
    matrix: Matrix
    sha256: str
    file: Path
    whole: Cells
    shard: str | None
    only: str | None
    cells: tuple[Cell, ...]
    wanted: tuple[Cell, ...]


def choose(matrix: str | None, only: str | None, shard: str | None) -> Chosen:
    """The cells that options name. ``InputError`` where the matrix cannot be read, or nothing is matched."""
    from crosswheel.proving.prove import RULES
    from crosswheel.publishing.history import parts_of
    from crosswheel.spec.remembering import remembering

    part = parts_of(shard) if shard is not None else None
    catalog = remembering(the_catalog())
    file = Path(matrix) if matrix else catalog.layers.file(FILE)
    read, sha256 = read_matrix(file)
    whole = plan_matrix(read, catalog, str(file), rules=RULES)
    cells = whole.all if part is None else _of_shard(whole, *part)
    matched = [cell for cell in cells if only is None or matches(cell, only)]
    if only is not None and not any(matches(cell, only) for cell in whole.all):
        raise _none_matches(only, whole)
    wanted = tuple(cell for cell in matched if not cell.refused)
    if only is not None and matched and not wanted:
        why = "\n".join(f"- {cell.id}: {'; '.join(cell.why)}" for cell in matched[:_REASONS_SHOWN])
        raise InputError(f"all cells that {only!r} matches are refused", where="--only", why=why)
    return Chosen(
        catalog=catalog,
        matrix=read,
        sha256=sha256,
        file=file,
        whole=whole,
        shard=shard,
        only=only,
        cells=tuple(cells),
        wanted=wanted,
    )


def _of_shard(whole: Cells, number: int, shards: int) -> tuple[Cell, ...]:
    """The cells of one shard. Those that are refused are the first one's, so that each is told once."""
    mine = {cell.id for cell in balanced(whole.planned, shards, usual_minutes)[number - 1]}
    return tuple(cell for cell in whole.all if cell.id in mine or (cell.refused and number == 1))


def matches(cell: Cell, pattern: str) -> bool:
    """Whether ``--only`` means a cell: a pattern of its name such as ``wrapt-*@rpi4+*``, or one of the words recipe and
    target."""
    return pattern in (cell.recipe, cell.target) or fnmatchcase(cell.id, pattern)


def _none_matches(only: str, whole: Cells) -> InputError:
    names = list(dict.fromkeys(name for cell in whole.all for name in (cell.recipe, cell.target, cell.id)))
    near = difflib.get_close_matches(only, names, n=3, cutoff=0.5)
    why = f"did you mean {' or '.join(near)}?" if near else "a pattern is of the whole name, such as 'wrapt-*@rpi4+*'"
    return InputError(f"no cell is called {only!r}", where="--only", why=why, hint="`./x matrix plan` shows them all")


# --- the history -----------------------------------------------------------------------------------------------------


def read_nights(folder: Path) -> History:
    """The history, with what could not be read told on stderr."""
    from crosswheel.publishing.history import read_history

    history = read_history(folder)
    for problem in history.problems:
        print(f"warning: {problem}", file=sys.stderr)
    return history


def took(history: History) -> dict[str, list[float]]:
    """What each cell took in the nights that built it, in seconds: the newest five."""
    found: dict[str, list[float]] = {}
    for part in history.parts:
        for line in part.cells.values():
            if line.outcome == "built":
                found.setdefault(line.cell, []).append(line.seconds)
    return {cell: seconds[-5:] for cell, seconds in found.items()}


def cell_line(cell: Cell) -> CellLine:
    """A cell as the first line of a night has it."""
    from crosswheel.publishing.history import CellLine

    return CellLine(
        id=cell.id,
        recipe=cell.recipe,
        version=cell.version,
        target=cell.target,
        cpu=cell.cpu,
        python=cell.python,
        features=cell.features,
        state="refused" if cell.refused else "planned",
        why="\n".join(cell.why),
    )


def start_of(chosen: Chosen, night: str | None) -> Start:
    """The first line of a night of these cells that begins now."""
    from importlib.metadata import version

    from crosswheel.publishing.history import Start, night_of, now

    moment = now()
    return Start(
        night=night or night_of(moment),
        matrix=chosen.matrix.name,
        matrix_sha256=chosen.sha256,
        crosswheel=version("crosswheel"),
        shard=chosen.shard,
        only=chosen.only,
        started=moment,
        cells=tuple(cell_line(cell) for cell in chosen.cells),
    )


def failed_line(ending: Ending, error: CrosswheelError, store: Store) -> Ended:
    """The line of a cell that failed before there was a verdict."""
    from crosswheel.publishing.history import Ended, Fault

    return Ended(
        **_common(ending),
        outcome="failed",
        key=None,
        step=ending.step.name if ending.step else None,
        error=Fault(where=error.where, what=error.what, why=error.why, hint=error.hint),
        log=_log_of(ending, store),
    )


def proved_line(ending: Ending, released: Path, proof: Proof, out: Path) -> Ended:
    """The line of a cell whose wheel was judged and released, or set aside where its proof failed."""
    from crosswheel.digest import sha256_file
    from crosswheel.planning.plan import Plan
    from crosswheel.publishing.history import Ended
    from crosswheel.publishing.sidecars import PROOF, sidecar

    plan = ending.cell.plan
    assert isinstance(plan, Plan)
    outcome = ("built" if ending.ran else "cached") if proof.passed else "failed"
    return Ended(
        **_common(ending),
        outcome=outcome,
        key=plan.proof.key,
        wheel=_below(released, out),
        sha256=sha256_file(released),
        size=released.stat().st_size,
        proof=_below(sidecar(released, PROOF), out),
        passed=proof.passed,
        step=None if proof.passed else plan.proof.name,
        error=None if proof.passed else _verdict(proof, released),
        log=() if proof.passed else _findings(proof),
    )


def _common(ending: Ending) -> Mapping[str, object]:
    from crosswheel.publishing.history import Steps

    return {
        "cell": ending.cell.id,
        "started": ending.started.replace(microsecond=0),
        "seconds": round(ending.seconds, 3),
        "steps": Steps(total=ending.total, cached=ending.found, ran=ending.ran),
    }


def _below(path: Path, out: Path) -> str:
    return path.relative_to(out).as_posix()


def _verdict(proof: Proof, released: Path) -> Fault:
    from crosswheel.publishing.history import Fault

    failed = _findings(proof)
    return Fault(
        where=released.name,
        what="The proof failed: this wheel does not fit its target.",
        why="\n".join(failed[:_REASONS_SHOWN]),
        hint=f"`./x verify {released}` shows all findings",
    )


def _findings(proof: Proof) -> tuple[str, ...]:
    """The findings that fail a proof, a line each."""
    return tuple(
        f"{finding.rule}: {finding.subject}: {finding.message}"
        for finding in proof.findings
        if finding.severity == "fail"
    )[:_LOG_LINES]


def _log_of(ending: Ending, store: Store) -> tuple[str, ...]:
    """The lines of the failed step's log that matter, without what the error says itself."""
    from crosswheel.building.diagnose import diagnose

    if ending.step is None:
        return ()
    log = store.root / "failed" / ending.step.key / "log.txt"
    try:
        lines = log.read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    except OSError:
        return ()
    told = str(ending.error).splitlines()
    own = lines[: len(lines) - len(told) - 1] if told and lines[-len(told) :] == told else lines
    return diagnose(own, 1).lines[-_LOG_LINES:] or tuple(own[-_LOG_LINES:])


def failed_before(lines: Iterable[Ended]) -> frozenset[str]:
    """The cells that failed earlier in an interrupted night: they are tried again, after the others."""
    return frozenset(line.cell for line in lines if line.outcome == "failed")


def open_night(
    chosen: Chosen, folder: Path, night: str | None, *, quiet: bool
) -> tuple[Writer, str, Mapping[str, Ended]]:
    """The file that a night writes, opened, with the night's name and the lines that are in it already.

    It is the newest night of the same cells, where that was interrupted, or the one that is named; else a new one.
    ``InputError`` for a named night that runs, or is of other cells.
    """
    from crosswheel.publishing.history import Resumed, Writer, file_name, now, unfinished

    start = start_of(chosen, night)
    if night is None:
        start = _unused(start, folder)
    path = folder / file_name(start.night, chosen.shard)
    parts = read_nights(folder).parts
    part = unfinished(parts, start) if night is None else next((each for each in parts if each.path == path), None)
    writer = Writer(part.path if part else path)
    if part is None:
        writer.append(start)
        return writer, start.night, {}
    if part.start.model_copy(update={"night": start.night, "started": start.started}) != start:
        writer.close()
        raise InputError(
            "this night is of other cells", where=str(path), hint="the matrix has changed since: name another night"
        )
    if not quiet:
        print(f"going on with the night {part.night}: {len(part.cells)} cells had ended", file=sys.stderr)
    writer.append(Resumed(resumed=now()))
    return writer, part.night, part.cells


def _unused(start: Start, folder: Path) -> Start:
    """The same, under another name where another night began in the same second."""
    from crosswheel.publishing.history import file_name

    first, number = start.night, 2
    while (folder / file_name(start.night, start.shard)).exists():
        start = start.model_copy(update={"night": f"{first}-{number}"})
        number += 1
    return start
