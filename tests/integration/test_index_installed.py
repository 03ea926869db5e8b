"""pip and uv install from an index: from the disk, and from a plain static server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote
from urllib.request import Request, urlopen

import pytest
from caches import fetched_nginx, free_port
from commandline import Built, CommandLine
from containers import until
from index_writer import CATALOG, WHEN, released
from serving import Choosing, served

from crosswheel.publishing.index import build_index, rewrite_index
from crosswheel.publishing.ledger import read_ledger
from crosswheel.publishing.pages import JSON_TYPE
from crosswheel.publishing.yanks import Yanks, yank

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
HERE = f"cp{sys.version_info.major}{sys.version_info.minor}"
X86 = f"{HERE}-{HERE}-linux_x86_64"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with a package that needs another, of two targets, by instruction set, and with what is yanked."""
    root = tmp_path_factory.mktemp("an index")
    dist, index = root / "dist", root / "in dex"
    x86 = {"folder": "x86_64", "tag": X86}
    released(dist, "quick", "1.0+cpu", **x86, more="Requires-Python: >=3.8\nRequires-Dist: helper (>=1)\n")
    released(dist, "helper", "1.0", **x86)
    released(dist, "helper", "2.0", **x86, more="Requires-Python: >=9\n")
    released(dist, "helper", "3.0", **x86)
    for number, cpu in ((20, "x86-64-v2"), (40, "x86-64-v3")):
        build = f"{number}_{cpu.replace('-', '_')}"
        released(
            dist, "helper", "1.0", folder=f"x86_64/{cpu}", tag=X86, build=build, content=f"cpu = {cpu!r}\n".encode()
        )
    released(dist, "quick", "1.0", folder="rpi4", content=b"board = 'rpi4'\n")
    released(dist, "quick", "1.0", folder="rk3588", content=b"board = 'rk3588'\n")
    build_index(index, dist, CATALOG, when=WHEN)
    rewrite_index(index, CATALOG, yank(Yanks(), read_ledger(index), "helper==3.0", 'it\'s <wrong> & "bad"'))
    return index


def run(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a command with no settings of the machine's pip and uv."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
    clean = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_CONFIG": "1", "TERM": "dumb"}
    done = subprocess.run(
        [str(word) for word in argv], env={**kept, **clean}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def pip(url: str, to: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "pip", "install", "--no-cache-dir", "--index-url", url, "--target", to, *words)


def uv(url: str, to: Path, *words: str, cache: Path) -> subprocess.CompletedProcess[str]:
    where = ("--python", sys.executable, "--cache-dir", cache, "--default-index", url, "--target", to)
    return run(UV, "pip", "install", *where, *words)


def installed(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.dist-info")}


WANTED = {"quick-1.0+cpu.dist-info", "helper-1.0.dist-info"}


@pytest.fixture(params=["file", "http"])
def url(request: pytest.FixtureRequest, index: Path) -> Iterator[str]:
    if request.param == "file":
        yield index.as_uri()
        return
    with served(index) as (url, _):
        yield url


def test_pip_installs_from_it(url: str, tmp_path: Path) -> None:
    said = pip(f"{url}/x86_64/simple", tmp_path / "site", "quick").stdout
    assert installed(tmp_path / "site") == WANTED
    assert ".whl.metadata" in said, "METADATA is fetched alone (PEP 658)"


def test_uv_installs_from_it(url: str, tmp_path: Path) -> None:
    uv(f"{url}/x86_64/simple", tmp_path / "site", "quick", cache=tmp_path / "cache")
    assert installed(tmp_path / "site") == WANTED


def test_uv_and_pip_read_the_json_where_the_server_gives_it(index: Path, tmp_path: Path) -> None:
    with served(index, Choosing) as (url, asked):
        pip(f"{url}/x86_64/simple", tmp_path / "pip", "quick")
        uv(f"{url}/x86_64/simple", tmp_path / "uv", "quick", "--exclude-newer", "2026-11-22", cache=tmp_path / "cache")
    assert installed(tmp_path / "pip") == installed(tmp_path / "uv") == WANTED
    assert not [path for path in asked if path.endswith(".html")]


def test_uv_takes_nothing_that_is_newer_than_asked(index: Path, tmp_path: Path) -> None:
    """It needs the upload times of the JSON for that."""
    with served(index, Choosing) as (url, _), pytest.raises(AssertionError, match=r"exclude-newer|no versions"):
        uv(f"{url}/x86_64/simple", tmp_path / "uv", "quick", "--exclude-newer", "2026-11-20", cache=tmp_path / "cache")


def test_the_hash_of_the_page_is_checked(index: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(index, copy)
    wheel = next((copy / "wheels" / "x86_64").glob("helper-1.0-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(AssertionError, match=r"HASHES|hashes"):
        pip(f"{copy.as_uri()}/x86_64/simple", tmp_path / "site", "helper")
    with pytest.raises(AssertionError, match=r"[Hh]ash"):
        uv(f"{copy.as_uri()}/x86_64/simple", tmp_path / "other", "helper", cache=tmp_path / "cache")


def test_what_is_yanked_is_installed_only_where_its_version_is_asked(index: Path, tmp_path: Path) -> None:
    said = pip(f"{index.as_uri()}/x86_64/simple", tmp_path / "site", "helper==3.0")
    assert installed(tmp_path / "site") == {"helper-3.0.dist-info"}
    assert 'it\'s <wrong> & "bad"' in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("x86_64", f"helper-1.0-{X86}.whl"),
        ("x86_64/x86-64-v2", f"helper-1.0-20_x86_64_v2-{X86}.whl"),
        ("x86_64/x86-64-v3", f"helper-1.0-40_x86_64_v3-{X86}.whl"),
        ("", f"helper-1.0-{X86}.whl"),
    ],
)
def test_the_highest_that_the_processor_has_is_taken(index: Path, tmp_path: Path, folder: str, expected: str) -> None:
    simple = (index / folder / "simple").as_uri()
    words = ("--no-cache-dir", "--no-deps", "--index-url", simple, "--dest", tmp_path / "pip")
    run(sys.executable, "-m", "pip", "download", *words, "helper==1.0")
    assert [path.name for path in (tmp_path / "pip").iterdir()] == [expected]
    uv(simple, tmp_path / "uv", "helper==1.0", cache=tmp_path / "cache")
    cpu = folder.partition("/")[2]
    content = (tmp_path / "uv" / "helper.py").read_text()
    assert content == (f"cpu = {cpu!r}\n" if cpu else "answer = 42\n")


@pytest.mark.parametrize("board", ["rpi4", "rk3588"])
def test_a_board_gets_its_own_wheel(index: Path, tmp_path: Path, board: str) -> None:
    words = ("--platform", "linux_aarch64", "--python-version", "3.11", "--only-binary", ":all:", "--no-deps")
    simple = f"{index.as_uri()}/{board}/simple"
    run(sys.executable, "-m", "pip", "install", "--target", tmp_path, "--index-url", simple, *words, "quick")
    assert (tmp_path / "quick.py").read_text() == f"board = {board!r}\n"


def test_a_board_that_asks_the_index_of_all_gets_no_wheel_of_another_board(index: Path, tmp_path: Path) -> None:
    words = ("--platform", "linux_aarch64", "--python-version", "3.11", "--only-binary", ":all:", "--no-deps")
    with pytest.raises(AssertionError, match="No matching distribution"):
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--dest",
            tmp_path,
            "--index-url",
            f"{index.as_uri()}/simple",
            *words,
            "quick",
        )


def test_hashes_of_the_index_serve_a_lock(index: Path, tmp_path: Path) -> None:
    wheel = next(wheel for wheel in read_ledger(index).wheels if wheel.place == f"x86_64/helper-1.0-{X86}.whl")
    lock = tmp_path / "requirements.txt"
    lock.write_text(f"helper==1.0 --hash=sha256:{wheel.sha256}\n")
    pip(f"{index.as_uri()}/x86_64/simple", tmp_path / "site", "--require-hashes", "-r", str(lock))
    assert installed(tmp_path / "site") == {"helper-1.0.dist-info"}


def test_a_real_wheel_is_released_with_what_lies_beside_it(
    built: Callable[[str], Built], crosswheel: CommandLine, tmp_path: Path
) -> None:
    dist = built("main job").out
    done = crosswheel.json("index", "build", tmp_path / "index", "--from", dist)
    wheel = next((dist / "rpi4").glob("*.whl"))
    assert done["added"] == [f"rpi4/{wheel.name}"]
    told = json.loads((tmp_path / "index" / "rpi4" / "simple" / "dm-tree" / "index.v1_json").read_text())["files"][0]
    beside = [(tmp_path / "index" / "rpi4" / "simple" / "dm-tree" / unquote(url)).resolve() for url in told["_beside"]]
    assert {path.name.removeprefix(wheel.name) for path in beside} >= {".proof.json", ".cdx.json", ".intoto.json"}
    for path in beside:
        assert path.read_bytes() == (dist / "rpi4" / path.name).read_bytes()
    only = ("--platform", "linux_aarch64", "--python-version", "3.11", "--only-binary", ":all:", "--no-deps")
    with served(tmp_path / "index") as (url, _):
        words = ("--index-url", f"{url}/rpi4/simple", "--dest", tmp_path / "got", *only, "dm-tree")
        run(sys.executable, "-m", "pip", "download", "--no-cache-dir", *words)
    assert [path.read_bytes() for path in (tmp_path / "got").iterdir()] == [wheel.read_bytes()]
    again = crosswheel.json("index", "build", tmp_path / "index", "--from", dist)
    assert (again["added"], again["written"]) == ([], [])


_NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {told}
}}
"""


def test_nginx_chooses_by_the_settings_in_the_documents(index: Path, tmp_path: Path) -> None:
    told = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.DOTALL)
    assert told
    port, folder = free_port(), tmp_path / "nginx"
    program = fetched_nginx(folder)
    root = f'root "{index}";\n    listen 127.0.0.1:{port};'
    user = "" if os.getuid() else "user root;"  # else its workers may not read the tests' folder
    settings = told[1].replace("root /srv/wheels.example.org;", root)
    (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, told=settings, user=user))
    with subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"]) as server:
        try:
            until(lambda: connects(port))
            for accepted, kind in (("*/*", "text/html"), (JSON_TYPE, JSON_TYPE)):
                asked = Request(f"http://127.0.0.1:{port}/x86_64/simple/quick/", headers={"Accept": accepted})
                with urlopen(asked) as answer:
                    assert answer.headers.get_content_type() == kind
            pip(f"http://127.0.0.1:{port}/x86_64/simple", tmp_path / "pip", "quick")
            assert installed(tmp_path / "pip") == WANTED
        finally:
            server.terminate()


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
