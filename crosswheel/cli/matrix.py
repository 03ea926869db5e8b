"""The tasks `matrix plan` and `matrix run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.cli.arguments import task
from crosswheel.cli.nights import Chosen, choose, read_nights
from crosswheel.cli.settings import BUILD_HELP, read_settings
from crosswheel.errors import CrosswheelError, ProofError

if TYPE_CHECKING:
    from crosswheel.building.job import Settings
    from crosswheel.building.night import Ending
    from crosswheel.building.store import Store
    from crosswheel.publishing.history import Ended, Writer

_HELP = {
    "matrix": "The file of cells (default: matrix.toml of your data, else the shipped one).",
    "only": "Those cells alone: a pattern of their names such as 'wrapt-*@rpi4+*', a recipe or a target.",
    "shard": "K/N: the K-th of N shards, such as 2/5; each cell is in one of them, the same on every machine.",
    "history": "The folder of the history (default: history).",
}
HISTORY = "history"


@task(name="plan", help={**_HELP, "json": "Print one JSON object on stdout."})
def plan_task(
    _context: Context,
    matrix: str | None = None,
    only: str | None = None,
    shard: str | None = None,
    history: str = HISTORY,
    json: bool = False,
) -> None:
    """Show the cells of a matrix: what is stored, what is refused and why, what they share, what they will take."""
    from crosswheel.building.store import Store
    from crosswheel.cli.matrix_shown import plan_json, show_plan

    chosen = choose(matrix, only, shard)
    store = Store(read_settings().store)
    estimates = _estimates(chosen, store, Path(history))
    if json:
        from crosswheel.cli.build import print_json

        print_json(plan_json(chosen, store, estimates))
    else:
        show_plan(chosen, store, estimates)


@task(
    name="run",
    numbers={"jobs": int, "memory": float},
    help={
        **_HELP,
        **BUILD_HELP,
        "night": "The name of the night (default: the time in UTC); shards of one night have the same.",
        "keep-going": "Do all that a failed cell's other steps still can, too, so that a night finds every fault.",
        "memory": "Limit of a container in GiB (default: 80 % of the machine's memory, or what a cell may cost).",
    },
)
def run_task(
    _context: Context,
    matrix: str | None = None,
    only: str | None = None,
    shard: str | None = None,
    history: str = HISTORY,
    out: str = "dist",
    night: str | None = None,
    keep_going: bool = False,
    jobs: int | None = None,
    memory: float | None = None,
    sandbox: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
    keep_failed: bool = False,
    json: bool = False,
) -> None:
    """Build and prove the cells of a matrix here; what is stored is not built again.

    A cell that fails does not stop the others. A night that is interrupted goes on where it stopped when the same
    command is given again.
    """
    from crosswheel.building.store import Store
    from crosswheel.publishing.history import file_name

    began = time.monotonic()
    settings = read_settings(
        jobs=jobs, memory=memory, sandbox=sandbox, mirror=mirror, offline=offline, keep_failed=keep_failed
    )
    if night is not None:
        file_name(night, shard)  # refuses what is no name, before anything is planned
    chosen = choose(matrix, only, shard)
    recorder = _run(chosen, Store(settings.store), settings, Path(history), Path(out), night, keep_going, quiet=json)
    seconds = time.monotonic() - began
    from crosswheel.cli.matrix_shown import night_json, show_night

    if json:
        from crosswheel.cli.build import print_json

        print_json(night_json(chosen, recorder.night, recorder.lines, seconds))
    else:
        show_night(chosen, recorder.lines, seconds)
    code = max(recorder.codes.values(), default=0)
    if code:
        raise Exit(code=code)


@dataclass
class _Recorder:
    """Releases what a cell made, writes its line into the history, and tells it."""

    store: Store
    out: Path
    writer: Writer
    night: str
    say: Callable[[str, str, str], None]
    lines: dict[str, Ended] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)

    def ended(self, ending: Ending) -> None:
        """A cell ended: see :class:`crosswheel.building.night.Night`."""
        line, code = self._line(ending)
        before = self.lines.get(line.cell)
        if line.outcome == "cached" and before and before.outcome == "built" and before.key == line.key:
            line = before  # of this very night, before it was interrupted
        else:
            self.writer.append(line)
        self.lines[line.cell] = line
        self.codes[line.cell] = code
        from crosswheel.cli.matrix_shown import ended_words

        self.say(*ended_words(line))

    def _line(self, ending: Ending) -> tuple[Ended, int]:
        from crosswheel.cli.nights import failed_line, proved_line
        from crosswheel.cli.releasing import folder_of, release_output

        error = ending.error
        if error is None:
            assert ending.cell.plan and ending.wheel and ending.proof
            plan = ending.cell.plan
            try:
                failed = f"failed/{folder_of(plan)}"
                made = release_output(plan, ending.wheel, ending.proof, self.store, self.out, failed=failed)
                return proved_line(ending, *made, self.out), 0 if made[1].passed else ProofError.exit_code
            except CrosswheelError as problem:
                error = problem
            except OSError as problem:
                from crosswheel.building.disk import no_space

                error = no_space(self.out.absolute(), str(problem))
        return failed_line(ending, error, self.store), error.exit_code


def _estimates(chosen: Chosen, store: Store, history: Path) -> Mapping[str, float]:
    from crosswheel.building.night import estimated
    from crosswheel.cli.nights import took

    return estimated(chosen.whole.planned, store, took(read_nights(history)))


def _run(
    chosen: Chosen,
    store: Store,
    settings: Settings,
    history: Path,
    out: Path,
    night: str | None,
    keep_going: bool,
    *,
    quiet: bool,
) -> _Recorder:
    """Runs the night, or what is left of the one that was interrupted."""
    from crosswheel.building.night import Night, Work, run_night
    from crosswheel.building.runners import runners
    from crosswheel.cli.console import Screen
    from crosswheel.cli.executing import prepare
    from crosswheel.cli.nights import failed_before, open_night
    from crosswheel.publishing.history import End, now

    estimates = _estimates(chosen, store, history)
    goals = [goal for cell in chosen.wanted if cell.plan for goal in (cell.plan.proof, cell.plan.output)]
    prepare(goals, store, settings)
    writer, name, lines = open_night(chosen, history, night, quiet=quiet)
    with writer, Screen(quiet=quiet) as screen:
        say: Callable[[str, str, str], None] = (lambda *_: None) if quiet else screen.say
        recorder = _Recorder(store=store, out=out, writer=writer, night=name, say=say, lines=dict(lines))
        work = Work(cells=chosen.wanted, estimates=estimates, again=failed_before(lines.values()))
        course = Night(work, chosen.matrix.cost, store, recorder.ended, where=str(chosen.file), keep_going=keep_going)
        kinds = runners(chosen.catalog, settings)
        run_night(course, chosen.wanted, store, settings, kinds, screen, chosen.matrix.cost)
        writer.append(End(ended=now()))
    return recorder


tasks = Collection("matrix", plan_task, run_task)
