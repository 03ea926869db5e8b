"""The history of nights: what is appended is read again, and what a stopped machine leaves is no error."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswheel.errors import InputError, MachineError
from crosswheel.publishing.history import (
    CellLine,
    End,
    Ended,
    Fault,
    Resumed,
    Start,
    Steps,
    Writer,
    file_name,
    is_running,
    night_of,
    parts_of,
    read_history,
    unfinished,
)

pytestmark = pytest.mark.unit

AT = datetime(2026, 11, 21, 23, 0, tzinfo=UTC)


def cell(name: str = "wrapt-1.16.0@rpi4+cp311", *, refused: str = "") -> CellLine:
    return CellLine(
        id=name,
        recipe="wrapt",
        version=None if refused else "1.16.0",
        target="rpi4",
        cpu="cortex-a72",
        python="3.11",
        state="refused" if refused else "planned",
        why=refused,
    )


def start(*cells: CellLine, night: str = "n1", shard: str | None = None, started: datetime = AT) -> Start:
    return Start(
        night=night,
        matrix="nightly",
        matrix_sha256="0" * 64,
        crosswheel="0.1.0",
        shard=shard,
        started=started,
        cells=cells or (cell(),),
    )


def ended(name: str = "wrapt-1.16.0@rpi4+cp311", outcome: str = "built", **more: object) -> Ended:
    told = {"cell": name, "outcome": outcome, "started": AT, "seconds": 1.5, "steps": Steps(total=9, cached=3, ran=6)}
    return Ended.model_validate({**told, **more})


def written(folder: Path, first: Start, *lines: Ended | Resumed | End) -> Path:
    path = folder / file_name(first.night, first.shard)
    with Writer(path) as writer:
        writer.append(first)
        for line in lines:
            writer.append(line)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    fault = Fault(where="run", what="It failed.", why="x\ny", hint="look")
    lost = ended("b", "failed", step="run", error=fault, log=("a\x1b[31mb", "\ud800é"), passed=False)
    cells = (cell(), cell("b"), cell("c", refused="no such Python"))
    written(tmp_path, start(*cells), ended(), lost, End(ended=AT))
    history = read_history(tmp_path)
    assert history.problems == ()
    (part,) = history.parts
    assert part.start == start(*cells) and part.ended == AT
    assert part.cells["b"].error == fault and part.cells["b"].log == ("a\x1b[31mb", "\\ud800é")
    assert history.latest()["b"] == ("n1", part.cells["b"])
    assert "c" not in part.cells


def test_a_line_is_one_json_object_as_documented(tmp_path: Path) -> None:
    path = written(tmp_path, start(shard="2/5"))
    assert path.name == "n1.2-of-5.jsonl"
    assert path.read_text().startswith('{"schema":1,"night":"n1","matrix":"nightly","matrix_sha256":"000')
    assert '"shard":"2/5","only":null,"started":"2026-11-21T23:00:00Z","cells":[{"id":"wrapt-' in path.read_text()


def test_no_folder_is_an_empty_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "none").parts == ()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_told_and_left_out_and_the_night_goes_on(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, start(cell(), cell("b")), ended(), ended("b"))
    path.write_bytes(path.read_bytes()[:-cut])
    history = read_history(tmp_path)
    assert list(history.parts[0].cells) == ["wrapt-1.16.0@rpi4+cp311"]
    assert history.problems == (f"{path}:3: the last line is torn, and left out",)
    with Writer(path) as writer:
        writer.append(Resumed(resumed=AT))
        writer.append(ended("b", "cached"))
    (part,) = read_history(tmp_path).parts
    assert part.cells["b"].outcome == "cached"
    assert part.ended is None


def test_a_torn_first_line_is_told_and_the_night_can_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "n1.jsonl"
    path.write_text('{"schema":1,"nig')
    history = read_history(tmp_path)
    assert history.parts == () and "the night is left out" in history.problems[-1]
    written(tmp_path, start(), ended())
    assert len(read_history(tmp_path).parts[0].cells) == 1


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "null", '"cell"', '{"cell": 1}', "\0\1", '{"schema":2}', '{"ended":"x"}', "[" * 100_000, '{"o":1}'],
)
def test_a_foreign_line_is_told_and_the_others_count(tmp_path: Path, line: str) -> None:
    path = written(tmp_path, start(), ended(outcome="failed"))
    with path.open("a") as stream:
        stream.write(line + "\n")
    with Writer(path) as writer:
        writer.append(ended())
    history = read_history(tmp_path)
    assert history.parts[0].cells["wrapt-1.16.0@rpi4+cp311"].outcome == "built"
    assert len(history.problems) == 1 and f"{path}:3: " in history.problems[0]


def test_a_cell_that_the_night_does_not_have_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, start(), ended("gone"))
    history = read_history(tmp_path)
    assert history.parts[0].cells == {}
    assert "'gone' is no cell of this night" in history.problems[0]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("a person's")
    (tmp_path / "folder.jsonl").mkdir()
    history = read_history(tmp_path)
    assert history.parts == () and len(history.problems) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 1000), st.booleans())
def test_no_bytes_are_an_error(tmp_path: Path, noise: bytes, at: int, cut: bool) -> None:
    path = tmp_path / "n1.jsonl"
    path.unlink(missing_ok=True)
    data = written(tmp_path, start(), ended(), End(ended=AT)).read_bytes()
    at %= len(data) + 1
    path.write_bytes(data[:at] + noise + (b"" if cut else data[at:]))
    for part in read_history(tmp_path).parts:
        assert set(part.cells) <= {each.id for each in part.start.cells}


def test_nights_are_in_order_and_shards_are_one_night(tmp_path: Path) -> None:
    later = AT.replace(day=22)
    written(tmp_path, start(night="a", started=later), ended(outcome="cached"))
    written(tmp_path, start(night="b", shard="2/2"), ended())
    written(tmp_path, start(cell("x"), night="b", shard="1/2"), ended("x"))
    history = read_history(tmp_path)
    assert [(night, [part.start.shard for part in parts]) for night, parts in history.nights().items()] == [
        ("b", ["1/2", "2/2"]),
        ("a", [None]),
    ]
    assert history.latest()["wrapt-1.16.0@rpi4+cp311"][0] == "a"
    assert [night for night, _ in history.of_cell("wrapt-1.16.0@rpi4+cp311")] == ["b", "a"]


def test_a_night_is_written_by_one_process(tmp_path: Path) -> None:
    path = tmp_path / "n1.jsonl"
    assert not is_running(path)
    with Writer(path) as writer:
        writer.append(start())
        assert is_running(path)
        with pytest.raises(InputError, match="this night is running"):
            Writer(path)
        assert unfinished(read_history(tmp_path).parts, start(night="n2")) is None
    assert not is_running(path)


def test_only_the_newest_interrupted_night_of_the_same_goes_on(tmp_path: Path) -> None:
    written(tmp_path, start(), ended())
    again = start(night="n2", started=AT.replace(hour=23, minute=30))
    found = unfinished(read_history(tmp_path).parts, again)
    assert found is not None and found.night == "n1"
    for other in (
        again.model_copy(update={"shard": "1/2"}),
        again.model_copy(update={"matrix_sha256": "1" * 64}),
        again.model_copy(update={"cells": (cell("other"),)}),
        again.model_copy(update={"crosswheel": "0.2.0"}),
        again.model_copy(update={"only": "wrapt*"}),
    ):
        assert unfinished(read_history(tmp_path).parts, other) is None
    written(tmp_path, again, End(ended=AT))
    assert unfinished(read_history(tmp_path).parts, start(night="n3")) is None


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    writer = Writer(tmp_path / "n1.jsonl")
    writer.append(start())

    written_bytes = iter((10,))

    def fails(file: int, data: bytes) -> int:
        for fits in written_bytes:
            return real(file, data[:fits])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fails)
    with pytest.raises(MachineError, match="cannot be written") as caught:
        writer.append(ended())
    assert "--history" in caught.value.hint and "No space left" in caught.value.why
    monkeypatch.setattr(os, "write", real)
    writer.append(ended())
    writer.close()
    history = read_history(tmp_path)
    assert len(history.parts[0].cells) == 1 and len(history.problems) == 1


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        Writer(tmp_path / "history" / "n1.jsonl")


@pytest.mark.parametrize("shard", ["0/5", "6/5", "1", "1/0", "a/b", "1/2/3", "-1/2", "", "1/99999"])
def test_a_shard_that_is_none_is_told(shard: str) -> None:
    with pytest.raises(InputError, match="no shard"):
        parts_of(shard)


@pytest.mark.parametrize("night", ["", "../x", "a/b", "a b", ".x", "a.b", "x" * 101])
def test_a_name_that_no_file_should_have_is_told(night: str) -> None:
    with pytest.raises(InputError, match="no name of a night"):
        file_name(night, None)


def test_a_night_is_called_by_its_start() -> None:
    assert night_of(AT) == "2026-11-21T23-00-00Z"
    assert file_name(night_of(AT), "2/5") == "2026-11-21T23-00-00Z.2-of-5.jsonl"
