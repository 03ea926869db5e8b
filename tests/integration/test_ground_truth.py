"""What is known of real wheels of the package index, and whether the proof says the same.

TensorFlow 1.5.0 was the last release built without AVX, and 1.6.0 the first with it: on a Core 2 the one runs and the
other dies while it is imported. The wheels are those of the user's store, to which pip brings them once; nothing of
them is run here: ``test_ground_truth_runs`` does that. (GPU code is judged in ``test_proof_cuda``.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from real_wheels import WHEELS, Told, fetching, made

from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import policy_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def wheels(catalog: Catalog) -> Mapping[tuple[str, str], Path]:
    """All of them, in the user's store."""
    steps = {key: fetching(*key) for key in WHEELS}
    done = made(steps.values(), catalog)
    return {key: done[step.key] / step.file for key, step in steps.items()}


Judge = Callable[..., Told]


@pytest.fixture(scope="module")
def judge(catalog: Catalog, wheels: Mapping[tuple[str, str], Path]) -> Judge:
    """Judges a wheel by what can be read of it, for a target's system and processor, with a recipe's list or none."""
    known: dict[tuple[object, ...], Told] = {}

    def go(
        requirement: str,
        tag: str,
        *,
        target: str = "x86_64",
        system: str = "debian-12",
        cpu: str = "x86-64",
        python: str,
        recipe: str | None,
    ) -> Told:
        asked = (requirement, tag, target, system, cpu, python, recipe)
        if asked not in known:
            machine, processor = catalog.target(target), catalog.cpu(cpu)
            listed = catalog.recipe(recipe) if recipe else None
            has = catalog.instruction_set(machine, processor, listed)
            policy = policy_for(machine, catalog.sysroot(system), processor, python, has)
            known[asked] = Told(prove(wheels[requirement, tag], policy, sonames=None, check=None, run=None))
        return known[asked]

    return go


@pytest.mark.parametrize(("tag", "python"), [("py27", "2.7"), ("py36", "3.6")])
def test_tensorflow_1_5_keeps_to_x86_64(judge: Judge, tag: str, python: str) -> None:
    told = judge("tensorflow==1.5.0", tag, python=python, recipe="tensorflow")
    assert told.proof.passed, told.failed
    (warned,) = told.of("instructions", Severity.WARN)
    assert "lacks (SSE3 in 596), and that nearly every processor has" in warned.message
    (unnamed,) = told.of("instructions", Severity.NOT_PROVEN)
    assert unnamed.subject.endswith("/_pywrap_tensorflow_internal.so")
    assert "what lies at" in unnamed.message
    assert "a function at" not in unnamed.message  # tables between functions alone


def test_what_tensorflow_1_5_chooses_at_run_time_fails_without_the_list(judge: Judge) -> None:
    told = judge("tensorflow==1.5.0", "py27", python="2.7", recipe=None)
    assert told.failed == {"instructions"}
    found = told.text("instructions", Severity.FAIL)
    assert "which the loader calls" not in found  # nothing that could not be chosen
    assert "tensorflow::crc32c::AcceleratedExtend" in found


@pytest.mark.parametrize(("tag", "python"), [("py27", "2.7"), ("py36", "3.6")])
def test_tensorflow_1_6_has_avx_where_nobody_chooses(judge: Judge, tag: str, python: str) -> None:
    """It dies of a ``vmovdqu`` in a weak ``std::_Hashtable``, reached from the static initialiser of ``tensor.cc``."""
    told = judge("tensorflow==1.6.0", tag, python=python, recipe="tensorflow")
    assert told.failed == {"instructions"}
    failed = told.of("instructions", Severity.FAIL)
    first, weak, named = (item for item in failed if item.subject.endswith("/libtensorflow_framework.so"))
    assert "which the loader calls when the file is loaded" in first.message
    assert "vzeroupper in the static initialiser of parser.cc" in first.message
    assert "neither -mavx nor -march=native" in first.hint
    assert "630 functions have instructions that x86-64 lacks (AVX in 630)" in weak.message
    assert "of which the linker keeps one copy for all files" in weak.message
    assert "in std::_Hashtable<" in weak.message
    assert "no list says that they are called only where" in named.message


def test_tensorflow_1_6_fits_a_processor_with_avx(judge: Judge) -> None:
    told = judge("tensorflow==1.6.0", "py27", python="2.7", cpu="sandybridge", recipe="tensorflow")
    assert told.proof.passed, told.text("instructions", Severity.FAIL)


@pytest.mark.parametrize(("tag", "target", "cpu"), [("x86_64", "x86_64", "x86-64"), ("aarch64", "rpi4", "cortex-a72")])
def test_numpy_chooses_and_its_list_says_so(judge: Judge, tag: str, target: str, cpu: str) -> None:
    told = judge("numpy==1.26.4", tag, target=target, cpu=cpu, python="3.11", recipe="numpy")
    assert told.proof.passed, told.text("instructions", Severity.FAIL)


def test_numpy_without_its_list(judge: Judge) -> None:
    """A share proves nothing: OpenBLAS has 40 % of its functions above x86-64, and runs on it."""
    told = judge("numpy==1.26.4", "x86_64", python="3.11", recipe=None)
    assert told.failed == {"instructions"}
    found = told.text("instructions", Severity.FAIL)
    assert "which the loader calls" not in found
    assert "28 functions have instructions that x86-64 lacks (AVX in 22, AVX512DQ in 6), of which the linker" in found
    assert "vxorps in ssum_k_SANDYBRIDGE" in found
    assert "--recipe NAME" in told.of("instructions", Severity.FAIL)[0].hint


def test_tflite_runtime_wants_a_newer_glibc_than_its_tag_and_jetpack_3(judge: Judge) -> None:
    """For a Jetson TX1 on which somebody has CPython 3.9: pip would install it there, and the import would fail."""
    told = judge(
        "tflite-runtime==2.11.0",
        "py39, aarch64",
        target="jetson-tx1",
        system="ubuntu-16.04",
        cpu="cortex-a57",
        python="3.9",
        recipe="tflite-runtime",
    )
    assert told.failed == {"abi", "tag"}
    assert "wants GLIBC_2.27 of libm.so.6 for powf, logf, expf" in told.text("abi", Severity.FAIL)
    assert "(ubuntu-16.04) has glibc up to GLIBC_2.23" in told.text("abi", Severity.FAIL)
    assert "its tag promises that glibc 2.17 is enough" in told.text("tag", Severity.FAIL)
    assert "87 functions that have more are chosen at run time" in told.text("instructions", Severity.PASS)


def test_tensorflow_2_20_fits_a_cortex_a57_and_the_libraries_of_jetpack_3(judge: Judge) -> None:
    """It wants no more than glibc 2.17: what the Jetson TX1 lacks is a Python that new, and so nothing else fails."""
    told = judge(
        "tensorflow==2.20.0",
        "aarch64",
        target="jetson-tx1",
        system="ubuntu-16.04",
        cpu="cortex-a57",
        python="3.5",
        recipe="tensorflow",
    )
    assert told.failed == {"metadata", "tag"}
    assert "requires Python >=3.9, and jetson-tx1 has 3.5" in told.text("metadata", Severity.FAIL)
    assert "82 ELF files; the newest versions wanted: GLIBC_2.17" in told.text("abi", Severity.PASS)
    assert "82 files with 948,807 functions" in told.text("instructions", Severity.PASS)
    assert "1,059 functions that have more are chosen at run time" in told.text("instructions", Severity.PASS)
