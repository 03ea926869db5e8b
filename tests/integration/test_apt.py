"""The private apt root against a signed repository that this file makes, good and in every way bad."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import standin
from standin import Key, Repository, Setup, deb, fill, served

from crosswheel.building.job import Cancelled
from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.errors import DataError, FetchError, MachineError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Key, Key]]:
    """The repository's key, and another one."""
    # gpg-agent's socket must have a short path
    with tempfile.TemporaryDirectory(prefix="cw-keys-") as folder:
        pair = (Key(Path(folder, "a")), Key(Path(folder, "b")))
        yield pair
        for key in pair:
            key.close()


@pytest.fixture(scope="module")
def master(keys: tuple[Key, Key], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it should be; each test works on a copy."""
    folder = tmp_path_factory.mktemp("master") / "repository"
    fill(Repository(folder, keys[0]))
    return folder


@pytest.fixture
def setup(master: Path, keys: tuple[Key, Key]) -> Iterator[Setup]:
    # not tmp_path: an ordinary user must be able to enter it
    with tempfile.TemporaryDirectory(prefix="cw-apt-") as name, ExitStack() as stack:
        base = Path(name)
        base.chmod(0o755)
        repository = Repository(base / "repository", keys[0])
        shutil.copytree(master, base / "repository", dirs_exist_ok=True)
        keys[0].export(base / "keyrings/standin.gpg")
        (base / "snapshots").mkdir()
        yield Setup(
            base=base,
            repository=repository,
            server=stack.enter_context(served(base / "repository")),
            snapshots=base / "snapshots",
            snapshot_server=stack.enter_context(served(base / "snapshots")),
        )


# --- as it should be -------------------------------------------------------------------------------------------------


def test_lock(setup: Setup) -> None:
    lock = setup.read(setup.lock())
    assert [(p.package, p.version) for p in lock.packages] == [
        ("hello", "1.0"),
        ("libdemo-dev", "1:2.0+b1"),
        ("libdemo1", "1.0"),
    ]
    for package in lock.packages:
        path = setup.repository.folder / package.path
        assert (package.sha256, package.size) == (sha256_file(path), path.stat().st_size)
    assert [(s.archive, s.name) for s in lock.suites] == [("standin", "stable")]
    assert lock.suites[0].date <= lock.resolved
    assert lock.tool.startswith("apt ")


def test_root(setup: Setup) -> None:
    root = setup.root(setup.lock())
    multiarch = root / "usr/lib/aarch64-linux-gnu"
    assert (multiarch / "libdemo.so").readlink() == Path("libdemo.so.1")
    assert (multiarch / "libdemo.so").read_text() == "demo\n"
    assert [(root / name).readlink() for name in ("bin", "lib", "lib64", "sbin")] == [
        Path("usr/bin"),
        Path("usr/lib"),
        Path("usr/lib64"),
        Path("usr/sbin"),
    ]
    assert (root / "usr/bin/hello").stat().st_mode & 0o7777 == 0o755
    assert (root / "usr/bin/awk").readlink() == Path("hello")
    assert not (root / "usr/share/unwanted").exists()
    assert sorted(path.name for path in (root / ".crosswheel").iterdir()) == ["lock.json", "made.json"]
    assert "usr/bin/awk" in [item["path"] for item in json.loads((root / ".crosswheel/made.json").read_text())]


def test_same_lock_same_root(setup: Setup) -> None:
    lock = setup.lock()
    first = sha256_tree(setup.root(lock))
    shutil.rmtree(setup.store / "debs")
    assert sha256_tree(setup.root(lock)) == first


def test_packages_are_downloaded_once(setup: Setup) -> None:
    setup.root(setup.lock("hello"))
    setup.root(setup.lock("hello", "libdemo-dev"))
    asked = [path for path in setup.server.asked if path.endswith(".deb")]
    assert len(asked) == 3
    assert len(set(asked)) == 3


def test_nothing_of_this_machines_dpkg_or_apt_changes(setup: Setup) -> None:
    def state() -> list[tuple[str, int, int]]:
        found = []
        for top in ("/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "/etc/apt"):
            for folder, _, files in os.walk(top):
                for name in files:
                    info = Path(folder, name).lstat()
                    found.append((f"{folder}/{name}", info.st_size, info.st_mtime_ns))
        return sorted(found)

    before = state()
    assert before, "this machine has no dpkg, so the test shows nothing"
    setup.root(setup.lock())
    assert state() == before


def test_local_folder_as_mirror(setup: Setup) -> None:
    setup.settings["apt_mirrors"] = {"standin": f"file:{setup.repository.folder}"}
    root = setup.root(setup.lock())
    assert (root / "usr/bin/hello").read_text() == "hello\n"
    assert setup.server.asked == []
    assert all(path.is_file() and not path.is_symlink() for path in (setup.store / "debs").glob("*/*"))


def test_pinned_lock(setup: Setup) -> None:
    text = (setup.lock() / "lock.json").read_text()
    del setup.server.asked[:]
    setup.settings["offline"] = True
    assert (setup.lock(pinned=text) / "lock.json").read_text() == text
    assert setup.server.asked == []
    with pytest.raises(DataError, match="not what the written data asks for") as caught:
        setup.lock("hello", "other", pinned=text)
    assert "lacks other, and has libdemo-dev" in caught.value.why
    assert "./x sysroot lock a-test" in caught.value.hint


def test_as_user_nobody(setup: Setup) -> None:
    def build() -> None:
        root = setup.root(setup.lock())
        assert (root / "usr/bin/hello").stat().st_uid == os.getuid() == 65534

    if os.getuid() != 0:
        pytest.skip("only root can become nobody; as it is, all tests here ran as an ordinary user")
    importlib.import_module("debian.arfile")  # now: the virtual environment may be out of nobody's reach
    setup.store.mkdir()
    os.chown(setup.store, 65534, 65534)
    _in_child(65534, build)


def _in_child(user: int, work: Callable[[], None]) -> None:
    """Runs ``work`` in a process of its own, as ``user``."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.environ["HOME"] = "/nonexistent"
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


# --- signatures and hashes -------------------------------------------------------------------------------------------


def _refused(setup: Setup, message: str, evidence: str, *packages: str, suite: str = "stable") -> FetchError:
    with pytest.raises(FetchError, match=message) as caught:
        setup.lock(*packages, suite=suite)
    assert evidence in caught.value.why
    assert not (setup.store / "debs").exists()
    return caught.value


def test_wrong_key(setup: Setup, keys: tuple[Key, Key]) -> None:
    keys[1].export(setup.keyrings / "standin.gpg")
    error = _refused(setup, "signed with a key that the keyring does not hold", "NO_PUBKEY")
    assert "standin-keyring" in error.hint


def test_unsigned(setup: Setup) -> None:
    setup.repository.publish(signed=False)
    _refused(setup, "is not signed", "is not signed")


def test_tampered_release(setup: Setup) -> None:
    signed = setup.repository.dist / "InRelease"
    signed.write_text(signed.read_text().replace("Stand-in", "Stand-up"))
    _refused(setup, "a signature that is not valid", "BADSIG")


def test_tampered_packages(setup: Setup) -> None:
    packages = setup.repository.packages
    text = packages.read_text()
    packages.write_text(text.replace("Package: hello", "Package: hallo"))
    _refused(setup, "bytes that are not those that it signed", "Hash Sum mismatch")
    assert [path.read_text() for path in setup.kept()] == [packages.read_text()]


def test_expired_release_is_refused_where_the_machine_checks(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    config = setup.base / "apt.conf"
    config.write_text('Acquire::Check-Valid-Until "true"; Dir::Etc::parts "/nonexistent";\n')
    monkeypatch.setenv("APT_CONFIG", str(config))
    release = setup.repository.dist / "Release"
    release.write_text("Valid-Until: Thu, 01 Jan 2026 00:00:00 UTC\n" + release.read_text())
    setup.repository.key.sign(release)
    _refused(setup, "out of date", "expired")


def test_missing_keyring(setup: Setup) -> None:
    (setup.keyrings / "standin.gpg").unlink()
    with pytest.raises(MachineError, match=r"standin\.gpg is not on this machine") as caught:
        setup.lock()
    assert caught.value.hint == "apt-get install standin-keyring"


def test_missing_suite(setup: Setup) -> None:
    error = _refused(setup, "lacks a suite or a component", "stable-backports", suite="stable-backports")
    assert str(setup.server.server_port) in str(error)


def test_unknown_package(setup: Setup) -> None:
    _refused(setup, "no package of that name", "Unable to locate package libnowhere", "hello", "libnowhere")


def test_unmet_dependency(setup: Setup) -> None:
    deb(setup.repository.pool, "needy", {"usr/bin/needy": "x"}, Depends="libnowhere")
    setup.repository.publish()
    _refused(setup, "cannot satisfy", "libnowhere", "needy")


def test_unreachable_mirror(setup: Setup) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        setup.settings["apt_mirrors"] = {"standin": f"http://127.0.0.1:{unused.getsockname()[1]}"}
        _refused(setup, "cannot be reached", "Could not connect")


# --- packages that are not what or where they should be --------------------------------------------------------------


def _pool_file(setup: Setup, name: str) -> Path:
    return next(setup.repository.pool.glob(f"{name}_*"))


def test_tampered_deb(setup: Setup) -> None:
    lock = setup.lock()
    path = _pool_file(setup, "libdemo1")
    right = sha256_file(path)
    path.write_bytes(path.read_bytes().replace(b"demo\n", b"evil\n"))
    with pytest.raises(FetchError, match="bytes that are not those of the lock") as caught:
        setup.root(lock)
    assert right in caught.value.why
    assert [sha256_file(kept) for kept in setup.kept()] == [sha256_file(path)]
    assert not (setup.store / "debs" / right[:2] / right).exists()


def _move_to_snapshot(setup: Setup, name: str, date: str) -> None:
    path = _pool_file(setup, name)
    place = setup.snapshots / date / path.relative_to(setup.repository.folder)
    place.parent.mkdir(parents=True)
    path.rename(place)


def test_deb_gone_from_the_mirror_comes_from_the_snapshot(setup: Setup) -> None:
    lock = setup.lock()
    resolved = setup.read(lock).resolved.replace("-", "").replace(":", "")
    _move_to_snapshot(setup, "libdemo-dev", resolved)
    root = setup.root(lock)
    assert (root / "usr/include/demo.h").is_file()
    assert any("trying http://127.0.0.1" in line for line in setup.lines)
    assert all("libdemo-dev" in path for path in setup.snapshot_server.asked)


def test_snapshot_with_wrong_bytes(setup: Setup) -> None:
    lock = setup.lock()
    path = _pool_file(setup, "libdemo-dev")
    path.write_bytes(path.read_bytes().replace(b"DEMO 1", b"DEMO 2"))
    _move_to_snapshot(setup, "libdemo-dev", setup.read(lock).resolved.replace("-", "").replace(":", ""))
    with pytest.raises(FetchError, match="bytes that are not those of the lock"):
        setup.root(lock)
    assert len(setup.kept()) == 1


def test_deb_gone_everywhere(setup: Setup) -> None:
    lock = setup.lock()
    _pool_file(setup, "libdemo-dev").unlink()
    with pytest.raises(FetchError, match=r"1 packages of the lock are at no mirror any more: libdemo-dev") as caught:
        setup.root(lock)
    assert "./x sysroot lock a-test" in caught.value.hint
    assert "404" in caught.value.why


def test_no_mirror_at_all_means_the_snapshot(setup: Setup) -> None:
    shutil.copytree(setup.repository.folder, setup.snapshots / standin.DATE)
    setup.settings["apt_mirrors"] = {}
    lock = setup.lock()
    assert setup.read(lock).packages
    assert any(f"(the snapshot of {standin.DATE})" in line for line in setup.lines)


def test_damaged_deb_in_the_store_is_fetched_again(setup: Setup) -> None:
    lock = setup.lock()
    setup.root(lock)
    victim = next((setup.store / "debs").glob("*/*"))
    victim.write_bytes(victim.read_bytes()[:100])
    setup.root(lock)
    assert sha256_file(victim) == victim.name
    assert any("damaged in the store" in line for line in setup.lines)


def test_dangling_so(setup: Setup) -> None:
    with pytest.raises(FetchError, match="lead nowhere") as caught:
        setup.root(setup.lock("libbroken-dev"))
    assert "libbroken-dev: usr/lib/aarch64-linux-gnu/libbroken.so -> libbroken.so.1" in caught.value.why


# --- offline ---------------------------------------------------------------------------------------------------------


def _fill_mirror(setup: Setup, folder: Path) -> None:
    for path in setup.repository.pool.glob("*.deb"):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        place = folder / "sha256" / digest[:2] / digest
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def test_offline_from_a_mirror_folder(setup: Setup) -> None:
    lock = setup.lock()
    _fill_mirror(setup, setup.base / "mirror")
    del setup.server.asked[:]
    setup.settings |= {"offline": True, "mirror": str(setup.base / "mirror")}
    assert (setup.root(lock) / "usr/bin/hello").is_file()
    assert setup.server.asked == setup.snapshot_server.asked == []


def test_offline_with_nothing(setup: Setup) -> None:
    lock = setup.lock()
    del setup.server.asked[:]
    setup.settings |= {"offline": True, "mirror": str(setup.base / "mirror")}
    with pytest.raises(FetchError, match="3 packages of the lock are not on this machine"):
        setup.root(lock)
    with pytest.raises(FetchError, match="cannot be resolved offline"):
        setup.lock()
    assert setup.server.asked == setup.snapshot_server.asked == []


def test_mirror_url_comes_before_the_archive(setup: Setup) -> None:
    lock = setup.lock()
    _fill_mirror(setup, setup.snapshots / "mirror")
    del setup.server.asked[:]
    setup.settings["mirror"] = f"http://127.0.0.1:{setup.snapshot_server.server_port}/mirror"
    assert (setup.root(lock) / "usr/bin/hello").is_file()
    assert setup.server.asked == []


def test_mirror_folder_with_wrong_bytes(setup: Setup) -> None:
    lock = setup.lock()
    _fill_mirror(setup, setup.base / "mirror")
    package = setup.read(lock).packages[0]
    (setup.base / "mirror/sha256" / package.sha256[:2] / package.sha256).write_bytes(b"other bytes")
    setup.settings["mirror"] = str(setup.base / "mirror")
    with pytest.raises(FetchError, match="holds wrong bytes for hello"):
        setup.root(lock)
    assert [path.read_bytes() for path in setup.kept()] == [b"other bytes"]


# --- stopping --------------------------------------------------------------------------------------------------------


def test_cancelled(setup: Setup) -> None:
    lock = setup.lock()
    setup.cancelled.set()
    with pytest.raises(Cancelled):
        setup.root(lock)
