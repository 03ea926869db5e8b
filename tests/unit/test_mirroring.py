"""Filling a mirror and reading from it: whole, killed, damaged, over the network."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from crosswheel.building.artefacts import Artefact, Meta
from crosswheel.building.debian.apt import run_lock
from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.mirror import Manifest, MirroredFile, MirroredLock, held_at, mirrored_lock
from crosswheel.building.sources.mirroring import Filled, filling
from crosswheel.building.sources.places import PlaceError
from crosswheel.cli import settings
from crosswheel.cli.mirroring import given_paths
from crosswheel.errors import DataError, FetchError, InputError, MachineError
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.steps import FetchStep, ImageStep, LocalStep, LockStep, Step
from crosswheel.spec.sources import Place
from crosswheel.spec.sysroots import Suite

pytestmark = pytest.mark.unit

DATA = b"the source\n" * 500
DEB = b"!<arch>\n" * 100


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


FETCH = FetchStep(name="fetch a.tar.gz", file="a.tar.gz", sha256=sha(DATA), places=(Place(uri="https://a.test/a"),))
LOCK = LockStep(
    name="resolve sysroot s",
    lock="s",
    architecture="arm64",
    suites=(Suite(archive="debian", name="stable"),),
    packages=("hello",),
    snapshot="20260101T000000Z",
)


def lock_text(requested: str = "hello") -> str:
    package = {"package": "hello", "version": "1", "architecture": "arm64", "archive": "debian",
               "path": "pool/h/hello_1_arm64.deb", "sha256": sha(DEB), "size": len(DEB)}  # fmt: skip
    suite = {"archive": "debian", "name": "stable", "components": ["main"], "date": "2026-01-01T00:00:00Z"}
    return json.dumps(
        {
            "schema": 1,
            "architecture": "arm64",
            "requested": [requested],
            "suites": [suite],
            "resolved": "2026-01-01T00:00:00Z",
            "tool": "apt 2.6",
            "packages": [package],
        }
    )


class Site:
    """A store that has what a plan fetches, and a mirror to fill from it."""

    def __init__(self, base: Path) -> None:
        self.mirror = base / "mirror"
        self.store = base / "store"
        deb = self.store / "debs" / sha(DEB)[:2] / sha(DEB)
        deb.parent.mkdir(parents=True)
        deb.write_bytes(DEB)
        self.made: list[str] = []
        self.lock = lock_text()
        self.origin = "pypi:a==1"

    def make(self, steps: Sequence[Step]) -> Mapping[str, Artefact]:
        found = {}
        for step in steps:
            self.made.append(step.name)
            out = self.store / "artefacts" / step.key / "out"
            out.mkdir(parents=True, exist_ok=True)
            if isinstance(step, FetchStep):
                (out / step.file).write_bytes(DATA)
                (out.parent / "log.txt").write_text(f"asking x\n{step.file} from {self.origin}\n")
            else:
                (out / "lock.json").write_text(self.lock)
            meta = Meta(name=step.name, kind=step.kind, seconds=0.0, bytes=0, tool="1", manifest={})
            found[step.key] = Artefact(key=step.key, path=out, meta=meta)
        return found

    def fill(self, title: str = "a 1 for t", steps: Sequence[Step] = (FETCH, LOCK)) -> Filled:
        with filling(self.mirror, Settings(store=self.store, offline=True)) as run:
            run.add({title: steps}, self.make, {})
            return run.write()

    def manifest(self) -> Manifest:
        return Manifest.parse((self.mirror / "manifest.json").read_text(), "manifest.json")

    def job(self, name: str, mirror: str | None = None, *, offline: bool = True) -> Job:
        for folder in ("out", "work"):
            (self.store / "tmp" / name / folder).mkdir(parents=True)
        return Job(
            key=LOCK.key,
            out=self.store / "tmp" / name / "out",
            work=self.store / "tmp" / name / "work",
            settings=Settings(store=self.store, mirror=mirror, offline=offline),
            log=lambda _line: None,
            cancelled=threading.Event(),
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_mirror_holds_files_packages_and_locks(site: Site) -> None:
    filled = site.fill()
    assert (filled.added, filled.verified) == (3, 0)
    for data in (DATA, DEB, site.lock.encode()):
        assert (site.mirror / held_at(sha(data))).read_bytes() == data
    manifest = site.manifest()
    described = {file.name: (file.needed, file.origin, file.size) for file in manifest.files}
    assert described["a.tar.gz"] == (("a 1 for t: a.tar.gz",), "pypi:a==1", len(DATA))
    assert described["hello_1_arm64.deb"] == (("a 1 for t: sysroot s",), "debian: pool/h/hello_1_arm64.deb", len(DEB))
    assert manifest.locks == (MirroredLock(key=LOCK.key, step=LOCK.name, sha256=sha(site.lock.encode())),)
    assert sorted(path.name for path in site.mirror.iterdir()) == ["manifest.json", "sha256"]


def test_of_a_wheel_of_which_members_are_wanted_the_whole_is_mirrored(site: Site) -> None:
    """Another release of the data may want others of them, and a folder serves no parts."""
    step = MembersStep(
        name="get parts of a.whl",
        file="a.whl",
        sha256=sha(DATA),
        record="0" * 64,
        members=("a/*",),
        places=FETCH.places,
    )
    assert site.fill(steps=(step,)).added == 1
    assert (site.mirror / held_at(sha(DATA))).read_bytes() == DATA
    assert [file.name for file in site.manifest().files] == ["a.whl"]


def test_a_second_run_adds_what_is_missing_alone(site: Site) -> None:
    site.fill()
    before = (site.mirror / "manifest.json").read_bytes()
    site.made.clear()
    filled = site.fill()
    assert site.made == []
    assert (filled.added, filled.verified, filled.replaced) == (0, 3, [])
    assert (site.mirror / "manifest.json").read_bytes() == before
    (site.mirror / held_at(sha(DEB))).unlink()
    assert site.fill().added == 1
    assert site.made == []


def test_the_lock_that_a_mirror_has_stays(site: Site) -> None:
    site.fill()
    site.lock = lock_text().replace("apt 2.6", "apt 3.0")
    site.fill()
    assert site.manifest().locks[0].sha256 == sha(lock_text().encode())


def test_what_is_wrong_in_a_mirror_is_set_aside_and_replaced(site: Site) -> None:
    site.fill()
    (site.mirror / held_at(sha(DATA))).write_bytes(b"rotten")
    filled = site.fill()
    assert filled.replaced == [f"a.tar.gz: {held_at(sha(DATA))}"]
    assert (site.mirror / held_at(sha(DATA))).read_bytes() == DATA
    assert [path.read_bytes() for path in (site.store / "kept").iterdir()] == [b"rotten"]


def test_what_a_killed_run_left_goes_and_no_half_file_counts(site: Site) -> None:
    place = site.mirror / held_at(sha(DATA))
    place.parent.mkdir(parents=True)
    partial = place.with_name(f".{place.name}.part")
    partial.write_bytes(DATA[:100])
    site.fill()
    assert not partial.exists()
    assert place.read_bytes() == DATA


def test_a_run_that_fails_leaves_whole_files_and_no_others(site: Site) -> None:
    (site.store / "debs" / sha(DEB)[:2] / sha(DEB)).unlink()
    with pytest.raises(FetchError, match="unknown archive: debian"):
        site.fill()
    held = [path for path in (site.mirror / "sha256").rglob("*") if path.is_file()]
    assert {sha(path.read_bytes()) for path in held} == {path.name for path in held}


def test_a_file_that_came_from_a_mirror_is_said_to(site: Site) -> None:
    site.origin = "the mirror /home/me/files"
    site.fill()
    assert {file.origin for file in site.manifest().files if file.name == "a.tar.gz"} == {
        "a mirror of https://a.test/a"
    }


def test_two_plans_share_a_mirror(site: Site) -> None:
    site.fill("a 1 for t", (FETCH,))
    site.fill("b 2 for u", (FETCH, LOCK))
    (file,) = [file for file in site.manifest().files if file.name == "a.tar.gz"]
    assert file.needed == ("a 1 for t: a.tar.gz", "b 2 for u: a.tar.gz")


def test_a_folder_is_filled_by_one_command_at_a_time(site: Site) -> None:
    settings = Settings(store=site.store)
    with (
        filling(site.mirror, settings),
        pytest.raises(MachineError, match="another `mirror`"),
        filling(site.mirror, settings),
    ):
        pass


def test_an_image_is_refused(site: Site) -> None:
    image = ImageStep(name="build builder", image="debian@sha256:" + "0" * 64, dockerfile="FROM x")
    with pytest.raises(InputError, match="an image is no file"):
        site.fill(steps=(FETCH, image))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ('{"schema": 2}', "schema is 2"),
        ('{"schema": 1, "files": [{"name": "a"}]}', "cannot be used"),
        ("[]", "schema is None"),
    ],
)
def test_a_manifest_that_is_none(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        Manifest.parse(text, "manifest.json")


def test_a_manifest_reads_what_it_writes() -> None:
    file = MirroredFile(name="a", sha256=sha(DATA), size=1, needed=("x",), origin="y")
    manifest = Manifest().merged([file, file.model_copy(update={"needed": ("w",)})], [])
    assert manifest.files[0].needed == ("w", "x")
    assert Manifest.parse(manifest.text(), "m") == manifest
    assert Manifest.parse(Manifest().text(), "m") == Manifest()


# --- locks from a mirror ---------------------------------------------------------------------------------------------


@pytest.fixture
def served(site: Site) -> Iterator[str]:
    """The mirror by HTTP."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(site.mirror))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_lock_comes_from_the_mirror(site: Site, served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site.fill()
    for number, mirror in enumerate((str(site.mirror), site.mirror.as_uri(), served)):
        for offline in (True, False):
            job = site.job(f"{number}{offline}", mirror, offline=offline)
            run_lock(LOCK, {}, job, archives={})
            assert json.loads((job.out / "lock.json").read_text()) == json.loads(site.lock)


def test_a_lock_that_the_mirror_lacks_or_has_wrong(site: Site) -> None:
    def told(name: str) -> FetchError:
        with pytest.raises(FetchError, match="cannot be resolved offline") as caught:
            run_lock(LOCK, {}, site.job(name, str(site.mirror)), archives={})
        assert "./x mirror" in caught.value.hint
        assert caught.value.where == "resolve sysroot s"
        return caught.value

    site.mirror.mkdir()
    assert "it does not hold manifest.json" in told("1").why
    site.fill(steps=(FETCH,))
    assert f"has no lock of the key {LOCK.key[:12]}" in told("2").why
    site.fill()
    place = site.mirror / held_at(sha(site.lock.encode()))
    place.write_text("{}")
    assert f"instead of {sha(site.lock.encode())}" in told("3").why
    place.unlink()
    assert f"it does not hold {held_at(sha(site.lock.encode()))}" in told("4").why
    (site.mirror / "manifest.json").write_text("{")
    assert "manifest.json cannot be read" in told("5").why


def test_a_lock_for_something_else_is_refused(site: Site) -> None:
    site.lock = lock_text("goodbye")
    site.fill()
    with pytest.raises(DataError, match="not what the written data asks for"):
        run_lock(LOCK, {}, site.job("1", str(site.mirror)), archives={})


def test_a_mirror_that_is_no_folder(site: Site) -> None:
    with pytest.raises(PlaceError, match="is no folder"):
        mirrored_lock(str(site.store / "none"), LOCK.key, site.job("1"))


def test_what_the_user_gave_is_told_and_a_recipes_own_folder_is_not(tmp_path: Path) -> None:
    def local(path: Path) -> LocalStep:
        return LocalStep(name=f"take {path.name}", path=str(path), sha256=sha(b""), folder=True)

    mine, other = tmp_path / "cudnn", tmp_path / "a source"
    steps = [local(settings.DATA / "recipes/cuda-check/source"), local(mine), FETCH, local(other), local(mine)]
    assert given_paths(steps) == [str(other), str(mine)]
