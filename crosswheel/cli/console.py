"""What a person sees: the running build, tables, proofs and errors.

The running build is told on stderr, results on stdout. On a terminal rich draws; elsewhere plain lines are written,
without control characters, and rich is not even imported.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from crosswheel.cli.command import as_typed
from crosswheel.cli.lines import duration, encodable, plain, plain_block
from crosswheel.cli.progress import progress_of
from crosswheel.errors import CrosswheelError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

    from crosswheel.planning.steps import Step
    from crosswheel.proving.prove import Proof

__all__ = ["Screen", "plain", "show_error", "show_proof", "show_table"]

LONG_KINDS = frozenset({"lock", "root", "run", "proof", "bundle-proof"})
"""Steps of these kinds may take minutes: plain output says when one begins."""
ROWS = 8
"""So many running steps are shown at once."""
HEARTBEAT = 300.0
"""Seconds after which plain output says again what a step is doing."""

_STYLES = {
    "ok": "green",
    "stored": "green",
    "passed": "green",
    "missing": "bold red",
    "failed": "bold red",
    "missed": "bold red",
    "low": "yellow",
    "warning": "yellow",
    "optional": "dim",
}


def draws_on(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that can be drawn on."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def rich_console(stream: TextIO) -> Console:
    """rich on ``stream``; it honours NO_COLOR. Nothing in a text is taken for markup."""
    from rich.console import Console

    return Console(file=stream, markup=False, emoji=False, highlight=False)


@dataclass
class _Running:
    """A step that runs: since when, and the last that it said."""

    name: str
    kind: str
    since: float
    told: float
    text: str = ""
    spinner: Spinner | None = None


@dataclass
class _Tally:
    """``found``: keys in the store. ``todo``: keys that are to be made, known when the first of them begins."""

    steps: Sequence[Step] = ()
    found: set[str] = field(default_factory=set)
    todo: frozenset[str] | None = None
    taken: int = 0
    built: int = 0
    running: dict[str, _Running] = field(default_factory=dict)

    def find_todo(self) -> frozenset[str]:
        """What the goals need and the store lacks. Below what is found nothing is needed."""
        if self.todo is None:
            inner = {needed.key for step in self.steps for needed in step.inputs.values()}
            wanted = [step for step in self.steps if step.key not in inner]
            todo: set[str] = set()
            while wanted:
                step = wanted.pop()
                if step.key not in self.found and step.key not in todo:
                    todo.add(step.key)
                    wanted += step.inputs.values()
            self.todo = frozenset(todo)
        return self.todo

    @property
    def kept(self) -> int:
        """How many steps this build did not have to do."""
        return len(self.steps) - len(self.find_todo()) + self.taken

    @property
    def done(self) -> int:
        """How many steps nothing is left to do for."""
        return self.kept + self.built


class Screen:
    """Tells what the executor does (its ``Listener``). May be called from several threads.

    ``quiet``: nothing but damage and failures. ``stream`` and ``clock`` are for tests.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._clock = clock
        self._began = clock()
        self._draws = draws_on(self._stream) and not quiet
        self._lock = threading.RLock()
        self._tally = _Tally()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        with self._lock:
            live, self._live = self._live, None
        if live:
            live.stop()
        if kind is None and not self._quiet and self._tally.steps:
            self.say("✓", self._summary(), "green")

    # --- what the executor tells ---

    def plan(self, steps: Sequence[Step]) -> None:
        """All steps of the build, before the first."""
        with self._lock:
            self._tally = _Tally(steps=tuple(steps))

    def started(self, step: Step) -> None:
        """``step`` is not in the store, and begins."""
        with self._lock:
            self._run(step)
        if step.kind in LONG_KINDS and not self._draws and not self._quiet:
            self.say("→", f"{plain(step.name)} …")

    def line(self, step: Step, text: str) -> None:
        """``step`` printed a line."""
        shown = plain(text)
        if not shown or self._quiet:
            return
        with self._lock:
            running = self._tally.running.get(step.key)
            if running is None:
                return
            progress = progress_of(shown)
            running.text = str(progress) if progress else shown
            now = self._clock()
            beats = not self._draws and now - running.told >= HEARTBEAT
            if beats:
                running.told = now
        if beats:
            self.say("…", f"{running.name} ({duration(now - running.since)}): {running.text}")

    def waiting(self, step: Step) -> None:
        """Another build makes the same step."""
        with self._lock:
            self._run(step).text = "another build makes it; waiting"
        if not self._draws and not self._quiet:
            self.say("→", f"{plain(step.name)}: another build makes it; waiting …")

    def finished(self, step: Step, seconds: float, cached: bool) -> None:
        """``step`` is in the store now, or was (``cached``)."""
        with self._lock:
            tally = self._tally
            tally.running.pop(step.key, None)
            if tally.todo is None and cached:
                tally.found.add(step.key)
            elif cached:
                tally.taken += 1  # another build made it
            else:
                tally.built += 1
        if not cached and not self._quiet:
            note = duration(seconds) if self._draws else f"{duration(seconds)}, {tally.done}/{len(tally.steps)}"
            self.say("✓", f"{plain(step.name)}  ({note})", "green")

    def damaged(self, step: Step, what: str) -> None:
        """The artefact of ``step`` was found damaged, and is made anew."""
        self.say("!", f"{plain(step.name)} was damaged in the store ({plain(what)}); making it anew", "yellow")

    def failed(self, step: Step, error: BaseException) -> None:
        """``step`` failed. The error itself is shown by :func:`show_error` at the end."""
        with self._lock:
            running = self._tally.running.pop(step.key, None)
        after = f" after {duration(self._clock() - running.since)}" if running else ""
        self.say("✗", f"{plain(step.name)} failed{after}", "bold red")

    # --- how it is shown ---

    def _run(self, step: Step) -> _Running:
        self._tally.find_todo()
        now = self._clock()
        running = _Running(name=plain(step.name), kind=step.kind, since=now, told=now)
        running = self._tally.running.setdefault(step.key, running)
        if self._draws and self._live is None:
            self._live = self._draw()
        return running

    def _summary(self) -> str:
        tally = self._tally
        if not tally.built:
            why = "another build made it" if tally.taken else "the result is in the store"
            return f"nothing to do: {why}"
        steps = f"{tally.built} of {len(tally.steps)} steps done in {duration(self._clock() - self._began)}"
        return f"{steps}, {tally.kept} from the store" if tally.kept else steps

    def say(self, mark: str, text: str, style: str = "") -> None:
        """A line of its own, above what is drawn."""
        with self._lock:
            if self._draws:
                from rich.text import Text

                console = self._live.console if self._live else rich_console(self._stream)
                console.print(Text.assemble((mark, style), " ", text), soft_wrap=True)
            else:
                self._stream.write(encodable(f"{mark} {text}\n", self._stream))
                self._stream.flush()

    def _draw(self) -> Live:
        from rich.live import Live

        live = Live(
            console=rich_console(self._stream),
            get_renderable=self._picture,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="crop",
        )
        live.start()
        return live

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            now = self._clock()
            rows = sorted(self._tally.running.values(), key=lambda running: running.since)
            table = Table.grid(padding=(0, 1), expand=True)
            table.add_column(width=1)
            table.add_column(no_wrap=True, overflow="ellipsis", max_width=44)
            table.add_column(no_wrap=True, justify="right", min_width=5)
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
            for running in rows[:ROWS]:
                running.spinner = running.spinner or Spinner("dots", style="cyan")
                table.add_row(
                    running.spinner,
                    Text(running.name, style="bold"),
                    Text(duration(now - running.since)),
                    Text(running.text, style="dim"),
                )
            return Group(table, Text(self._footer(len(rows), now), style="cyan", no_wrap=True, overflow="ellipsis"))

    def _footer(self, rows: int, now: float) -> str:
        tally = self._tally
        parts = [f"{tally.done} of {len(tally.steps)} steps"]
        if tally.kept:
            parts.append(f"{tally.kept} from the store")
        if rows > ROWS:
            parts.append(f"{rows - ROWS} more running")
        parts.append(duration(now - self._began))
        return "  " + " · ".join(parts)


# --- errors, tables, proofs ------------------------------------------------------------------------------------------


def error_text(error: CrosswheelError) -> list[tuple[str, str]]:
    """Pieces of text with their styles: where and what, why indented, and what to do."""
    pieces = [("error: ", "bold red")]
    why, hint = as_typed(error.why), as_typed(error.hint)
    if error.where:
        pieces.append((f"{plain(error.where)}: ", "bold"))
    pieces.append((f"{plain_block(error.what)}\n", ""))
    if why:
        pieces += [(f"    {line}\n" if line else "\n", "") for line in plain_block(why).split("\n")]
    if hint:
        pieces += [("→ ", "cyan"), (plain_block(hint).replace("\n", "\n  ") + "\n", "")]
    return pieces


def show_error(error: CrosswheelError, *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Tells an error on stderr; with ``as_json`` also as an object on stdout."""
    write_pieces(error_text(error), stream or sys.stderr)
    if as_json:
        import json

        described = {"where": error.where, "what": error.what, "why": as_typed(error.why), "hint": as_typed(error.hint)}
        print(json.dumps({"error": described, "exit_code": error.exit_code}, indent=2))


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, stream: TextIO | None = None
) -> None:
    """A table on stdout. Elsewhere than on a terminal: columns that are as wide as their widest cell."""
    out = stream or sys.stdout
    cells = [[plain(cell) for cell in row] for row in rows]
    if draws_on(out):
        _draw_table(out, title, columns, cells)
    else:
        out.write(encodable(f"{title}\n{table_text(columns, cells)}\n", out))


def table_text(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, two spaces apart, without trailing spaces; each line ends with a line feed."""
    lines = [columns, *rows] if any(columns) else list(rows)
    widths = [max((len(line[i]) for line in lines), default=0) for i in range(len(columns))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"  {line.rstrip()}\n" for line in padded)


def _draw_table(out: TextIO, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    console = rich_console(out)
    console.print(Text(title, style="bold"), soft_wrap=True)
    console.print(table)


_VERDICTS = {"FAIL": "bold red", "warn": "yellow", "not proven": "yellow", "pass": "green"}


_FINDING_INDENT = 26
"""Where the message of a finding begins, in columns (``proof_lines``)."""


def proof_text(proof: Proof, wheel: Path, seconds: float | None, *, width: int | None = None) -> list[tuple[str, str]]:
    """Pieces of text with their styles: the wheel, then the proof as its log has it, wrapped to ``width`` columns."""
    from crosswheel.proving.table import proof_lines

    took = "" if seconds is None else f"  ({duration(seconds)})"
    mark = ("✓", "green") if proof.passed else ("✗", "bold red")
    pieces = [mark, (f" {plain(str(wheel))}{took}\n", "bold")]
    lines = [part for line in proof_lines(proof)[1:] for part in _wrapped(plain(as_typed(line)), width)]
    for line in lines:
        word = next((word for word in _VERDICTS if line.startswith(f"  {word} ")), "")
        pieces += [("  ", ""), (word, _VERDICTS.get(word, "")), (f"{line[2 + len(word) :]}\n", "")]
    if not proof.passed:
        pieces.append((f"The proof failed: this {proof.kind} does not fit its target.\n", "bold red"))
    return pieces


def _wrapped(line: str, width: int | None) -> list[str]:
    """A line in pieces that fit; words stay whole, and the further pieces stand below the first one's message."""
    if width is None or len(line) <= width or width < 2 * _FINDING_INDENT:
        return [line]
    import textwrap

    indent = " " * _FINDING_INDENT
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def show_proof(proof: Proof, wheel: Path, *, seconds: float | None, stream: TextIO | None = None) -> None:
    """A proof on stdout, with the wheel's path and how long it all took."""
    out = stream or sys.stdout
    width = rich_console(out).width if draws_on(out) else None
    write_pieces(proof_text(proof, wheel, seconds, width=width), out)


def write_pieces(pieces: Sequence[tuple[str, str]], out: TextIO) -> None:
    """Writes pieces of text, drawn in their styles on a terminal, plain elsewhere."""
    if draws_on(out):
        from rich.text import Text

        rich_console(out).print(Text.assemble(*pieces), end="", soft_wrap=True)
    else:
        out.write(encodable("".join(text for text, _ in pieces), out))
        out.flush()
