"""Fetching what lies in another file or in a mirror: members of packages, folders and URLs of mirrors, offline."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fetching import DATA, SHA, Run, Server, step

from crosswheel.building.sources.fetch import from_mirror
from crosswheel.spec.sources import Place

pytestmark = pytest.mark.unit

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
