"""A good wheel in which every rule has something to look at; one thing in it is broken, and exactly that rule speaks.

:data:`BROKEN` has a mutation for every rule that there is. What else each rule finds is in the tests of that rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from code_writer import AARCH64, ARM_RET, LSE, Function, write_code
from elf_writer import write_elf
from fatbin_writer import container
from wheel_writer import EXTENSION, POLICY, SONAMES, good_files, metadata, wheel_file, write_wheel

from crosswheel.proving.emulate import CheckSpec, EmulatedRun, RunOutcome
from crosswheel.proving.findings import Severity
from crosswheel.proving.offered import Found, Offered
from crosswheel.proving.prove import RULES, Proof, prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy

pytestmark = pytest.mark.unit

CODE = "quick/libcode.so"
GPU = "quick/kernels.fatbin"
METADATA = "quick-1.0.dist-info/METADATA"
WHEEL = "quick-1.0.dist-info/WHEEL"
SIX = Found(asked=("six>=1.10",), kind="index", version="1.17.0", file="six-1.17.0-py2.py3-none-any.whl")
CHECK = CheckSpec(script="", tests=2, timeout=5)
PASSED = RunOutcome(
    status=0, timed_out=False, seconds=1.0, lines=(), result=b'{"tests": 2, "failures": 0, "skipped": 0}'
)


def code(*functions: Function, names: Any = "linker") -> bytes:
    return write_code([Function("plain", ARM_RET), *functions], machine=AARCH64, names=names)


def library(**how: Any) -> bytes:
    return write_elf(executable=False, **how)


def requiring(*more: str) -> bytes:
    return metadata(more="Requires-Dist: six>=1.10\n" + "".join(f"{line}\n" for line in more))


def drop(name: str) -> Callable[[list[str]], list[str]]:
    return lambda rows: [row for row in rows if not row.startswith(name)]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One thing that is not as in the good wheel, the rule that says so, how bad it is, and with which words."""

    rule: str
    says: str
    severity: Severity = Severity.FAIL
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    wheel: Mapping[str, Any] = field(default_factory=dict)
    offered: Mapping[str, Found] = field(default_factory=lambda: {"six": SIX})
    run: RunOutcome = PASSED


BROKEN = {
    "a name that leads out": Broken(rule="archive", says="leads out of the wheel", files={"../evil.py": b""}),
    "a line of RECORD dropped": Broken(
        rule="record", says="is in the wheel and not in RECORD", wheel={"record": drop(CODE)}
    ),
    "a package renamed": Broken(
        rule="metadata", says="names the package slow", files={METADATA: requiring().replace(b"quick", b"slow", 1)}
    ),
    "a requirement that is none": Broken(
        rule="metadata", says="is no requirement", files={METADATA: requiring("Requires-Dist: six >=> 1")}
    ),
    "the machine flipped": Broken(rule="machine", says="is for x86_64", files={EXTENSION: library(machine=62)}),
    "a tag changed": Broken(
        rule="tag",
        says="it is for cp310-cp310, and rpi4 has CPython 3.11",
        files={WHEEL: wheel_file("cp310-cp310-linux_aarch64")},
        wheel={"name": "quick-1.0-cp310-cp310-linux_aarch64.whl"},
    ),
    "a newer glibc wanted": Broken(
        rule="abi",
        says="wants GLIBC_2.38",
        files={EXTENSION: library(versions={"libc.so.6": {"GLIBC_2.38": ["newest"]}})},
    ),
    "a NEEDED added": Broken(
        rule="needed", says="wants libcudart.so.8.0", files={EXTENSION: library(needed=("libcudart.so.8.0",))}
    ),
    "libdl put in": Broken(
        rule="bundled", says="a part of glibc", files={"quick.libs/libdl.so.2": library(soname="libdl.so.2")}
    ),
    "a RUNPATH added": Broken(rule="runpath", says="names the folder", files={EXTENSION: library(runpath="/opt/x")}),
    "a path planted": Broken(rule="paths", says="/home/me/a.c", files={EXTENSION: library(text=b"\0/home/me/a.c\0")}),
    "a path planted in what a tool wrote": Broken(
        rule="paths", says="/build/out/usr", files={"quick/lib/pkgconfig/own.pc": b"prefix=/build/out/usr\n"}
    ),
    "an executable stack": Broken(rule="segments", says="an executable stack", files={EXTENSION: library(stack=7)}),
    "an instruction planted": Broken(
        rule="instructions",
        says="1 function has instructions that cortex-a72 lacks (LSE in 1)",
        files={CODE: code(Function("newer", LSE + ARM_RET))},
    ),
    "the same, stripped": Broken(
        rule="instructions",
        severity=Severity.NOT_PROVEN,
        says="nothing names them, because the file was stripped",
        files={CODE: code(Function("newer", LSE + ARM_RET), names="none")},
    ),
    "code for another GPU": Broken(rule="cuda", says="5.3", files={GPU: container(["70"])}),
    "code that the driver compiles": Broken(
        rule="cuda", severity=Severity.WARN, says="PTX", files={GPU: container([], ["53"])}
    ),
    "a requirement that nothing serves": Broken(
        rule="dependencies",
        severity=Severity.WARN,
        says="six>=1.10",
        offered={"six": Found(asked=("six>=1.10",), kind="nothing", why="there is no such project")},
    ),
    "a check that dies": Broken(
        rule="emulated",
        says="died of SIGILL",
        run=RunOutcome(
            status=132,
            timed_out=False,
            seconds=1.0,
            lines=("qemu: uncaught target signal 4 (Illegal instruction) - core dumped",),
            result=None,
        ),
    ),
}


@pytest.fixture(scope="module")
def policy(catalog: Catalog) -> Policy:
    has = catalog.instruction_set(catalog.target("rpi4"), catalog.cpu("cortex-a72"))
    return POLICY.model_copy(update={"instructions": has, "capabilities": ("5.3",)})


def judge(folder: Path, policy: Policy, broken: Broken | None = None) -> Proof:
    what = broken or Broken(rule="", says="")
    good = {**good_files(extension=library()), CODE: code(), GPU: container(["53"]), METADATA: requiring()}
    files = {name: data for name, data in {**good, **what.files}.items() if data is not None}

    def run(_: EmulatedRun) -> RunOutcome:
        return what.run

    path = write_wheel(folder, files, **what.wheel)
    offered = Offered(found=what.offered)
    return prove(path, policy, sonames=SONAMES, check=CHECK, run=run, built_here=True, offered=offered)


def test_the_good_wheel_passes_every_rule(tmp_path: Path, policy: Policy) -> None:
    proof = judge(tmp_path, policy)
    assert {item.rule: item.severity for item in proof.findings} == dict.fromkeys(RULES, Severity.PASS)


def test_every_rule_has_a_mutation() -> None:
    assert {broken.rule for broken in BROKEN.values()} == set(RULES)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_one_thing_broken_and_exactly_that_rule_speaks(broken: Broken, tmp_path: Path, policy: Policy) -> None:
    proof = judge(tmp_path, policy, broken)
    assert {item.rule for item in proof.findings if item.severity is not Severity.PASS} - _silenced(broken) == {
        broken.rule
    }
    said = [item for item in proof.findings if item.rule == broken.rule]
    assert any(item.severity is broken.severity and broken.says in item.message for item in said), said
    assert proof.passed == (broken.severity is not Severity.FAIL)


def _silenced(broken: Broken) -> set[str]:
    """Of a wheel that must not be unpacked, or is for another machine, nothing is run, and that is said."""
    return {"emulated"} if broken.rule in ("archive", "machine") else set()
