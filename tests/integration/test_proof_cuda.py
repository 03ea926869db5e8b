"""GPU code in real wheels of the package index: what is read of it, and the verdict for a Jetson."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from zipfile import ZipFile

import pytest
from real_wheels import made, wheel_step

from crosswheel.proving.cuda import NAME
from crosswheel.proving.facts import read_wheel
from crosswheel.proving.fatbin import Container, read_fatbins
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

TENSORFLOW = "tensorflow_gpu-1.5.0-cp36-cp36m-manylinux1_x86_64.whl"
NVJPEG = "nvidia_nvjpeg-13.3.2.43-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
CUOBJDUMP = "nvidia_cuda_cuobjdump-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
WHEELS = {
    "tensorflow-gpu==1.5.0": (TENSORFLOW, "57b1ebfaba9fa2d9834c943ce00f6f6f886b3e2a9fe60eb5551cfdec78c4c780"),
    "nvidia-nvjpeg==13.3.2.43": (NVJPEG, "27f9c4a25a73f1d1ad35c342c8d657c8ff43e23877f338ef15fb2602ac2e5aa8"),
    "nvidia-cuda-cuobjdump==13.5.37": (CUOBJDUMP, "38780fee50863252a0b8926357faa91615ca1c8346490563f33a06100cd73f58"),
}
"""Requirement → file and sha256. NVIDIA's own tool is one of them."""
LIBRARY = "nvidia/cu13/lib/libnvjpeg.so.13"
INTERNAL = "tensorflow_gpu-1.5.0.data/purelib/tensorflow/python/_pywrap_tensorflow_internal.so"
FIRST_GPUS = ("3.5", "3.7", "5.2", "6.0", "6.1", "7.0")


@pytest.fixture(scope="module")
def wheels(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of the package index, which lie in the user's store."""
    folder = tmp_path_factory.mktemp("wheels")
    steps = [wheel_step(requirement, *wheel) for requirement, wheel in WHEELS.items()]
    done = made(steps, catalog)
    for step in steps:
        (folder / step.file).symlink_to(done[step.key] / step.file)
    return folder


def said(wheel: Path, *capabilities: str) -> dict[str, Finding]:
    """What the rule says of each file, for a machine of another processor with such a GPU."""
    floors = {"GLIBC": "2.23", "GLIBCXX": "3.4.21", "CXXABI": "1.3.9", "GCC": "6.0"}
    policy = Policy.model_validate(
        {"target": "jetson-tx1", "arch": "aarch64", "python": "3.5", "cpu": "cortex-a57", "qemu": "cortex-a57"}
        | {"avx": False, "sysroot": "ubuntu-16.04", "floors": floors, "capabilities": capabilities}
    )
    proof = prove(wheel, policy, sonames=None, check=None, run=None)
    return {item.subject: item for item in proof.findings if item.rule == NAME}


def test_tensorflow_has_no_sass_for_the_jetson_tx1(wheels: Path) -> None:
    """Its PTX for 3.5 to 5.2 serves 5.3; its SASS for 5.2 does not."""
    found = said(wheels / TENSORFLOW, "5.3")
    assert len(found) == 10
    assert {item.severity for item in found.values()} == {Severity.WARN}
    message = found[INTERNAL].message
    assert message.startswith("171 of its 171 containers of GPU code have no SASS for compute capability 5.3, and PTX")
    assert "SASS for 3.5, 3.7, 5.2, 6.0, 6.1, 7.0 and PTX for 3.5, 3.7, 5.2, 6.0, 6.1, 7.0" in message
    assert "SASS for 5.2 does not do: NVIDIA promises none but its own for 5.3" in message


def test_tensorflow_has_sass_for_the_desktop(wheels: Path) -> None:
    facts = read_wheel(wheels / TENSORFLOW)
    assert facts.fatbins[INTERNAL] == (Container(sass=FIRST_GPUS, ptx=FIRST_GPUS, count=171),)
    assert sum(each.count for found in facts.fatbins.values() for each in found) == 186


def test_both_layouts_as_nvidias_own_tool_reads_them(wheels: Path, tmp_path: Path) -> None:
    with ZipFile(wheels / NVJPEG) as archive:
        library = Path(archive.extract(LIBRARY, tmp_path))
    with ZipFile(wheels / CUOBJDUMP) as archive:
        tool = Path(archive.extract("nvidia/cu13/bin/cuobjdump", tmp_path))
    tool.chmod(0o755)
    listed = subprocess.run((tool, "-lelf", "-lptx", library), capture_output=True, text=True, check=True).stdout
    (container,) = read_fatbins(library.read_bytes())
    for kind, names in (("cubin", container.sass), ("ptx", container.ptx)):
        told = re.findall(rf"\.sm_([0-9]+)([0-9])([af]?)\.{kind}$", listed, re.MULTILINE)
        assert len(told) == container.count * len(names)
        assert {f"{major}.{minor}{suffix}" for major, minor, suffix in told} == set(names)
    assert {"9.0", "10.0", "12.1"} <= set(container.sass)


def test_nvjpeg_runs_on_a_b300_and_not_on_an_orin(wheels: Path) -> None:
    (passed,) = said(wheels / NVJPEG, "10.3").values()
    assert passed.severity is Severity.PASS
    (failed,) = said(wheels / NVJPEG, "8.7").values()
    assert failed.severity is Severity.FAIL
    assert "SASS for 8.6 does not do" in failed.message
    assert "--capability 8.7" in failed.hint
    (unknown,) = said(wheels / NVJPEG).values()
    assert unknown.severity is Severity.NOT_PROVEN
