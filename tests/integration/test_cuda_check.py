"""CUDA's code, cross-compiled for a GPU that is not here: nvcc of Debian, libraries for aarch64, three build tools."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from commandline import Built
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elves import binaries

from crosswheel.proving.prove import Proof

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SYSTEM = frozenset({"ld-linux-aarch64.so.1", "libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6"})
NEEDED = {
    "_runtime": {"libcudart.so.12"},
    "_blas": {"libcublas.so.12", "libcudart.so.12"},
    "_dnn": {"libcudnn.so.9", "libcudart.so.12"},
}
"""What each module is linked with besides the system's own: its own library, and no other."""


def needed(elf: ELFFile) -> set[str]:
    """The libraries that a file names."""
    return {
        tag.needed
        for section in elf.iter_sections()
        if isinstance(section, DynamicSection)
        for tag in section.iter_tags("DT_NEEDED")
    }


@pytest.mark.parametrize("build", ["cuda, cmake", "cuda, bazel", "cuda, meson"])
def test_cuda_for_a_board(built: Callable[[str], Built], build: str) -> None:
    made = built(build)
    found = binaries(made.wheel)
    assert {name.partition("/")[2].partition(".")[0]: needed(elf) - SYSTEM for name, elf in found.items()} == NEEDED
    assert {elf["e_machine"] for elf in found.values()} == {"EM_AARCH64"}
    fatbin = next(elf for name, elf in found.items() if "_runtime" in name).get_section_by_name(".nv_fatbin")
    assert fatbin is not None, "the kernel is not in it"


@pytest.mark.parametrize("build", ["cuda, cmake", "cuda, bazel", "cuda, meson"])
def test_its_proof(built: Callable[[str], Built], build: str) -> None:
    """Twelve tests run under the emulator: the runtime, cuBLAS and cuDNN answer, and no GPU is told as it should."""
    proof = Proof.read(built(build).wheel.with_name(f"{built(build).wheel.name}.proof.json"))
    assert proof.passed
    assert proof.run is not None
    assert (proof.run.tests, proof.run.failures, proof.run.skipped) == (12, 0, 0)
    (cuda,) = [finding for finding in proof.findings if finding.rule == "cuda"]
    assert "(SASS for 5.3 and PTX for 5.3)" in cuda.message
    (libraries,) = [finding for finding in proof.findings if finding.rule == "needed"]
    assert "libcudnn.so.9 is cuDNN's" in libraries.message
