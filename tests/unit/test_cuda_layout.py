"""CUDA 8.0 as NVIDIA's packages have it, laid out: what TensorFlow 1.5 asks for is there, for both sides."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from elf_writer import write_elf

from crosswheel.building.arranging import run_arrange
from crosswheel.building.job import Job, Settings
from crosswheel.errors import StepError
from crosswheel.planning.arranging import ArrangeStep
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

AARCH64, X86_64 = 183, 62
ROOT = "usr/local/cuda-8.0"
HOST, TARGET = f"{ROOT}/targets/x86_64-linux", f"{ROOT}/targets/aarch64-linux"
LIBRARIES = ("cublas", "cufft", "curand", "cusolver", "cusparse")


def host_core() -> dict[str, bytes]:
    programs = {f"{ROOT}/bin/{name}": write_elf(machine=X86_64) for name in ("nvcc", "ptxas", "fatbinary", "cudafe++")}
    return {
        **programs,
        f"{ROOT}/bin/nvcc.profile": b"theirs",
        f"{ROOT}/nvvm/bin/cicc": write_elf(machine=X86_64),
        f"{ROOT}/nvvm/libdevice/libdevice.compute_30.10.bc": b"BC",
        f"{HOST}/include/cuda.h": b"x",
        f"{HOST}/include/cuda_runtime.h": b"x",
        f"{HOST}/lib/libcudart.so.8.0.61": write_elf(machine=X86_64, soname="libcudart.so.8.0"),
        f"{HOST}/lib/libcudart_static.a": b"!<arch>\n",
        f"{HOST}/lib/stubs/libcuda.so": write_elf(machine=X86_64, soname="libcuda.so.1"),
    }


def host_libraries() -> dict[str, bytes]:
    found = {f"{HOST}/include/cublas_v2.h": b"x"}
    for name in LIBRARIES:
        found[f"{HOST}/lib/lib{name}.so.8.0.61"] = write_elf(machine=X86_64, soname=f"lib{name}.so.8.0")
    return found


def cupti(machine: int) -> dict[str, bytes]:
    library = write_elf(machine=machine, soname="libcupti.so.8.0")
    return {
        f"{ROOT}/extras/CUPTI/include/cupti.h": b"x",
        f"{ROOT}/extras/CUPTI/lib64/libcupti.so.8.0.61": library,
        f"{ROOT}/bin/cuda-gdb": b"not wanted",
    }


def cross() -> dict[str, bytes]:
    """Stubs alone, but for the runtime."""
    headers = ("cuda.h", "cuda_runtime.h", "cublas_v2.h", "cusolverDn.h")
    found = {f"{TARGET}/include/{name}": b"x" for name in headers}
    for name in (*LIBRARIES, "cudart"):
        found[f"{TARGET}/lib/stubs/lib{name}.so"] = write_elf(machine=AARCH64, soname=f"lib{name}.so.8.0")
    found[f"{TARGET}/lib/stubs/libcuda.so"] = write_elf(machine=AARCH64, soname="libcuda.so.1")
    found[f"{TARGET}/lib/libcudart_static.a"] = b"!<arch>\n"
    return found


def part(role: str) -> dict[str, bytes]:
    if "command-line-tools" in role:
        return cupti(AARCH64 if role.startswith("aarch64") else X86_64)
    if "cross" in role:
        return cross()
    return host_core() if "cuda-core" in role else host_libraries()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def lay(catalog: Catalog, tmp_path: Path, recipe: str, version: str, *, without: str = "") -> Path:
    """Lays out what the plan says, from stand-ins of the packages."""
    asked = Request(recipe=recipe, version=version, target="jetson-tx1", features={"cuda": True})
    steps = plan(resolve(asked, catalog), catalog, rules={}).steps
    (step,) = (each for each in steps if isinstance(each, ArrangeStep))
    inputs = {}
    for number, role in enumerate(step.inputs):
        files = {name: content for name, content in part(role).items() if not without or without not in name}
        inputs[role] = write(tmp_path / f"part{number}", files)
    out = tmp_path / "out"
    out.mkdir()
    job = Job(
        key="0" * 64,
        out=out,
        work=tmp_path,
        settings=Settings(store=tmp_path / "store"),
        log=lambda line: None,
        cancelled=threading.Event(),
    )
    run_arrange(step, inputs, job)
    return out


def found_library(cuda: Path, name: str) -> Path:
    """``_find_cuda_lib`` of TensorFlow 1.5 with the patch cuda-target-folders: the first folder that has it."""
    folders = ("targets/aarch64-linux/lib", "targets/aarch64-linux/lib/stubs", "lib/aarch64-linux-gnu", "lib64")
    return next(cuda / folder / name for folder in folders if (cuda / folder / name).exists()).resolve()


def machine(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[18:20], "little")


def test_what_tensorflow_asks_for_is_there(catalog: Catalog, tmp_path: Path) -> None:
    cuda = lay(catalog, tmp_path, "tensorflow", "1.5.1")
    for name in ("cudart", "cublas", "cusolver", "curand", "cufft"):
        assert machine(found_library(cuda, f"lib{name}.so.8.0")) == AARCH64
        assert machine((cuda / "lib64" / f"lib{name}.so.8.0").resolve()) == X86_64
    assert machine(found_library(cuda, "libcuda.so")) == AARCH64
    assert found_library(cuda, "libcudart_static.a").parent.parent.name == "aarch64-linux"
    assert machine((cuda / "targets/aarch64-linux/lib/libcupti.so.8.0").resolve()) == AARCH64
    assert (cuda / "targets/aarch64-linux/include/cuda.h").is_file()
    assert (cuda / "extras/CUPTI/include/cupti.h").is_file()
    assert (cuda / "nvvm/libdevice").is_dir()
    assert (cuda / "include/cuda.h").is_file()
    assert "8.0" in (cuda / "version.txt").read_text()
    assert (cuda / "bin/nvcc.profile").read_text() != "theirs"
    assert not (cuda / "bin/cuda-gdb").exists()


def test_the_boards_library_has_the_full_name_of_the_hosts(catalog: Catalog, tmp_path: Path) -> None:
    folder = lay(catalog, tmp_path, "tensorflow", "1.5.1") / "targets/aarch64-linux/lib"
    assert str((folder / "libcublas.so.8.0.61").readlink()) == "stubs/libcublas.so"


def test_a_build_that_runs_nothing_of_its_own_wants_no_library_of_the_builders(
    catalog: Catalog, tmp_path: Path
) -> None:
    cuda = lay(catalog, tmp_path, "cuda-check", "1.0.0")
    assert not (cuda / "targets/x86_64-linux/lib/libcublas.so.8.0").exists()
    assert machine((cuda / "targets/aarch64-linux/lib/libcublas.so.8.0").resolve()) == AARCH64


def test_packages_that_lack_a_library(catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(StepError) as caught:
        lay(catalog, tmp_path, "tensorflow", "1.5.1", without="libcusolver")
    assert "- targets/aarch64-linux/lib/libcusolver.so.8.0 is missing" in caught.value.why
    assert "- targets/x86_64-linux/lib/libcusolver.so.8.0 is missing" in caught.value.why
