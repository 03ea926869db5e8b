"""The package index, asked by pip's own client: pages, METADATA beside wheels, and an index that is not there."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from fetching import Server, dead, without_index
from wheel_writer import NAME, POLICY

from crosswheel.building.offered import offered
from crosswheel.building.sources.package_index import PackageIndex
from crosswheel.errors import FetchError
from crosswheel.proving.dependencies import findings_of
from crosswheel.proving.findings import Severity

pytestmark = pytest.mark.unit

OUTER = "outer-2.0-py3-none-any.whl"
INNER = "inner-1.0-py3-none-any.whl"
PAPERS = b"Metadata-Version: 2.1\nName: outer\nVersion: 2.0\nRequires-Dist: inner (>=1)\nRequires-Dist: gone\n\nText\n"


def give(server: Server, pages: Mapping[str, Mapping[str, bytes | None]]) -> str:
    """Serves an index: files by project, each with the METADATA that is served beside it."""

    def answer(project: str, links: str) -> None:
        def page(handler: BaseHTTPRequestHandler) -> None:
            body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        server.give(f"/simple/{project}/", page)

    for project, files in pages.items():
        links = ""
        for file, papers in files.items():
            beside = f' data-dist-info-metadata="sha256={hashlib.sha256(papers).hexdigest()}"' if papers else ""
            links += f'<a href="/f/{file}#sha256={"1" * 64}"{beside}>{file}</a>'
            if papers:
                server.give(f"/f/{file}.metadata", papers)
        answer(project, links)
    return server.url + "/simple"


class Nothing:
    """A machine that has nothing of its own."""

    def wheels(self, name: str) -> tuple[()]:
        return ()

    def package(self, name: str) -> None:
        return None

    def recipe(self, name: str, asked: object) -> tuple[str, str]:
        return "", ""


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))


def test_many_projects_are_asked_for_by_one_pip_and_none_twice(
    server: Server, monkeypatch: pytest.MonkeyPatch, pip: None
) -> None:
    url = give(server, {"outer": {OUTER: PAPERS, "inner-9-py3-none-any.whl": None}, "inner": {INNER: None}})
    without_index(monkeypatch, PIP_INDEX_URL=url)
    with PackageIndex() as index:
        pages = index.pages(["outer", "inner", "gone", "outer"])
        assert {name: [item.file for item in page.files] for name, page in pages.items()} == {
            "outer": [OUTER],
            "inner": [INNER],
            "gone": [],
        }
        assert [page.trouble for page in pages.values()] == ["", "", ""]
        assert [pages[name].files[0].metadata for name in ("outer", "inner")] == [True, False]
        assert index.papers([("outer", OUTER), ("inner", INNER)]) == {OUTER: PAPERS.decode(), INNER: None}
        assert index.papers([("outer", OUTER)]) == {OUTER: PAPERS.decode()}
        index.pages(["outer", "inner"])
    assert sorted(server.asked) == ["/f/" + OUTER + ".metadata", "/simple/gone/", "/simple/inner/", "/simple/outer/"]


def test_metadata_of_another_digest_is_not_taken(server: Server, monkeypatch: pytest.MonkeyPatch, pip: None) -> None:
    url = give(server, {"outer": {OUTER: PAPERS}})
    without_index(monkeypatch, PIP_INDEX_URL=url)
    server.give(f"/f/{OUTER}.metadata", PAPERS + b"Requires-Dist: evil\n")
    with PackageIndex() as index:
        assert index.papers([("outer", OUTER)]) == {OUTER: None}
    server.give(f"/f/{OUTER}.metadata", 500)
    with PackageIndex() as index:
        assert index.papers([("outer", OUTER)]) == {OUTER: None}


def test_what_is_required_in_turn_is_followed_without_a_wheel_being_fetched(
    server: Server, monkeypatch: pytest.MonkeyPatch, pip: None
) -> None:
    url = give(server, {"outer": {OUTER: PAPERS}, "inner": {INNER: PAPERS.replace(b"gone", b"outer")}})
    without_index(monkeypatch, PIP_INDEX_URL=url)
    headers = {"requires-dist": ("outer",)}
    with PackageIndex() as index:
        found = offered(NAME, headers, POLICY, "3.11.2", index=index, own=Nothing())
    assert found.unread == 0
    findings = findings_of(NAME, headers, POLICY, found)
    assert [item.severity for item in findings] == [Severity.WARN, Severity.PASS]
    assert findings[0].message.startswith("gone (of outer): `pip install` fails on rpi4, or takes an older version")
    assert "requires 1 project and, by these, 2 more on rpi4; 2 are there: 2 wheels" in findings[1].message
    assert not [path for path in server.asked if path.endswith(".whl")]


def test_an_index_that_is_not_there_is_told_and_no_error(monkeypatch: pytest.MonkeyPatch, pip: None) -> None:
    without_index(monkeypatch, PIP_INDEX_URL=dead(), PIP_RETRIES="0")
    headers = {"requires-dist": ("outer",)}
    with PackageIndex() as index:
        found = offered(NAME, headers, POLICY, None, index=index, own=Nothing())
    (finding,) = findings_of(NAME, headers, POLICY, found)
    assert finding.severity is Severity.NOT_PROVEN
    assert "could not be asked: Could not fetch URL" in finding.message


def test_a_pip_that_ends_or_says_nothing_is_an_error(tmp_path: Path) -> None:
    for code, seconds, why in (
        ("import sys; sys.exit('no pip here')", 20.0, "no pip here"),
        ("import time; time.sleep(60)", 0.3, "0 were answered"),
        ("print('no JSON', flush=True); input()", 20.0, "Expecting value"),
    ):
        with PackageIndex(argv=(sys.executable, "-c", code), seconds=seconds) as index:
            with pytest.raises(FetchError) as caught:
                index.pages(["six"])
            assert why in caught.value.why
