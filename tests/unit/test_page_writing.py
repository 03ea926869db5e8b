"""The page's files: swapped in one by one, and nobody else's touched."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crosswheel.errors import InputError, MachineError
from crosswheel.publishing.page.writing import LIST, write_pages

pytestmark = pytest.mark.unit

OLD = {"assets/a.css": b"old", "cells/one.html": b"one", "cells/gone.html": b"gone", "index.html": b"old index"}
NEW = {"assets/b.css": b"new", "cells/one.html": b"one", "cells/two.html": b"two", "index.html": b"new index"}


def files(folder: Path) -> dict[str, bytes]:
    """All files but the list and the lock."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (LIST, ".crosswheel-report.lock")
    }


def test_a_new_page_replaces_the_old_one(tmp_path: Path) -> None:
    write_pages(tmp_path, OLD)
    done = write_pages(tmp_path, NEW)
    assert files(tmp_path) == NEW
    assert (done.written, done.same, done.removed, done.kept) == (3, 1, 2, ())


def test_the_same_again_touches_no_file(tmp_path: Path) -> None:
    write_pages(tmp_path, NEW)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name[0] != "."}
    done = write_pages(tmp_path, NEW)
    assert (done.written, done.same) == (0, 4)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_who_reads_a_page_while_it_is_replaced_reads_the_old_one_to_its_end(tmp_path: Path) -> None:
    write_pages(tmp_path, OLD)
    with (tmp_path / "index.html").open("rb") as reader:
        write_pages(tmp_path, NEW)
        assert reader.read() == OLD["index.html"]


def test_files_of_others_stay(tmp_path: Path) -> None:
    for name in ("CNAME", "simple/index.html", "cells/notes.txt", "cells/theirs.html"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"theirs")
    write_pages(tmp_path, OLD)
    write_pages(tmp_path, NEW)
    assert {name for name, data in files(tmp_path).items() if data == b"theirs"} == {
        "CNAME",
        "simple/index.html",
        "cells/notes.txt",
        "cells/theirs.html",
    }


@pytest.mark.parametrize("name", ["index.html", "cells/one.html"])
def test_a_file_of_somebody_in_the_way_is_refused_and_nothing_changes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"theirs")
    with pytest.raises(InputError) as caught:
        write_pages(tmp_path, NEW)
    assert name in caught.value.why
    assert files(tmp_path) == {name: b"theirs"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    page, elsewhere = tmp_path / "page", tmp_path / "elsewhere"
    page.mkdir()
    elsewhere.mkdir()
    if kind == "file":
        (page / "cells").write_bytes(b"theirs")
    else:
        (page / "cells").symlink_to(elsewhere)
    with pytest.raises(InputError, match="in the way"):
        write_pages(page, NEW)
    assert list(elsewhere.iterdir()) == []


def test_a_page_that_somebody_changed_is_not_removed(tmp_path: Path) -> None:
    write_pages(tmp_path, OLD)
    (tmp_path / "cells/gone.html").write_bytes(b"mine now")
    done = write_pages(tmp_path, NEW)
    assert done.kept == ("cells/gone.html",)
    assert (tmp_path / "cells/gone.html").read_bytes() == b"mine now"


@pytest.mark.parametrize("at", range(12))
def test_killed_at_any_move_each_page_is_whole_and_the_next_run_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    write_pages(tmp_path, OLD)
    moves = _killing(monkeypatch, at)
    try:
        write_pages(tmp_path, NEW)
    except KeyboardInterrupt:
        found = {path: data for path, data in files(tmp_path).items() if not path.startswith(".")}
        for path, data in found.items():
            assert data in (OLD.get(path), NEW.get(path)), path
        assert found["index.html"] in (OLD["index.html"], NEW["index.html"])
        if found["index.html"] == NEW["index.html"]:  # what it leads to came before it
            assert set(NEW) <= set(found)
        else:
            assert set(OLD) <= set(found)
    monkeypatch.undo()
    write_pages(tmp_path, NEW)
    assert files(tmp_path) == NEW
    assert moves is not None


def _killing(monkeypatch: pytest.MonkeyPatch, at: int) -> list[object]:
    """Ends this process, as it were, at one of the moves and removals."""
    moves: list[object] = []

    def wrapped(real: Callable[..., object]) -> Callable[..., object]:
        def killed(*arguments: object) -> object:
            if len(moves) == at:
                raise KeyboardInterrupt
            moves.append(arguments)
            return real(*arguments)

        return killed

    monkeypatch.setattr(Path, "replace", wrapped(Path.replace))
    monkeypatch.setattr(Path, "unlink", wrapped(Path.unlink))
    return moves


def test_a_full_disk_leaves_the_old_page_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pages(tmp_path, OLD)
    real = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "two.html":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(MachineError, match="no space left"):
        write_pages(tmp_path, NEW)
    monkeypatch.undo()
    assert {path: data for path, data in files(tmp_path).items() if not path.startswith(".")} == OLD


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="cannot be written"):
        write_pages(tmp_path / "file" / "page", NEW)


HOSTILE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            {"files": {"../outside.html": ["x"], "/etc/passwd.html": ["x"], "cells/../../outside.html": ["x"]}},
            {"files": {"keep.txt": ["x"], "simple/index.html": ["x"], "wheels/a.html": ["x"]}},
            {"files": []},
            [],
            {"files": {"cells/one.html": 3}},
            {"files": {"": [], ".": [], "\x00.html": []}},
        ]
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=HOSTILE)
def test_a_list_that_lies_removes_nothing_of_others(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    outer = tmp_path_factory.mktemp("outer")
    page = outer / "page"
    for name in ("outside.html", "page/keep.txt", "page/simple/index.html", "page/wheels/a.html"):
        (outer / name).parent.mkdir(parents=True, exist_ok=True)
        (outer / name).write_bytes(b"theirs")
    (page / LIST).write_bytes(content)
    write_pages(page, NEW)
    theirs = {name for name, data in files(outer).items() if data == b"theirs"}
    assert theirs == {"outside.html", "page/keep.txt", "page/simple/index.html", "page/wheels/a.html"}
