"""What real wheels of the package index do on an emulated processor: the whole proof, as `verify` makes it.

On a Core 2 (qemu's Conroe), TensorFlow 1.5.0 passes the recipe's check, TensorFlow 1.6.0 dies while it is imported, and
NumPy 1.26, which chooses what it runs, passes its own tests of that. (What can be read of them: ``test_ground_truth``.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from real_wheels import WHEELS, Told, fetching, made

from crosswheel.building.debian.reach import refuse_unreachable
from crosswheel.building.job import Settings
from crosswheel.building.store import Store
from crosswheel.cli.verifying import Verification, proofs_of
from crosswheel.errors import FetchError
from crosswheel.planning.archives import with_archives
from crosswheel.planning.roots import target_root_step
from crosswheel.planning.steps import ProofStep
from crosswheel.planning.trial import CHECK_WHEEL
from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import Proof
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

SYSTEMS = {"py27": "debian-11", "py36": "ubuntu-18.04"}
CHOOSING = ("core/tests/test_simd.py", "core/tests/test_umath_accuracy.py")
PYTHONS = {"py27": "2.7", "py36": "3.6"}


def verification(wheel: Path, catalog: Catalog, recipe: str) -> ProofStep:
    (step,) = proofs_of(Verification(wheels=(wheel,), target="x86_64", no_avx=True, recipe=recipe), catalog)
    return step


def with_numpy(step: ProofStep, tag: str, catalog: Catalog) -> ProofStep:
    """The step with the package index's NumPy 1.16.6, as pip would bring it: TensorFlow's wheel was compiled with a
    newer one than Ubuntu 18.04 has, and dies of it (`Bfloat16PyType`)."""
    root = target_root_step(catalog, SYSTEMS[tag], "x86_64", PYTHONS[tag], catalog.recipe("tensorflow"), numpy=False)
    numpy = {"root": root, f"{CHECK_WHEEL}numpy": fetching("numpy==1.16.6", tag)}
    return with_archives(replace(step, inputs={**step.inputs, **numpy}), catalog.archives, {})


def of_vectors(step: ProofStep) -> ProofStep:
    """NumPy's proof with those of its own tests alone that are about what it chooses; all take a minute more."""
    script, count = re.subn(r"OWN = \(.*?\n\)\n", f"OWN = {CHOOSING!r}\n", step.check, flags=re.DOTALL)
    assert count == 1
    return replace(step, check=script, tests=100)


@pytest.fixture(scope="module")
def told(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Mapping[tuple[str, str], Told]:
    """The proofs, made at once; without those of Python 3.6 where Ubuntu's archive cannot be reached."""
    asked = {key: fetching(*key) for key in WHEELS if key[1] in SYSTEMS or key == ("numpy==1.26.4", "x86_64")}
    files = made(asked.values(), catalog)
    steps: dict[tuple[str, str], ProofStep] = {}
    for (requirement, tag), fetch in asked.items():
        wheel = files[fetch.key] / fetch.file
        if requirement.startswith("tensorflow"):
            steps[requirement, tag] = with_numpy(verification(wheel, catalog, "tensorflow"), tag, catalog)
        elif tag == "x86_64":
            steps[requirement, tag] = of_vectors(verification(wheel, catalog, "numpy"))
    empty = Store(tmp_path_factory.mktemp("store"))
    try:
        refuse_unreachable(
            [step for (_, tag), step in steps.items() if tag == "py36"],
            empty,
            catalog.archives,
            Settings(store=empty.root),
        )
    except FetchError:  # Ubuntu's packages are elsewhere than Debian's, and not every network leads there
        steps = {key: step for key, step in steps.items() if key[1] != "py36"}
    done = made(steps.values(), catalog)
    return {key: Told(Proof.read(done[step.key] / "proof.json")) for key, step in steps.items()}


def of(told: Mapping[tuple[str, str], Told], requirement: str, tag: str) -> Told:
    if (requirement, tag) not in told:
        pytest.skip("Ubuntu's archive cannot be reached")
    return told[requirement, tag]


@pytest.mark.parametrize("tag", ["py27", "py36"])
def test_tensorflow_1_5_computes_on_a_core_2(told: Mapping[tuple[str, str], Told], tag: str) -> None:
    proof = of(told, "tensorflow==1.5.0", tag)
    assert proof.proof.passed, proof.failed
    said = proof.text("emulated", Severity.PASS)
    assert "23 tests passed in " in said
    assert "under qemu-x86_64 -cpu Conroe" in said
    assert f"with its Python {PYTHONS[tag]}" in said


@pytest.mark.parametrize("tag", ["py27", "py36"])
def test_tensorflow_1_6_dies_on_a_core_2_and_the_function_is_named(
    told: Mapping[tuple[str, str], Told], tag: str
) -> None:
    proof = of(told, "tensorflow==1.6.0", tag)
    assert proof.failed == {"instructions", "emulated"}
    (died,) = proof.of("emulated", Severity.FAIL)
    assert died.message.startswith(
        "`import external, tensorflow` died of SIGILL under qemu-x86_64 -cpu Conroe: vmovdqu (AVX) in "
        "std::_Hashtable<…>::_M_emplace<…> of tensorflow/libtensorflow_framework.so, reached from the static "
        "initialiser of tensor.cc, while "
    )
    assert died.message.endswith(" loaded tensorflow/python/_pywrap_tensorflow_internal.so")
    assert "was compiled with AVX" in died.hint
    assert "Build it with `--no-avx`" in died.hint
    assert "Only its import was tried, because the recipe's check brings no " in died.hint


def passes_without_avx(told: Told) -> None:
    assert told.proof.passed, told.failed
    assert "under qemu-x86_64 -cpu Conroe" in told.text("emulated", Severity.PASS)
    assert "65 functions have instructions that x86-64 lacks" in told.text("instructions", Severity.NOT_PROVEN)


def test_numpy_1_26_chooses_and_computes_on_a_core_2(told: Mapping[tuple[str, str], Told]) -> None:
    passes_without_avx(told["numpy==1.26.4", "x86_64"])


@pytest.mark.long
def test_numpy_1_26_passes_its_own_tests_on_a_core_2(catalog: Catalog) -> None:
    fetch = fetching("numpy==1.26.4", "x86_64")
    step = verification(made([fetch], catalog)[fetch.key] / fetch.file, catalog, "numpy")
    proof = Told(Proof.read(made([step], catalog)[step.key] / "proof.json"))
    passes_without_avx(proof)
    assert "1584 tests passed" in proof.text("emulated", Severity.PASS)
