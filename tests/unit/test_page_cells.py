"""Cells: what nights and proofs say together, however little or how contradictory."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from page_writer import CATALOG, POLICY, ended, failed, line, night, of_wheel, wheel

from crosswheel.publishing.history import CellLine, Ended, read_history
from crosswheel.publishing.page.cells import Cell, State, cells_of, nights_of
from crosswheel.publishing.page.grid import grid_of
from crosswheel.publishing.page.wheels import read_shelf

pytestmark = pytest.mark.unit

CELL = "wrapt-1.16.0@rpi4+cp311"


class World:
    """Wheels and nights of a test."""

    def __init__(self, folder: Path) -> None:
        self.dist, self.history = folder / "dist", folder / "history"
        self._nights = 0

    def night(self, cells: Iterable[CellLine], *lines: Ended, **more: Any) -> Path:
        self._nights += 1
        return night(self.history, self._nights, cells, *lines, **more)

    def cells(self) -> dict[str, Cell]:
        return {cell.id: cell for cell in cells_of(read_history(self.history), read_shelf(self.dist), CATALOG)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_built_cell_has_its_wheel_and_its_points(world: World) -> None:
    made = wheel(world.dist, "wrapt", "1.16.0")
    told = of_wheel(made, world.dist)
    world.night([line(CELL)], ended(CELL, **told))
    world.night([line(CELL)], ended(CELL, "cached", **told))
    (cell,) = world.cells().values()
    assert (cell.state, cell.offered, cell.notes) == (State.BUILT, True, ())
    assert [(point.outcome, point.seconds) for point in cell.points] == [("built", 61.0), ("cached", None)]


def test_a_proof_without_a_night_is_a_cell(world: World) -> None:
    wheel(world.dist, "wrapt", "1.16.0")
    (cell,) = world.cells().values()
    assert (cell.id, cell.state) == (CELL, State.BUILT)


def test_a_refused_and_a_planned_cell(world: World) -> None:
    refused = line("grpcio-1.62.3@jetson-nano+cp36", state="refused", why="- serves >=3.7\n- and nothing else")
    world.night([line(CELL), refused], whole=False)
    cells = world.cells()
    assert cells[CELL].state is State.NEVER
    assert "did not come to it" in cells[CELL].notes[0]
    assert cells[refused.id].state is State.REFUSED
    assert cells[refused.id].why == ("serves >=3.7", "and nothing else")


def test_a_night_that_did_not_come_to_a_cell_leaves_the_older_word(world: World) -> None:
    world.night([line(CELL)], failed(CELL))
    world.night([line(CELL)], whole=False)
    (cell,) = world.cells().values()
    assert cell.state is State.FAILED
    assert "did not come to it" in cell.notes[0]


def test_a_cell_that_left_the_matrix_says_since_when(world: World) -> None:
    world.night([line(CELL)], failed(CELL))
    world.night([line("numpy-1.26.4@rpi4+cp311")])
    assert "has not had this cell" in world.cells()[CELL].notes[0]


def test_a_night_of_another_matrix_says_nothing_of_a_cell(world: World) -> None:
    world.night([line(CELL)], failed(CELL))
    world.night([line("numpy-1.26.4@rpi4+cp311")], matrix="other")
    assert world.cells()[CELL].notes == ()


@pytest.mark.parametrize("only", ["numpy", "numpy-*@rpi4*"])
def test_a_night_of_some_cells_did_not_fail_to_come_to_the_others(world: World, only: str) -> None:
    other = "numpy-1.26.4@rpi4+cp311"
    world.night([line(CELL), line(other)], failed(CELL), failed(other))
    world.night([line(CELL), line(other)], only=only)
    cells = world.cells()
    assert cells[CELL].notes == ()
    assert "did not come to it" in cells[other].notes[0]
    assert nights_of(read_history(world.history))[-1].counts["not reached"] == 1


def test_a_failed_cell_with_an_older_wheel_offers_that_one_and_says_so(world: World) -> None:
    wheel(world.dist, "wrapt", "1.16.0")
    world.night([line(CELL)], failed(CELL))
    (cell,) = world.cells().values()
    assert (cell.state, cell.offered) == (State.FAILED, True)
    assert "older wheel" in cell.notes[0]


def test_a_wheel_of_another_build_than_the_nights_is_told(world: World) -> None:
    made = wheel(world.dist, "wrapt", "1.16.0")
    world.night([line(CELL)], ended(CELL, **{**of_wheel(made, world.dist), "sha256": "1" * 64}))
    (cell,) = world.cells().values()
    assert (cell.state, cell.offered) == (State.BUILT, True)
    assert "of another build" in cell.notes[0]


def test_a_proof_that_is_not_of_its_wheel_fails_the_cell(world: World) -> None:
    made = wheel(world.dist, "wrapt", "1.16.0")
    world.night([line(CELL)], ended(CELL, **of_wheel(made, world.dist)))
    made.write_bytes(made.read_bytes() + b" ")
    (cell,) = world.cells().values()
    assert (cell.state, cell.offered) == (State.FAILED, False)
    assert "is not proved" in cell.why[0]
    assert any("bytes" in problem for problem in read_shelf(world.dist).problems)


def test_a_built_cell_whose_wheel_is_gone_cannot_be_installed(world: World) -> None:
    made = wheel(world.dist, "wrapt", "1.16.0")
    world.night([line(CELL)], ended(CELL, **of_wheel(made, world.dist)))
    made.unlink()
    (cell,) = world.cells().values()
    assert (cell.state, cell.offered) == (State.BUILT, False)
    assert "cannot be installed" in cell.notes[0]


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../etc/passwd", "rpi4/../../x.whl", "rpi4/none.whl", "\x00"])
def test_a_path_in_the_history_leads_nowhere(world: World, path: str) -> None:
    world.night([line(CELL)], ended(CELL, wheel=path, proof=f"{path}.proof.json", sha256="1" * 64, size=3, passed=True))
    (cell,) = world.cells().values()
    assert cell.proved is None
    assert not cell.offered


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b'{"schema": 1}', b"\xff\xfe", b"[" * 100_000, b'{"schema":1,"wheel":"a.whl"}'],
    ids=["empty", "object", "list", "null", "little", "no text", "deep", "half"],
)
def test_a_proof_that_cannot_be_read_is_told_and_left_out(world: World, content: bytes) -> None:
    made = wheel(world.dist, "wrapt", "1.16.0")
    made.with_name(f"{made.name}.proof.json").write_bytes(content)
    shelf = read_shelf(world.dist)
    assert shelf.proved == {}
    assert len(shelf.problems) == 1
    assert world.cells() == {}


def test_foreign_files_among_the_wheels_are_nothing(world: World) -> None:
    made = wheel(world.dist, "wrapt", "1.16.0")
    (made.parent / "README").write_text("hello")
    (made.parent / ".hidden.whl.proof.json").write_text("{")
    (made.parent / "wheelhouse").mkdir()
    assert len(read_shelf(world.dist).proved) == 1
    assert read_shelf(world.dist).problems == ()


def test_default_features_do_not_tell_rows_apart_and_others_do(world: World) -> None:
    name = "tensorflow-1.5.0@nanopi-m4"
    world.night(
        [
            line(f"{name}+cp27", features=["jemalloc"]),
            line(f"{name}+cp39", state="refused", why="- no"),
            line(f"{name}+cp27+no-jemalloc", features=[]),
            line(f"{name}+cp27+xla", features=["jemalloc", "xla"]),
        ]
    )
    grid = grid_of(tuple(world.cells().values()), CATALOG)
    assert sorted(row.marks for row in grid.rows) == [(), ("no-jemalloc",), ("xla",)]
    plain = next(row for row in grid.rows if not row.marks)
    assert {place.state for place in plain.places} == {State.NEVER, State.REFUSED}
    assert plain.features == ("jemalloc",)


def test_what_no_night_asked_for_is_refused_with_the_reason_or_never_tried(world: World) -> None:
    world.night([line("grpcio-1.62.3@rpi4+cp311"), line("wrapt-1.16.0@jetson-nano+cp36")])
    grid = grid_of(tuple(world.cells().values()), CATALOG)
    places = {
        (row.recipe, column.target): place
        for row in grid.rows
        for column, place in zip(grid.columns, row.places, strict=True)
    }
    refused = places["grpcio", "jetson-nano"]
    assert refused.state is State.REFUSED
    assert refused.cell is not None
    assert "3.6" in " ".join(refused.cell.why)
    assert places["wrapt", "rpi4"].state is State.NEVER
    assert places["wrapt", "rpi4"].cell is None


def test_nights_are_counted(world: World) -> None:
    other = "numpy-1.26.4@rpi4+cp311"
    refused = line("grpcio-1.62.3@jetson-nano+cp36", state="refused", why="no")
    world.night([line(CELL), line(other), refused], failed(CELL), whole=False)
    (found,) = nights_of(read_history(world.history))
    assert found.counts == {"built": 0, "cached": 0, "failed": 1, "refused": 1, "not reached": 1}
    assert (found.whole, found.seconds) == (False, 61.0)


def test_a_bundle_is_a_cell_without_a_python_and_without_a_line(world: World) -> None:
    name = "protobuf-3.0.0-protoc-rpi4.tar.gz"
    proof = {
        "schema": 1,
        "bundle": name,
        "sha256": "0" * 64,
        "size": 3,
        "passed": True,
        "policy": POLICY.model_dump(mode="json"),
        "policy_sha256": "0" * 64,
        "rules": {},
        "findings": [],
        "run": None,
        "build": {"recipe": "protobuf", "version": "3.0.0", "output": "protoc"},
    }
    (world.dist / "rpi4").mkdir(parents=True)
    (world.dist / "rpi4" / f"{name}.proof.json").write_text(json.dumps(proof))
    (cell,) = world.cells().values()
    assert (cell.recipe, cell.python, cell.state, cell.offered) == ("protobuf", None, State.BUILT, False)
