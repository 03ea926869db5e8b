"""Nights: what fails takes nothing else with it, what was interrupted goes on, and each step runs once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from executing import Told

from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.night import Ending, Night, Work, estimated, plan_of, run_night, stored_seconds
from crosswheel.building.store import Store
from crosswheel.cli.settings import DATA
from crosswheel.errors import MachineError, StepError
from crosswheel.planning.cells import Cell
from crosswheel.planning.matrix import plan_matrix
from crosswheel.planning.steps import Step
from crosswheel.proving.prove import RULES
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.matrix import Cost, Matrix
from crosswheel.spec.remembering import remembering

pytestmark = pytest.mark.unit

CATALOG = remembering(Catalog(DATA))
FREE = Cost()
FileWork = Callable[[Any, Mapping[str, Path], Job], None]


def matrix(**axes: object) -> tuple[Cell, ...]:
    read = Matrix.model_validate({"name": "test", "axes": axes})
    return plan_matrix(read, CATALOG, "test.toml", rules=RULES).planned


WRAPT = matrix(recipe="wrapt", target=["rpi4", "rk3588", "x86_64"])
RPI4, RK3588, X86 = (cell.id for cell in WRAPT)


def write(step: Step, _inputs: Mapping[str, Path], job: Job) -> None:
    (job.out / "name").write_text(step.name)


class Run:
    """A night of cells with runners that write small files; ``endings`` in the order in which the cells ended."""

    def __init__(
        self,
        root: Path,
        cells: tuple[Cell, ...] = WRAPT,
        work: FileWork = write,
        *,
        cost: Cost = FREE,
        keep_going: bool = False,
        estimates: Mapping[str, float] | None = None,
        again: frozenset[str] = frozenset(),
        free: Callable[[Path], int] = lambda _: 2**50,
    ) -> None:
        self.told = Told()
        self.endings: dict[str, Ending] = {}
        self.ran: list[str] = []
        self.settings: list[Settings] = []
        self._work = work
        store = Store(root)
        kinds = {type(step) for cell in cells for step in plan_of(cell).steps}
        night = Night(
            Work(cells=cells, estimates=estimates or {}, again=again),
            cost,
            store,
            self._ended,
            where="test.toml",
            keep_going=keep_going,
            free=free,
        )
        settings = Settings(store=root, memory=8192)
        self.error: BaseException | None = None
        try:
            run_night(
                night, cells, store, settings, dict.fromkeys(kinds, self._run), self.told, cost, sweep=lambda _: None
            )
        except KeyboardInterrupt as error:
            self.error = error

    def _ended(self, ending: Ending) -> None:
        self.endings[ending.cell.id] = ending

    def _run(self, step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        self.ran.append(step.key)
        self.settings.append(job.settings)
        self._work(step, inputs, job)

    @property
    def failed(self) -> list[str]:
        return [name for name, ending in self.endings.items() if ending.error]


def failing(*names: str) -> FileWork:
    """Fails the steps whose names begin so."""

    def work(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.name.startswith(names):
            raise StepError(f"{step.name} was told to fail.")
        write(step, inputs, job)

    return work


def compile_of(target: str) -> str:
    return f"compile wrapt 1.16.0 for {target}"


def test_each_step_runs_once_and_each_cell_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path)
    everything = {step.key for cell in WRAPT for step in plan_of(cell).steps}
    assert len(run.ran) == len(set(run.ran)) == len(everything)
    assert set(run.endings) == {RPI4, RK3588, X86} and run.failed == []
    assert sum(ending.ran for ending in run.endings.values()) == len(everything)
    assert all(ending.wheel and ending.proof and ending.seconds > 0 for ending in run.endings.values())
    assert all(ending.total == ending.ran + ending.found for ending in run.endings.values())


def test_again_nothing_runs(tmp_path: Path) -> None:
    Run(tmp_path)
    run = Run(tmp_path)
    assert run.ran == [] and len(run.endings) == 3
    assert all((ending.ran, ending.seconds, ending.error) == (0, 0, None) for ending in run.endings.values())


def test_a_cell_that_fails_stops_no_other(tmp_path: Path) -> None:
    run = Run(tmp_path, work=failing(compile_of("rpi4")))
    assert run.failed == [RPI4]
    ending = run.endings[RPI4]
    assert ending.step is not None and ending.step.name == compile_of("rpi4")
    assert "was told to fail" in str(ending.error) and "./x log" in str(ending.error)
    assert ending.wheel is None and ending.proof is None
    assert run.endings[X86].proof and run.endings[RK3588].proof
    assert run.told.names("failed") == [compile_of("rpi4")]


def test_a_shared_step_that_fails_fails_those_that_need_it(tmp_path: Path) -> None:
    shared = "assemble sysroot debian-12 aarch64"
    run = Run(tmp_path, work=failing(shared))
    assert sorted(run.failed) == sorted([RPI4, RK3588])
    assert run.endings[RPI4].error is run.endings[RK3588].error
    assert run.told.names("failed") == [shared]


def test_what_only_failed_cells_need_is_not_done_unless_told_to_keep_going(tmp_path: Path) -> None:
    cells = tuple(cell for cell in WRAPT if cell.id == RPI4)
    early = failing("resolve emulator", "resolve sysroot")
    run = Run(tmp_path / "a", cells, early)
    kept = Run(tmp_path / "b", cells, early, keep_going=True)
    assert set(run.told.names("failed")) <= {"resolve emulator", "resolve sysroot debian-12 aarch64"}
    assert set(kept.told.names("failed")) == {"resolve emulator", "resolve sysroot debian-12 aarch64"}
    assert set(run.ran) < set(kept.ran)
    assert "assemble target root debian-12 aarch64" in kept.told.names("made")
    assert len(kept.endings) == 1  # told once, by its first fault


def test_the_next_night_does_what_is_left(tmp_path: Path) -> None:
    first = Run(tmp_path, work=failing(compile_of("rpi4")))
    second = Run(tmp_path)
    assert second.failed == []
    assert not set(second.ran) & ({*first.ran} - {key for key in first.ran if key in _keys_of(RPI4)})
    assert second.endings[X86].ran == 0 and second.endings[RPI4].ran == 3  # compile, wheel, proof


def _keys_of(name: str) -> set[str]:
    cell = next(cell for cell in WRAPT if cell.id == name)
    others = {step.key for other in WRAPT if other is not cell for step in plan_of(other).steps}
    return {step.key for step in plan_of(cell).steps} - others


def test_longest_first(tmp_path: Path) -> None:
    order: list[str] = []

    def work(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.kind == "run":
            order.append(step.name.rpartition(" ")[2])
            time.sleep(0.02)
        write(step, inputs, job)

    def prepared(root: Path, **more: Any) -> list[str]:
        Run(root, work=failing("compile"))  # all that the compile steps need is there
        order.clear()
        Run(root, work=work, **more)
        return list(order)

    takes = {RPI4: 10.0, RK3588: 500.0, X86: 60.0}
    assert prepared(tmp_path / "a", estimates=takes) == ["rk3588", "x86_64", "rpi4"]
    assert prepared(tmp_path / "b", estimates=takes, again=frozenset({RK3588})) == ["x86_64", "rpi4", "rk3588"]


def test_an_interrupted_night_goes_on_where_it_stopped(tmp_path: Path) -> None:
    def interrupted(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.name == compile_of("x86_64"):
            import _thread

            _thread.interrupt_main()
            if job.cancelled.wait(10):
                raise Cancelled
        write(step, inputs, job)

    first = Run(tmp_path, work=interrupted, estimates={RPI4: 9.0, RK3588: 5.0, X86: 1.0})
    assert isinstance(first.error, KeyboardInterrupt)
    assert X86 not in first.endings
    second = Run(tmp_path)
    done = {step.key for name in first.endings for cell in WRAPT if cell.id == name for step in plan_of(cell).steps}
    assert not done & set(second.ran)
    assert set(second.endings) == {RPI4, RK3588, X86} and second.failed == []


def test_a_cell_that_takes_too_long_is_stopped_and_the_others_go_on(tmp_path: Path) -> None:
    stopped = threading.Event()

    def slow(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.name == compile_of("rpi4"):
            assert job.cancelled.wait(20)
            stopped.set()
            raise Cancelled
        write(step, inputs, job)

    run = Run(tmp_path, work=slow, cost=Cost(minutes=0.01))
    assert stopped.is_set() and run.failed == [RPI4]
    told = str(run.endings[RPI4].error)
    assert "took longer than the 0.01 minutes that a cell may cost" in told and "test.toml" in told
    assert run.endings[X86].proof is not None
    again = Run(tmp_path)
    assert again.failed == []


def test_a_step_that_ends_by_an_error_when_it_is_stopped_took_too_long_all_the_same(tmp_path: Path) -> None:
    def slow(step: Step, inputs: Mapping[str, Path], job: Job) -> None:
        if step.name == compile_of("rpi4"):
            job.cancelled.wait(20)
            raise StepError("The container is gone.")
        write(step, inputs, job)

    run = Run(tmp_path, work=slow, cost=Cost(minutes=0.01))
    assert "took longer" in str(run.endings[RPI4].error)


def test_without_room_on_the_disk_nothing_is_begun(tmp_path: Path) -> None:
    run = Run(tmp_path, cost=Cost(disk=10), free=lambda _: 2 * 2**30)
    assert run.ran == [] and len(run.failed) == 3
    error = run.endings[RPI4].error
    assert isinstance(error, MachineError)
    assert "2.0 GiB free, and a cell may take 10 GiB" in str(error) and "./x clean" in str(error)


def test_what_is_stored_needs_no_room(tmp_path: Path) -> None:
    Run(tmp_path)
    assert Run(tmp_path, cost=Cost(disk=10), free=lambda _: 0).failed == []


def test_a_container_has_no_more_memory_than_a_cell_may_cost(tmp_path: Path) -> None:
    assert {settings.memory for settings in Run(tmp_path / "a", cost=Cost(memory=2)).settings} == {2048}
    assert {settings.memory for settings in Run(tmp_path / "b", cost=Cost(memory=64)).settings} == {8192}


def test_a_damaged_wheel_is_made_again(tmp_path: Path) -> None:
    Run(tmp_path)
    wheel = plan_of(WRAPT[0]).output
    (Store(tmp_path).path(wheel.key) / "out" / "name").write_text("x")
    run = Run(tmp_path)
    assert run.ran == [wheel.key] and run.failed == []


def test_a_night_of_no_cells_ends(tmp_path: Path) -> None:
    assert Run(tmp_path, ()).endings == {}


# --- what cells take


def test_estimates_are_of_the_cell_else_of_its_recipe_else_of_its_backend(tmp_path: Path) -> None:
    cells = matrix(recipe=["wrapt", "numpy"], target=["rpi4", "x86_64"])
    names = {(cell.recipe, cell.target): cell.id for cell in cells}
    store = Store(tmp_path)
    usual = estimated(cells, store, {})
    assert usual[names["numpy", "rpi4"]] > usual[names["wrapt", "rpi4"]] > 0
    known = estimated(cells, store, {names["wrapt", "rpi4"]: [7.0, 9.0, 100.0]})
    assert known[names["wrapt", "rpi4"]] == 9.0
    roots = sum(step.kind in ("lock", "root") for step in plan_of(cells[0]).steps)
    assert known[names["wrapt", "x86_64"]] == 9.0 + 20 * (roots - 2)  # the emulator's are the first cell's
    assert known[names["numpy", "rpi4"]] == usual[names["numpy", "rpi4"]]


def test_what_is_stored_takes_nothing_and_says_what_it_took(tmp_path: Path) -> None:
    store = Store(tmp_path)
    cells = matrix(recipe="wrapt", target=["rpi4", "x86_64"])
    Run(tmp_path, cells[:1])
    path = store.path(plan_of(cells[0]).output.inputs["run"].key) / "meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "seconds": 1234.5}))
    took = stored_seconds(plan_of(cells[0]), store)
    assert took is not None and 1234.5 <= took < 1240
    found = estimated(cells, store, {})
    roots = {step.key for step in plan_of(cells[1]).steps if step.kind in ("lock", "root")}
    assert found[cells[0].id] == 0 and found[cells[1].id] == took + 20 * sum(not store.has(key) for key in roots)
    assert stored_seconds(plan_of(cells[1]), store) is None
