"""Members of a wheel: each is what the pinned RECORD says, and no more of the wheel is got than the index must give."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fetching import without_index
from wheel_writer import row, write_wheel

from crosswheel.building.job import Job, Settings
from crosswheel.building.sources import record
from crosswheel.building.sources.members import run_members, whole
from crosswheel.building.sources.mirror import held_at
from crosswheel.building.sources.record import Mismatch, take_members
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError
from crosswheel.planning.arranging import MembersStep
from crosswheel.spec.sources import Place

pytestmark = pytest.mark.unit

NAME = "quick-1.0-py3-none-any.whl"
RECORD = "quick-1.0.dist-info/RECORD"
FILES = {
    "nvidia/include/cudnn.h": b"#define CUDNN_MAJOR 9\n",
    "nvidia/include/deep/cudnn_graph.h": b"graph\n",
    "nvidia/lib/libcudnn.so.9": b"\x7fELF and so on",
    "nvidia/lib/libcudnn_adv.so.9": random.Random(1).randbytes(1 << 20),
}
WANTED = ("nvidia/include/*", "nvidia/lib/libcudnn.so.9")


def record_of(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return hashlib.sha256(archive.read(RECORD)).hexdigest()


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- against the RECORD ----------------------------------------------------------------------------------------------


def take(tmp_path: Path, wheel: Path, patterns: tuple[str, ...] = WANTED, pin: str = "") -> Path:
    dest = tmp_path / "dest"
    with zipfile.ZipFile(wheel) as archive:
        take_members(archive, pin or record_of(wheel), patterns, dest)
    return dest


def mismatch(tmp_path: Path, wheel: Path, patterns: tuple[str, ...] = WANTED, pin: str = "") -> str:
    with pytest.raises(Mismatch) as caught:
        take(tmp_path, wheel, patterns, pin)
    return str(caught.value)


def test_the_members_of_patterns_and_the_record(tmp_path: Path) -> None:
    dest = take(tmp_path, write_wheel(tmp_path, FILES, name=NAME))
    assert written(dest) == [*sorted(name for name in FILES if "adv" not in name), RECORD]
    assert (dest / "nvidia/lib/libcudnn.so.9").read_bytes() == FILES["nvidia/lib/libcudnn.so.9"]


def test_another_record_than_the_pinned(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, FILES, name=NAME)
    text = mismatch(tmp_path, wheel, pin="0" * 64)
    assert text == f"the sha256 of its RECORD is {record_of(wheel)} instead of {'0' * 64}"
    assert not (tmp_path / "dest").exists()


def test_a_member_that_is_not_what_the_record_says(tmp_path: Path) -> None:
    def changed(rows: list[str]) -> list[str]:
        return [row("nvidia/lib/libcudnn.so.9", b"other") if "libcudnn.so.9" in line else line for line in rows]

    wheel = write_wheel(tmp_path, FILES, name=NAME, record=changed)
    assert mismatch(tmp_path, wheel) == "nvidia/lib/libcudnn.so.9 is not what RECORD says"


def test_a_member_that_is_not_there(tmp_path: Path) -> None:
    gone = row("nvidia/include/gone.h", b"x")
    wheel = write_wheel(tmp_path, FILES, name=NAME, record=lambda rows: [*rows, gone])
    assert mismatch(tmp_path, wheel) == "RECORD lists nvidia/include/gone.h, and the wheel does not have it"


def test_a_member_that_the_record_does_not_list_is_not_taken(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, FILES, name=NAME, unlisted={"nvidia/include/evil.h": b"x"})
    assert "nvidia/include/evil.h" not in written(take(tmp_path, wheel))


@pytest.mark.parametrize("path", ["../evil.h", "nvidia/../../evil.h", "/tmp/evil.h"])
def test_a_path_that_leads_out(tmp_path: Path, path: str) -> None:
    wheel = write_wheel(tmp_path, {**FILES, path: b"x"}, name=NAME)
    assert mismatch(tmp_path, wheel, ("*evil.h",)) == f"the member {path!r} leads out of the folder"
    assert not (tmp_path / "evil.h").exists()


def test_a_pattern_that_nothing_matches(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, FILES, name=NAME)
    assert mismatch(tmp_path, wheel, (*WANTED, "nvidia/bin/*")) == "no member matches nvidia/bin/*"
    assert not (tmp_path / "dest").exists()


def test_a_member_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_BYTES", 10)
    wheel = write_wheel(tmp_path, FILES, name=NAME)
    assert "nvidia/include/cudnn.h has 22 bytes; at most 10 are taken" in mismatch(tmp_path, wheel)


def test_a_wheel_without_a_record(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x")
    assert mismatch(tmp_path, path, pin="0" * 64) == "the wheel has no RECORD"


# --- from an index ---------------------------------------------------------------------------------------------------


class Index:
    """A package index of one wheel, which serves parts of it or does not; ``sent`` are the bytes of it that it sent."""

    def __init__(self, wheel: Path, *, parts: bool) -> None:
        self.sent = 0
        content, outer = wheel.read_bytes(), self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(head=True)

            def do_GET(self) -> None:
                self._answer(head=False)

            def _answer(self, *, head: bool) -> None:
                page = f'<a href="/f/{NAME}#sha256={sha256_file(wheel)}">{NAME}</a>'.encode()
                body, status, kind = page, 200, "text/html"
                asked = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("Range", ""))
                if self.path.startswith("/f/"):
                    body, kind = content, "application/octet-stream"
                    if parts and asked:
                        body, status = content[int(asked[1]) : int(asked[2]) + 1], 206
                    outer.sent += 0 if head else len(body)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if parts:
                    self.send_header("Accept-Ranges", "bytes")
                if status == 206 and asked:
                    self.send_header("Content-Range", f"bytes {asked[1]}-{asked[2]}/{len(content)}")
                self.end_headers()
                if not head:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/simple"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


class Getting:
    """A wheel, an index that has it, and a step that gets some of its members."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.folder = tmp_path / "index"
        self.folder.mkdir()
        self.wheel = write_wheel(self.folder, FILES, name=NAME)
        self.out, self.lines = tmp_path / "out", list[str]()
        work = tmp_path / "work"
        for folder in (self.out, work):
            folder.mkdir()
        self.job = Job(
            key="0" * 64,
            out=self.out,
            work=work,
            settings=Settings(store=tmp_path / "store"),
            log=self.lines.append,
            cancelled=threading.Event(),
        )
        self.indices: list[Index] = []

    def index(self, *, parts: bool) -> Index:
        index = Index(self.wheel, parts=parts)
        self.indices.append(index)
        without_index(self.monkeypatch, PIP_INDEX_URL=index.url, PIP_RETRIES="0", PIP_NO_CACHE_DIR="1")
        self.monkeypatch.setenv("no_proxy", "127.0.0.1")
        return index

    def step(self, *, record: str = "", sha256: str = "") -> MembersStep:
        return MembersStep(
            name=f"get parts of {NAME}",
            file=NAME,
            sha256=sha256 or sha256_file(self.wheel),
            record=record or record_of(self.wheel),
            members=WANTED,
            places=(Place(uri="pypi:quick==1.0"),),
        )

    def __call__(self, step: MembersStep | None = None) -> list[str]:
        run_members(step or self.step(), {}, self.job, archives={})
        return written(self.out)


@pytest.fixture
def getting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Getting]:
    made = Getting(tmp_path, monkeypatch)
    yield made
    for index in made.indices:
        index.server.shutdown()
        index.server.server_close()


EXPECTED = [*sorted(name for name in FILES if "adv" not in name), RECORD]


def test_where_parts_are_served_no_more_is_got(getting: Getting, tmp_path: Path) -> None:
    """pip asks for 10 KiB at once; the wheel has 1 MiB."""
    index = getting.index(parts=True)
    assert getting() == EXPECTED
    assert 0 < index.sent < getting.wheel.stat().st_size / 2


def test_where_no_parts_are_served_the_whole_wheel_is_got(getting: Getting) -> None:
    index = getting.index(parts=False)
    assert getting() == EXPECTED
    assert index.sent == getting.wheel.stat().st_size
    assert any("the index does not serve parts of files" in line for line in getting.lines)


def test_a_folder_of_wheels(getting: Getting) -> None:
    without_index(getting.monkeypatch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(getting.folder))
    assert getting() == EXPECTED


def test_an_index_with_another_record(getting: Getting) -> None:
    getting.index(parts=True)
    with pytest.raises(FetchError, match=f"{NAME} is not the wheel that is pinned") as caught:
        getting(getting.step(record="1" * 64))
    assert "the sha256 of its RECORD is" in caught.value.why
    assert caught.value.exit_code == 3


def test_an_index_that_does_not_list_it(getting: Getting) -> None:
    without_index(getting.monkeypatch)
    with pytest.raises(FetchError):
        getting()
    assert written(getting.out) == []


def test_a_mirror_is_asked_before_the_index(getting: Getting, tmp_path: Path) -> None:
    index = getting.index(parts=True)
    mirror = tmp_path / "mirror"
    held = mirror / held_at(sha256_file(getting.wheel))
    held.parent.mkdir(parents=True)
    shutil.copyfile(getting.wheel, held)
    getting.job = replace(getting.job, settings=replace(getting.job.settings, mirror=str(mirror)))
    assert getting() == EXPECTED
    assert index.sent == 0


def test_what_a_mirror_lacks_is_still_got_in_parts(getting: Getting, tmp_path: Path) -> None:
    index = getting.index(parts=True)
    (tmp_path / "mirror").mkdir()
    getting.job = replace(getting.job, settings=replace(getting.job.settings, mirror=str(tmp_path / "mirror")))
    assert getting() == EXPECTED
    assert 0 < index.sent < getting.wheel.stat().st_size / 2


def test_what_a_mirror_holds_is_the_whole_wheel(getting: Getting) -> None:
    step = getting.step()
    assert (whole(step).file, whole(step).sha256, whole(step).places) == (step.file, step.sha256, step.places)


def test_the_key_is_of_the_wheel_and_the_members(getting: Getting) -> None:
    step = getting.step()
    assert step.key == getting.step().key
    assert len({step.key, getting.step(record="1" * 64).key, getting.step(sha256="2" * 64).key}) == 3
