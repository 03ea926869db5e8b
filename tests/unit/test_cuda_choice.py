"""Which CUDA goes with which target, compiler and GPU: every reason why one does not, and what would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crosswheel.errors import InputError
from crosswheel.planning.plan import plan
from crosswheel.planning.resolve import Request, Resolution, resolve
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

GPU = {"cuda": True}


def chosen(catalog: Catalog, target: str, **more: object) -> Resolution:
    return resolve(Request(recipe="cuda-check", target=target, features=GPU, **more), catalog)  # type: ignore[arg-type]


def refusal(catalog: Catalog, target: str, **more: object) -> str:
    with pytest.raises(InputError) as caught:
        chosen(catalog, target, **more)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "system", "found"),
    [
        ("jetson-tx1", None, ("3.5", "8.0", "6.0", "5.3", "5", "2.23", "3.4.21")),
        ("jetson-tx1", "jetpack-3.0", ("3.5", "8.0", "5.1", "5.3", "5", "2.23", "3.4.21")),
        ("jetson-tx2", None, ("3.6", "10.2", "8.2", "6.2", "7", "2.27", "3.4.25")),
        ("jetson-nano", None, ("3.6", "10.2", "8.2", "5.3", "7", "2.27", "3.4.25")),
        ("jetson-xavier", None, ("3.8", "11.4", "8.6", "7.2", "9", "2.31", "3.4.28")),
        ("jetson-orin", None, ("3.10", "12.6", "9.3", "8.7", "11", "2.35", "3.4.30")),
        ("jetson-orin", "jetpack-6.0", ("3.10", "12.2", "8.9", "8.7", "11", "2.35", "3.4.30")),
        ("x86_64", None, ("3.13", "12.4", "9.6", "6.0", "13", "2.41", "3.4.33")),
    ],
)
def test_what_a_system_has(catalog: Catalog, target: str, system: str | None, found: tuple[str, ...]) -> None:
    resolution = chosen(catalog, target, system=system)
    cuda, floors = resolution.cuda, resolution.sysroot.floors
    assert cuda is not None
    assert cuda.cudnn is not None
    own = (resolution.python, cuda.toolkit.version, cuda.cudnn.version, cuda.capabilities[0])
    assert (*own, resolution.toolchain.gcc, floors.GLIBC, floors.GLIBCXX) == found


def test_a_system_with_cuda_is_for_builds_with_cuda(catalog: Catalog) -> None:
    plain = resolve(Request(recipe="ml-dtypes", target="x86_64", python="3.13"), catalog)
    assert (plain.toolchain.name, plain.cuda) == ("gcc-14", None)


def test_every_system_with_cuda_can_be_planned(catalog: Catalog) -> None:
    """Also where its archives cannot be reached from here."""
    seen = 0
    for name in catalog.target_names:
        for system in catalog.target(name).systems:
            if system.cuda is None:
                continue
            resolution = chosen(catalog, name, python=system.python, system=system.name)
            names = [step.name for step in plan(resolution, catalog, rules={}).steps]
            assert f"lay out CUDA {system.cuda.toolkit} for {resolution.target.arch}" in names
            assert (f"lay out cuDNN {system.cuda.cudnn} of the target" in names) is bool(system.cuda.cudnn)
            seen += 1
    assert seen >= 9


def test_a_target_without_a_gpu(catalog: Catalog) -> None:
    text = refusal(catalog, "rpi4")
    assert "rpi4 has no GPU that CUDA knows; of the targets, " in text
    assert "jetson-tx1" in text
    assert "fits rpi4" not in text, "nothing with CUDA does"


def test_a_python_whose_system_has_no_cuda(catalog: Catalog) -> None:
    text = refusal(catalog, "x86_64", python="3.11")
    assert "x86_64's system of CPython 3.11 has no GPU that CUDA knows" in text
    assert re.search(r"nearest that fits x86_64: version \S+ with CPython 3\.13", text)


def test_a_gpu_that_this_nvcc_does_not_know_any_more(catalog: Catalog) -> None:
    text = refusal(catalog, "sbsa-debian", tools={"cuda": "13.0", "cudnn": "9.13"})
    assert "the nvcc of CUDA 13.0 does not compile for compute capability 5.3 any more" in text
    assert "; CUDA 12.6, 12.4, 12.2, 11.8, 11.4, 10.2, 8.0 know it" in text


def test_a_gpu_that_this_nvcc_does_not_know_yet(catalog: Catalog) -> None:
    text = refusal(catalog, "jetson-tx1", capabilities=("7.2",))
    assert "the nvcc of CUDA 8.0 does not compile for compute capability 7.2 yet; CUDA 12.6" in text


@pytest.mark.parametrize(
    ("capability", "rest"),
    [
        ("5.4", "does not compile for compute capability 5.4; no CUDA that is known here knows it"),
        ("sm_53", "does not compile for compute capability sm_53 (a capability is written as 5.3)"),
    ],
)
def test_a_gpu_that_nobody_knows(catalog: Catalog, capability: str, rest: str) -> None:
    assert rest in refusal(catalog, "jetson-nano", capabilities=(capability,))


def test_gpus_that_were_asked_for_take_the_place_of_the_targets_own(catalog: Catalog) -> None:
    cuda = chosen(catalog, "jetson-nano", capabilities=("6.2", "7.2", "6.2")).cuda
    assert cuda is not None
    assert cuda.capabilities == ("6.2", "7.2")


def test_a_compiler_that_nvcc_refuses(catalog: Catalog) -> None:
    text = refusal(catalog, "jetson-nano", tools={"cuda": "8.0", "cudnn": "6.0"})
    assert "the nvcc of CUDA 8.0 takes gcc" in text
    assert "<6" in text
    assert "and the toolchain gcc-7 is gcc 7" in text


def test_versions_that_there_are_not(catalog: Catalog) -> None:
    assert "there is no CUDA '9.9' here; there is: 13.0, 12.6" in refusal(catalog, "jetson-nano", tools={"cuda": "9.9"})
    text = refusal(catalog, "jetson-nano", tools={"cudnn": "7.0"})
    assert "there is no cuDNN '7.0' here; there is: 9.13, 9.6, 9.3" in text


def test_a_cudnn_of_another_cuda(catalog: Catalog) -> None:
    text = refusal(catalog, "jetson-nano", tools={"cudnn": "6.0"})
    assert "cuDNN 6.0 is for CUDA" in text
    assert "not 10.2; choose one by --tool cudnn=" in text


def test_a_cuda_that_is_not_there_for_the_architecture(data: Path) -> None:
    path = data / "toolchains/cuda/12.6.toml"
    path.write_text(path.read_text().partition("\n# The cross packages")[0])
    text = refusal(Catalog(data), "jetson-orin")
    assert "CUDA 12.6 is there for x86_64, and jetson-orin is aarch64" in text


def test_all_reasons_at_once(catalog: Catalog) -> None:
    text = refusal(catalog, "jetson-nano", tools={"cuda": "8.0", "cudnn": "9.3"}, capabilities=("8.7",))
    assert "takes gcc" in text
    assert "8.7 yet" in text
    assert "cuDNN 9.3 is for CUDA" in text


def test_a_newer_cuda_for_a_board(catalog: Catalog) -> None:
    """All of CUDA 13 comes from the Python index."""
    resolution = chosen(catalog, "jetson-orin", tools={"cuda": "13.0", "cudnn": "9.13"})
    steps = plan(resolution, catalog, rules={}).steps
    (laid,) = (step for step in steps if step.name == "lay out CUDA 13.0 for aarch64")
    # Of the C++ library, 1,700 headers, a whole wheel: member by member it takes minutes.
    assert {step.kind for step in laid.inputs.values()} == {"members", "tree"}
    assert not [step for step in laid.walk() if step.kind == "lock"]


@pytest.mark.parametrize(
    ("target", "features", "warned"),
    [
        ("x86_64", {"cuda": True, "avx": False}, True),
        ("x86_64", {"cuda": True}, False),
        ("x86_64", {"cuda": True, "avx": True}, False),
    ],
)
def test_a_warning_that_cudnn_uses_avx(catalog: Catalog, target: str, features: dict[str, bool], warned: bool) -> None:
    resolution = resolve(Request(recipe="cuda-check", target=target, features=features), catalog)
    assert bool(resolution.warnings) is warned
    assert all("cuDNN 9.6, which uses AVX" in text for text in resolution.warnings)


def test_without_cuda_there_is_nothing_to_warn_of(catalog: Catalog) -> None:
    assert resolve(Request(recipe="wrapt", target="x86_64", features={"avx": False}), catalog).warnings == ()


@pytest.mark.parametrize(
    ("version", "target", "expected"),
    [
        (
            "1.5.1",
            "jetson-tx1",
            {
                "TF_NEED_CUDA": "1",
                "TF_CUDA_VERSION": "8.0",
                "CUDA_TOOLKIT_PATH": "/cuda",
                "TF_CUDNN_VERSION": "6",
                "CUDNN_INSTALL_PATH": "/cudnn/target",
                "TF_CUDA_COMPUTE_CAPABILITIES": "5.3",
            },
        ),
        ("1.12.3", "jetson-tx1", {"TF_NCCL_VERSION": "1.3", "CUDA_TOOLKIT_PATH": "/cuda"}),
        ("1.13.1", "jetson-tx1", {"CUDA_TOOLKIT_PATH": "/cuda", "TF_NCCL_VERSION": ""}),
        (
            "2.3.4",
            "jetson-nano",
            {"TF_CUDA_PATHS": "/cuda/targets/aarch64-linux,/cudnn/target,/cuda", "TF_CUDA_VERSION": "10.2"},
        ),
    ],
)
def test_what_tensorflows_configure_is_told(
    catalog: Catalog, version: str, target: str, expected: dict[str, str]
) -> None:
    request = Request(recipe="tensorflow", version=version, target=target, features=GPU)
    steps = plan(resolve(request, catalog), catalog, rules={}).steps
    (compiled,) = (step for step in steps if step.name == f"compile tensorflow {version} for {target}")
    env = compiled.fields()["env"]
    assert isinstance(env, dict)
    assert {name: env.get(name) for name in expected} == expected
    # find_cuda_config.py believes this one more than TF_CUDA_PATHS, and would find the builder's libraries there
    assert ("CUDA_TOOLKIT_PATH" in env) is (version != "2.3.4")
