"""Faults on the emulated target, traced to a function by the real gdb: in wheels and bundles that are compiled here."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from crosswheel.building.execute import execute
from crosswheel.building.job import Settings
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.digest import sha256_file
from crosswheel.planning.roots import attempts_root_step, builder_step, emulator_step, target_root_step
from crosswheel.planning.steps import BundleProofStep, FilesStep, LocalStep, ProofStep, RenderedFile, RunStep, Step
from crosswheel.proving.bundles import RULES as BUNDLE_RULES
from crosswheel.proving.findings import Finding
from crosswheel.proving.prove import RULES, Proof
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy, policy_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

COUNTER = """
#include <atomic>
#include <map>
#include <string>

namespace registry {

std::map<std::string, long> names;
std::atomic<long> count;
double scale = 1.5;

template <typename T> struct Box {
  __attribute__((noinline)) static T add(std::atomic<T>& to, T what) {
    scale = scale * static_cast<double>(what) + 1.0;
    return to.fetch_add(what) + static_cast<T>(scale);
  }
};

struct Entry {
  __attribute__((noinline)) explicit Entry(const char* name) { names[name] = Box<long>::add(count, 3); }
};

Entry entry{"counter"};

}  // namespace registry

extern "C" void* PyInit__counter() { return nullptr; }
"""

ABORT = """
#include <cstdlib>
namespace quick {
__attribute__((noinline)) void check(int number) { if (number > 1) std::abort(); }
}
extern "C" int run(int number) { quick::check(number); return number; }
"""

TOOL = 'extern "C" int run(int); int main(int count, char**) { return run(count + 1); }\n'

FLAGS: Mapping[Arch, str] = {"aarch64": "-march=armv8.1-a", "x86_64": "-mavx2"}
"""Flags for a newer processor than the one on which it is tried."""


class Quiet:
    """Listens and says nothing."""

    def plan(self, steps: Sequence[Step]) -> None: ...
    def started(self, step: Step) -> None: ...
    def line(self, step: Step, text: str) -> None: ...
    def waiting(self, step: Step) -> None: ...
    def finished(self, step: Step, seconds: float, cached: bool) -> None: ...
    def damaged(self, step: Step, what: str) -> None: ...
    def failed(self, step: Step, error: Exception) -> None: ...


def make(goal: Step, catalog: Catalog, store: Store, sandbox: Literal["docker", "host"] = "docker") -> Path:
    settings = Settings(store=store.root, sandbox=sandbox)
    return execute(goal, store, settings, runners(catalog, settings), Quiet()).artefacts[goal.key].path


@dataclass(frozen=True)
class Compiled:
    """For an architecture: an extension with a static initialiser, the same stripped, and a library and a program that
    abort."""

    arch: Arch
    folder: Path

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture(scope="module", params=["aarch64", "x86_64"])
def compiled(request: pytest.FixtureRequest, catalog: Catalog, user_store: Store) -> Compiled:
    arch: Arch = request.param
    files = {"counter.cc": COUNTER, "abort.cc": ABORT, "tool.cc": TOOL}
    triplet = f"{arch}-linux-gnu"
    compiler, shared = f"{triplet}-g++-12", ("-O2", "-g0", "-fPIC", "-shared", "-fno-optimize-sibling-calls")
    step = RunStep(
        name=f"compile what dies on {arch}",
        inputs={
            "builder": builder_step(catalog, "gcc-12", arch),
            "source": FilesStep(name="what dies", files={n: RenderedFile(text=text) for n, text in files.items()}),
        },
        commands=(
            (compiler, *shared, FLAGS[arch], "counter.cc", "-o", "/build/out/counter.so"),
            (compiler, *shared, "-s", FLAGS[arch], "counter.cc", "-o", "/build/out/stripped.so"),
            (compiler, *shared, "abort.cc", "-o", "/build/out/abort.so"),
            (compiler, "-O2", "tool.cc", "abort.cc", "-o", "/build/out/tool"),
        ),
        env={"PATH": "/usr/bin:/bin"},
        cwd="/build/src",
        mounts={},
        copies={"source": "/build/src"},
        outputs=("*",),
    )
    return Compiled(arch, make(step, catalog, user_store))


def policy_of(arch: Arch, catalog: Catalog) -> Policy:
    target = catalog.target("rpi4" if arch == "aarch64" else "x86_64")
    cpu = catalog.cpu(target.cpu)
    has = catalog.instruction_set(target, cpu)
    return policy_for(target, catalog.sysroot("debian-12"), cpu, "3.11", has)


def write_wheel(folder: Path, arch: Arch, files: Mapping[str, bytes]) -> Path:
    path = folder / f"quick-1.0-cp311-cp311-linux_{arch}.whl"
    about = {
        "quick-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: quick\nVersion: 1.0\n",
        "quick-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nTag: cp311-cp311-linux_{arch}\n".encode(),
        "quick-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, **about}.items():
            archive.writestr(name, data)
    return path


@dataclass(frozen=True)
class Bench:
    catalog: Catalog
    store: Store
    compiled: Compiled
    folder: Path

    def emulated(
        self, files: Mapping[str, bytes], check: str, sandbox: Literal["docker", "host"] = "docker"
    ) -> Finding:
        """What the rule says of a wheel of ``files`` in the plan that a build has."""
        arch = self.compiled.arch
        wheel = write_wheel(self.folder, arch, files)
        step = ProofStep(
            name="prove quick",
            inputs={
                "wheel": LocalStep(name="wheel", path=str(wheel), sha256=sha256_file(wheel), folder=False),
                "root": target_root_step(self.catalog, "debian-12", arch, "3.11"),
                "emulator": emulator_step(self.catalog),
                "source": FilesStep(name="source", files={"none": RenderedFile(text="")}),
            },
            policy=policy_of(arch, self.catalog).model_dump(mode="json"),
            check=check,
            tests=1,
            timeout=120,
            install=False,
            rules=RULES,
            built_here=False,
        )
        return self._said(step, sandbox)

    def of_bundle(self, program: bytes) -> Finding:
        """What the rule says of a bundle of one program."""
        arch = self.compiled.arch
        (self.folder / "quick/bin").mkdir(parents=True)
        (self.folder / "quick/bin/tool").write_bytes(program)
        (self.folder / "quick/bin/tool").chmod(0o755)
        path = self.folder / "quick.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(self.folder / "quick", "quick")
        step = BundleProofStep(
            name="prove a bundle",
            inputs={
                "bundle": LocalStep(name="bundle", path=str(path), sha256=sha256_file(path), folder=False),
                "root": attempts_root_step(self.catalog, "debian-12", arch),
                "emulator": emulator_step(self.catalog),
            },
            policy=policy_of(arch, self.catalog).model_dump(mode="json"),
            attempts=({"argv": ["{bundle}/bin/tool"], "status": 0, "expect": "done", "leaves": {}},),
            version="1.0",
            timeout=60,
            rules=BUNDLE_RULES,
        )
        return self._said(step, "docker")

    def _said(self, step: Step, sandbox: Literal["docker", "host"]) -> Finding:
        path = make(step, self.catalog, self.store, sandbox)
        assert sorted(item.name for item in path.iterdir()) == ["proof.json"]
        (finding,) = (item for item in Proof.read(path / "proof.json").findings if item.rule == "emulated")
        return finding


@pytest.fixture
def bench(catalog: Catalog, user_store: Store, compiled: Compiled, tmp_path: Path) -> Bench:
    return Bench(catalog, user_store, compiled, tmp_path)


def extension(arch: Arch) -> str:
    return f"quick/_counter.cpython-311-{arch}-linux-gnu.so"


FEATURE: Mapping[Arch, str] = {"aarch64": "(LSE)", "x86_64": "(AVX)"}


@pytest.mark.parametrize("sandbox", ["docker", "host"])
def test_a_static_initialiser_for_a_newer_processor(bench: Bench, sandbox: Literal["docker", "host"]) -> None:
    arch = bench.compiled.arch
    files = {"quick/__init__.py": b"from quick import _counter\n", extension(arch): bench.compiled.read("counter.so")}
    finding = bench.emulated(files, f"import sys  # {sandbox}\nimport quick\n", sandbox)
    assert "died of SIGILL" in finding.message
    assert f"{FEATURE[arch]} in registry::" in finding.message
    assert f" of {extension(arch)}, reached from the static initialiser of counter.cc" in finding.message
    assert finding.message.endswith("while `import quick` (line 2 of the check) loaded it")
    assert f"{extension(arch)} was compiled with {FEATURE[arch].strip('()')}" in finding.hint


def test_a_stripped_file(bench: Bench) -> None:
    """The functions have no names any more, and it is found nevertheless that the loader called them."""
    arch = bench.compiled.arch
    files = {"quick/__init__.py": b"from quick import _counter\n", extension(arch): bench.compiled.read("stripped.so")}
    finding = bench.emulated(files, "import quick\n")
    assert f"{FEATURE[arch]} in " in finding.message
    assert f" of {extension(arch)}, reached from a static initialiser, while" in finding.message


def test_a_crash_below_a_function_of_the_wheel(bench: Bench) -> None:
    files = {"quick/__init__.py": b"", "quick/abort.so": bench.compiled.read("abort.so")}
    check = "import ctypes\nlibrary = ctypes.CDLL('/site/quick/abort.so')\nlibrary.run(7)\n"
    finding = bench.emulated(files, check)
    assert "died of SIGABRT" in finding.message
    assert (
        ", called by quick::check of quick/abort.so, during `library.run(7)` (line 3 of the check)" in finding.message
    )


def test_a_program_of_a_bundle(bench: Bench) -> None:
    finding = bench.of_bundle(bench.compiled.read("tool"))
    assert "`tool` died of SIGABRT" in finding.message
    assert ", called by quick::check" in finding.message
    assert " of bin/tool" in finding.message
