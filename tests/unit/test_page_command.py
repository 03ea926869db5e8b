"""`report build` as users give it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from page_writer import URL, sample

from crosswheel.cli import report

pytestmark = pytest.mark.unit


def run(*words: object, **options: object) -> int:
    """The exit code of the task."""
    try:
        report.build_task(Context(), *map(str, words), **options)
    except Exit as ended:
        return ended.code
    return 0


def test_it_writes_the_page_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dist, history = sample(tmp_path)
    options = {"from_": str(dist), "history": str(history), "index_url": URL}
    assert run(tmp_path / "page", **options) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'page' / 'index.html'}: 4 built, 1 failed, ")
    assert "3 nights" in said
    assert run(tmp_path / "page", json=True, **options) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["nights"], told["written"], told["notes"]) == (3, 0, [])
    assert told["cells"]["built"] == 4


def test_what_was_left_out_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dist, history = sample(tmp_path)
    last = sorted(history.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-5])
    assert run(tmp_path / "page", from_=str(dist), history=str(history)) == 0
    assert "note: 2026-11-21T23-00-00Z.jsonl:5: the last line is torn, and left out" in capsys.readouterr().err


def test_a_history_that_is_not_there_yet_is_none(tmp_path: Path) -> None:
    dist, _ = sample(tmp_path)
    assert run(tmp_path / "page", from_=str(dist), history=str(tmp_path / "none")) == 0


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"from_": "/nowhere"}, "--from"),
        ({"history": __file__}, "--history"),
        ({"index_url": "wheels.example.org"}, "--index-url"),
    ],
)
def test_bad_words_end_with_2_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, str], where: str
) -> None:
    dist, _ = sample(tmp_path)
    assert run(tmp_path / "page", **{"from_": str(dist), **options}) == 2
    assert where in capsys.readouterr().err
    assert not (tmp_path / "page").exists()


def test_files_of_somebody_end_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dist, _ = sample(tmp_path)
    (tmp_path / "page").mkdir()
    (tmp_path / "page/index.html").write_text("theirs")
    assert run(tmp_path / "page", from_=str(dist)) == 2
    assert "did not write" in capsys.readouterr().err
    assert (tmp_path / "page/index.html").read_text() == "theirs"
