"""Archives in the written data, and those that lie in packages: which steps they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from crosswheel.cli.asking import local_sources
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.planning.archives import refuse_unused, with_archives
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import FetchStep, LocalStep, LockStep, RootStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import Source
from crosswheel.spec.sysroots import Archive, Suite

pytestmark = pytest.mark.unit

CATALOG = Catalog(Path(__file__).resolve().parents[2])
PINNED = "1" * 64
BOXED = Archive(
    name="boxed",
    file=Source(file="cuda-repo.deb", sha256=PINNED, places=({"uri": "https://files.test/cuda-repo.deb"},)),
    source="a test",
)
PLAIN = Archive(name="plain", uri="http://plain.test/", keyring="k.gpg", keyring_package="k", source="a test")
ARCHIVES = {"boxed": BOXED, "plain": PLAIN}


def _lock(**more: Any) -> LockStep:
    fields: dict[str, Any] = {"lock": "l", "architecture": "arm64", "packages": ("p",), "snapshot": "20260101T000000Z"}
    suites = (Suite(archive="plain", name="stable"), Suite(archive="boxed", name="/", components=()))
    return LockStep(name="resolve", **({"suites": suites} | fields | more))


def _root(**more: Any) -> RootStep:
    return RootStep(name="assemble", inputs={"lock": _lock(**more)})


def _local(sha256: str, *, named: bool = False) -> LocalSource:
    return LocalSource(path="/given/cuda-repo.deb", sha256=sha256, folder=False, named=named)


def test_the_file_of_an_archive_is_fetched_by_its_hash() -> None:
    root = with_archives(_root(), ARCHIVES, {})
    lock = root.inputs["lock"]
    assert isinstance(lock, LockStep)
    fetch = lock.inputs["boxed"]
    assert isinstance(fetch, FetchStep)
    assert fetch.sha256 == PINNED
    assert root.inputs["boxed"] is fetch
    assert lock.vouched == ("boxed",)
    assert root.key != _root().key


def test_nothing_changes_without_such_an_archive() -> None:
    plain = _root(suites=(Suite(archive="plain", name="stable"),))
    assert with_archives(plain, ARCHIVES, {}) is plain


@pytest.mark.parametrize(
    ("local", "vouched"),
    [
        (_local("2" * 64), ()),
        (_local(PINNED), ("boxed",)),
        (_local("2" * 64, named=True), ("boxed",)),
    ],
    ids=["other bytes", "the pinned bytes", "other bytes that the user names"],
)
def test_a_given_file_is_taken_instead(local: LocalSource, vouched: tuple[str, ...]) -> None:
    lock = with_archives(_root(), ARCHIVES, {"boxed": local}).inputs["lock"]
    assert isinstance(lock, LockStep)
    assert isinstance(lock.inputs["boxed"], LocalStep)
    assert lock.vouched == vouched


def test_a_pinned_lock_is_its_text_and_the_root_has_the_file() -> None:
    root = with_archives(_root(pinned="{}"), ARCHIVES, {})
    assert root.inputs["lock"].inputs == {}
    assert isinstance(root.inputs["boxed"], FetchStep)


def test_an_archive_that_the_build_does_not_read_is_refused() -> None:
    refuse_unused([_lock()], ["boxed"])
    with pytest.raises(InputError, match="takes nothing from the archive 'jetson'") as caught:
        refuse_unused([_lock()], ["jetson"])
    assert caught.value.hint == "it takes from: boxed, plain"


# --- the option ------------------------------------------------------------------------------------------------------


def test_a_folder_of_an_archive_is_a_mirror_of_it(tmp_path: Path) -> None:
    assert local_sources([f"ubuntu-ports={tmp_path}"]) == ({}, {"ubuntu-ports": str(tmp_path)})


def test_a_file_with_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "cuda-repo.deb"
    file.write_bytes(b"an archive")
    right = sha256_file(file)
    sources, mirrors = local_sources([f"jetpack-3.1={file}#sha256={right}"])
    assert mirrors == {}
    assert sources["jetpack-3.1"] == LocalSource(path=str(file), sha256=right, folder=False, named=True)
    assert not local_sources([f"jetpack-3.1={file}"])[0]["jetpack-3.1"].named
    with pytest.raises(InputError, match="this is not the file of sha256 00") as caught:
        local_sources([f"jetpack-3.1={file}#sha256={'0' * 64}"])
    assert right in caught.value.why


# --- the written data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"uri": None}, "`uri`, a `snapshot` or a `file`"),
        ({"keyring": None}, "`keyring` or `keys`"),
        ({"keyring_package": ""}, "`keyring_package` that brings it"),
        ({"uri": "http://plain.test"}, "pattern"),
    ],
)
def test_an_archive_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Archive.model_validate(PLAIN.model_dump() | wrong)


def test_a_flat_suite_has_no_components() -> None:
    assert Suite(archive="a", name="x86_64/", components=()).flat
    for name, components in (("/", ("main",)), ("stable", ())):
        with pytest.raises(ValidationError, match="`components`"):
            Suite(archive="a", name=name, components=components)


def test_ubuntu_has_arm64_in_another_archive() -> None:
    sysroot = CATALOG.sysroot("ubuntu-16.04")
    assert {suite.archive for suite in sysroot.suites_for("x86_64")} == {"ubuntu"}
    assert {suite.archive for suite in sysroot.suites_for("aarch64")} == {"ubuntu-ports"}
    assert [s.name for s in sysroot.suites_for("aarch64")] == ["xenial", "xenial-updates", "xenial-security"]


def test_nvidias_keys_are_named_in_full() -> None:
    nvidia = [archive for archive in CATALOG.archives.values() if "nvidia" in (archive.uri or "")]
    assert len(nvidia) > 10
    for archive in nvidia:
        assert archive.keys
        assert not archive.label, "a machine's own mirror must not be taken for it by a label"
        for key in archive.keys:
            short = [uri.rpartition("/")[2].removesuffix(".pub") for uri in key.places if uri.endswith(".pub")]
            assert all(key.fingerprint.endswith(name.upper()) for name in short)
