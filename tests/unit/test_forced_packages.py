"""``--apt-force``: when it goes with a build, and what it changes of the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosswheel.errors import InputError
from crosswheel.planning.cuda import CudaChoice
from crosswheel.planning.installing import INSTALLER, InstallStep, forced_parts, not_forced, with_installed
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.roots import builder_step, parts_step
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.cuda import Part, Toolkit
from crosswheel.spec.sysroots import Suite

pytestmark = pytest.mark.unit

CATALOG = Catalog(Path(__file__).resolve().parents[2])
GCC_5 = CATALOG.toolchain("gcc-5")


def _part(archive: str, arch: str = "aarch64") -> Part:
    return Part.model_validate(
        {
            "arch": arch,
            "layout": {"usr/local/cuda-8.0/targets/*": "targets/"},
            "suites": (Suite(archive=archive, name="/", components=()),),
            "packages": ("cuda-cublas-cross-aarch64-8-0",),
            "snapshot": "20260901T000000Z",
        }
    )


def _toolkit(*parts: Part) -> Toolkit:
    fields = {"version": "8.0", "title": "CUDA", "gcc": "<6", "standard": "c++11", "capabilities": ("5.3",)}
    return Toolkit.model_validate({**fields, "target": {"aarch64": parts}, "source": "a test"})


def _builder() -> RootStep:
    step = builder_step(CATALOG, "gcc-5", "aarch64")
    assert isinstance(step, RootStep)
    return step


def test_only_packages_of_another_architecture_and_archive_are_forced() -> None:
    sysroot = CATALOG.sysroot("ubuntu-16.04")
    nvidia, host, ubuntu = _part("jetpack-3.1-host"), _part("jetpack-3.1-host", "x86_64"), _part("ubuntu")
    assert forced_parts(_toolkit(nvidia, host, ubuntu), "aarch64", sysroot) == (nvidia,)
    assert forced_parts(_toolkit(nvidia), "x86_64", sysroot) == ()


def test_the_builder_with_the_packages() -> None:
    part = parts_step(CATALOG, _part("jetpack-3.1-host"), "cublas")
    step = with_installed(_builder(), [part], "CUDA 8.0")
    assert isinstance(step, InstallStep)
    assert (step.packages, step.architecture) == (("cuda-cublas-cross-aarch64-8-0",), "arm64")
    lock = step.inputs["lock-1"]
    assert isinstance(lock, LockStep) and lock.dependencies
    builder = step.inputs["builder"].inputs["lock"]
    assert isinstance(builder, LockStep)
    assert {*INSTALLER, *GCC_5.packages} <= set(builder.packages)
    assert step.key != _builder().key
    assert with_installed(_builder(), [], "nothing") == _builder()


@pytest.mark.parametrize(
    ("gpu", "image", "reason"),
    [
        (None, None, "this build is not for a GPU; add --cuda"),
        (CudaChoice(toolkit=_toolkit(_part("ubuntu")), cudnn=None, capabilities=("5.3",)), None, "of no such ones"),
        (
            CudaChoice(toolkit=_toolkit(_part("jetpack-3.1-host")), cudnn=None, capabilities=()),
            "i@sha256:0",
            "--builder-from",
        ),
    ],
)
def test_reasons_against_it(gpu: CudaChoice | None, image: str | None, reason: str) -> None:
    (told,) = not_forced(gpu, "aarch64", CATALOG, GCC_5, image)
    assert reason in told


def test_nothing_speaks_against_it() -> None:
    gpu = CudaChoice(toolkit=_toolkit(_part("jetpack-3.1-host")), cudnn=None, capabilities=("5.3",))
    assert not_forced(gpu, "aarch64", CATALOG, GCC_5, None) == []


def test_a_build_without_a_gpu_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        resolve(Request(recipe="wrapt", target="rpi4", apt_force=True), CATALOG)
    assert "- --apt-force installs CUDA's packages for the target" in caught.value.why
