"""Proofs of real wheels in the targets' real roots, under qemu-user."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import pytest

from crosswheel.building.execute import execute
from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.proofs import TargetRoot, Trial, target_sonames, verify_wheel
from crosswheel.building.runners import runners
from crosswheel.building.sandbox import sandbox_for
from crosswheel.building.sandbox.docker_engine import DockerSandbox
from crosswheel.building.store import Store
from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.errors import CrosswheelError
from crosswheel.planning.roots import emulator_step, target_root_step
from crosswheel.planning.steps import LocalStep, ProofStep, Step
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import RULES, Proof, prove
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

WHEELS = {
    "wrapt-1.16.0-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl": (
        "a452f9ca3e3267cd4d0fcf2edd0d035b1934ac2bd7e0e57ac91ad6b95c0c6389"
    ),
    "wrapt-1.16.0-cp311-cp311-manylinux_2_5_x86_64.manylinux1_x86_64.manylinux_2_17_x86_64.manylinux2014_x86_64.whl": (
        "72554a23c78a8e7aa02abbd699d129eead8b147a23c56e08d08dfc29cfdddca1"
    ),
    "tflite_runtime-2.11.0-cp39-cp39-manylinux2014_aarch64.whl": (
        "e15ebb86a1039cbbe9132cb3497466e248d401b03b963b6d4045f732d1a66e2a"
    ),
}

PASSES = """
import json, os, socket, sys, wrapt, wrapt._wrappers
calls = []

@wrapt.decorator
def counted(wrapped, instance, args, kwargs):
    calls.append(args)
    return wrapped(*args, **kwargs)

@counted
def double(value):
    return 2 * value

def refused(action):
    try:
        action()
    except OSError:
        return True
    return False

facts = {
    "the decorator works": double(21) == 42 and calls == [(21,)],
    "by the extension": wrapt.FunctionWrapper.__module__ == wrapt._wrappers.FunctionWrapper.__module__,
    "which lies in the wheel": wrapt._wrappers.__file__.startswith("/site/"),
    "in the target's Python": sys.executable == "/usr/bin/python3.11" and "/usr/lib/python3/dist-packages" in sys.path,
    "on the target's machine": os.uname().machine == %(machine)r,
    "not as root": os.getuid() != 0,
    "on a read-only wheel": refused(lambda: open("/site/new", "w")),
    "in a read-only root": refused(lambda: open("/etc/new", "w")),
    "with the release's source": open(sys.argv[2] + "/tests.txt").read() == "the release's own tests\\n",
    "without a network": refused(lambda: socket.create_connection(("192.0.2.1", 80), 3)),
}
failures = [name for name, holds in facts.items() if not holds]
print("failed:", failures)
json.dump({"tests": len(facts), "failures": len(failures), "skipped": 0}, open(sys.argv[1], "w"))
"""

RUNS_BYTES = """
import ctypes, json, mmap, sys, wrapt
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex(%(code)r))
number = ctypes.c_int(41)
call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int))(ctypes.addressof(ctypes.c_char.from_buffer(code)))
call(ctypes.byref(number))
json.dump({"tests": 1, "failures": 0, "skipped": 0}, open(sys.argv[1], "w"))
"""
LSE = "21008052" + "000021b8" + "c0035fd6"  # mov w1, #1; ldadd w1, w0, [x0] (Armv8.1); ret
AVX = "c5f877" + "c3"  # vzeroupper; ret


class Quiet:
    """Listens and says nothing, and keeps what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def plan(self, steps: Sequence[Step]) -> None: ...
    def started(self, step: Step) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...
    def damaged(self, step: Step, what: str) -> None: ...
    def failed(self, step: Step, error: CrosswheelError) -> None: ...
    def line(self, step: Step, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels as pip finds them on the package index."""
    folder = tmp_path_factory.mktemp("wheels")
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", f"--dest={folder}")
    for requirement, python, platform in (
        ("wrapt==1.16.0", "3.11", "manylinux2014_aarch64"),
        ("wrapt==1.16.0", "3.11", "manylinux2014_x86_64"),
        ("tflite-runtime==2.11.0", "3.9", "manylinux2014_aarch64"),
    ):
        subprocess.run((*pip, f"--python-version={python}", f"--platform={platform}", requirement), check=True)
    for name, digest in WHEELS.items():
        assert sha256_file(folder / name) == digest
    return folder


@pytest.fixture(scope="module")
def store(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of this file's own; what it left in the engine is removed at the end."""
    store = Store(tmp_path_factory.mktemp("store"))
    yield store
    DockerSandbox(store.root).remove_images(lambda _: False)


Prover = Callable[..., Proof]


@pytest.fixture
def prover(catalog: Catalog, store: Store, wheels: Path, tmp_path: Path) -> Prover:
    """Proves the wrapt of an architecture with a check, in the plan that a build has."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "tests.txt").write_text("the release's own tests\n")

    def go(
        check: str,
        *,
        arch: Arch = "aarch64",
        cpu: str = "cortex-a72",
        timeout: int = 120,
        tests: int = 1,
        sandbox: Literal["docker", "host"] = "docker",
    ) -> Proof:
        path = next(wheels.glob(f"wrapt-*{arch}.whl"))
        chosen, sysroot = catalog.cpu(cpu), catalog.sysroot("debian-12")
        policy = Policy(
            target="rpi4" if arch == "aarch64" else "x86_64",
            arch=arch,
            python="3.11",
            cpu=cpu,
            qemu=chosen.qemu,
            avx=chosen.avx,
            sysroot=sysroot.name,
            floors=sysroot.floors,
        )
        wheel = LocalStep(name="wheel", path=str(path), sha256=sha256_file(path), folder=False)
        step = ProofStep(
            name=f"prove wrapt on {cpu}",
            inputs={
                "wheel": wheel,
                "root": target_root_step(catalog, sysroot.name, arch, next(iter(sysroot.pythons))),
                "emulator": emulator_step(catalog),
                "source": LocalStep(name="source", path=str(source), sha256=sha256_tree(source), folder=True),
            },
            policy=policy.model_dump(mode="json"),
            check=check,
            tests=tests,
            timeout=timeout,
            install=False,
            rules=RULES,
            built_here=True,
        )
        settings = Settings(store=store.root, sandbox=sandbox)
        done = execute(step, store, settings, runners(catalog, settings), Quiet())
        return Proof.read(done.artefacts[step.key].path / "proof.json")

    return go


def emulated(proof: Proof) -> Finding:
    (finding,) = (item for item in proof.findings if item.rule == "emulated")
    return finding


@pytest.mark.parametrize("arch", ["aarch64", "x86_64"])
def test_a_real_wheel_passes_in_the_targets_root(prover: Prover, arch: Arch) -> None:
    proof = prover(PASSES % {"machine": arch}, arch=arch, cpu="cortex-a72" if arch == "aarch64" else "x86-64", tests=10)
    assert proof.passed, proof.findings
    assert {item.severity for item in proof.findings} == {Severity.PASS}
    assert proof.run is not None
    assert proof.run.tests == 10
    assert proof.run.used["python"].startswith("3.11.")
    assert proof.run.used["libc6"].startswith("2.36-")
    assert "qemu-user-static" in proof.run.used


def test_a_real_wheel_passes_in_the_host_sandbox(prover: Prover) -> None:
    proof = prover(PASSES % {"machine": "aarch64"} + "# host\n", tests=10, sandbox="host")
    assert proof.passed, proof.findings


def test_a_check_that_fails_or_runs_too_little(prover: Prover) -> None:
    said = 'import json, sys, wrapt; json.dump({"tests": 5, "failures": %d, "skipped": %d}, open(sys.argv[1], "w"))'
    assert "1 of 5 tests failed" in emulated(prover(said % (1, 0))).message
    few = prover(said % (0, 3), tests=3)
    assert not few.passed
    assert "the release promises 3" in emulated(few).message
    assert "status 7" in emulated(prover("import sys; sys.exit(7)")).message


def test_a_check_that_hangs(prover: Prover) -> None:
    proof = prover("import time, wrapt; time.sleep(600)", timeout=4)
    assert "did not end within 4 s" in emulated(proof).message


@pytest.mark.parametrize(
    ("arch", "code", "lacks", "has"),
    [("aarch64", LSE, "cortex-a72", "cortex-a76"), ("x86_64", AVX, "x86-64", "haswell")],
)
def test_an_instruction_that_the_processor_lacks(prover: Prover, arch: Arch, code: str, lacks: str, has: str) -> None:
    check = RUNS_BYTES % {"code": code}
    dead = prover(check, arch=arch, cpu=lacks)
    assert not dead.passed
    assert "died of SIGILL" in emulated(dead).message
    assert f"instructions that {lacks}" in emulated(dead).hint
    assert "/check/check.py" in emulated(dead).hint  # the line of Python that led to it
    assert prover(check, arch=arch, cpu=has).passed


def test_a_fault_in_the_host_sandbox_is_explained_too(prover: Prover) -> None:
    """There, qemu may be process number 1, which no signal of its own ends."""
    dead = prover(RUNS_BYTES % {"code": LSE} + "# host\n", sandbox="host")
    assert "died of SIGILL" in emulated(dead).message


def test_a_wheel_of_the_package_index_that_lies_about_its_glibc(
    catalog: Catalog, store: Store, wheels: Path, tmp_path: Path
) -> None:
    """tflite-runtime 2.11.0 is tagged manylinux2014 and wants GLIBC_2.27: JetPack 3 (Ubuntu 16.04) has 2.23."""
    path = next(wheels.glob("tflite_runtime-*"))
    floors = {"GLIBC": "2.23", "GLIBCXX": "3.4.21", "CXXABI": "1.3.9", "GCC": "6.0"}
    policy = Policy.model_validate(
        {"target": "jetson-tx1", "arch": "aarch64", "python": "3.9", "cpu": "cortex-a57", "qemu": "cortex-a57"}
        | {"avx": False, "sysroot": "ubuntu-16.04", "floors": floors}
    )
    proof = prove(path, policy, sonames=None, check=None, run=None)
    failed = {item.rule: item for item in proof.of(Severity.FAIL)}
    assert set(failed) == {"abi", "tag"}
    assert "GLIBC_2.27 of libm.so.6 for powf" in failed["abi"].message
    assert "its tag promises that glibc 2.17 is enough" in failed["tag"].message

    settings = Settings(store=store.root)
    step = target_root_step(catalog, "debian-12", "aarch64", "3.11")
    root = execute(step, store, settings, runners(catalog, settings), Quiet()).artefacts[step.key].path
    newer = policy.model_copy(update={"target": "rpi4", "floors": catalog.sysroot("debian-12").floors})
    proof = prove(path, newer, sonames=target_sonames(root, "aarch64"), check=None, run=None)
    assert proof.passed
    assert {item.rule for item in proof.of(Severity.WARN)} == {"tag", "paths"}


def test_cancelling_leaves_no_container(catalog: Catalog, store: Store, wheels: Path, tmp_path: Path) -> None:
    """The event that stops a build stops a check that runs."""
    settings = Settings(store=store.root)
    steps = target_root_step(catalog, "debian-12", "aarch64", "3.11"), emulator_step(catalog)
    done = execute(steps, store, settings, runners(catalog, settings), Quiet())
    root, emulator = (done.artefacts[step.key].path for step in steps)
    sysroot = catalog.sysroot("debian-12")
    policy = Policy(
        target="rpi4",
        arch="aarch64",
        python="3.11",
        cpu="cortex-a72",
        qemu="cortex-a72",
        avx=False,
        sysroot=sysroot.name,
        floors=sysroot.floors,
    )
    cancelled = threading.Event()

    def log(line: str) -> None:
        if line == "started":
            cancelled.set()

    script = "import time; print('started', flush=True); time.sleep(600)"
    for folder in ("out", "work", "source"):
        (tmp_path / folder).mkdir()
    job = Job(
        key="0" * 64, out=tmp_path / "out", work=tmp_path / "work", settings=settings, log=log, cancelled=cancelled
    )
    with pytest.raises(Cancelled):
        verify_wheel(
            next(wheels.glob("wrapt-*aarch64.whl")),
            policy,
            target=TargetRoot(folder=root, key=steps[0].key, emulator=emulator),
            trial=Trial(script=script, tests=1, timeout=300, source=tmp_path / "source", wheels={}),
            job=job,
            sandbox=sandbox_for(settings),
        )
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label=crosswheel.key={'0' * 64}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout == ""
