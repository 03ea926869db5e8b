"""A wheelhouse that the real command line made: pip installs from it, here and on the emulated target."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commandline import CommandLine

from crosswheel.building.execute import execute
from crosswheel.building.job import Job
from crosswheel.building.proofs import TargetRoot, Trial, verify_wheel
from crosswheel.building.runners import runners
from crosswheel.building.sandbox import sandbox_for
from crosswheel.building.sources.index import list_project
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import read_settings
from crosswheel.digest import sha256_file
from crosswheel.planning.roots import emulator_step, target_root_step
from crosswheel.planning.sources import fetch_step
from crosswheel.planning.wheelhouse import index_offers
from crosswheel.proving.findings import Severity
from crosswheel.proving.prove import Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.requirements import machine_of
from crosswheel.spec.sources import Place, Source

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

TREE = "dm_tree-0.1.5-cp311-cp311-linux_aarch64.whl"
PIP = Source(
    file="pip-23.2.1-py3-none-any.whl",
    sha256="7ccf472345f20d35bdc9d1841ff5f313260c2c33fe417f48c30ac46cccabf5be",
    places=(Place(uri="pypi:pip==23.2.1"),),
)

CHECK = """
import json, sys
import six, tree, tree._tree
places = [module.__file__ for module in (six, tree, tree._tree)]
works = tree.map_structure(lambda value: value + 1, {"a": [1, 2]}) == {"a": [2, 3]}
good = works and all(place.startswith("/site/") for place in places)
with open(sys.argv[1], "w") as out:
    json.dump({"tests": 1, "failures": 0 if good else 1, "skipped": 0}, out)
"""


@pytest.fixture(scope="module")
def house(crosswheel: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheelhouse with dm-tree and what it requires."""
    out = tmp_path_factory.mktemp("wheelhouse") / "dist"
    answer = crosswheel.json("build", "dm-tree", "--target", "rpi4", "--with-dependencies", "--out", out)
    folder = Path(answer["wheelhouse"]["folder"])
    assert answer["wheelhouse"]["missing"] == []
    assert folder == out / "rpi4" / "wheelhouse"
    return folder


def test_its_manifest_is_true(house: Path) -> None:
    manifest = json.loads((house / "manifest.json").read_text())
    wheels = {path.name for path in house.glob("*.whl")}
    assert set(manifest["files"]) == wheels == set(manifest["wheels"][TREE]["files"])
    assert len(wheels) == 2
    for name, told in manifest["files"].items():
        assert sha256_file(house / name) == told["sha256"]
    (six,) = wheels - {TREE}
    assert manifest["files"][TREE]["judged"] == "proved"
    assert manifest["files"][six]["from"].startswith("pypi:six==")
    assert manifest["wheels"][TREE]["required_by"] == {six: ["dm-tree"]}


def test_pip_resolves_from_it_alone_for_the_target(house: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--find-links", str(house)]
    words += ["--target", str(tmp_path / "site"), "--only-binary", ":all:", "--platform", "linux_aarch64"]
    words += ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--isolated", "--no-cache-dir"]
    ended = subprocess.run([*words, "dm-tree"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Would install dm-tree-0.1.5 six-" in ended.stdout


def test_the_targets_own_pip_installs_from_it(house: Path, tmp_path: Path, catalog: Catalog) -> None:
    settings = read_settings()
    store = Store(settings.store)
    root, emulator = target_root_step(catalog, "debian-12", "aarch64", "3.11"), emulator_step(catalog)
    pip = fetch_step(PIP)
    steps = (root, emulator, pip)
    with Screen(quiet=True) as screen:
        made = execute(steps, store, settings, runners(catalog, settings), screen).artefacts
    policy = Proof.read(house.parent / f"{TREE}.proof.json").policy
    trial = Trial(
        script=CHECK,
        tests=1,
        timeout=600,
        source=house,
        wheels={PIP.file: made[pip.key].path, "house": house},
        install=True,
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    lines: list[str] = []
    job = Job(
        key="0" * 64,
        out=tmp_path / "out",
        work=tmp_path / "work",
        settings=settings,
        log=lines.append,
        cancelled=threading.Event(),
    )
    proof = verify_wheel(
        house / TREE,
        policy,
        target=TargetRoot(folder=made[root.key].path, key=root.key, emulator=made[emulator.key].path),
        trial=trial,
        job=job,
        sandbox=sandbox_for(settings),
    )
    assert [finding.severity for finding in proof.findings if finding.rule == "emulated"] == [Severity.PASS], lines
    assert any("Successfully installed dm-tree-0.1.5 six-" in line for line in lines)


def test_the_index_lists_what_pip_would_see(house: Path) -> None:
    files = list_project("wrapt")
    assert any(item.file == "wrapt-1.16.0.tar.gz" and item.sha256 for item in files)
    machine = machine_of(Proof.read(house.parent / f"{TREE}.proof.json").policy)
    best = {str(offer.version): offer.file for offer in index_offers("wrapt", files, machine)}  # type: ignore[arg-type]
    assert best["1.16.0"] == "wrapt-1.16.0-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    assert list_project("crosswheel-tests-no-such-project") == ()
