"""tflite-runtime as data: CMake is handed what it would download, on every target; the check has what it wants."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from crosswheel.errors import InputError
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, LockStep, RunStep, TreeStep
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.lint import lint

pytestmark = pytest.mark.unit

SYSTEMS = (("nanopi-m4", "3.9"), ("rpi4", "3.11"), ("rk3588", "3.13"), ("x86_64", "3.11"))


def planned(catalog: Catalog, target: str, python: str) -> Plan:
    request = Request(recipe="tflite", target=target, python=python)
    return plan(resolve(request, catalog), catalog, rules={})


def compiling(made: Plan) -> RunStep:
    step = made.wheel.inputs["run"]
    assert isinstance(step, RunStep)
    return step


def patch_lines(catalog: Catalog, name: str) -> str:
    """The lines that a patch adds."""
    lines = catalog.patch_text("tflite-runtime", name).splitlines()
    return "\n".join(line[1:] for line in lines if line.startswith("+") and not line.startswith("+++ ")) + "\n"


@pytest.mark.parametrize(("target", "python"), SYSTEMS)
def test_every_external_is_where_cmake_looks(catalog: Catalog, target: str, python: str) -> None:
    step = compiling(planned(catalog, target, python))
    toolchain = step.inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    text = toolchain.files["cmake/toolchain.cmake"].text
    given = dict(re.findall(r'set\(FETCHCONTENT_SOURCE_DIR_(\S+) "?([^" ]+)', text))
    externals = {role.removeprefix("external ") for role in step.mounts if role.startswith("external ")}
    assert {"abseil-cpp", "eigen", "ruy", "xnnpack"} < externals
    assert given == {name.upper(): step.mounts[f"external {name}"] for name in externals}
    assert not set(step.copies) & {f"external {name}" for name in externals}  # they are mounted, and so read-only


def test_what_externalproject_would_download_is_an_external(catalog: Catalog) -> None:
    wanted = re.search(r"foreach\(_NAME ([^)]+)\)", patch_lines(catalog, "cmake-given-sources.patch"))
    assert wanted is not None
    externals = {external.name.upper() for external in catalog.release("tflite-runtime", "2.14.0").externals}
    assert set(wanted[1].split()) == {"PTHREADPOOL", "FP16", "FXDIV", "PSIMD"}
    assert set(wanted[1].split()) <= externals


@pytest.mark.parametrize(("target", "python"), SYSTEMS)
def test_xnnpacks_assembly_is_patched_where_it_is_compiled(catalog: Catalog, target: str, python: str) -> None:
    made = planned(catalog, target, python)
    tree = compiling(made).inputs["external xnnpack"]
    assert isinstance(tree, TreeStep)
    files = [patch.file for patch in tree.patches]
    assert files == (["xnnpack-assembly-cpu.patch"] if made.resolution.target.arch == "aarch64" else [])


def test_the_setup_that_is_added_serves_the_oldest_python(catalog: Catalog) -> None:
    text = patch_lines(catalog, "setup-py.patch")
    ast.parse(text, feature_version=(3, 8))
    recipe, release = catalog.recipe("tflite-runtime"), catalog.release("tflite-runtime", "2.14.0")
    assert f'PACKAGE = "{recipe.distribution}"' in text
    assert f'name="{recipe.name}"' in text
    assert 'python_requires=">=3.8"' in text
    assert release.python.startswith(">=3.8")
    ast.parse(catalog.check_script(recipe), feature_version=(3, 8))


def test_mesas_delegate_is_there_where_debian_has_it(catalog: Catalog) -> None:
    found = {}
    for target, python in SYSTEMS[:3]:
        made = planned(catalog, target, python)
        lock = made.proof.inputs["root"].inputs["lock"]
        assert isinstance(lock, LockStep)
        assert "python3-numpy" in lock.packages
        found[made.resolution.sysroot.name] = "mesa-teflon-delegate" in lock.packages
    assert found == {"debian-11": False, "debian-12": False, "debian-13": True}


def test_packages_of_a_sysroot_that_does_not_exist(data: Path) -> None:
    path = data / "recipes/tflite-runtime/recipe.toml"
    text = path.read_text()
    assert "debian-13 = " in text
    path.write_text(text.replace("debian-13 = ", "debian-99 = "))
    problems = [problem for problem in lint(Catalog(data)) if problem.where.startswith("recipes/tflite-runtime/")]
    assert [problem.what for problem in problems] == ["there is no sysroot 'debian-99'"]


def test_an_older_python_is_refused(catalog: Catalog) -> None:
    with pytest.raises(InputError, match=r"3\.8"):
        resolve(Request(recipe="tflite-runtime", target="nanopi-m4", python="2.7"), catalog)
