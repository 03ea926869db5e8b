"""Real builds by the real command line: every backend, every target, and what the wheels hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from commandline import Built, CommandLine
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elves import binaries

from crosswheel.building.execute import execute
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import read_settings
from crosswheel.digest import sha256_file, sha256_tree
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.sources import fetch_step
from crosswheel.planning.steps import FilesStep, LocalStep, RenderedFile, RunStep, Step, TreeStep
from crosswheel.proving.prove import RULES, Proof
from crosswheel.publishing.sidecars import PROOF, SBOM, STATEMENT, sidecar
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import Place, Source

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


@dataclass(frozen=True)
class Expected:
    """``floors``: what the target has, which no wanted version may exceed. ``tests``: how many the check counts."""

    build: str
    folder: str
    file: str
    machine: str
    tests: int
    qemu: str
    floors: dict[str, tuple[int, ...]]


DEBIAN_11 = {"GLIBC": (2, 31), "GLIBCXX": (3, 4, 28), "CXXABI": (1, 3, 12)}
DEBIAN_12 = {"GLIBC": (2, 36), "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13)}
DEBIAN_13 = {"GLIBC": (2, 41), "GLIBCXX": (3, 4, 33), "CXXABI": (1, 3, 15)}
"""Of the C and C++ libraries of Debian's releases: libc6 2.31, 2.36, 2.41 and libstdc++6 of gcc 10, 12, 14."""

LIBRARIES = {"libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1"}
ALL = frozenset({"fetch", "lock", "root", "tree", "files", "run", "wheel"})

AARCH64, X86_64 = "EM_AARCH64", "EM_X86_64"
EXPECTED = (
    Expected("main job", "rpi4", "dm_tree-0.1.5-cp311-cp311-linux_aarch64.whl", AARCH64, 63, "cortex-a72", DEBIAN_12),
    Expected("starlark", "rpi4", "dm_tree-0.1.5-cp311-cp311-linux_aarch64.whl", AARCH64, 63, "cortex-a72", DEBIAN_12),
    Expected(
        "debian 11", "nanopi-m4", "dm_tree-0.1.5-cp39-cp39-linux_aarch64.whl", AARCH64, 63, "cortex-a53", DEBIAN_11
    ),
    Expected("cmake", "rk3588", "dm_tree-0.1.9-cp313-cp313-linux_aarch64.whl", AARCH64, 70, "cortex-a76", DEBIAN_13),
    Expected("no avx", "x86_64", "ml_dtypes-0.5.4-cp311-cp311-linux_x86_64.whl", X86_64, 13, "Conroe", DEBIAN_12),
    Expected("wrapt", "rpi4", "wrapt-1.16.0-cp311-cp311-linux_aarch64.whl", AARCH64, 438, "cortex-a72", DEBIAN_12),
)


def wanted_versions(elf: ELFFile) -> dict[str, tuple[int, ...]]:
    """The newest version of each kind of symbol (``GLIBC``, …) that a file wants."""
    newest: dict[str, tuple[int, ...]] = {}
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for _, versions in section.iter_versions():
                for version in versions:
                    kind, _, number = version.name.partition("_")
                    if re.fullmatch(r"[\d.]+", number):
                        found = tuple(int(part) for part in number.split("."))
                        newest[kind] = max(newest.get(kind, ()), found)
    return newest


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.build)
def test_a_wheel_for_its_target(built: Callable[[str], Built], expected: Expected) -> None:
    made = built(expected.build)
    assert made.wheel == made.out / expected.folder / expected.file
    assert made.answer["sha256"] == sha256_file(made.wheel)
    assert [path.name for path in sorted(made.wheel.parent.iterdir())] == [
        expected.file,
        *(f"{expected.file}{suffix}" for suffix in sorted((PROOF, SBOM, STATEMENT))),
    ]
    found = binaries(made.wheel)
    assert found, "the extension is missing"
    for name, elf in found.items():
        assert elf["e_machine"] == expected.machine, name
        for kind, newest in wanted_versions(elf).items():
            if kind in expected.floors:
                assert newest <= expected.floors[kind], f"{name} wants {kind}_{newest}"
    assert any("GLIBC" in wanted_versions(elf) for elf in found.values())


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.build)
def test_its_proof(built: Callable[[str], Built], expected: Expected) -> None:
    made = built(expected.build)
    answer = made.answer
    assert set(answer) == {"wheel", "sha256", "seconds", "proof", "steps"}
    proof = Proof.read(Path(f"{made.wheel}.proof.json"))
    assert proof.passed and answer["proof"]["passed"] is True
    assert proof.sha256 == answer["sha256"] == answer["proof"]["sha256"]
    assert dict(proof.rules) == RULES == answer["proof"]["rules"]
    assert {finding["severity"] for finding in answer["proof"]["findings"]} == {"pass"}
    assert {finding["rule"] for finding in answer["proof"]["findings"]} == set(RULES)
    assert proof.run is not None
    assert (proof.run.tests, proof.run.failures, proof.run.qemu) == (expected.tests, 0, expected.qemu)


def test_what_is_said_of_the_steps(built: Callable[[str], Built]) -> None:
    answer = built("main job").answer
    steps = answer["steps"]
    assert all(set(step) == {"name", "kind", "key", "cached", "seconds"} for step in steps)
    assert all(re.fullmatch("[0-9a-f]{64}", step["key"]) for step in steps)
    assert len({step["key"] for step in steps}) == len(steps)
    assert {step["kind"] for step in steps} >= {"lock", "root", "fetch", "tree", "files", "run", "wheel", "proof"}
    assert steps[-1]["kind"] == "proof"
    assert all(step["seconds"] == 0 for step in steps if step["cached"])
    assert 0 < answer["seconds"] < 1200


def test_what_it_was_made_of_stands_in_the_proof(built: Callable[[str], Built], catalog: Catalog) -> None:
    made = built("main job")
    record = json.loads(Path(f"{made.wheel}.proof.json").read_text())["build"]
    assert (record["recipe"], record["version"], record["bazel"]) == ("dm-tree", "0.1.5", "0.17.2")
    (release,) = [each for each in catalog.releases("dm-tree") if each.version == "0.1.5"]
    assert record["sources"][release.source.file] == release.source.sha256
    assert list(record["patches"]) == ["python-3.10-collections-abc.patch"]
    assert record["steps"] == made.keys
    (sysroot,) = [root for name, root in record["roots"].items() if name.endswith("arm64-development")]
    assert sysroot["packages"]["libc6"].startswith("2.36-")
    assert re.fullmatch("[0-9a-f]{64}", sysroot["lock_sha256"])


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.build)
def test_what_lies_beside_it(built: Callable[[str], Built], crosswheel: CommandLine, expected: Expected) -> None:
    wheel = built(expected.build).wheel
    (told,) = crosswheel.json("verify", "--provenance", wheel)["provenance"]
    assert {item["rule"]: item["severity"] for item in told["findings"]} == {
        "proof": "pass",
        "sbom": "pass",
        "provenance": "pass",
        "signature": "not_proven",
    }
    text = sidecar(wheel, SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    packages = {item["name"]: item for item in json.loads(text)["components"] if item["bom-ref"].startswith("deb ")}
    (libc,) = packages["libc6-dev"]["hashes"]
    assert libc["content"] in sidecar(wheel, STATEMENT).read_text()
    assert "crosswheel:unknown-root" not in text


def test_a_second_time_nothing_is_built(crosswheel: CommandLine, built: Callable[[str], Built], tmp_path: Path) -> None:
    made = built("main job")
    answer = crosswheel.json("build", *made.words, "--out", tmp_path)
    assert all(step["cached"] for step in answer["steps"])
    assert [step["key"] for step in answer["steps"]] == [step["key"] for step in made.answer["steps"]]
    assert answer["sha256"] == made.answer["sha256"]
    assert answer["seconds"] < 2
    for suffix in (SBOM, STATEMENT):
        assert sidecar(Path(answer["wheel"]), suffix).read_bytes() == sidecar(made.wheel, suffix).read_bytes()
    again = crosswheel("build", *made.words, "--out", tmp_path)
    assert again.returncode == 0
    assert again.stderr == "✓ nothing to do: the result is in the store\n"
    assert "63 tests passed" in again.stdout


def test_its_findings_for_ci_viewers(crosswheel: CommandLine, built: Callable[[str], Built], tmp_path: Path) -> None:
    made = built("wrapt")
    missing = crosswheel("build", *made.words, "--out", tmp_path, "--sarif", tmp_path / "none" / "proof.sarif")
    assert missing.returncode == 2
    assert "there is no such folder" in missing.stderr
    answer = crosswheel.json("build", *made.words, "--out", tmp_path, "--sarif", tmp_path / "proof.sarif")
    (run,) = json.loads((tmp_path / "proof.sarif").read_text())["runs"]
    (wheel,) = run["artifacts"]
    assert wheel["hashes"] == {"sha-256": answer["sha256"]}
    assert wheel["properties"]["passed"]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == set(RULES)


def test_two_versions_of_bazel_are_two_builds(built: Callable[[str], Built], crosswheel: CommandLine) -> None:
    text, starlark = built("main job"), built("starlark")
    assert text.key("run") != starlark.key("run")
    assert text.answer["sha256"] != starlark.answer["sha256"]
    for made, version in ((text, "0.17.2"), (starlark, "2.1.0")):
        log = crosswheel("log", made.key("run")[:12]).stdout
        assert "Compiling tree/tree.cc" in log
        assert f"fetch Bazel {version}" in made.keys


# --- what the binaries hold ------------------------------------------------------------------------------------------


def steps_of(catalog: Catalog, made: Built, request: Request) -> dict[str, Step]:
    """The steps of a build by name, which can be inputs of steps of ours."""
    steps = plan(resolve(request, catalog), catalog, rules=RULES).steps
    assert [step.key for step in steps] == list(made.keys.values())
    return {step.name: step for step in steps}


def made_by(step: Step, store: Store, catalog: Catalog) -> Path:
    """Runs a step of ours; its result."""
    settings = replace(read_settings(), store=store.root)
    with Screen(quiet=True) as screen:
        return execute(step, store, settings, runners(catalog, settings), screen).artefacts[step.key].path


VECTORS = r"""
unzip -q -d /tmp/wheel /wheel/*.whl
for files in "/tmp/wheel -name *.so" "/numpy/numpy/_core -name _multiarray_umath*.so"; do
    set -f; find $files -exec objdump -d --no-show-raw-insn {} + > /tmp/code; set +f
    grep -cE "[[:space:]]v[a-z0-9]+ .*%[xyz]mm[0-9]" /tmp/code >> /build/out/counts || [ $? = 1 ]
done
"""
"""Counts the AVX instructions (all have names with a ``v`` before SSE's) in the extensions of two wheels."""


def test_no_avx_is_compiled_and_run_without_avx(
    built: Callable[[str], Built],
    crosswheel: CommandLine,
    borrowed: Callable[..., Store],
    catalog: Catalog,
) -> None:
    """The compiler was told of no processor with AVX, and wrote no instruction of it; numpy's extension, which chooses
    by the processor, shows that the count counts."""
    made = built("no avx")
    log = crosswheel("log", made.key("run")).stdout
    compiled = [line for line in log.splitlines() if "/toolchain/bin/c++" in line and " -c " in line]
    assert compiled
    assert not [line for line in compiled if re.search(r"-march=native|-mavx|-mfma|-march=(sandy|has|sky)", line)]
    assert made.answer["proof"]["run"]["qemu"] == "Conroe"
    steps = steps_of(catalog, made, Request(recipe="ml-dtypes", target="x86_64", features={"avx": False}))
    numpy = next(step for name, step in steps.items() if name.startswith("unpack numpy-"))
    count = RunStep(
        name="count AVX instructions",
        inputs={
            "builder": steps["assemble builder gcc-12 x86_64"],
            "wheel": steps["wheel ml-dtypes 0.5.4"],
            "numpy": numpy,
        },
        commands=(("sh", "-ec", VECTORS),),
        env={},
        cwd="/build",
        mounts={"wheel": "/wheel", "numpy": "/numpy"},
        copies={},
        outputs=("counts",),
    )
    counts = (made_by(count, borrowed("no avx", ALL), catalog) / "counts").read_text().split()
    assert int(counts[0]) == 0
    assert int(counts[1]) > 10_000


# --- the toolchain by itself -----------------------------------------------------------------------------------------

PROJECT = {
    "hello.cc": """
#include <cstdio>
#include <iostream>
#include <stdexcept>
int main() {
  try {
    throw std::runtime_error("thrown and caught");
  } catch (const std::exception& error) {
    std::cout << error.what() << ", long double " << sizeof(long double) << "\\n";
  }
  return 0;
}
""",
    "CMakeLists.txt": """
cmake_minimum_required(VERSION 3.18)
project(hello CXX)
if(NOT CMAKE_CROSSCOMPILING)
  message(FATAL_ERROR "CMake does not know that it cross-compiles")
endif()
find_package(Python3 REQUIRED COMPONENTS Development.Module)
message(STATUS "headers: ${Python3_INCLUDE_DIRS}, suffix: ${Python3_SOABI}")
add_executable(by-cmake hello.cc)
""",
    "meson.build": """
project('hello', 'cpp')
if not meson.is_cross_build() or meson.can_run_host_binaries()
  error('Meson does not know that it cross-compiles')
endif
assert(host_machine.cpu_family() == 'aarch64')
assert(build_machine.cpu_family() == 'x86_64')
assert(meson.get_external_property('longdouble_format') == 'IEEE_QUAD_LE')
executable('by-meson', 'hello.cc')
""",
}
MESON = Source(
    file="meson-1.5.2-py3-none-any.whl",
    sha256="77706e2368a00d789c097632ccf4fc39251fba56d03e1e1b262559a3c7a08f5b",
    places=(Place(uri="pypi:meson==1.5.2"),),
)


def compiling(place: Path, steps: dict[str, Step], chain: LocalStep) -> RunStep:
    """Compiles :data:`PROJECT` with the toolchain that is rendered in ``place``: by its wrappers, CMake and Meson."""
    project = FilesStep(name="a project", files={name: RenderedFile(text=text) for name, text in PROJECT.items()})
    return RunStep(
        name="compile with the rendered toolchain",
        inputs={
            "builder": steps["assemble builder gcc-12 aarch64"],
            "sysroot": steps["assemble sysroot debian-12 aarch64"],
            "toolchain": chain,
            "project": project,
            "meson": TreeStep(name="unpack meson", inputs={"archive": fetch_step(MESON)}),
        },
        commands=(
            (f"{place}/bin/c++", "-O2", "hello.cc", "-o", "/build/out/by-wrapper"),
            (f"{place}/host/bin/c++", "-O2", "hello.cc", "-o", "/build/out/by-host"),
            ("/build/out/by-host",),
            (
                "cmake",
                "-S",
                ".",
                "-B",
                "/build/cmake",
                "-G",
                "Ninja",
                f"-DCMAKE_TOOLCHAIN_FILE={place}/cmake/toolchain.cmake",
                "-DCMAKE_RUNTIME_OUTPUT_DIRECTORY=/build/out",
            ),
            ("cmake", "--build", "/build/cmake"),
            (
                "python3",
                "-m",
                "mesonbuild.mesonmain",
                "setup",
                "--cross-file",
                f"{place}/meson/cross.ini",
                "/build/meson",
                ".",
            ),
            ("ninja", "-C", "/build/meson"),
            ("cp", "/build/meson/by-meson", "/build/out/"),
        ),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/meson", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/build/src",
        mounts={"sysroot": "/the/sysroot", "toolchain": str(place), "meson": "/meson"},
        copies={"project": "/build/src"},
        outputs=("by-wrapper", "by-host", "by-cmake", "by-meson"),
    )


def emulating(steps: dict[str, Step], compiled: RunStep) -> RunStep:
    """Runs what was compiled for the target in the target's root."""
    return RunStep(
        name="run what was compiled",
        inputs={
            "builder": steps["assemble emulator"],
            "root": steps["assemble target root debian-12 aarch64"],
            "made": compiled,
        },
        commands=tuple(
            ("/usr/bin/qemu-aarch64-static", "-cpu", "cortex-a72", "-L", "/target", f"/made/{name}")
            for name in ("by-wrapper", "by-cmake", "by-meson")
        ),
        env={},
        cwd="/build",
        mounts={"root": "/target", "made": "/made"},
        copies={},
        outputs=(),
    )


def is_for_its_machine(program: Path, machine: str) -> None:
    """It is, and wants of the C and C++ libraries no more than Debian 12 has."""
    with program.open("rb") as stream:
        elf = ELFFile(stream)
        assert elf["e_machine"] == machine, program
        versions = wanted_versions(elf)
        assert all(versions[kind] <= DEBIAN_12[kind] for kind in ("GLIBC", "GLIBCXX")), program
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        assert {"libstdc++.so.6", "libc.so.6"} <= needed <= LIBRARIES, program


def test_the_rendered_toolchain_alone(
    crosswheel: CommandLine,
    built: Callable[[str], Built],
    borrowed: Callable[..., Store],
    catalog: Catalog,
    tmp_path: Path,
) -> None:
    """The wrappers, the CMake toolchain file and the Meson cross file that `toolchain render` writes build for the
    target; the host's wrapper builds for the machine; each runs where it belongs."""
    place = tmp_path / "rendered"
    rendered = crosswheel("toolchain", "render", "--target", "rpi4", "--out", place, "--sysroot", "/the/sysroot")
    assert rendered.returncode == 0, rendered.stderr
    chain = LocalStep(name="take the toolchain", path=str(place), sha256=sha256_tree(place), folder=True)
    steps = steps_of(catalog, built("main job"), Request(recipe="dm-tree", target="rpi4"))
    compiled = compiling(place, steps, chain)
    store = borrowed("main job")
    out = made_by(compiled, store, catalog)
    log = store.log_path(compiled.key).read_text()
    assert "headers: /the/sysroot/usr/include/python3.11, suffix: cpython-311-aarch64-linux-gnu" in log
    for name in ("by-wrapper", "by-cmake", "by-meson", "by-host"):
        is_for_its_machine(out / name, X86_64 if name == "by-host" else AARCH64)
    assert "thrown and caught, long double 16" in log
    emulated = emulating(steps, compiled)
    made_by(emulated, store, catalog)
    assert store.log_path(emulated.key).read_text().count("thrown and caught, long double 16") == 3
