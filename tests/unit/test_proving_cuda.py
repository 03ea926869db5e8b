"""The rule on GPU code: what it reads, which GPU runs which code, and that each broken thing is told."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from elf_writer import write_elf
from fatbin_writer import NVVM, SASS, container, cubin, gpu_elf, image, with_sections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheel_writer import POLICY, SONAMES, good_files, write_wheel

from crosswheel.digest import sha256_json
from crosswheel.planning.plan import plan, verification
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import BundleProofStep, ProofStep
from crosswheel.proving import fatbin
from crosswheel.proving.cuda import NAME, compiles_ptx, runs_sass
from crosswheel.proving.facts import read_wheel
from crosswheel.proving.fatbin import Container, read_fatbins
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import RULES, Proof, prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy, policy_for

pytestmark = pytest.mark.unit
RELAXED = settings(
    max_examples=60,
    deadline=5000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TX1 = POLICY.model_copy(update={"target": "jetson-tx1", "capabilities": ("5.3",)})
GOOD = container(["53"], ["53"])


def judge(folder: Path, elf: bytes, policy: Policy = TX1, *, built: bool = True) -> Proof:
    path = write_wheel(folder, good_files(extension=elf))
    return prove(path, policy, sonames=SONAMES, check=None, run=None, built_here=built)


def said(proof: Proof) -> list[Finding]:
    return [item for item in proof.findings if item.rule == NAME]


# --- what is read ----------------------------------------------------------------------------------------------------


def test_both_layouts_of_an_image_are_read() -> None:
    written = {
        "75": "7.5",
        "87": "8.7",
        "90": "9.0",
        "90a": "9.0a",
        "100": "10.0",
        "100a": "10.0a",
        "100f": "10.0f",
        "103a": "10.3a",
        "110": "11.0",
        "120f": "12.0f",
        "121a": "12.1a",
    }
    (found,) = read_fatbins(container(list(written), list(written)))
    assert found.sass == found.ptx == tuple(written.values())


@pytest.mark.parametrize("sections", [True, False])
def test_equal_containers_are_counted(sections: bool) -> None:
    other = container(["52"], ["35"])
    found = read_fatbins(gpu_elf(GOOD + bytes(8) + GOOD + other, sections=sections))
    assert found == (
        Container(sass=("5.3",), ptx=("5.3",), count=2),
        Container(sass=("5.2",), ptx=("3.5",)),
    )


def test_relocatable_code_is_told_by_its_section() -> None:
    found = read_fatbins(gpu_elf(container(["53"]), container(["53"], ["53"])))
    assert [each.relocatable for each in found] == [False, True]


def test_code_that_loads_nothing_is_told() -> None:
    empty = container(more=image(SASS, "80", cubin(loads=False)))
    packed = container(more=image(SASS, "86", b"\x28\xb5\x2f\xfd what is in it is not seen"))
    found = read_fatbins(empty + packed + container() + container(["80"]))
    assert [(each.sass, each.blank) for each in found] == [
        (("8.0",), True),
        (("8.6",), False),
        ((), True),
        (("8.0",), False),
    ]


def test_before_sm_90_there_are_no_variants() -> None:
    odd = bytearray(image(SASS, "53"))
    struct.pack_into("<Q", odd, 40, 1 << 20 | 0x11)
    assert read_fatbins(container(more=bytes(odd)))[0].sass == ("5.3",)


def test_the_magic_by_itself_is_no_container() -> None:
    """A program that reads containers has their magic among its instructions."""
    assert read_fatbins(write_elf(text=b"\x81\x3f\x50\xed\x55\xba\x75\x10\x48\x89" * 50)) == ()


def test_a_container_as_a_file_is_read_from_the_wheel(tmp_path: Path) -> None:
    files = {**good_files(), "quick/kernels.fatbin": GOOD}
    assert read_wheel(write_wheel(tmp_path, files)).fatbins == {
        "quick/kernels.fatbin": (Container(sass=("5.3",), ptx=("5.3",)),)
    }


# --- which GPU runs which code ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compiled", "gpu", "runs"),
    [
        ("5.3", "5.3", True),
        ("5.2", "5.3", False),  # from the desktop to Tegra
        ("5.0", "5.2", True),
        ("5.2", "5.0", False),
        ("5.2", "6.0", False),
        ("7.2", "7.5", False),  # from Tegra to the desktop
        ("8.0", "8.6", True),
        ("8.6", "8.7", False),
        ("8.7", "8.7", True),
        ("8.7", "8.9", False),
        ("9.0", "9.0", True),
        ("9.0a", "9.0", True),
        ("10.0a", "10.3", False),
        ("10.0f", "10.3", True),
        ("10.0", "10.3", True),
        ("10.0", "12.0", False),
        ("12.0f", "12.1", True),
    ],
)
def test_which_gpu_runs_sass(compiled: str, gpu: str, runs: bool) -> None:
    assert runs_sass(compiled, gpu) is runs


@pytest.mark.parametrize(
    ("compiled", "gpu", "compiles"),
    [
        ("5.3", "5.3", True),
        ("3.5", "5.3", True),
        ("6.0", "5.3", False),
        ("9.0", "10.0", True),
        ("9.0a", "9.0", True),
        ("9.0a", "10.0", False),
        ("10.0f", "10.3", True),
        ("10.0f", "12.0", False),
        ("10.0", "12.1", True),
    ],
)
def test_which_driver_compiles_ptx(compiled: str, gpu: str, compiles: bool) -> None:
    assert compiles_ptx(compiled, gpu) is compiles


# --- the verdict -----------------------------------------------------------------------------------------------------


def test_a_good_wheel_says_what_it_holds(tmp_path: Path) -> None:
    proof = judge(tmp_path, gpu_elf(GOOD + GOOD))
    assert proof.passed
    (finding,) = said(proof)
    assert finding.severity is Severity.PASS
    assert finding.message == "2 containers of GPU code in 1 file (SASS for 5.3 and PTX for 5.3): each has SASS for 5.3"


def test_a_wheel_without_gpu_code(tmp_path: Path) -> None:
    (finding,) = said(judge(tmp_path, write_elf()))
    assert finding.severity is Severity.PASS
    assert finding.message == "no file has code for GPUs"


@dataclass(frozen=True, kw_only=True)
class Case:
    """An extension with GPU code, and what the rule says of it."""

    elf: bytes
    severity: Severity
    says: str
    gpu: tuple[str, ...] = ("5.3",)
    built: bool = True


def dropped(data: bytes) -> bytes:
    """A container of which the last 30 bytes are missing."""
    return data[:-30]


NO_CODE = "1 of its 2 containers of GPU code has no code for a GPU of compute capability 5.3"
CASES = {
    "one container for another GPU": Case(
        elf=gpu_elf(GOOD + container(["60"], ["60"])),
        severity=Severity.FAIL,
        says=f"{NO_CODE}: there is SASS for 6.0 and PTX for 6.0",
    ),
    "the desktop's SASS": Case(
        elf=gpu_elf(GOOD + container(["50", "52"])),
        severity=Severity.FAIL,
        says=f"{NO_CODE}: there is SASS for 5.0, 5.2 (SASS for 5.2 does not do: NVIDIA promises none but its own for "
        "5.3, Tegra X1: Jetson TX1 and Nano)",
    ),
    "PTX alone": Case(
        elf=gpu_elf(GOOD + container(["60"], ["52"])),
        severity=Severity.WARN,
        says="1 of its 2 containers of GPU code has no SASS for compute capability 5.3, and PTX, which the driver",
    ),
    "the second GPU of the target": Case(
        elf=gpu_elf(GOOD),
        gpu=("5.3", "5.0"),
        severity=Severity.FAIL,
        says="compute capability 5.0: there is SASS for 5.3",
    ),
    "code for one GPU alone": Case(
        elf=gpu_elf(container(["90a"], ["90a"])),
        gpu=("10.0",),
        severity=Severity.FAIL,
        says="SASS for 9.0a and PTX for 9.0a",
    ),
    "stripped of its section headers": Case(
        elf=gpu_elf(GOOD + container(["60"]), sections=False), severity=Severity.FAIL, says=NO_CODE
    ),
    "kernels for a newer GPU in another's wheel": Case(
        elf=gpu_elf(GOOD + container(["90a"])),
        built=False,
        severity=Severity.NOT_PROVEN,
        says="1 of its 2 containers of GPU code has code for GPUs newer than 5.3 alone: SASS for 9.0a; the others fit",
    ),
    "kernels for a newer GPU and nothing else": Case(
        elf=gpu_elf(container(["90a"])), built=False, severity=Severity.FAIL, says="SASS for 9.0a"
    ),
    "kernels for a newer GPU in a wheel of ours": Case(
        elf=gpu_elf(GOOD + container(["90a"])), severity=Severity.FAIL, says=NO_CODE
    ),
    "no GPU that is known": Case(
        elf=gpu_elf(GOOD), gpu=(), severity=Severity.NOT_PROVEN, says="and jetson-tx1 names no GPU to judge it by"
    ),
    "code of another kind": Case(
        elf=gpu_elf(container(more=image(NVVM, "53"))), severity=Severity.NOT_PROVEN, says="that is not judged (8)"
    ),
    "linked by the driver": Case(
        elf=gpu_elf(container(), container([], ["52"])), severity=Severity.WARN, says="1 of its 1 containers"
    ),
    "cannot be linked by the driver": Case(
        elf=gpu_elf(container(), container([], ["60"])), severity=Severity.FAIL, says="no code for a GPU"
    ),
    "perhaps linked by the driver": Case(
        elf=gpu_elf(container(["50"]), container(["50"], ["50"])),
        built=False,
        severity=Severity.NOT_PROVEN,
        says="relocatable code, which a driver may link",
    ),
    "relocatable code that nothing linked": Case(
        elf=gpu_elf(relocatable=container(["60"])), severity=Severity.FAIL, says="SASS for 6.0"
    ),
    "cut short": Case(
        elf=gpu_elf(GOOD + dropped(GOOD)), severity=Severity.FAIL, says="it claims 376 bytes, and there are 346"
    ),
    "a container that is hidden": Case(
        elf=gpu_elf(GOOD + GOOD.replace(b"\x50\xed\x55\xba", b"\x51\xed\x55\xba")),
        severity=Severity.FAIL,
        says="its .nv_fatbin has bytes at",
    ),
    "an image that goes on": Case(
        elf=gpu_elf(container(more=image(SASS, "53")[:8] + struct.pack("<Q", 2**60) + image(SASS, "53")[16:])),
        severity=Severity.FAIL,
        says="(64 and 1,152,921,504,606,846,976 bytes) cannot be",
    ),
    "no such architecture": Case(elf=gpu_elf(container(["5"])), severity=Severity.FAIL, says="sm_5, which cannot be"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_broken_thing_is_told(case: Case, tmp_path: Path) -> None:
    proof = judge(tmp_path, case.elf, TX1.model_copy(update={"capabilities": case.gpu}), built=case.built)
    (finding,) = said(proof)
    assert finding.severity is case.severity
    assert case.says in finding.message
    assert finding.hint
    assert {item.rule for item in proof.of(Severity.FAIL)} == ({NAME} if case.severity is Severity.FAIL else set())


@pytest.mark.parametrize(
    "elf",
    [
        gpu_elf(GOOD + container(more=image(SASS, "80", cubin(loads=False)))),  # a source without kernels
        gpu_elf(container(["53"]), container(["60"], ["60"])),  # what was linked fits
        gpu_elf(container()),
    ],
)
def test_what_is_never_loaded_is_not_judged(elf: bytes, tmp_path: Path) -> None:
    assert said(judge(tmp_path, elf))[0].severity is Severity.PASS


def test_the_hints_say_what_to_do(tmp_path: Path) -> None:
    (failed,) = said(judge(tmp_path, gpu_elf(container(["60"]))))
    assert failed.hint.endswith("Compile every source for this GPU: --capability 5.3.")
    (warned,) = said(judge(tmp_path, gpu_elf(container([], ["50"]))))
    assert "a Jetson Nano took 20 at every start" in warned.hint


# --- hostile ---------------------------------------------------------------------------------------------------------


@RELAXED
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=8))
def test_garbled_containers_are_never_a_traceback(changes: list[tuple[int, int]], tmp_path: Path) -> None:
    """Nor do they pass where a header of theirs no longer says what it said."""
    good = container(["53"], ["53"])
    data = bytearray(good)
    for place, change in changes:
        data[place % len(data)] ^= change
    (finding,) = said(judge(tmp_path, gpu_elf(bytes(data))))
    if finding.severity is Severity.PASS and bytes(data[:16]) != good[:16]:
        pytest.fail("a container with another header passed")


@RELAXED
@given(cut=st.integers(1, 391))
def test_every_truncation_fails(cut: int, tmp_path: Path) -> None:
    good = container(["53"], ["53"])
    assert said(judge(tmp_path, gpu_elf(good[: len(good) - cut])))[0].severity is Severity.FAIL


@RELAXED
@given(noise=st.binary(max_size=300), place=st.integers(0, 300))
def test_noise_around_the_magic(noise: bytes, place: int) -> None:
    data = noise[:place] + b"\x50\xed\x55\xba\x01\x00\x10\x00" + noise[place:]
    assert all(each.trouble or each.blank or each.others for each in read_fatbins(data))
    read_fatbins(write_elf(text=data))
    read_fatbins(with_sections(write_elf(), {".nv_fatbin": data})[:-7])


def test_containers_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fatbin, "MOST_CONTAINERS", 3)
    assert "more than 3 of them" in read_fatbins(gpu_elf(GOOD * 5))[-1].trouble
    monkeypatch.setattr(fatbin, "MOST_IMAGES", 3)
    assert read_fatbins(container(["53"] * 5))[0].trouble


# --- the policy ------------------------------------------------------------------------------------------------------


def test_a_policy_without_a_gpu_keeps_its_digest(catalog: Catalog) -> None:
    """The digest stands in kept proofs: this is the one of docs/proofs' wheels for rpi4."""
    target = catalog.target("rpi4")
    cpu = catalog.cpu("cortex-a72")
    has = catalog.instruction_set(target, cpu)
    newer = policy_for(target, catalog.sysroot("debian-12"), cpu, "3.11", has)
    assert "LSE" not in newer.model_dump(mode="json")["instructions"]["features"]
    policy = newer.model_copy(update={"instructions": None})  # those that are kept say nothing of instructions
    dumped = policy.model_dump(mode="json")
    assert "capabilities" not in dumped
    assert sha256_json(dumped) == "e0a5c6190ae6381995323f3047b957e14c9bf0662fce051ed51d623a883804fe"
    assert Policy.model_validate(dumped) == policy


def proofs_policy(step: ProofStep | BundleProofStep) -> Policy:
    return Policy.model_validate(step.policy)


@pytest.mark.parametrize("asked", [(), ("8.7",)])
def test_a_build_is_judged_by_the_gpus_that_it_chose(catalog: Catalog, asked: tuple[str, ...]) -> None:
    request = Request(recipe="cuda-check", target="sbsa-debian", capabilities=asked)
    policy = proofs_policy(plan(resolve(request, catalog), catalog, rules=RULES).proof)
    assert policy.capabilities == (asked or catalog.target("sbsa-debian").capabilities)
    assert policy.model_dump(mode="json")["capabilities"] == list(policy.capabilities)


def test_anybodys_wheel_is_judged_by_the_gpus_of_a_system_with_cuda(catalog: Catalog) -> None:
    """x86_64 names the GPUs that CUDA's sources are compiled for there; its other systems promise no GPU."""
    for name, has in (("sbsa-debian", True), ("x86_64", False), ("rpi4", False)):
        target = catalog.target(name)
        wheel = LocalSource(path="/any/quick-1.0-py3-none-any.whl", sha256="0" * 64, folder=False)
        cpu = catalog.cpu(target.cpu)
        step = verification(wheel, catalog, target, target.systems[0], cpu, None, rules=RULES)
        assert proofs_policy(step).capabilities == (target.capabilities if has else ())
