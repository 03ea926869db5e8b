"""What the toolchain tells builds of Pythons before 3.8: where these look for it differs from version to version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crosswheel.planning.backends import PIP_WHEEL
from crosswheel.planning.backends.pep517 import WITHOUT_PIP
from crosswheel.planning.plan import plan
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, RunStep
from crosswheel.planning.toolchains import Paths, toolchain_files, values_of
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

CATALOG = Catalog(Path(__file__).resolve().parents[2])


def _described(folder: Path, text: str, module: str) -> dict[str, Any]:
    """What the rendered module says of a Python that is described in a sysroot."""
    place = folder / "sysroot" / module
    place.parent.mkdir(parents=True)
    place.write_text('build_time_vars = {"CC": "x86_64-gcc -pthread", "INCLUDEPY": "/usr/include/python"}\n')
    names: dict[str, Any] = {}
    exec(text.replace("'/sysroot'", repr(str(folder / "sysroot"))).replace('"/sysroot"', f'"{folder}/sysroot"'), names)
    found = names["build_time_vars"]
    assert isinstance(found, dict)
    return found


def test_python_3_6_of_ubuntu_18_04(tmp_path: Path) -> None:
    planned = plan(resolve(Request(recipe="wrapt", target="jetson-nano", python="3.6"), CATALOG), CATALOG, rules={})
    files = next(step for step in planned.steps if isinstance(step, FilesStep) and step.name.startswith("render"))
    text = files.files["python/_sysconfigdata__crosswheel.py"].text
    assert "import runpy" not in text, "site reads it before there is a sys.argv"
    found = _described(tmp_path, text, "usr/lib/python3.6/_sysconfigdata_m_linux_aarch64-linux-gnu.py")
    assert found["CC"].endswith("/bin/cc -pthread")
    assert found["INCLUDEPY"] == f"{tmp_path}/sysroot/usr/include/python"
    run = next(step for step in planned.steps if isinstance(step, RunStep))
    assert run.commands != (PIP_WHEEL,), "pip 9 does not know --no-build-isolation"
    assert "3.6" in WITHOUT_PIP


def test_python_3_5_of_ubuntu_16_04(tmp_path: Path) -> None:
    target = CATALOG.target("jetson-tx1")
    system = next(system for system in target.systems if system.python == "3.5")
    paths = Paths()
    values = values_of(system, CATALOG.toolchain("gcc-5"), CATALOG.cpu(target.cpu), "aarch64", paths)
    assert values["soabi"] == "cpython-35m-aarch64-linux-gnu"
    text = toolchain_files(Renderer(CATALOG), values)["python/_sysconfigdata.py"].text
    found = _described(tmp_path, text, "usr/lib/python3.5/plat-aarch64-linux-gnu/_sysconfigdata_m.py")
    assert found["CC"].endswith("/bin/cc -pthread")
