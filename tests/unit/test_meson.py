"""Packages that Meson builds; what a recipe wants of the target's distribution; variables of a release."""

from __future__ import annotations

import ast
import configparser
from pathlib import Path
from typing import Any

import pytest

from crosswheel.errors import DataError
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, LockStep, RunStep
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit


def planned(catalog: Catalog, recipe: str, target: str = "rpi4", **more: str) -> Plan:
    return plan(resolve(Request(recipe=recipe, target=target, **more), catalog), catalog, rules={})  # type: ignore[arg-type]


def compile_of(made: Plan) -> RunStep:
    step = made.wheel.inputs["run"]
    assert isinstance(step, RunStep)
    return step


def lock(made: Plan, name: str) -> LockStep:
    return next(step for step in made.steps if isinstance(step, LockStep) and step.lock == name)


def test_meson_is_called_by_its_backend_with_the_cross_file_and_the_releases_options(catalog: Catalog) -> None:
    step = compile_of(planned(catalog, "numpy"))
    (command,) = step.commands
    assert command[:2] == ("/usr/bin/python3.11", "-c")
    assert command[3:] == (
        "--cross-file=/toolchain/meson/cross.ini",
        "-Dallow-noblas=true",
        "-Dblas=none",
        "-Dlapack=none",
    )
    compile(command[2], "the command", "exec")
    assert "'/build/meson'" in command[2]
    # Ninja has no variable for its jobs: a file of this machine has the number, and no key has it.
    assert step.sized_files == {"/build/machine/ninja-jobs": "{jobs}\n"}
    assert step.env["PATH"].startswith("/toolchain/meson/path:")


def test_cython_is_a_program_that_leaves_no_path_of_the_builder(catalog: Catalog, tmp_path: Path) -> None:
    import subprocess

    toolchain = compile_of(planned(catalog, "numpy")).inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    wrapper = tmp_path / "cython"
    # A stand-in for Python that writes, where Cython would, the path that it is given.
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\necho "static char *f[] = {\\"$4\\"}; /* $4 */" > "$6"\n')
    stand_in.chmod(0o755)
    text = toolchain.files["meson/path/cython"].text
    assert "/usr/bin/python3.11 -m cython" in text
    wrapper.write_text(text.replace("/usr/bin/python3.11", str(stand_in)))
    wrapper.chmod(0o755)
    out = tmp_path / "a.c"
    subprocess.run([wrapper, "-3", "/build/src/deep/a.pyx", "-o", out], check=True)
    assert out.read_text() == 'static char *f[] = {"deep/a.pyx"}; /* /build/src/deep/a.pyx */\n'
    stand_in.write_text("#!/bin/sh\nexit 3\n")
    assert subprocess.run([wrapper, "--version"], check=False).returncode == 3


def test_a_meson_table_is_for_meson_alone(data: Path) -> None:
    path = data / "recipes" / "wrapt" / "1.16.0.toml"
    path.write_text(path.read_text() + '\n[meson]\noptions = { a = "b" }\n')
    with pytest.raises(DataError, match="goes with backend"):
        Catalog(data).release("wrapt", "1.16.0")


def test_a_recipes_packages_are_in_the_sysroot_and_in_the_target_root(catalog: Catalog) -> None:
    for target in ("rpi4", "nanopi-m4"):
        made = planned(catalog, "h5py", target)
        name = made.resolution.sysroot.name
        assert "libhdf5-dev" in lock(made, f"{name}-arm64-development-h5py").packages
        assert "libhdf5-103-1" in lock(made, f"{name}-arm64-runtime-h5py").packages
    # Another recipe's sysroot is what it was.
    assert not [step for step in planned(catalog, "wrapt").steps if isinstance(step, LockStep) and "h5py" in step.lock]


def test_variables_of_a_release_name_the_rendered_files_and_the_number_of_jobs(catalog: Catalog) -> None:
    assert compile_of(planned(catalog, "h5py")).env["PKG_CONFIG"] == "/toolchain/bin/pkg-config"
    step = compile_of(planned(catalog, "grpcio"))
    name = "GRPC_PYTHON_BUILD_EXT_COMPILER_JOBS"
    assert step.sized_env[name] == "{jobs}"
    assert name not in step.env


def test_a_meson_that_is_required_is_a_program(catalog: Catalog) -> None:
    """NumPy brings its own, and is given none."""
    toolchain = compile_of(planned(catalog, "cuda-check", "sbsa-debian", version="1.0.0+meson")).inputs["toolchain"]
    own = compile_of(planned(catalog, "numpy")).inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    assert isinstance(own, FilesStep)
    program = toolchain.files["meson/path/meson"]
    assert program.executable
    assert program.text.endswith('exec /usr/bin/python3.13 -m mesonbuild.mesonmain "$@"\n')
    assert "meson/path/meson" not in own.files


def test_meson_is_told_of_nvcc_of_the_gpus_and_of_cudnn(catalog: Catalog) -> None:
    step = compile_of(planned(catalog, "cuda-check", "sbsa-debian", version="1.0.0+meson", capabilities=("5.3", "8.7")))
    toolchain = step.inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    told = machine_file(toolchain.files["meson/cross.ini"].text)
    nvcc = told["binaries"]["cuda"]
    assert nvcc[:5] == ["/cuda/bin/nvcc", "-ccbin", "/toolchain/bin/c++", "-target-dir", "aarch64-linux"]
    codes = [f"-gencode=arch=compute_{n},code=[sm_{n},compute_{n}]" for n in ("53", "87")]
    headers = ["/cuda/targets/aarch64-linux/include", "/cudnn/target/include"]
    libraries = ["-Wl,-s", "-L/cuda/targets/aarch64-linux/lib", "-L/cudnn/target/lib"]
    options = told["built-in options"]
    assert options["cuda_args"] == [*codes, "-isystem", headers[0], "-isystem", headers[1]]
    # It links the GPU's code as well, for a GPU of its own choice where it is told none.
    assert options["cuda_link_args"] == [*libraries, *codes]
    for language in ("c", "cpp"):
        assert options[f"{language}_args"] == ["-idirafter", headers[0], "-idirafter", headers[1]]
        assert options[f"{language}_link_args"] == libraries


def test_without_cuda_meson_is_told_of_none(catalog: Catalog) -> None:
    toolchain = compile_of(planned(catalog, "numpy")).inputs["toolchain"]
    assert isinstance(toolchain, FilesStep)
    told = machine_file(toolchain.files["meson/cross.ini"].text)
    assert "cuda" not in told["binaries"]
    assert told["built-in options"] == {"b_staticpic": True, "c_link_args": ["-Wl,-s"], "cpp_link_args": ["-Wl,-s"]}


def machine_file(text: str) -> dict[str, dict[str, Any]]:
    """The sections of a machine file; its values are written as Python's are."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    words = {"true": True, "false": False}
    return {
        name: {key: words[value] if value in words else ast.literal_eval(value) for key, value in section.items()}
        for name, section in parser.items()
        if name != parser.default_section
    }
