"""The pages: sound markup, nothing hostile in it, the same bytes for the same input, and honest answers."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_writer import CATALOG, HOSTILE, Page, ended, failed, line, night, page, pages, sample, wheel

from crosswheel.errors import InputError
from crosswheel.publishing.history import CellLine, read_history
from crosswheel.publishing.page.answers import Board
from crosswheel.publishing.page.cells import cells_of
from crosswheel.publishing.page.grid import grid_of
from crosswheel.publishing.page.install import Installer
from crosswheel.publishing.page.render import CSP, Site, pages_of
from crosswheel.publishing.page.wheels import read_shelf
from crosswheel.publishing.page.writing import write_pages

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    folder = tmp_path_factory.mktemp("site")
    page(folder / "page", *sample(folder))
    return pages(folder / "page")


def page_of(site: dict[str, Page], start: str) -> Page:
    (found,) = [each for path, each in site.items() if path.startswith(start)]
    return found


def data_of(index: Page) -> dict[str, object]:
    return json.loads("".join(index.scripts))


def answers(index: Page, board: str, python: str) -> dict[str, dict[str, object]]:
    boards = {each["id"]: each for each in data_of(index)["boards"]}  # type: ignore[attr-defined,index,misc]
    return {answer["p"]: answer for answer in boards[board]["answers"][python]}


def test_every_page_is_sound(site: dict[str, Page]) -> None:
    faults = {path: each.check(each.path.parents[len(Path(path).parts) - 1]) for path, each in site.items()}
    assert {path: found for path, found in faults.items() if found} == {}
    assert len(site) > 15


def test_no_page_loads_or_runs_anything_but_its_own_files(site: dict[str, Page]) -> None:
    for each in site.values():
        policies = [meta["content"] for meta in each.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
        assert policies == [CSP]
        assert all(
            not script or script.get("type") == "application/json" or "src" in script for script in each.all("script")
        )
    assert "default-src 'none'" in CSP
    assert "unsafe" not in CSP
    assert "http" not in CSP


def test_the_table_says_each_state_in_words(site: dict[str, Page]) -> None:
    index = site["index.html"]
    cells = [attrs for attrs in index.all("td") if "data-l" in attrs]
    assert {attrs["class"] for attrs in cells} == {"built", "failed", "refused", "never"}
    for word in ("✓ built", "✗ failed", "⊘ refused", "○ never tried"):
        assert word in index.words
    assert all(attrs["data-l"] for attrs in cells)


def test_the_question_is_answered_with_the_line(site: dict[str, Page]) -> None:
    found = answers(site["index.html"], "rpi4", "3.11")
    assert found["numpy"]["o"][0]["l"].endswith("/rpi4/simple/ numpy==1.26.4")  # type: ignore[index]
    assert found["h5py"]["o"][0]["a"] == "sudo apt-get install libhdf5-103-1 libhdf5-hl-100"  # type: ignore[index]
    assert "numpy==1.26.4" in page_of(site, "boards/rpi4").words


def test_the_question_is_answered_honestly_where_there_is_no_wheel(site: dict[str, Page]) -> None:
    nano = answers(site["index.html"], "jetson-nano", "3.6")
    assert nano["grpcio"]["s"] == "refused"
    assert "1.62.3 serves CPython >=3.7" in nano["grpcio"]["w"]  # type: ignore[operator]
    assert nano["tensorflow"]["s"] == "never tried"
    assert nano["tensorflow"]["b"] == "crosswheel build tensorflow --target jetson-nano --python 3.6"
    failure = answers(site["index.html"], "rpi4", "3.11")["wrapt"]
    assert (failure["s"], failure["t"]) == ("failed", "wrapt 1.16.0 was tried and failed.")
    rk3588 = answers(site["index.html"], "rk3588", "3.11")["numpy"]
    assert rk3588["n"] == [
        {"t": "numpy 1.26.4 is there for rpi4, and was not proved for this board", "b": "rpi4", "p": "3.11"}
    ]


def test_a_cell_tells_of_its_wheel_its_proof_and_its_nights(site: dict[str, Page]) -> None:
    tree = page_of(site, "cells/dm-tree-0.1.5-rpi4")
    for word in (
        "Bazel 0.17.2",
        "3 of 9 were there already (cached), 6 ran",
        "six",
        "it was said",
        "Size of the wheel",
    ):
        assert word in tree.words
    svg = [attrs for attrs in tree.all("svg") if attrs.get("role") == "img"]
    assert len(svg) == 2
    assert len(tree.all("polyline")) == 2
    assert "3 nights, between 1 min and 1 min 2 s" in tree.words


def test_a_failed_cell_tells_the_error_and_the_log(site: dict[str, Page]) -> None:
    wrapt = page_of(site, "cells/wrapt-1.16.0-rpi4")
    for word in ("what no such header", "why no such header", "do no such header", "line one line two"):
        assert word in wrapt.words


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    dist, history = sample(tmp_path)
    page(tmp_path / "one", dist, history)
    page(tmp_path / "two", dist, history)
    one, two = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two
    again = page(tmp_path / "one", dist, history)
    assert again.written.written == 0


def test_nothing_at_all_is_a_page(tmp_path: Path) -> None:
    done = page(tmp_path / "page", tmp_path / "none", tmp_path / "none", "")
    assert done.counts == {}
    for path, each in pages(tmp_path / "page").items():
        assert each.check(tmp_path / "page") == [], path
    assert "No night has been recorded yet" in Page(tmp_path / "page/index.html").words


def test_no_history_and_an_empty_one_are_pages_of_the_wheels_alone(tmp_path: Path) -> None:
    wheel(tmp_path / "dist", "wrapt", "1.16.0")
    (tmp_path / "history").mkdir()
    for history in (tmp_path / "history", tmp_path / "none"):
        done = page(tmp_path / "page", tmp_path / "dist", history)
        assert (done.counts, done.nights) == ({"built": 1}, 0)
    (tmp_path / "history/2026-11-21T23-00-00Z.jsonl").write_bytes(b"")
    done = page(tmp_path / "page", tmp_path / "dist", tmp_path / "history")
    assert (done.counts, done.nights, len(done.notes)) == ({"built": 1}, 0, 1)


@pytest.mark.parametrize("cut", [1, 10, 100, 400, 1000])
def test_a_half_written_history_is_told_on_the_page(tmp_path: Path, cut: int) -> None:
    dist, history = sample(tmp_path)
    last = sorted(history.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-cut])
    done = page(tmp_path / "page", dist, history)
    assert done.nights in (2, 3)
    assert done.notes
    index = Page(tmp_path / "page/index.html")
    assert "What was left out" in index.words
    assert str(tmp_path) not in index.source


def test_nothing_hostile_gets_out_of_its_place(tmp_path: Path) -> None:
    dist, history = tmp_path / "dist", tmp_path / "history"
    bad = HOSTILE.encode("utf-8", "replace").decode()
    finding = {"rule": bad, "severity": "fail", "subject": bad, "message": bad, "hint": bad}
    wheel(dist, "wrapt", "1.16.0", build={"recipe": bad, "version": bad, "features": [bad], "bazel": bad, "backend": 3})
    wheel(dist, "numpy", "1.0", build={"features": "no list"}, told={"findings": [finding], "sha256": bad})
    cell = f"{bad}/../../x@{bad}"
    told = {"recipe": bad, "version": bad, "target": bad, "cpu": bad, "python": bad, "features": [bad]}
    cells = [
        line("a-1@rpi4+cp311", **{**told, "id": cell}),
        line("a-1@rpi4+cp311", **{**told, "id": f"{cell}2", "target": "../../etc"}),
        line("a-1@rpi4+cp311", **{**told, "id": f"{cell}3", "state": "refused", "why": f"- {bad}\n{bad}"}),
    ]
    night(history, 0, cells, failed(cell, bad, [bad, "x" * 100_000]), ended(f"{cell}2", size=10**15, seconds=1e9))
    (dist / "rpi4/x<script>.whl.proof.json").write_text("{")
    page(tmp_path / "page", dist, history)
    found = pages(tmp_path / "page")
    for path, each in found.items():
        assert each.check(tmp_path / "page") == [], path
        assert not re.search("<img|<script>", each.source), path
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", each.source), path
    assert all(path.is_relative_to(tmp_path / "page") for path in (each.path.resolve() for each in found.values()))
    assert {each.name for each in tmp_path.iterdir()} == {"dist", "history", "page"}
    assert "alert(1)" in found["index.html"].words


TEXTS = st.text(st.characters(), max_size=30).map(lambda text: text.encode("utf-8", "replace").decode())
FIELDS = ("id", "recipe", "version", "target", "cpu", "python", "why")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    told=st.lists(st.fixed_dictionaries(dict.fromkeys(FIELDS, TEXTS)), min_size=1, max_size=3),
    said=st.lists(TEXTS, min_size=5, max_size=5),
    refused=st.booleans(),
)
def test_no_text_of_a_night_spoils_a_page(told: list[dict[str, str]], said: list[str], refused: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [
            CellLine(**each, features=(each["recipe"],), state="refused" if refused else "planned") for each in told
        ]
        night(folder / "history", 0, lines, *(failed(each.id, said[0], said) for each in lines))
        cells = cells_of(read_history(folder / "history"), read_shelf(folder), CATALOG)
        grid = grid_of(cells, CATALOG)
        board = Board(name=said[1], title=said[2], short=said[3], pythons={said[4]: ()})
        boards = {each: replace(board, name=each) for each in {said[1], *(cell.target for cell in cells)}}
        site = Site(
            grid=grid,
            boards=tuple(boards[each] for each in sorted(boards)),
            nights=(),
            installer=Installer(base="", cells=cells, runtime={}),
            problems=tuple(said),
        )
        write_pages(folder / "page", dict(pages_of(site)))
        found = pages(folder / "page")
        assert {path: each.check(folder / "page") for path, each in found.items()} == {path: [] for path in found}


def test_names_that_differ_in_case_or_hostile_parts_have_pages_of_their_own(tmp_path: Path) -> None:
    names = ["Wrapt-1@rpi4+cp311", "wrapt-1@rpi4+cp311", "wrapt/1@rpi4+cp311", "wrapt-1@rpi4 cp311"]
    cells = [line("w-1@rpi4+cp311", id=name, recipe=f"w{number}") for number, name in enumerate(names)]
    night(tmp_path / "history", 0, cells, *(failed(name) for name in names))
    page(tmp_path / "page", tmp_path / "none", tmp_path / "history")
    files = [path.name.lower() for path in (tmp_path / "page/cells").iterdir()]
    assert len(set(files)) == len(files) == 4


def test_old_pages_go_and_foreign_files_stay(tmp_path: Path) -> None:
    dist, history = sample(tmp_path)
    folder = tmp_path / "page"
    page(folder, dist, history)
    (folder / "CNAME").write_text("wheels.example.org")
    before = set(folder.rglob("*.html"))
    shutil.rmtree(dist / "nanopi-m4")
    done = page(folder, dist, history)
    assert done.written.removed >= 1
    assert set(folder.rglob("*.html")) < before
    assert (folder / "CNAME").read_text() == "wheels.example.org"


def test_an_address_with_a_password_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than a place"):
        page(tmp_path / "page", tmp_path, tmp_path, "https://me:secret@wheels.example.org")
    assert not (tmp_path / "page").exists()


def test_two_thousand_cells_stay_small(tmp_path: Path) -> None:
    """Time is measured by ``./x bench page``; here, that size grows with the cells and no faster."""
    targets = [("rpi4", "311"), ("rk3588", "311"), ("rk3588", "313"), ("nanopi-m4", "39"), ("sbsa-debian", "313")]
    cells = [line(f"many-{n}.0@{target}+cp{python}") for n in range(400) for target, python in targets]
    night(tmp_path / "history", 0, cells, *(failed(each.id) for each in cells[::7]))
    done = page(tmp_path / "page", tmp_path / "none", tmp_path / "history")
    assert sum(done.counts.values()) == 2000
    assert (tmp_path / "page/index.html").stat().st_size < 700_000
