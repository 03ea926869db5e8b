"""Only a passing proof makes a released wheel; docs/status.md says what the proofs say."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from wheel_writer import POLICY

from crosswheel.building.release import release
from crosswheel.digest import sha256_bytes
from crosswheel.errors import DataError, MachineError
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof, RunFacts
from crosswheel.publishing.report import adopt, status_page
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

WHEEL = "wrapt-1.16.0-cp311-cp311-linux_aarch64.whl"
BUILD = {"recipe": "wrapt", "backend": "pep517", "bazel": None}


def proof(severity: Severity, sha256: str = sha256_bytes(b"wheel")) -> Proof:
    return Proof(
        file=WHEEL,
        sha256=sha256,
        size=5,
        policy=POLICY,
        policy_sha256="b" * 64,
        rules={"tag": 1},
        findings=(Finding(rule="tag", severity=severity, subject=WHEEL, message="said"),),
        run=RunFacts(qemu=POLICY.qemu, seconds=1.5, tests=7, failures=0, skipped=2),
    )


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / WHEEL).write_bytes(b"wheel")
    proof(Severity.PASS).write(folder / "proof.json")
    return folder


def put(made: Path, out: Path, *, passed: bool) -> Path:
    return release(
        made / WHEEL, made / "proof.json", BUILD, passed=passed, out=out, folder="rpi4", sidecars=lambda *_: {}
    )


def test_a_wheel_that_passed_lies_beside_its_proof(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    released = put(made, out, passed=True)
    assert released == out / "rpi4" / WHEEL
    assert released.read_bytes() == b"wheel"
    told = json.loads((out / "rpi4" / f"{WHEEL}.proof.json").read_text())
    assert told["build"] == BUILD
    assert told["passed"] is True
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == [WHEEL, f"{WHEEL}.proof.json"]


def test_what_says_the_same_already_is_not_written_again(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    released = put(made, out, passed=True)
    before = {path: path.stat().st_ino for path in released.parent.iterdir()}
    put(made, out, passed=True)
    assert {path: path.stat().st_ino for path in released.parent.iterdir()} == before


def test_a_wheel_that_was_lost_comes_again_with_its_proof(made: Path, tmp_path: Path) -> None:
    released = put(made, tmp_path / "dist", passed=True)
    proof_of_it = released.with_name(f"{WHEEL}.proof.json").read_bytes()
    released.unlink()
    put(made, tmp_path / "dist", passed=True)
    assert released.read_bytes() == b"wheel"
    assert released.with_name(f"{WHEEL}.proof.json").read_bytes() == proof_of_it


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"build": 1}', "[" * 100_000])
def test_a_proof_that_was_changed_is_written_again(made: Path, tmp_path: Path, text: str) -> None:
    beside = put(made, tmp_path / "dist", passed=True).with_name(f"{WHEEL}.proof.json")
    right = beside.read_bytes()
    beside.write_text(text)
    put(made, tmp_path / "dist", passed=True)
    assert beside.read_bytes() == right


def test_on_a_full_disk_the_former_wheel_stays(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "dist"
    released = put(made, out, passed=True)
    (made / WHEEL).write_bytes(b"another wheel")

    def full(_source: Path, partial: Path) -> None:
        partial.write_bytes(b"another")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(MachineError, match="cannot be written") as caught:
        put(made, out, passed=True)
    assert "No space left" in caught.value.why
    assert released.read_bytes() == b"wheel"
    assert sorted(path.name for path in released.parent.iterdir()) == [WHEEL, f"{WHEEL}.proof.json"]


def test_a_wheel_that_failed_never_stands_among_the_released(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "dist"
    put(made, out, passed=True)
    failed = put(made, out, passed=False)
    assert failed == out / "failed" / WHEEL
    assert list((out / "rpi4").iterdir()) == []
    put(made, out, passed=True)
    assert list((out / "failed").iterdir()) == []


def _proved(catalog: Catalog, kept: Path) -> str:
    return status_page(catalog, kept).partition("## Planned")[0]


def test_the_status_says_what_the_proofs_say(made: Path, tmp_path: Path, catalog: Catalog) -> None:
    kept = tmp_path / "proofs"
    assert "| wrapt |" not in _proved(catalog, kept)
    good = put(made, tmp_path / "dist", passed=True)
    adopt([good.with_name(f"{WHEEL}.proof.json")], kept)
    (row,) = [line for line in _proved(catalog, kept).splitlines() if line.startswith("| wrapt |")]
    assert "| 5 | passed |" in row
    assert "pep517" in row
    proof(Severity.FAIL).write(made / "proof.json")
    bad = put(made, tmp_path / "dist", passed=False)
    adopt([bad.with_name(f"{WHEEL}.proof.json")], kept)
    assert "**failed**" in status_page(catalog, kept)


def test_a_file_that_is_no_proof_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError):
        adopt([tmp_path / "x.json"], tmp_path / "proofs")
    assert not (tmp_path / "proofs").exists()


def test_a_bundle_stands_in_the_status_with_its_output(tmp_path: Path) -> None:
    bundle = "protobuf-3.4.0-rpi4.tar.gz"
    told = Proof(
        kind="bundle",
        file=bundle,
        sha256="c" * 64,
        size=5,
        policy=POLICY,
        policy_sha256="b" * 64,
        rules={"machine": 1},
        findings=(Finding(rule="machine", severity=Severity.PASS, subject=bundle, message="said"),),
        run=RunFacts(qemu=POLICY.qemu, seconds=1.5, tests=4, failures=0, skipped=0),
    )
    build = {"recipe": "protobuf", "version": "3.4.0", "output": "protoc", "backend": "cmake", "bazel": None}
    path = tmp_path / f"{bundle}.proof.json"
    path.write_text(json.dumps({**told.as_json(), "build": build}))
    (copy,) = adopt([path], tmp_path / "proofs")
    assert copy.name == f"protobuf-3.4.0-rpi4_{POLICY.cpu}.json"
    page = status_page(Catalog(Path(__file__).parents[2]), tmp_path / "proofs")
    where = f"{POLICY.target} | none ({POLICY.sysroot})"
    row = f"| protobuf (protoc) | 3.4.0 | {where} | cmake | {POLICY.qemu} | 4 | passed |"
    assert row in page
