"""Fetching from places that are dead, slow, wrong or cut off, from a server in this process."""

from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fetching import DATA, SHA, Run, Server, _answer, dead, reset, step, truncated, without_index

from crosswheel.building.execute import execute
from crosswheel.building.job import Cancelled, Settings
from crosswheel.building.sources.externals import run_repository_cache
from crosswheel.building.sources.fetch import run_fetch
from crosswheel.building.sources.places import PlaceError, http
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.errors import FetchError
from crosswheel.planning.steps import FetchStep, RepositoryCacheStep
from tests.waiting import emptied

pytestmark = pytest.mark.unit


def test_the_first_place_that_answers_is_taken(server: Server, tmp_path: Path) -> None:
    run = Run(tmp_path)
    gone = dead()
    file = run(step(gone, server.url + "/none", server.give("/src", DATA), server.give("/never", DATA)))
    assert file.read_bytes() == DATA
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert server.asked == ["/none", "/src"]
    assert f"{gone}: Connection refused" in run.lines
    assert any("the server answers 404" in line for line in run.lines)
    assert server.headers[-1]["Accept-Encoding"] == "identity"


def test_an_executable_file_is_executable(server: Server, tmp_path: Path) -> None:
    file = Run(tmp_path)(step(server.give("/bazel", DATA), file="bazel", executable=True))
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


def test_if_all_fail_all_are_named_with_their_reasons(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_index(monkeypatch)
    run = Run(tmp_path, mirror=str(tmp_path))
    gone = dead()
    wrong = server.give("/wrong", b"<!DOCTYPE html><html>Sign in</html>")
    cut = server.give("/cut", truncated)
    error = run.fails(step(gone, server.url + "/none?token=secret", wrong, cut, "pypi:a==1#b/../c"))
    text = str(error)
    assert text.startswith("fetch src-1.0.tar.gz: src-1.0.tar.gz could not be had from any of 6 places\n")
    assert f"1. the mirror {tmp_path}: it does not hold sha256/{SHA[:2]}/{SHA}" in text
    assert f"2. {gone}: Connection refused" in text
    assert f"3. {server.url}/none?…: the server answers 404 Not Found" in text
    assert f"4. {wrong}: it gave other bytes: sha256 " in text
    assert f"instead of {SHA} (35 bytes; it is a web page)" in text
    assert f"5. {cut}: the body is cut off: 400 of 11,000 bytes came (3 attempts)" in text
    assert "6. pypi:a==1#b/../c: no index that pip uses here lists a project a" in text
    assert "secret" not in text
    assert "--source NAME=PATH" in error.hint
    assert SHA in error.hint
    assert error.exit_code == 3


def test_wrong_bytes_are_kept_aside_and_the_next_place_is_tried(server: Server, tmp_path: Path) -> None:
    run = Run(tmp_path)
    file = run(step(server.give("/wrong", b"wrong bytes"), server.give("/right", DATA)))
    assert file.read_bytes() == DATA
    assert run.kept() == [b"wrong bytes"]
    (kept,) = (run.store / "kept").iterdir()
    assert kept.name.startswith(hashlib.sha256(b"wrong bytes").hexdigest()[:12])
    assert kept.name.endswith("-src-1.0.tar.gz")
    assert any("nothing of them was used" in line for line in run.lines)


@pytest.mark.parametrize("trouble", [500, 503, 429, truncated, reset])
def test_what_may_pass_is_tried_again(trouble: int | Callable[..., None], server: Server, tmp_path: Path) -> None:
    file = Run(tmp_path)(step(server.give("/src", trouble, trouble, DATA)))
    assert file.read_bytes() == DATA
    assert server.asked == ["/src"] * 3


def test_a_download_that_is_cut_off_is_never_half_used(server: Server, tmp_path: Path) -> None:
    goal = RepositoryCacheStep(name="lay out", inputs={"a": step(server.give("/src", truncated))})
    settings = Settings(store=tmp_path / "store")

    def build() -> Path:
        made = {FetchStep: partial(run_fetch, archives={}), RepositoryCacheStep: run_repository_cache}
        with Screen(quiet=True) as screen:
            result = execute(goal, Store(settings.store), settings, made, screen, sweep=lambda _key: None)
        return result.artefacts[goal.key].path

    with pytest.raises(FetchError, match=r"the body is cut off: 400 of 11,000 bytes came \(3 attempts\)"):
        build()
    whole = [path for path in settings.store.rglob("*") if path.is_file() and path.name.startswith("src")]
    assert whole == []
    server.give("/src", truncated, DATA)  # the next build: cut off once more, then whole
    assert (build() / "content_addressable/sha256" / SHA / "file").read_bytes() == DATA


def test_a_build_that_is_killed_in_a_download_leaves_nothing_that_is_used(server: Server, tmp_path: Path) -> None:
    sent = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        truncated(handler)
        handler.wfile.flush()
        sent.set()
        threading.Event().wait(20)

    place = server.give("/src", slow, DATA)
    root = tmp_path / "store"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(root), place, SHA], cwd=Path(__file__).parents[2])
    assert sent.wait(20)
    child.kill()
    child.wait()
    made = {FetchStep: partial(run_fetch, archives={})}
    goal = step(place)
    with Screen(quiet=True) as screen:
        result = execute(goal, Store(root), Settings(store=root), made, screen, sweep=lambda _key: None)
    assert (result.artefacts[goal.key].path / "src-1.0.tar.gz").read_bytes() == DATA
    assert emptied(root / "tmp")


KILLED = """
import sys
from functools import partial
from pathlib import Path
from crosswheel.building.execute import execute
from crosswheel.building.job import Settings
from crosswheel.building.sources.fetch import run_fetch
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.sources import Place
root, place, sha256 = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
goal = FetchStep(name="fetch src", file="src-1.0.tar.gz", sha256=sha256, places=(Place(uri=place),))
with Screen(quiet=True) as screen:
    execute(goal, Store(root), Settings(store=root), {FetchStep: partial(run_fetch, archives={})}, screen)
"""


def test_what_will_not_pass_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    Run(tmp_path).fails(step(server.give("/gone", 410)))
    assert server.asked == ["/gone"]


def test_a_server_that_always_fails_is_left_after_three_attempts(server: Server, tmp_path: Path) -> None:
    error = Run(tmp_path).fails(step(server.give("/src", 502)))
    assert server.asked == ["/src"] * 3
    assert "502 Bad Gateway (3 attempts)" in error.why
    assert "from the one place" in error.what


def test_a_body_without_a_length_is_taken(server: Server, tmp_path: Path) -> None:
    def unsized(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(DATA)

    assert Run(tmp_path)(step(server.give("/src", unsized))).read_bytes() == DATA


def test_a_file_that_says_it_is_packed_is_not_unpacked_on_the_way(server: Server, tmp_path: Path) -> None:
    def packed(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA)

    assert Run(tmp_path)(step(server.give("/src", packed))).read_bytes() == DATA


def test_a_file_that_is_too_long_is_not_taken(server: Server, tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(1000):
                handler.wfile.write(bytes(100_000))
        except ConnectionError:
            return

    for path, answer, words in (
        ("/announced", _answer(bytes(30)), "is 30 bytes long; at most 20"),
        ("/endless", endless, "is longer than 20 bytes"),
    ):
        url = server.give(path, answer)
        with pytest.raises(PlaceError, match=words):
            http.download(url, tmp_path / "file", threading.Event(), max_bytes=20)
        assert not (tmp_path / "file").exists()


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/src")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    server.give("/src", DATA)
    assert Run(tmp_path)(step(server.give("/old", redirect))).read_bytes() == DATA


def test_cancelling_ends_a_download(server: Server, tmp_path: Path) -> None:
    run = Run(tmp_path)

    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        run.job.cancelled.set()
        try:
            for _ in range(100):
                handler.wfile.write(bytes(1 << 18))
        except ConnectionError:
            return

    with pytest.raises(Cancelled):
        run(step(server.give("/slow", slow)))
    assert list(run.job.out.iterdir()) == []


def test_credentials_are_not_shown(tmp_path: Path) -> None:
    url = dead().replace("127.0.0.1", "user:password@127.0.0.1")
    run = Run(tmp_path)
    error = run.fails(step(url))
    assert "password" not in str(error) + "".join(run.lines)
