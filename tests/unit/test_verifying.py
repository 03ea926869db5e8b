"""`verify`: what its options choose, where it may take from, and what it refuses before it judges anything."""

from __future__ import annotations

import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from invoke.context import Context
from invoke.exceptions import Exit
from wheel_writer import write_wheel

from crosswheel.building.job import Settings
from crosswheel.cli import inspect, verifying
from crosswheel.cli.asking import local_sources
from crosswheel.cli.sarif import sarif_file, write_sarif
from crosswheel.cli.verifying import Verification, proofs_of
from crosswheel.errors import InputError
from crosswheel.planning.steps import LocalStep, ProofStep
from crosswheel.proving.prove import prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy

pytestmark = pytest.mark.unit

STRANGER = "stranger-1.0-cp310-cp310-linux_aarch64.whl"
CHECK = "cuda_check-1.0.0-cp35-cp35m-linux_aarch64.whl"
WRAPT = "wrapt-1.16.0-cp311-cp311-linux_aarch64.whl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With wheels that nobody has looked into yet."""
    for name in (STRANGER, CHECK, WRAPT):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr("any.py", "")
    return tmp_path


def proof(catalog: Catalog, wheel: Path, target: str, *source: str, **wishes: object) -> ProofStep:
    sources, mirrors = local_sources(source)
    asked = Verification(wheels=(wheel,), target=target, sources=sources, mirrors=mirrors, **wishes)  # type: ignore[arg-type]
    (step,) = proofs_of(asked, catalog)
    return step


def policy(step: ProofStep) -> Policy:
    return Policy.model_validate(step.policy)


def refusal(catalog: Catalog, wheel: Path, target: str, *source: str, **wishes: object) -> str:
    with pytest.raises(InputError) as caught:
        proof(catalog, wheel, target, *source, **wishes)
    return str(caught.value)


# --- the system


@pytest.mark.parametrize(
    ("wishes", "glibc"),
    [
        ({}, "2.35"),
        ({"system": "jetpack-6.0"}, "2.35"),
        ({"python": "3.10"}, "2.35"),
    ],
)
def test_a_wheel_is_judged_for_a_system_of_its_python(
    catalog: Catalog, folder: Path, wishes: dict[str, str], glibc: str
) -> None:
    judged = policy(proof(catalog, folder / STRANGER, "jetson-orin", **wishes))
    assert (judged.python, judged.floors.GLIBC) == ("3.10", glibc)


def test_a_system_is_chosen_by_its_name(catalog: Catalog, folder: Path) -> None:
    """Of the TX2 by its JetPack, although its first system has the wheel's Python as little as the other."""
    older = policy(proof(catalog, folder / CHECK, "jetson-tx2", system="jetpack-3.1"))
    newer = policy(proof(catalog, folder / STRANGER, "jetson-tx2"))
    assert (older.floors.GLIBC, newer.floors.GLIBC) == ("2.23", "2.27")
    text = refusal(catalog, folder / STRANGER, "jetson-tx2", system="jetpack-9")
    assert "jetson-tx2 has the systems: jetpack-4.6, jetpack-3.1" in text
    assert "--system jetpack-9" in text


def test_a_python_that_the_system_does_not_have(catalog: Catalog, folder: Path) -> None:
    text = refusal(catalog, folder / CHECK, "jetson-tx2", system="jetpack-4.6", python="3.5")
    assert "jetson-tx2 has CPython 3.6" in text


def test_a_name_that_is_no_wheels_is_told_with_a_python_too(catalog: Catalog, folder: Path) -> None:
    (folder / WRAPT).rename(folder / "wrapt.whl")
    assert "this is no wheel's file name" in refusal(catalog, folder / "wrapt.whl", "rpi4", python="3.11")


# --- the GPUs


def test_the_gpus_are_the_targets_or_those_that_are_asked_for(catalog: Catalog, folder: Path) -> None:
    own = proof(catalog, folder / STRANGER, "jetson-orin")
    asked = proof(catalog, folder / STRANGER, "jetson-orin", capabilities=("7.2", "5.3"))
    assert policy(own).capabilities == ("8.7",)
    assert policy(asked).capabilities == ("7.2", "5.3")
    assert own.key != asked.key


def test_gpus_are_judged_on_a_system_that_has_no_cuda_if_somebody_asks(catalog: Catalog, folder: Path) -> None:
    assert policy(proof(catalog, folder / STRANGER, "x86_64", python="3.11")).capabilities == ()
    asked = proof(catalog, folder / STRANGER, "x86_64", python="3.11", capabilities=("8.6",))
    assert policy(asked).capabilities == ("8.6",)


def test_gpus_that_there_are_not(catalog: Catalog, folder: Path) -> None:
    assert "rpi4 has no GPU that CUDA knows" in refusal(catalog, folder / WRAPT, "rpi4", capabilities=("5.3",))
    text = refusal(catalog, folder / STRANGER, "jetson-orin", capabilities=("sm_87",))
    assert "'sm_87' is no compute capability" in text
    assert "one is written as 5.3" in text


# --- where it takes from


def test_an_archive_is_taken_from_a_folder_of_the_users(catalog: Catalog, folder: Path) -> None:
    """What the errors about archives that cannot be reached tell the user to give."""
    (folder / "copy").mkdir()
    proof(catalog, folder / CHECK, "jetson-tx1", f"ubuntu-ports={folder / 'copy'}")
    text = refusal(catalog, folder / CHECK, "jetson-tx1", f"cuda-ubuntu2204={folder / 'copy'}")
    assert "this build takes nothing from the archive 'cuda-ubuntu2204'" in text
    assert "ubuntu-ports" in text


def test_the_releases_own_source_is_given(catalog: Catalog, folder: Path) -> None:
    (folder / "sources").mkdir()
    step = proof(catalog, folder / WRAPT, "rpi4", f"wrapt={folder / 'sources'}")
    taken = [each.path for each in step.walk() if isinstance(each, LocalStep) and each.name == "take wrapt"]
    assert taken == [str(folder / "sources")]
    assert "fetch wrapt-1.16.0.tar.gz" not in [each.name for each in step.walk()]


def test_the_check_of_a_release_that_does_not_go_with_the_system_is_not_run(catalog: Catalog, folder: Path) -> None:
    """TensorFlow 2.20 on the TX1's Python 3.5, for which there is no NumPy that it takes: it is judged, and not run."""
    wheel = folder / "tensorflow-2.20.0-cp311-cp311-linux_aarch64.whl"
    wheel.write_bytes((folder / WRAPT).read_bytes())
    step = proof(catalog, wheel, "jetson-tx1", recipe="tensorflow")
    assert (step.check, step.tests) == ("", 0)
    assert {"wheel", "root", "emulator"} == set(step.inputs)
    assert policy(step).instructions is not None


TENSORFLOW = "tensorflow-1.5.0-cp27-cp27mu-manylinux1_x86_64.whl"
NEWER = "tensorflow-2.20.0-cp311-cp311-manylinux2014_aarch64.whl"


def test_the_same_wheel_again_is_in_the_store(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proof has the same key, wherever the wheel lies; another wheel, target, processor or rule has another."""
    (folder / "else").mkdir()
    elsewhere = folder / "else" / WRAPT
    elsewhere.write_bytes((folder / WRAPT).read_bytes())
    first = proof(catalog, folder / WRAPT, "rpi4")
    assert proof(catalog, elsewhere, "rpi4").key == first.key
    others = {proof(catalog, elsewhere, "rk3588").key, proof(catalog, elsewhere, "rpi4", cpu="cortex-a53").key}
    monkeypatch.setattr(verifying, "RULES", {**verifying.RULES, "archive": 99})
    others.add(proof(catalog, elsewhere, "rpi4").key)
    monkeypatch.undo()
    elsewhere.write_bytes(elsewhere.read_bytes() + b"\0")
    others.add(proof(catalog, elsewhere, "rpi4").key)
    assert len(others | {first.key}) == 5


def test_a_check_that_needs_no_source_fetches_none(catalog: Catalog, folder: Path) -> None:
    (folder / WRAPT).rename(folder / TENSORFLOW)
    step = proof(catalog, folder / TENSORFLOW, "x86_64", python="2.7", no_avx=True)
    assert step.check and step.install and step.tests > 20
    assert "source" not in step.inputs
    assert not any("tensorflow-1.5.0.tar.gz" in each.name for each in step.walk())
    assert "no proof of these wheels takes a source 'tensorflow'" in refusal(
        catalog, folder / TENSORFLOW, "x86_64", f"tensorflow={folder}", python="2.7"
    )


def test_for_an_import_alone_nothing_is_built(catalog: Catalog, folder: Path) -> None:
    """The recipe has no pip for Python 3.11, so that its check cannot install the wheel."""
    (folder / WRAPT).rename(folder / NEWER)
    step = proof(catalog, folder / NEWER, "rpi4")
    assert step.check and step.install
    assert not any(role.startswith("check wheel pip-") for role in step.inputs)
    assert {each.kind for each in step.walk()} <= {"local", "fetch", "tree", "lock", "root", "proof"}


def test_a_source_that_no_proof_takes(catalog: Catalog, folder: Path) -> None:
    text = refusal(catalog, folder / WRAPT, "rpi4", f"numpy={folder / WRAPT}")
    assert "no proof of these wheels takes a source 'numpy'" in text
    assert "they take: wrapt, and archives" in text
    text = refusal(catalog, folder / STRANGER, "jetson-orin", f"wrapt={folder / WRAPT}")
    assert "they take archives alone, and no check is run" in text


def test_wheels_of_several_recipes_share_the_sources(catalog: Catalog, folder: Path) -> None:
    sources, _ = local_sources([f"wrapt={folder / WRAPT}"])
    asked = Verification(wheels=(folder / WRAPT, folder / STRANGER), target="rpi4", sources=sources)
    assert len(proofs_of(asked, catalog)) == 2


def test_the_mirror_is_asked_as_by_build(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Verification, Settings]] = []

    def kept(asked: Verification, settings: Settings, *, as_json: bool) -> bool:
        seen.append((asked, settings))
        return not as_json

    monkeypatch.setattr(verifying, "verify_all", kept)
    (folder / "copy").mkdir()
    inspect.verify(
        Context(),
        wheels=[str(folder / WRAPT)],
        capability=["5.3", "5.3"],
        source=[f"debian={folder / 'copy'}"],
        mirror=str(folder / "mirror"),
        offline=True,
    )
    ((asked, settings),) = seen
    assert (settings.mirror, settings.offline) == (str(folder / "mirror"), True)
    assert settings.apt_mirrors["debian"] == str(folder / "copy")
    assert asked.capabilities == ("5.3",)


# --- SARIF


def test_a_file_that_the_findings_cannot_be_written_to(folder: Path) -> None:
    for path, says in (
        (folder / "none" / "a.sarif", "there is no such folder"),
        (folder, "this is no file that can be written"),
        (folder / WRAPT, "this is one of the wheels"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            sarif_file(path, [folder / WRAPT])
        assert caught.value.exit_code == 2
        assert f"--sarif {path}" in str(caught.value)


def test_the_findings_are_written_where_a_link_leads(folder: Path) -> None:
    (folder / "link.sarif").symlink_to("real.sarif")
    assert sarif_file(folder / "link.sarif", []) == folder / "real.sarif"


@pytest.mark.parametrize("as_json", [False, True])
def test_findings_are_written_and_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """Both wheels of one call; the exit code is that of the proofs."""

    def judged(steps: list[ProofStep], *_: object, **__: object) -> SimpleNamespace:
        made = {}
        for step, wheel in zip(steps, wheels, strict=True):
            out = folder / step.key
            out.mkdir()
            prove(wheel, policy(step), sonames=None, check=None, run=None).write(out / "proof.json")
            made[step.key] = SimpleNamespace(path=out)
        return SimpleNamespace(artefacts=made)

    wheels = [write_wheel(folder), folder / WRAPT]
    monkeypatch.setattr(verifying, "execute_all", judged)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CROSSWHEEL_STORE", str(folder / "store"))
    (folder / "out.sarif").write_text("old")
    with pytest.raises(Exit) as caught:
        inspect.verify(
            Context(),
            wheels=[wheels[0].name, str(wheels[1])],
            target="rpi4",
            offline=True,
            sarif="out.sarif",
            json=as_json,
        )
    assert caught.value.code == 1
    (run,) = json.loads((folder / "out.sarif").read_text())["runs"]
    assert [artifact["location"]["uri"] for artifact in run["artifacts"]] == [each.name for each in wheels]
    assert [artifact["properties"]["passed"] for artifact in run["artifacts"]] == [True, False]
    assert run["tool"]["driver"]["version"] == version("crosswheel")
    out = capsys.readouterr().out
    if as_json:
        findings = [each for proof in json.loads(out)["proofs"] for each in proof["findings"]]
        assert len(run["results"]) == sum(each["severity"] != "pass" for each in findings)
    assert all(each.name in out for each in wheels)
    assert not list(folder.glob(".*"))


def test_a_file_that_cannot_be_written_stays_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = folder / "out.sarif"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="cannot be written") as caught:
        write_sarif(path, [], [])
    assert "No space left" in caught.value.why
    assert path.read_text() == "old"
    assert not list(folder.glob(".*"))
