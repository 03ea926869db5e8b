"""The proof as a value: JSON, the verdict, the lines, and what its import costs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from elf_writer import write_elf
from wheel_writer import POLICY, SONAMES, good_files, write_wheel

from crosswheel.digest import sha256_file
from crosswheel.errors import DataError
from crosswheel.proving.emulate import CheckSpec, RunOutcome
from crosswheel.proving.prove import RULES, STATIC_RULES, Proof, prove
from crosswheel.proving.table import proof_lines

pytestmark = pytest.mark.unit


@pytest.fixture
def proof(tmp_path: Path) -> Proof:
    ended = RunOutcome(
        status=0,
        timed_out=False,
        seconds=2.0,
        lines=(),
        result=b'{"tests": 3, "failures": 0, "skipped": 1}',
        used={"libc6": "2.36-9"},
    )
    check = CheckSpec(script="", tests=2, timeout=5)
    path = write_wheel(tmp_path, good_files(extension=write_elf(text=b" /home/me/a.c ")))
    return prove(path, POLICY, sonames=SONAMES, check=check, run=lambda _: ended)


def test_json_there_and_back(proof: Proof, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    proof.write(path)
    assert Proof.read(path) == proof
    value = json.loads(path.read_text())
    assert value["schema"] == 1
    assert value["passed"] is True
    assert value["sha256"] == sha256_file(tmp_path / proof.file)
    assert value["run"]["tests"] == 3
    assert value["rules"] == dict(RULES)


def test_the_verdict_is_not_believed_but_follows_from_the_findings(proof: Proof) -> None:
    value = proof.as_json()
    value["findings"][0]["severity"] = "fail"
    assert value["passed"] is True
    assert not Proof.from_json(value).passed


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"findings": None}, {"policy": {}}, {"findings": [{"rule": "abi"}]}, {"run": {"x": 1}}]
)
def test_what_is_no_proof(proof: Proof, change: dict[str, object]) -> None:
    with pytest.raises(DataError, match="no proof"):
        Proof.from_json({**proof.as_json(), **change}, "proof.json")


def test_a_file_that_is_no_proof(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    for text in ("", "[]", "{", "3"):
        path.write_text(text)
        with pytest.raises(DataError):
            Proof.read(path)


def test_rules_have_names_of_their_own_and_words() -> None:
    names = [rule.name for rule in STATIC_RULES]
    assert len(set(names)) == len(names)
    assert all(rule.about and rule.version >= 1 for rule in STATIC_RULES)
    assert set(RULES) == {*names, "emulated"}


def test_the_lines_have_the_verdict_first_and_the_worst_next(proof: Proof) -> None:
    lines = proof_lines(proof)
    assert lines[0] == f"passed: {proof.file}"
    marks = [line.split()[0] for line in lines[4:] if not line.strip().startswith("→")]
    assert marks[0] == "warn"
    assert "pass" in marks
    failed = replace(proof, findings=(replace(proof.findings[0], severity=type(proof.findings[0].severity).FAIL),))
    assert proof_lines(failed)[0].startswith("FAILED")


def test_a_wheel_cannot_write_to_a_terminal(tmp_path: Path) -> None:
    """Whatever its files are called, and whatever they want."""
    versions = {"libc.so.6": {"GLIBC_9\x1b[35m": ["\x1b[36m"], "GLIBC_2.99": ["\x1b]0;title\x07"]}}
    elf = write_elf(machine=62, needed=("lib\x1b[32mx.so",), runpath="/\x1b[33m", versions=versions)
    path = write_wheel(tmp_path, {**good_files(), "quick/\x1b[31mevil\u202e\r.so": elf})
    proof = prove(path, POLICY, sonames=SONAMES, check=None, run=None)
    lines = proof_lines(proof)
    assert not [line for line in lines if not line.isprintable()]
    assert any("\\x1b[31mevil\\u202e" in line for line in lines)


def test_the_rules_versions_cost_no_heavy_import() -> None:
    """A build that has nothing to do asks for them."""
    heavy = ("elftools", "docker", "requests", "email.parser", "mmap")
    code = f"import sys; from crosswheel.proving.prove import RULES; print(set({heavy}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
