"""A Python's headers of CPython's own source: the answers for configure, the steps, what a build takes from them."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path

import pytest
from commandline import CommandLine

from crosswheel.cli.headers import headers_for
from crosswheel.errors import InputError
from crosswheel.planning.headers import headers_step
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.render import renderer_of
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import FilesStep, LockStep, RunStep, TreeStep
from crosswheel.planning.toolchains import PYTHON_HEADERS, Paths, toolchain_files, values_of
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.config_site import answers_for
from crosswheel.spec.lint import lint
from crosswheel.spec.pythons import Machine
from crosswheel.spec.sysroots import PythonPackages

pytestmark = pytest.mark.unit


def lint_of(data: Path) -> list[str]:
    return [f"{problem.where}: {problem.what}" for problem in lint(Catalog(data))]


# --- steps -----------------------------------------------------------------------------------------------------------


def step_of(
    catalog: Catalog, version: str, arch: Arch = "aarch64", of: tuple[str, str] = ("debian-11", "gcc-10")
) -> RunStep:
    return headers_step(catalog, catalog.cpython(version), arch, *of)


def configured(step: RunStep) -> tuple[str, ...]:
    (command,) = [command for command in step.commands if command[0].endswith("/configure")]
    return command[1:]


def test_the_steps_of_headers(catalog: Catalog) -> None:
    step = step_of(catalog, "3.9")
    assert [item.kind for item in step.walk()] == ["lock", "root", "lock", "root", "files", "fetch", "tree", "run"]
    assert set(step.inputs) == {"builder", "sysroot", "toolchain", "source"}
    check = step.commands[0]
    assert check[1] == "/toolchain/headers/check.py", "looked at before configure runs"
    assert check[-2:] == ("3.9", "/usr/bin/python3.9")
    assert configured(step)[:2] == ("--host=aarch64-linux-gnu", "--build=x86_64-pc-linux-gnu")
    files = step.inputs["toolchain"]
    assert isinstance(files, FilesStep)
    site = files.files["headers/config.site"].text.splitlines()
    assert site == sorted(
        f"{key}={value}"
        for key, value in answers_for(catalog, catalog.cpython("3.9"), Machine("aarch64", "2.31")).items()
    )
    assert step.env["CONFIG_SITE"] == "/toolchain/headers/config.site"


def test_arguments_of_each_series(catalog: Catalog) -> None:
    assert "--enable-unicode=ucs4" in configured(step_of(catalog, "2.7"))
    assert "--enable-unicode=ucs4" not in configured(step_of(catalog, "3.9"))
    assert "--with-build-python=/usr/bin/python3.11" in configured(step_of(catalog, "3.11", of=("debian-12", "gcc-12")))
    assert not any("build-python" in word for word in configured(step_of(catalog, "3.9")))


def test_a_machine_of_the_builders_architecture_is_another_one_all_the_same(catalog: Catalog) -> None:
    host, build = configured(step_of(catalog, "3.9", "x86_64"))[:2]
    assert host.partition("=")[2] != build.partition("=")[2], "else configure would run what it compiles"


@pytest.mark.parametrize(("version", "own"), [("3.9", False), ("2.7", False), ("3.7", True), ("3.13", True)])
def test_an_interpreter_is_compiled_where_the_builder_has_none(version: str, own: bool, catalog: Catalog) -> None:
    step = step_of(catalog, version)
    assert ("interpreter" in step.inputs) == own
    assert step.commands[0][-1] == (f"/interpreter/bin/python{version}" if own else f"/usr/bin/python{version}")
    if own:
        native = step.inputs["interpreter"]
        assert isinstance(native, RunStep)
        assert "CONFIG_SITE" not in native.env, "it can run what it compiles"
        assert not any("build-python" in word for word in configured(native))


def test_links_of_the_series_with_a_letter(catalog: Catalog) -> None:
    links = [
        command[-1].removeprefix("/build/out/usr/include/")
        for command in step_of(catalog, "3.6").commands
        if command[0] == "ln"
    ]
    triplet = "aarch64-linux-gnu"
    assert links == [f"{triplet}/python3.6", "python3.6m", f"{triplet}/python3.6m"]


def test_processors_share_headers_and_architectures_do_not(catalog: Catalog) -> None:
    keys = {name: headers_for(catalog, "3.11", name).step.key for name in ("rpi4", "rk3588", "x86_64")}
    assert keys["rpi4"] == keys["rk3588"] != keys["x86_64"]


def test_a_python_that_the_target_does_not_have_is_made_for_its_first_system(catalog: Catalog) -> None:
    asked = headers_for(catalog, "3.7.3", "nanopi-m4")
    assert (asked.system.python, asked.cpython.series) == ("3.9", "3.7")
    assert headers_for(catalog, "2.7", "nanopi-m4").system.python == "2.7"


# --- builds ----------------------------------------------------------------------------------------------------------


def of_own_source(data: Path, series: str = "3.9", version: str = "3.9.2") -> Catalog:
    """The data, in which Debian 11's Python has no packages of headers."""
    path = data / "sysroots/debian-11.toml"
    told = f'development = ["libpython{series}-dev"]\n'
    assert told in path.read_text()
    path.write_text(path.read_text().replace(told, f'cpython = "{version}"\n'))
    return Catalog(data)


def planned(catalog: Catalog, recipe: str) -> Plan:
    return plan(resolve(Request(recipe=recipe, target="nanopi-m4", python="3.9"), catalog), catalog, rules={})


@dataclass(frozen=True)
class Rendered:
    """The files of a compilation's toolchain, and those of the headers that it takes."""

    run: RunStep
    toolchain: FilesStep
    headers: RunStep


def rendered(catalog: Catalog, recipe: str) -> Rendered:
    run = planned(catalog, recipe).wheel.inputs["run"]
    assert isinstance(run, RunStep)
    toolchain, headers = run.inputs["toolchain"], run.inputs["python headers"]
    assert isinstance(toolchain, FilesStep) and isinstance(headers, RunStep)
    return Rendered(run, toolchain, headers)


def test_a_build_takes_the_headers_in_the_place_of_packages(data: Path, catalog: Catalog) -> None:
    found = rendered(of_own_source(data), "wrapt")
    assert lint_of(data) == []
    assert found.run.mounts["python headers"] == PYTHON_HEADERS
    assert "CPython 3.9.2" in found.headers.name
    locks = [step for step in found.run.walk() if isinstance(step, LockStep)]
    assert not any("libpython3.9-dev" in lock.packages for lock in locks)
    assert any("libpython2.7-dev" in lock.packages for lock in locks), "the other Python's are packages as before"
    before = planned(catalog, "wrapt").wheel.inputs["run"]
    assert isinstance(before, RunStep)
    assert "python headers" not in before.inputs


def test_every_build_tool_is_told_of_them(data: Path) -> None:
    catalog = of_own_source(data)
    files = rendered(catalog, "dm-tree").toolchain.files
    include = f"{PYTHON_HEADERS}/usr/include"
    assert files["repositories/python_headers/include"].text == f"{include}/python3.9"
    assert f'"{include}/python3.9"' in files["cmake/toolchain.cmake"].text
    assert f"/sysroot {PYTHON_HEADERS}" not in files["bin/cc"].text
    assert f"-idirafter {include}" in files["bin/cc"].text
    assert f"-ffile-prefix-map={PYTHON_HEADERS}=" in files["bin/cc"].text
    assert f'"{PYTHON_HEADERS}/usr" + _path' in files["python/sitecustomize.py"].text
    described = files["python/_sysconfigdata__crosswheel.py"].text
    assert "/usr/lib/python3.9/_sysconfigdata__linux_aarch64-linux-gnu.py" in described
    plain = {path: file.text for path, file in files.items() if "/sysroot/usr/include/python" in file.text}
    assert plain == {}, "nobody is told of Debian's"


@pytest.mark.parametrize(
    ("python", "module"),
    [
        ("3.5", "_sysconfigdata"),
        ("3.6", "_sysconfigdata_m_linux_aarch64-linux-gnu"),
        ("3.10", "_sysconfigdata__linux_aarch64-linux-gnu"),
    ],
)
def test_sysconfig_answers_from_what_configure_found(
    python: str, module: str, catalog: Catalog, tmp_path: Path
) -> None:
    """The rendered module is run on a description as CPython leaves one."""
    folder = tmp_path / f"usr/lib/python{python}"
    folder.mkdir(parents=True)
    (folder / f"{module}.py").write_text(
        f"build_time_vars = {{'CC': 'aarch64-linux-gnu-gcc -pthread', 'INCLUDEPY': '/usr/include/python{python}', "
        "'LIBDIR': '/usr/lib', 'SOABI': 'cpython-x'}\n"
    )
    target = catalog.target("nanopi-m4")
    system = target.systems[0].model_copy(update={"python": python})
    paths = Paths(python=str(tmp_path))
    values = values_of(system, catalog.toolchain("gcc-10"), catalog.cpu(target.cpu), target.arch, paths)
    files = toolchain_files(renderer_of(catalog), values)
    (tmp_path / "rendered.py").write_text(files[f"python/{values['sysconfigdata']}.py"].text)
    found = runpy.run_path(str(tmp_path / "rendered.py"))["build_time_vars"]
    assert found == {
        "CC": "/toolchain/bin/cc -pthread",
        "INCLUDEPY": f"{tmp_path}/usr/include/python{python}",
        "LIBDIR": "/sysroot/usr/lib",
        "SOABI": "cpython-x",
    }


def test_a_python_has_packages_or_a_source_of_its_headers() -> None:
    with pytest.raises(ValueError, match="either `development` packages or a `cpython`"):
        PythonPackages(runtime=("python3",))
    with pytest.raises(ValueError, match="either `development` packages or a `cpython`"):
        PythonPackages(runtime=("python3",), development=("libpython3.9-dev",), cpython="3.9.2")


@pytest.mark.parametrize(
    ("version", "told"),
    [("3.9.99", "sysroots/pythons.toml has no CPython '3.9.99'"), ("3.8.10", "CPython 3.8.10 makes no headers of 3.9")],
)
def test_a_source_that_is_none_is_found_by_check(version: str, told: str, data: Path) -> None:
    of_own_source(data, version=version)
    assert f"sysroots/debian-11.toml: {told}" in lint_of(data)


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("3.4", "--target", "nanopi-m4"), "there is no source of CPython '3.4'"),
        (("3.9.7", "--target", "nanopi-m4"), "did you mean 3.9.2"),
        (("3.9", "--target", "nanopi"), "there is no target 'nanopi'"),
        (("3.9", "--target", "nanopi-m4", "--source", "nowhere.tar.xz"), "this file or folder does not exist"),
    ],
)
def test_what_is_asked_for_wrongly(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = CommandLine()("headers", *words, "--out", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = CommandLine()("headers", "3.9", "--target", "nanopi-m4", "--out", tmp_path)
    assert done.returncode == 2
    assert "this folder is not empty" in done.stderr


def test_a_given_source_takes_the_place_of_the_fetched(catalog: Catalog, tmp_path: Path) -> None:
    archive = tmp_path / "Python-3.9.2.tar.xz"
    archive.write_bytes(b"an archive")
    step = headers_for(catalog, "3.9", "nanopi-m4", str(archive)).step
    tree = step.inputs["source"]
    assert isinstance(tree, TreeStep)
    assert tree.inputs["archive"].kind == "local"
    with pytest.raises(InputError, match="does not exist"):
        headers_for(catalog, "3.9", "nanopi-m4", str(tmp_path / "nothing"))


def test_every_system_of_every_target_can_have_them(catalog: Catalog) -> None:
    for name in catalog.target_names:
        for system in catalog.target(name).systems:
            asked = headers_for(catalog, system.python, name)
            assert asked.cpython.series == system.python
            assert "interpreter" not in asked.step.inputs, "the builder of an era has the Python of that era"
