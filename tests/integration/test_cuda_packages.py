"""NVIDIA's cross packages from a stand-in of its archives: resolved, verified and extracted in the private apt root."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nvidia
import pytest
from standin import DATE, Key, Repository, fill, served

from crosswheel.building.debian.apt import run_lock
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.reach import refuse_unreachable
from crosswheel.building.debian.roots import run_root
from crosswheel.building.job import Job, Settings
from crosswheel.building.store import Store
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError, InputError
from crosswheel.planning.archives import with_archives
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.sources import Source
from crosswheel.spec.sysroots import Archive, ArchiveKey, Suite

pytestmark = pytest.mark.integration

FLAT = Suite(archive="cuda", name="/", components=())
NOWHERE = "http://127.0.0.1:9/"
"""The port of `discard`, at which nothing answers."""


@dataclass
class Site:
    """NVIDIA's archive at a server, with its key beside it, and a store."""

    base: Path
    archive: nvidia.FlatArchive
    url: str
    keys: tuple[Key, Key]
    settings: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    more: dict[str, Archive] = field(default_factory=dict)
    count: int = 0

    @property
    def store(self) -> Path:
        return self.base / "store"

    def key(self, **more: Any) -> ArchiveKey:
        fields = {
            "fingerprint": self.keys[0].fingerprint,
            "places": (f"{self.url}keys/3bf863cc.pub",),
            "source": "test",
        }
        return ArchiveKey(**(fields | more))

    @property
    def archives(self) -> dict[str, Archive]:
        cuda = Archive(name="cuda", uri=f"{self.url}cuda/", keys=(self.key(),), source="a test")
        return {"cuda": cuda} | self.more

    def job(self) -> Job:
        self.count += 1
        folder = self.store / "tmp" / str(self.count)
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        return Job(
            key=str(self.count),
            out=folder / "out",
            work=folder / "work",
            settings=Settings(store=self.store, **self.settings),
            log=self.lines.append,
            cancelled=threading.Event(),
        )

    def step(self, *packages: str, suites: tuple[Suite, ...] = (FLAT,), dependencies: bool = True) -> RootStep:
        lock = LockStep(
            name="resolve CUDA",
            lock="",
            architecture="arm64",
            suites=suites,
            packages=packages or nvidia.NAMES,
            snapshot=DATE,
            dependencies=dependencies,
        )
        return RootStep(name="extract CUDA", inputs={"lock": lock})

    def made(self, root: RootStep) -> tuple[Lock, Path]:
        """The lock and the root of a step, each in a job of its own; archives' files are fetched or taken as they are
        named: from the folder ``files``."""
        step = root.inputs["lock"]
        assert isinstance(step, LockStep)
        brought = {name: self.base / "files" / name for name in step.inputs}
        job = self.job()
        run_lock(step, brought, job, archives=self.archives, keyrings=self.base / "keyrings")
        rooted = self.job()
        run_root(root, {"lock": job.out, **brought}, rooted, archives=self.archives)
        return Lock.parse((job.out / "lock.json").read_text(), "the lock"), rooted.out


@pytest.fixture(scope="module")
def keys() -> Iterator[tuple[Key, Key]]:
    """NVIDIA's key, and somebody else's."""
    with tempfile.TemporaryDirectory(prefix="cw-keys-") as folder:  # gpg-agent's socket must have a short path
        pair = (Key(Path(folder, "a")), Key(Path(folder, "b")))
        yield pair
        for key in pair:
            key.close()


@pytest.fixture
def site(keys: tuple[Key, Key]) -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="cw-cuda-") as name, ExitStack() as stack:
        base = Path(name)
        archive = nvidia.FlatArchive(base / "www/cuda", keys[0])
        nvidia.fill(archive.folder)
        archive.publish()
        keys[0].export(base / "www/keys/3bf863cc.pub", armor=True)
        server = stack.enter_context(served(base / "www"))
        yield Site(base=base, archive=archive, url=f"http://127.0.0.1:{server.server_port}/", keys=keys)


def _named(lock: Lock) -> list[str]:
    return [package.package for package in lock.packages]


# --- as it should be -------------------------------------------------------------------------------------------------


def test_a_flat_archive_with_a_key_of_its_own(site: Site) -> None:
    lock, root = site.made(site.step())
    assert _named(lock) == sorted([*nvidia.NAMES, nvidia.LICENCE, nvidia.HEADERS])
    assert {package.architecture for package in lock.packages} == {"arm64"}
    assert all("/" not in package.path for package in lock.packages)
    assert [(suite.name, suite.components) for suite in lock.suites] == [("/", ())]
    top = root / nvidia.TOP
    assert (top / "lib/libcudart.so").resolve(strict=True).read_text() == "cudart\n"
    assert all((top / f"lib/stubs/lib{name}.so").is_file() for name in nvidia.UNLINKED)
    assert not any((top / f"lib/lib{name}.so").exists() for name in nvidia.UNLINKED), "as NVIDIA left it"
    assert (site.store / "keys" / f"{site.keys[0].fingerprint}.gpg").is_file()


def test_without_dependencies(site: Site) -> None:
    lock, root = site.made(site.step("cuda-cublas-cross-aarch64-8-0", dependencies=False))
    assert _named(lock) == ["cuda-cublas-cross-aarch64-8-0"]
    assert lock.requested == ("cuda-cublas-cross-aarch64-8-0",)
    assert not (root / "usr/local/cuda-8.0/doc").exists()


def test_a_certain_version(site: Site) -> None:
    wanted = f"cuda-cublas-cross-aarch64-8-0={nvidia.VERSION}"
    for dependencies in (True, False):
        lock, _ = site.made(site.step(wanted, dependencies=dependencies))
        assert lock.requested == (wanted,)
        assert ("cuda-license-8-0" in _named(lock)) is dependencies
    with pytest.raises(FetchError):
        site.made(site.step("cuda-cublas-cross-aarch64-8-0=8.0.61-1", dependencies=False))


def test_without_dependencies_links_may_lead_to_another_part(site: Site) -> None:
    links = {f"{nvidia.TOP}/lib/libcudart.so": "->libcudart.so.8.0"}
    nvidia.deb(site.archive.folder, "cuda-cudart-dev", links, Version=nvidia.VERSION)
    site.archive.publish()
    _, root = site.made(site.step("cuda-cudart-dev", dependencies=False))
    assert (root / nvidia.TOP / "lib/libcudart.so").is_symlink()
    with pytest.raises(FetchError, match="lead nowhere"):
        site.made(site.step("cuda-cudart-dev"))


def test_several_archives_in_one_resolution(site: Site) -> None:
    """A package of NVIDIA's that needs one of the distribution's, each archive with its own key."""
    repository = Repository(site.base / "www/distribution", site.keys[1])
    fill(repository)
    nvidia.deb(site.archive.folder, "libcudnn8", {"usr/lib/libcudnn.so.8": "cudnn\n"}, Depends="libdemo1 (>= 1.0)")
    site.archive.publish()
    site.keys[1].export(site.base / "keyrings/distribution.gpg")
    site.more["distribution"] = Archive(
        name="distribution",
        uri=f"{site.url}distribution/",
        keyring="distribution.gpg",
        keyring_package="distribution-keyring",
        source="a test",
    )
    lock, root = site.made(site.step("libcudnn8", suites=(Suite(archive="distribution", name="stable"), FLAT)))
    assert [(package.package, package.archive) for package in lock.packages] == [
        ("libcudnn8", "cuda"),
        ("libdemo1", "distribution"),
    ]
    assert (root / "usr/lib/libcudnn.so.8").read_text() == "cudnn\n"


def test_release_gpg_as_older_archives_have_it(site: Site) -> None:
    site.archive.publish(detached=True)
    lock, _ = site.made(site.step(nvidia.LICENCE))
    assert _named(lock) == [nvidia.LICENCE]


# --- keys and signatures ---------------------------------------------------------------------------------------------


def _refused(site: Site, message: str) -> FetchError:
    with pytest.raises(FetchError, match=message) as caught:
        site.made(site.step())
    assert not (site.store / "debs").exists()
    return caught.value


def test_an_unsigned_archive(site: Site) -> None:
    site.archive.publish(signed=False)
    _refused(site, "is not signed")


def test_an_archive_that_somebody_else_signed(site: Site) -> None:
    replace_key = nvidia.FlatArchive(site.archive.folder, site.keys[1])
    replace_key.publish()
    _refused(site, "signed with a key that the keyring does not hold")


def test_another_key_at_the_keys_place(site: Site) -> None:
    """Somebody has changed the packages, signed them anew, and put their key where NVIDIA's was."""
    nvidia.FlatArchive(site.archive.folder, site.keys[1]).publish()
    site.keys[1].export(site.base / "www/keys/3bf863cc.pub", armor=True)
    error = _refused(site, f"The key {site.keys[0].fingerprint} of the archive cuda cannot be had")
    assert "it gave another key" in error.why


def test_a_file_with_both_keys(site: Site) -> None:
    """Only the wanted one is taken from it."""
    nvidia.FlatArchive(site.archive.folder, site.keys[1]).publish()
    place = site.base / "www/keys/3bf863cc.pub"
    parts = []
    for number, key in enumerate(site.keys):
        key.export(site.base / f"{number}.gpg")
        parts.append((site.base / f"{number}.gpg").read_bytes())
    place.write_bytes(b"".join(parts))
    _refused(site, "signed with a key that the keyring does not hold")


def test_a_tampered_package(site: Site) -> None:
    path = site.archive.file("cuda-cublas-cross-aarch64-8-0")
    path.write_bytes(path.read_bytes().replace(b"cublas\n", b"evil!!\n"))
    with pytest.raises(FetchError, match="bytes that are not those of the lock"):
        site.made(site.step())


def test_a_tampered_index(site: Site) -> None:
    packages = site.archive.folder / "Packages"
    packages.write_text(packages.read_text().replace("Version: 8.0.84-1", "Version: 8.0.85-1"))
    _refused(site, "bytes that are not those that it signed")


# --- places ----------------------------------------------------------------------------------------------------------


def test_an_older_place_serves_where_the_first_does_not(site: Site) -> None:
    for first in (NOWHERE, f"{site.url}gone/"):
        site.more["cuda"] = Archive(
            name="cuda", uri=first, older=(f"{site.url}cuda/",), keys=(site.key(),), source="a test"
        )
        lock, root = site.made(site.step(nvidia.LICENCE))
        assert _named(lock) == [nvidia.LICENCE]
        assert root.is_dir()
    assert any("127.0.0.1:9/ does not serve: trying" in line for line in site.lines)


def test_a_wrong_signature_is_no_reason_to_ask_elsewhere(site: Site) -> None:
    shutil.copytree(site.archive.folder, site.base / "www/older")
    site.archive.publish(signed=False)
    site.more["cuda"] = Archive(
        name="cuda", uri=f"{site.url}cuda/", older=(f"{site.url}older/",), keys=(site.key(),), source="a test"
    )
    _refused(site, "is not signed")


def test_a_copy_on_this_machine_with_the_key_in_it(site: Site) -> None:
    """What ``--source cuda=FOLDER`` is: a mirror, believed by its signature alone."""
    shutil.copytree(site.archive.folder, site.base / "copy")
    site.keys[0].export(site.base / "copy/7fa2af80.pub", armor=True)
    site.settings["apt_mirrors"] = {"cuda": str(site.base / "copy")}
    site.more["cuda"] = Archive(name="cuda", uri=NOWHERE, keys=(site.key(places=(NOWHERE,)),), source="a test")
    _, root = site.made(site.step())
    assert (root / nvidia.TOP / "include/cublas.h").is_file()


def test_what_cannot_be_reached_is_told_at_once(site: Site) -> None:
    site.more = {
        name: Archive(name=name, uri=NOWHERE, older=(f"{site.url}gone/",), keys=(site.key(),), source="a test")
        for name in ("ports", "jetson")
    }
    suites = (Suite(archive="ports", name="xenial"), Suite(archive="jetson", name="r32.7"), FLAT)
    goal = site.step(suites=suites)
    with pytest.raises(
        FetchError, match="The archives ports, jetson cannot be reached, and nothing was begun"
    ) as caught:
        refuse_unreachable([goal], Store(site.store), site.archives, Settings(store=site.store))
    error = caught.value
    assert f"{NOWHERE}: " in error.why
    assert f"{site.url}gone/: " in error.why
    assert "cuda" not in error.why, "that one answers"
    for remedy in ("--source ports=FOLDER", 'apt_mirrors = { ports = "URL" }', "--mirror DIR"):
        assert remedy in error.hint
    refuse_unreachable([site.step()], Store(site.store), site.archives, Settings(store=site.store))


def test_a_file_that_cannot_be_reached_is_told_as_well(site: Site) -> None:
    file = _box(site, signed=False, pinned=True)
    goal = _boxed_step(site, file, given=False)
    settings = Settings(store=site.store)
    with pytest.raises(FetchError, match="The archive local cannot be reached") as caught:
        refuse_unreachable([goal], Store(site.store), site.archives, settings)
    assert "--source local=FILE.deb" in caught.value.hint
    refuse_unreachable([_boxed_step(site, file)], Store(site.store), site.archives, settings)


def test_what_is_in_the_store_or_in_the_mirror_is_not_asked_for(site: Site) -> None:
    lock, _ = site.made(site.step())
    site.more["cuda"] = Archive(name="cuda", uri=NOWHERE, keys=(site.key(),), source="a test")
    root = site.step()
    step = root.inputs["lock"]
    assert isinstance(step, LockStep)
    pinned = RootStep(name="extract", inputs={"lock": replace(step, pinned=lock.text())})
    refuse_unreachable([pinned], Store(site.store), site.archives, Settings(store=site.store))
    for package in (site.store / "debs").glob("*/*"):
        place = site.base / "mirror/sha256" / package.parent.name / package.name
        place.parent.mkdir(parents=True, exist_ok=True)
        package.rename(place)
    mirrored = Settings(store=site.store, mirror=str(site.base / "mirror"))
    refuse_unreachable([pinned], Store(site.store), site.archives, mirrored)
    with pytest.raises(FetchError, match="The archive cuda cannot be reached"):
        refuse_unreachable([pinned], Store(site.store), site.archives, Settings(store=site.store))


# --- archives that lie in a package ----------------------------------------------------------------------------------


def _box(site: Site, *, signed: bool, pinned: bool = False, release: bool = True) -> Path:
    """A package with the archive in it, where its step would have put it, and the archive in the written data."""
    place = site.base / "files/local"
    place.mkdir(parents=True)
    site.archive.publish(signed=signed)
    if not release:
        (site.archive.folder / "Release").unlink()
    site.keys[0].export(site.archive.folder / "7fa2af80.pub", armor=True)
    file = nvidia.boxed(site.archive.folder, place)
    source = Source(file=file.name, sha256=sha256_file(file) if pinned else "0" * 64, places=({"uri": NOWHERE},))
    site.more["local"] = Archive(name="local", keys=(site.key(places=(NOWHERE,)),), file=source, source="a test")
    return file


def _boxed_step(site: Site, file: Path, *, given: bool = True, named: bool = False) -> RootStep:
    local = LocalSource(path=str(file), sha256=sha256_file(file), folder=False, named=named)
    step = site.step(suites=(Suite(archive="local", name="/", components=()),))
    return with_archives(step, site.archives, {"local": local} if given else {})


def test_a_package_that_holds_a_signed_archive(site: Site) -> None:
    lock, root = site.made(_boxed_step(site, _box(site, signed=True)))
    assert nvidia.LICENCE in _named(lock)
    assert (root / nvidia.TOP / "lib/stubs/libcublas.so").read_text() == "cublas\n"
    assert any("cuda-repo-l4t-8-0-local_8.0.84-1_arm64.deb, signed" in line for line in site.lines)


def test_one_that_somebody_else_signed(site: Site) -> None:
    site.archive.key = site.keys[1]
    file = _box(site, signed=True)
    with pytest.raises(FetchError, match="signed with a key that the keyring does not hold"):
        site.made(_boxed_step(site, file))


def test_an_unsigned_one_must_be_named_by_its_hash(site: Site) -> None:
    file = _box(site, signed=False)
    with pytest.raises(InputError, match="is not signed, so its bytes must be named") as caught:
        site.made(_boxed_step(site, file))
    assert f"#sha256={sha256_file(file)}" in caught.value.hint
    _, root = site.made(_boxed_step(site, file, named=True))
    assert (root / nvidia.TOP / "lib/stubs/libcublas.so").is_file()


@pytest.mark.parametrize("release", [True, False], ids=["unsigned Release", "no Release"])
def test_an_unsigned_one_that_the_written_data_pins(site: Site, release: bool) -> None:
    file = _box(site, signed=False, pinned=True, release=release)
    lock, root = site.made(_boxed_step(site, file, given=False))
    assert len(lock.packages) == len(nvidia.NAMES) + 2
    assert (root / nvidia.TOP / "lib/stubs/libcublas.so").is_file()


def test_a_package_without_an_archive(site: Site) -> None:
    place = site.base / "files/local"
    place.mkdir(parents=True)
    site.more["local"] = Archive(name="local", keys=(site.key(),), uri=NOWHERE, source="a test")
    shutil.copy(site.archive.file(nvidia.LICENCE), place)
    with pytest.raises(InputError, match="holds no archive with the suite '/'"):
        site.made(_boxed_step(site, next(place.iterdir())))
