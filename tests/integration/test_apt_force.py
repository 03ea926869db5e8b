"""``--apt-force``: NVIDIA's packages for another architecture, installed by a builder's own apt and dpkg.

The builder is assembled from Debian 12's packages; the packages are those of the stand-in (:mod:`nvidia`).
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import nvidia
import pytest
from standin import DATE, Key, served

from crosswheel.building.debian import forced
from crosswheel.building.debian.apt import run_lock
from crosswheel.building.debian.forced import FORCE, OPTIONS, PACKAGES, run_install
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.roots import run_root
from crosswheel.building.job import Job, Settings
from crosswheel.building.sandbox.docker_engine import DockerSandbox
from crosswheel.building.sandbox.installer import Installer
from crosswheel.errors import FetchError, MachineError, StepError
from crosswheel.planning.installing import INSTALLER, InstallStep, with_installed
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sysroots import Archive, ArchiveKey, Suite

pytestmark = pytest.mark.integration

CATALOG = Catalog(Path(__file__).resolve().parents[2])
PACKAGE = "cuda-cublas-cross-aarch64-8-0"


class Bench:
    """A store with a builder in it, and jobs."""

    def __init__(self, base: Path, archives: dict[str, Archive]) -> None:
        self.base = base
        self.archives = archives
        self.count = 0
        self.lines: list[str] = []

    def job(self, **settings: str) -> Job:
        self.count += 1
        folder = self.base / "store/tmp" / str(self.count)
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        return Job(
            key=f"{self.count:064d}",
            out=folder / "out",
            work=folder / "work",
            settings=Settings(store=self.base / "store", memory=1024, **settings),  # type: ignore[arg-type]
            log=self.lines.append,
            cancelled=threading.Event(),
        )

    def lock(self, step: LockStep) -> Path:
        job = self.job()
        run_lock(step, {}, job, archives=self.archives)
        return job.out

    def root(self, step: RootStep) -> Path:
        lock = step.inputs["lock"]
        assert isinstance(lock, LockStep)
        job = self.job()
        run_root(step, {"lock": self.lock(lock)}, job, archives=self.archives)
        return job.out

    def install(self, step: InstallStep, builder: Path, **settings: str) -> Path:
        locks = {role: lock for role, lock in step.inputs.items() if isinstance(lock, LockStep)}
        job = self.job(**settings)
        inputs = {"builder": builder} | {role: self.lock(lock) for role, lock in locks.items()}
        run_install(step, inputs, job, archives=self.archives)
        return job.out


@pytest.fixture(scope="module")
def key() -> Iterator[Key]:
    with tempfile.TemporaryDirectory(prefix="cw-keys-") as folder:
        made = Key(Path(folder, "a"))
        yield made
        made.close()


@pytest.fixture(scope="module")
def bench(key: Key) -> Iterator[Bench]:
    """With the archives of NVIDIA's three kinds: the licence for arm64, for amd64, and for all."""
    with tempfile.TemporaryDirectory(prefix="cw-force-") as name, ExitStack() as stack:
        base = Path(name)
        base.chmod(0o755)
        key.export(base / "www/key.pub")
        server = stack.enter_context(served(base / "www"))
        url = f"http://127.0.0.1:{server.server_port}/"
        archives = dict(CATALOG.archives)
        pinned = ArchiveKey(fingerprint=key.fingerprint, places=(f"{url}key.pub",), source="a test")
        for licence in ("arm64", "amd64", "all"):
            archive = nvidia.FlatArchive(base / "www" / licence, key)
            nvidia.fill(archive.folder, licence, multi_arch="foreign" if licence == "all" else "")
            archive.publish()
            archives[licence] = Archive(name=licence, uri=f"{url}{licence}/", keys=(pinned,), source="a test")
        yield Bench(base, archives)
        DockerSandbox(base / "store").remove_images(lambda key: False)


BOOKWORM = Suite(archive="debian", name="bookworm")
XENIAL = Suite(archive="ubuntu", name="xenial")


def _builder(suite: Suite = BOOKWORM) -> RootStep:
    lock = LockStep(
        name="resolve builder",
        lock="",
        architecture="amd64",
        suites=(suite,),
        packages=("zlib1g",),
        snapshot=DATE,
    )
    return RootStep(name="assemble builder", inputs={"lock": lock})


def _step(licence: str, *packages: str, dependencies: bool = False, suite: Suite = BOOKWORM) -> InstallStep:
    lock = LockStep(
        name="resolve CUDA",
        lock="",
        architecture="arm64",
        suites=(Suite(archive=licence, name="/", components=()),),
        packages=packages,
        snapshot=DATE,
        dependencies=dependencies,
    )
    step = with_installed(_builder(suite), [RootStep(name="extract", inputs={"lock": lock})], "CUDA 8.0")
    assert isinstance(step, InstallStep)
    return step


@pytest.fixture(scope="module")
def builder(bench: Bench) -> Path:
    """The builder that can install, as the step's input."""
    step = _step("arm64", PACKAGE).inputs["builder"]
    assert isinstance(step, RootStep)
    return bench.root(step)


# --- the step --------------------------------------------------------------------------------------------------------


def test_what_the_step_needs() -> None:
    step = _step("arm64", PACKAGE)
    builder, lock = step.inputs["builder"], step.inputs["lock-1"]
    assert isinstance(lock, LockStep) and lock.dependencies, "what is installed wants what it depends on"
    made_of = builder.inputs["lock"]
    assert isinstance(made_of, LockStep) and {*INSTALLER, "zlib1g"} == set(made_of.packages)
    same = RootStep(name="extract", inputs={"lock": _builder().inputs["lock"]})
    assert with_installed(_builder(), [same], "nothing foreign").key == _builder().key


@pytest.mark.parametrize(
    ("licence", "suite"),
    [("arm64", BOOKWORM), ("all", BOOKWORM), ("arm64", XENIAL)],
    ids=["Debian 12", "Debian 12, a licence for all", "Ubuntu 16.04"],
)
def test_packages_are_installed_in_the_builder(bench: Bench, builder: Path, licence: str, suite: Suite) -> None:
    step = _step(licence, *nvidia.NAMES, suite=suite)
    if suite is XENIAL:
        root = step.inputs["builder"]
        assert isinstance(root, RootStep)
        try:
            builder = bench.root(root)
        except FetchError as error:
            pytest.skip(f"Ubuntu's archive cannot be reached: {error.why}")
    out = bench.install(step, builder)
    top = out / nvidia.TOP
    assert (top / "lib/stubs/libcublas.so").read_text() == "cublas\n"
    assert (top / "include/cuda_stdint.h").is_file(), "a dependency"
    status = (out / "var/lib/dpkg/status").read_text()
    for name in (*nvidia.NAMES, nvidia.HEADERS):
        paragraph = next(text for text in status.split("\n\n") if f"Package: {name}\n" in text)
        assert "Status: install ok installed" in paragraph
        assert "Architecture: arm64" in paragraph
    assert (out / "usr/bin/dpkg").is_file()
    assert (out / "bin").readlink() == Path("usr/bin")
    kept = out / ".crosswheel"
    assert nvidia.HEADERS in [p.package for p in Lock.parse((kept / "lock-1.json").read_text(), "it").packages]
    assert (kept / "builder-lock.json").is_file() and not (kept / "lock.json").exists()
    assert any(" ".join((*FORCE, "--yes")) in line for line in bench.lines)


def test_a_licence_for_amd64_alone_is_refused_while_it_is_resolved(bench: Bench, builder: Path) -> None:
    with pytest.raises(FetchError, match="cannot satisfy what the packages need") as caught:
        bench.install(_step("amd64", PACKAGE), builder)
    assert nvidia.LICENCE in caught.value.why


def test_in_the_host_sandbox_it_is_refused(bench: Bench, builder: Path) -> None:
    with pytest.raises(MachineError, match="in a container alone"):
        bench.install(_step("arm64", PACKAGE), builder, sandbox="host")


# --- every case of docs/cuda-packages.md -----------------------------------------------------------------------------

_MISMATCH = "package architecture (arm64) does not match system (amd64)"
_LOCATE = "Unable to locate package"
_UNMET = "unmet dependencies"

CASES = {
    # archive, foreign architecture added, forced, licence → what apt says, or "" where it installs
    "flat, not added": ("flat", False, False, "arm64", _MISMATCH),
    "flat, not added, forced": ("flat", False, True, "arm64", ""),
    "flat with arch=, not added": ("flat arch=", False, False, "arm64", _MISMATCH),
    "flat with arch=, not added, forced": ("flat arch=", False, True, "arm64", ""),
    "dists with arch=, not added": ("dists arch=", False, False, "arm64", _MISMATCH),
    "dists with arch=, not added, forced": ("dists arch=", False, True, "arm64", ""),
    "dists, not added": ("dists", False, False, "arm64", _LOCATE),
    "dists, not added, forced": ("dists", False, True, "arm64", _LOCATE),
    "flat, added": ("flat", True, False, "arm64", ""),
    "flat, added, forced": ("flat", True, True, "arm64", ""),
    "dists, added": ("dists", True, False, "arm64", ""),
    "dists, added, forced": ("dists", True, True, "arm64", ""),
    "licence for amd64 alone, forced": ("flat arch=", False, True, "amd64", _UNMET),
    "licence for amd64 alone, added": ("flat arch=", True, False, "amd64", _UNMET),
    "licence for all": ("flat arch=", True, False, "all", ""),
}


def _write(installer: Installer, archive: str) -> None:
    options = "trusted=yes" + (" arch=amd64,arm64" if "arch=" in archive else "")
    place = f"copy:{PACKAGES}/" + ("dists-archive stable main" if archive.startswith("dists") else "flat /")
    installer.write("/etc/apt/sources.list", f"deb [{options}] {place}\n")


@pytest.fixture(scope="module")
def offered(bench: Bench) -> dict[str, Path]:
    """By the licence's architecture, a folder with both kinds of archive."""
    folders = {}
    for licence in ("arm64", "amd64", "all"):
        folder = bench.base / "offered" / licence
        shutil.copytree(bench.base / "www" / licence, folder / "flat")
        nvidia.suited(folder / "flat", folder / "dists-archive")
        folders[licence] = folder
    return folders


@pytest.fixture(scope="module")
def database(bench: Bench, builder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """dpkg's database of the builder."""
    own = Lock.parse((builder / ".crosswheel/lock.json").read_text(), "the builder")
    place = tmp_path_factory.mktemp("dpkg") / "database"
    origin = _step("arm64", PACKAGE).inputs["builder"].inputs["lock"]
    debs = forced._gather(own, origin, bench.job(), bench.archives, {})
    forced._write_database(place, own, debs)
    return place


@pytest.mark.parametrize("case", CASES)
def test_cases(bench: Bench, builder: Path, database: Path, offered: dict[str, Path], case: str) -> None:
    archive, added, force, licence, refusal = CASES[case]
    said: list[str] = []
    job = bench.job()
    root_key = _step("arm64", PACKAGE).inputs["builder"].key
    with Installer(builder, root_key, offered[licence], PACKAGES, job) as installer:
        installer.put(database, "/var/lib/dpkg")
        _write(installer, archive)
        if added:
            assert installer.run(("dpkg", "--add-architecture", "arm64"), said.append) == 0
        assert installer.run(("apt-get", *OPTIONS, "update"), said.append) == 0, said
        argv = ("apt-get", *OPTIONS, *(FORCE if force else ()), "--yes", "install", f"{PACKAGE}:arm64")
        status = installer.run(argv, said.append)
        audit: list[str] = []
        installer.run(("dpkg", "--audit"), audit.append)
    assert (status == 0) is not bool(refusal), "\n".join(said)
    assert refusal in "\n".join(said)
    if force and not added and not refusal:
        assert any("arm64" in line or "architecture" in line for line in audit), "dpkg --audit complains"


def test_the_name_must_tell_the_architecture_while_it_is_not_added(
    bench: Bench, builder: Path, database: Path, offered: dict[str, Path]
) -> None:
    said: list[str] = []
    root_key = _step("arm64", PACKAGE).inputs["builder"].key
    with Installer(builder, root_key, offered["arm64"], PACKAGES, bench.job()) as installer:
        installer.put(database, "/var/lib/dpkg")
        _write(installer, "flat")
        assert installer.run(("apt-get", *OPTIONS, "update"), said.append) == 0
        assert installer.run(("apt-get", *OPTIONS, *FORCE, "--yes", "install", PACKAGE), said.append) != 0
    assert _LOCATE in "\n".join(said) or "has no installation candidate" in "\n".join(said)


def test_a_package_that_dpkg_refuses(bench: Bench, builder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "FORCE", ())
    with pytest.raises(StepError, match="The builder's apt-get install ended with status") as caught:
        bench.install(_step("arm64", PACKAGE), builder)
    assert _MISMATCH in caught.value.why
    assert "Leave out --apt-force" in caught.value.hint
