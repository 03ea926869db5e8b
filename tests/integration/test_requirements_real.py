"""What wheels require, asked of the real package index, by the rule and by the command line."""

from __future__ import annotations

import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commandline import CommandLine

from crosswheel.building.offered import offered
from crosswheel.building.own_wheels import OwnWheels
from crosswheel.building.sources.package_index import PackageIndex
from crosswheel.building.store import Store
from crosswheel.proving.facts import read_metadata
from crosswheel.proving.offered import Found
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy, policy_for
from crosswheel.spec.requirements import machine_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def policy_of(catalog: Catalog, name: str, python: str) -> Policy:
    target = catalog.target(name)
    system = next(each for each in target.systems if each.python == python)
    cpu = catalog.cpu(target.cpu)
    return policy_for(target, catalog.sysroot(system.sysroot), cpu, python, catalog.instruction_set(target, cpu))


def ask(catalog: Catalog, tmp_path: Path, lines: Sequence[str], policy: Policy) -> dict[str, Found]:
    """What there is of these requirements, with an empty store."""
    target = catalog.target(policy.target)
    own = OwnWheels(
        catalog=catalog,
        store=Store(tmp_path / "store"),
        target=target,
        system=next(each for each in target.systems if each.python == policy.python),
        cpu=catalog.cpu(target.cpu),
        machine=machine_of(policy),
        folders=(),
    )
    with PackageIndex() as index:
        file = "quick-1.0-py3-none-any.whl"
        return dict(offered(file, {"requires-dist": tuple(lines)}, policy, None, index=index, own=own).found)


def test_a_real_wheels_requirements_are_there(catalog: Catalog, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--dest"]
    words += [str(tmp_path), "--platform", "manylinux2014_aarch64", "--python-version", "3.11", "ml_dtypes==0.3.2"]
    subprocess.run(words, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    headers = read_metadata(wheel)
    assert headers is not None and len(headers["requires-dist"]) > 3, "NumPy for each Python, and the tests'"
    policy = policy_of(catalog, "rpi4", "3.11")
    found = ask(catalog, tmp_path, headers["requires-dist"], policy)
    assert found["numpy"].kind == "index"
    assert found["numpy"].asked == ("numpy>1.20", "numpy>=1.21.2", "numpy>=1.23.3")
    assert "pytest" not in found


def test_what_the_index_has_and_has_not_for_an_old_board(catalog: Catalog, tmp_path: Path) -> None:
    policy = policy_of(catalog, "nanopi-m4", "2.7")
    lines = ["numpy>=1.12.1", "six>=1.10", "html5lib==0.9999999", "enum34; python_version < '3.4'", "protobuf>=4"]
    lines += ["pywin32", "crosswheel-requires-what-nobody-has"]
    began = time.monotonic()
    found = ask(catalog, tmp_path, lines, policy)
    assert time.monotonic() - began < 60
    assert {name: found[name].kind for name in ("six", "enum34", "html5lib", "numpy")} == {
        "six": "index",
        "enum34": "index",
        "html5lib": "source",
        "numpy": "source",
    }
    assert found["html5lib"].file == "html5lib-0.9999999.tar.gz"
    assert found["numpy"].build == "./x build numpy --version 1.16.6 --target nanopi-m4 --python 2.7"
    missing = {name: item.why for name, item in found.items() if item.kind == "nothing"}
    assert set(missing) == {"protobuf", "pywin32", "crosswheel-requires-what-nobody-has"}
    assert "wheels for other machines or other Pythons alone" in missing["pywin32"]
    assert missing["crosswheel-requires-what-nobody-has"] == "no index that pip uses here lists it"
    assert found["protobuf"].fits.startswith("3.")


def wheel(folder: Path, *lines: str) -> Path:
    path = folder / "quick-1.0-py3-none-any.whl"
    papers = ["Metadata-Version: 2.1", "Name: quick", "Version: 1.0", *(f"Requires-Dist: {line}" for line in lines)]
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("quick-1.0.dist-info/METADATA", "\n".join(papers) + "\n")
        bundle.writestr("quick-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return path


def said(answer: Any) -> list[tuple[str, str]]:
    (proof,) = answer["proofs"]
    return [(item["severity"], item["message"]) for item in proof["findings"] if item["rule"] == "dependencies"]


def test_verify_asks_unless_it_is_offline(crosswheel: CommandLine, tmp_path: Path) -> None:
    """The wheel has no RECORD, so its proof fails; the question is asked all the same."""
    path = wheel(tmp_path, "six", "termcolor==1.1.0", 'pywin32; sys_platform == "win32"')
    asked = said(crosswheel.json("verify", path, "--target", "rpi4", status=1))
    assert [severity for severity, _ in asked] == ["warn", "pass"]
    assert asked[0][1].startswith(
        "termcolor==1.1.0: there is no wheel for rpi4; pip would build termcolor-1.1.0.tar.gz"
    )
    assert asked[1][1].startswith("requires 2 projects on rpi4; 1 is there: 1 wheel on the package index")
    offline = said(crosswheel.json("verify", path, "--target", "rpi4", "--offline", status=1))
    assert offline == [
        ("not_proven", "requires six, termcolor on rpi4; whether there are wheels of them was not asked")
    ]
