"""Archives as forges made them before their git changed: the pinned bytes, or nothing."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.fetch import run_fetch
from crosswheel.building.sources.older_archives import restore
from crosswheel.building.sources.places import http
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.sources import Place

pytestmark = pytest.mark.unit

TODAY = "23223af00098a3af525171998efbb7a513ae74db8665ac46d1ed9dd9cb9cf6da"
"""What GitHub's git gives for the commit below."""

BEFORE = "800b64c6d8c6c340dcb7d03a6e905a1e7850d08bdffd6fa80f0bc68699daf72f"
"""What it gave before: the same rewriting makes the bytes that TensorFlow 1.1 to 1.3 pin for rules_closure, gemmlowp
and protobuf from those that GitHub gives today."""

LONG = "a-folder-of-a-long-name/" * 4


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A commit with a folder of over 100 characters, packed as GitHub does it."""
    tree = tmp_path / "tree"
    (tree / LONG / "inner").mkdir(parents=True)
    (tree / LONG / "inner" / "file.txt").write_text("text\n" * 200)
    (tree / "short").mkdir()
    (tree / "short" / "other.txt").write_text("other\n")
    known = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}
    known |= {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    known |= {f"GIT_{who}_DATE": "2017-06-02T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "one")):
        subprocess.run(("git", *words), cwd=tree, env=known, check=True)
    tar = subprocess.run(
        ("git", "archive", "--format=tar", "--prefix=project-1/", "HEAD"),
        cwd=tree,
        env=known,
        check=True,
        capture_output=True,
    )
    path = tmp_path / "project-1.tar.gz"
    path.write_bytes(subprocess.run(("gzip", "-n"), input=tar.stdout, check=True, capture_output=True).stdout)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def members(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        return [(m.name.rstrip("/"), tar.extractfile(m).read() if m.isfile() else b"") for m in tar]  # type: ignore[union-attr]


def test_the_bytes_of_before_are_made_from_those_of_today(archive: Path) -> None:
    assert sha256(archive) == TODAY
    today = members(archive)
    assert restore(archive, BEFORE)
    assert sha256(archive) == BEFORE
    assert members(archive) == today
    assert [path.name for path in archive.parent.iterdir() if path.is_file()] == [archive.name]


def test_an_archive_that_does_not_become_what_is_pinned_stays_as_it_is(archive: Path) -> None:
    assert not restore(archive, "0" * 64)
    assert sha256(archive) == TODAY
    assert [path.name for path in archive.parent.iterdir() if path.is_file()] == [archive.name]


@pytest.mark.parametrize("content", [b"<html>Sign in</html>", b"", gzip.compress(b"no tar" * 200), b"cut"])
def test_what_is_no_archive_stays_as_it_is(content: bytes, archive: Path) -> None:
    wrong = archive.read_bytes()[:150] if content == b"cut" else content
    archive.write_bytes(wrong)
    assert not restore(archive, BEFORE)
    assert archive.read_bytes() == wrong


def test_a_fetch_takes_it(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "download", lambda url, dest, cancelled: shutil.copyfile(archive, dest))
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    said: list[str] = []
    settings = Settings(store=tmp_path / "store", mirror=None, offline=False)
    cancelled = threading.Event()
    job = Job(
        key="0" * 64,
        out=tmp_path / "out",
        work=tmp_path / "work",
        settings=settings,
        log=said.append,
        cancelled=cancelled,
    )
    url = "https://example.org/archive/1.tar.gz"
    step = FetchStep(name="fetch project", file="project.tar.gz", sha256=BEFORE, places=(Place(uri=url),))
    run_fetch(step, {}, job, archives={})
    assert sha256(tmp_path / "out" / "project.tar.gz") == BEFORE
    assert f"{url} gave the archive as git writes it today; made the pinned bytes from it" in said
    assert not (tmp_path / "store").exists(), "nothing of it was wrong, so nothing is kept aside"


def test_without_gzip_nothing_is_made(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not restore(archive, BEFORE)
    assert sha256(archive) == TODAY
