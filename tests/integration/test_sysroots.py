"""Real sysroots, and apt where the machine has no list of packages or no apt at all."""

from __future__ import annotations

import os
import re
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from crosswheel.building.debian import aptrun
from crosswheel.building.debian.apt import resolve, run_lock
from crosswheel.building.debian.aptrun import AptRunner, ContainerApt, HostApt, Ran
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.mirrors import machine_mirrors
from crosswheel.building.debian.reach import refuse_unreachable
from crosswheel.building.debian.roots import run_root
from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.store import Store
from crosswheel.errors import FetchError, MachineError
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sysroots import Archive, Sysroot

pytestmark = pytest.mark.integration

CATALOG = Catalog(Path(__file__).parents[2])
APT_IMAGE_PACKAGES = ("apt", "base-files", "base-passwd", "coreutils", "dash", "debian-archive-keyring", "dpkg", "gpgv")


def _job(folder: Path, mirrors: Mapping[str, str] | None = None) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True)
    return Job(
        key=folder.name,
        out=folder / "out",
        work=folder / "work",
        settings=Settings(store=folder.parent / "store", apt_mirrors=mirrors or {}),
        log=print,
        cancelled=threading.Event(),
    )


def _step(name: str, architecture: str, packages: Sequence[str]) -> LockStep:
    sysroot = CATALOG.sysroot(name)
    return LockStep(
        name=f"resolve {name} {architecture}",
        lock="a-test",
        architecture=architecture,
        suites=sysroot.suites_for("aarch64" if architecture == "arm64" else "x86_64"),
        packages=tuple(packages),
        snapshot=sysroot.snapshot,
    )


def _assemble(folder: Path, name: str, architecture: str, packages: Sequence[str]) -> Path:
    step = _step(name, architecture, packages)
    lock, root = _job(folder / "lock"), _job(folder / "root")
    run_lock(step, {}, lock, archives=CATALOG.archives)
    run_root(RootStep(name="assemble", inputs={"lock": step}), {"lock": lock.out}, root, archives=CATALOG.archives)
    return root.out


def _development(sysroot: Sysroot) -> tuple[str, ...]:
    pythons = [name for python in sysroot.pythons.values() for name in python.development]
    return tuple(sorted({*sysroot.development, *pythons}))


def _runtime(sysroot: Sysroot) -> tuple[str, ...]:
    """With every Python, and the NumPy of each."""
    pythons = [name for python in sysroot.pythons.values() for name in python.runtime]
    numpys = [python.numpy for python in sysroot.pythons.values() if python.numpy]
    return tuple(sorted({*sysroot.runtime, *pythons, *numpys}))


# --- real roots ------------------------------------------------------------------------------------------------------


def test_development_sysroot_links_against_shared_libraries(tmp_path: Path) -> None:
    root = _assemble(tmp_path, "debian-12", "arm64", _development(CATALOG.sysroot("debian-12")))
    multiarch = root / "usr/lib/aarch64-linux-gnu"
    for name in ("libz.so", "libm.so", "libdl.so", "libpthread.so"):
        link = multiarch / name
        if link.is_symlink():
            assert not link.readlink().is_absolute(), name
            assert link.resolve(strict=True).is_relative_to(root.resolve())
    assert (multiarch / "libz.so").resolve(strict=True).name.startswith("libz.so.1")
    assert _machine(multiarch / "libz.so") == "EM_AARCH64"
    assert (root / "usr/include/stdio.h").is_file()
    assert (root / "usr/include/c++/12/vector").is_file()
    assert (root / "usr/include/python3.11/Python.h").is_file()
    assert (root / "lib").readlink() == Path("usr/lib")
    assert not [path for path in root.rglob("*") if path.is_symlink() and str(path.readlink()).startswith("/")]
    assert not [path for path in root.rglob("*.so") if path.is_symlink() and not path.exists()]


def _machine(path: Path) -> str:
    with path.open("rb") as stream:
        return str(ELFFile(stream)["e_machine"])


def test_declared_floors_are_those_of_the_runtime_root(tmp_path: Path) -> None:
    sysroot = CATALOG.sysroot("debian-12")
    root = _assemble(tmp_path, "debian-12", "arm64", _runtime(sysroot))
    multiarch = root / "usr/lib/aarch64-linux-gnu"
    offered = {
        "GLIBC": _newest(multiarch, "GLIBC", "libc.so.6", "libm.so.6", "libpthread.so.0"),
        "GLIBCXX": _newest(multiarch, "GLIBCXX", "libstdc++.so.6"),
        "CXXABI": _newest(multiarch, "CXXABI", "libstdc++.so.6"),
        "GCC": _newest(multiarch, "GCC", "libgcc_s.so.1"),
    }
    assert offered == sysroot.floors.model_dump()
    assert (root / "usr/bin/python3").readlink() == Path("python3.11")
    assert (root / "usr/lib/python3.11/unittest/__init__.py").is_file()


def _newest(folder: Path, prefix: str, *names: str) -> str:
    found = []
    for name in names:
        with (folder / name).open("rb") as stream:
            section = ELFFile(stream).get_section_by_name(".gnu.version_d")
            nodes = [next(iter(aux)).name for _, aux in section.iter_versions()]
        found += [m[1] for m in (re.fullmatch(prefix + r"_([0-9.]+)", node) for node in nodes) if m]
    return max(found, key=lambda text: tuple(int(part) for part in text.split(".")))


@pytest.mark.parametrize("name", CATALOG.sysroot_names)
@pytest.mark.parametrize("architecture", ["arm64", "amd64"])
def test_every_sysroot_resolves(tmp_path: Path, name: str, architecture: str) -> None:
    sysroot = CATALOG.sysroot(name)
    packages = sorted({*_development(sysroot), *_runtime(sysroot)})
    step = _step(name, architecture, packages)
    if name.startswith("ubuntu"):
        store = Store(tmp_path / "store")
        try:
            refuse_unreachable([step], store, CATALOG.archives, Settings(store=store.root))
        except FetchError as error:  # they are elsewhere than Debian's, and not every network leads there
            pytest.skip(error.what)
    lock = resolve(step, _job(tmp_path / "job"), CATALOG.archives)
    assert set(packages) <= {package.package for package in lock.packages}
    assert {package.archive for package in lock.packages} <= set(CATALOG.archives)


# --- machines with less ----------------------------------------------------------------------------------------------


class BareApt:
    """This machine's apt as if it had never downloaded a list."""

    shares_files = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._apt = HostApt(threading.Event())
        (folder / "lists/partial").mkdir(parents=True)

    def run(self, argv: Sequence[str], folders: Sequence[Path]) -> Ran:
        options = ("-o", f"Dir::State={self.folder}", "-o", f"Dir::State::lists={self.folder}/lists")
        return self._apt.run((argv[0], *options, *argv[1:]), folders)

    def has(self, path: Path) -> bool:
        return self._apt.has(path)


def test_mirrors_of_a_machine_without_lists_are_those_of_the_same_machine_with_lists(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    bare = machine_mirrors(BareApt(tmp_path / "state"), tmp_path / "work")
    assert bare == machine_mirrors(HostApt(threading.Event()), tmp_path / "work")
    assert bare


def _archives(image: str | None) -> dict[str, Archive]:
    return {name: archive.model_copy(update={"image": image}) for name, archive in CATALOG.archives.items()}


def test_no_apt_and_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aptrun.shutil, "which", lambda name: None)
    with pytest.raises(MachineError, match="no apt-get, and the archives name no image"):
        resolve(_step("debian-12", "arm64", ["zlib1g"]), _job(tmp_path / "job"), _archives(None))


def test_no_apt_and_an_image_that_cannot_be_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aptrun.shutil, "which", lambda name: None)
    image = "127.0.0.1:1/nothing@sha256:" + "0" * 64
    with pytest.raises(MachineError, match="cannot be used"):
        resolve(_step("debian-12", "arm64", ["zlib1g"]), _job(tmp_path / "job"), _archives(image))


@pytest.fixture(scope="module")
def apt_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Debian image with apt, assembled here and imported: it stands in for the one that would be pulled."""
    import docker

    folder = tmp_path_factory.mktemp("image")
    root = _assemble(folder, "debian-12", "amd64", APT_IMAGE_PACKAGES)
    client = docker.from_env()
    name = f"crosswheel-test-apt:{uuid.uuid4().hex[:12]}"
    repository, _, tag = name.partition(":")
    client.api.import_image(src=str(_packed(root, folder / "image.tar")), repository=repository, tag=tag)
    yield name
    client.images.remove(name, force=True)


def _packed(root: Path, place: Path) -> Path:
    import tarfile

    with tarfile.open(place, "w") as archive:
        archive.add(root, ".")
    return place


def test_apt_in_a_container(tmp_path: Path, apt_image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrors = machine_mirrors(HostApt(threading.Event()), tmp_path)
    named = {name: archive.label for name, archive in CATALOG.archives.items()}
    wanted = {name: mirrors[label] for name, label in named.items() if label in mirrors}
    step = _step("debian-12", "arm64", ["zlib1g-dev"])
    here = resolve(step, _job(tmp_path / "here", wanted), CATALOG.archives)
    monkeypatch.setattr(aptrun.shutil, "which", lambda name: None)
    lock, root = _job(tmp_path / "lock", wanted), _job(tmp_path / "root", wanted)
    run_lock(step, {}, lock, archives=_archives(apt_image))
    there = Lock.parse((lock.out / "lock.json").read_text(), "the container's lock")
    assert there.packages == here.packages
    run_root(RootStep(name="assemble", inputs={"lock": step}), {"lock": lock.out}, root, archives=_archives(apt_image))
    link = root.out / "usr/lib/aarch64-linux-gnu/libz.so"
    assert link.resolve(strict=True).stat().st_uid == os.getuid()


def test_container_ends_when_the_build_is_stopped(apt_image: str) -> None:
    import docker

    stop = threading.Event()
    apt: AptRunner = ContainerApt(apt_image, stop)
    threading.Timer(1.0, stop.set).start()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        apt.run(("sleep", "60"), ())
    assert time.monotonic() - start < 30
    assert docker.from_env().containers.list(all=True, filters={"ancestor": apt_image}) == []
