"""Headers of CPython's own source: against Debian's own of the same version, and with an extension in Debian's Python.

Configure takes a minute or two for each Python, so the default run has one of them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from commandline import CommandLine, copy_of_checkout

from crosswheel.building.emulation import Ended, Place, Process, emulator_mount, run_emulated
from crosswheel.building.execute import execute
from crosswheel.building.job import Job, Mount
from crosswheel.building.runners import runners
from crosswheel.building.sandbox import sandbox_for
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import read_settings
from crosswheel.errors import CrosswheelError, DataError, StepError
from crosswheel.planning.headers import headers_step
from crosswheel.planning.roots import emulator_step, sysroot_step, target_root_step
from crosswheel.planning.steps import FilesStep, LocalStep, RenderedFile, RunStep, Step, TreeStep
from crosswheel.proving.elf import read_elf
from crosswheel.proving.emulate import EMULATOR
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent / "headers"
ARCH, TRIPLET = "aarch64", "aarch64-linux-gnu"


@dataclass(frozen=True)
class Case:
    """A CPython, and the distribution that has the same version in packages."""

    version: str
    sysroot: str
    toolchain: str

    @property
    def series(self) -> str:
        return self.version.rpartition(".")[0]


MAIN = Case("3.9.2", "debian-11", "gcc-10")
NEWER = Case("3.11.2", "debian-12", "gcc-12")
CASES = (
    pytest.param(MAIN, id="3.9"),
    pytest.param(Case("2.7.18", "debian-11", "gcc-10"), id="2.7", marks=pytest.mark.long),
    pytest.param(NEWER, id="3.11", marks=pytest.mark.long),
    pytest.param(Case("3.13.5", "debian-13", "gcc-14"), id="3.13", marks=pytest.mark.long),
)
of_each = pytest.mark.parametrize("case", CASES)

Make = Callable[..., Mapping[str, Path]]


@pytest.fixture(scope="session")
def make(catalog: Catalog) -> Make:
    """Executes steps in the user's store; key → result."""

    def run(*steps: Step) -> Mapping[str, Path]:
        settings = read_settings()
        with Screen(quiet=True) as screen:
            done = execute(steps, Store(settings.store), settings, runners(catalog, settings), screen)
        return {key: artefact.path for key, artefact in done.artefacts.items()}

    return run


@pytest.fixture(scope="session")
def without_packages(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A checkout in which Debian's Python 3 has a source in the place of packages with headers."""
    checkout = copy_of_checkout(tmp_path_factory.mktemp("headers") / "checkout")
    for case in (MAIN, NEWER):
        path = checkout.root / f"sysroots/{case.sysroot}.toml"
        told = f'development = ["libpython{case.series}-dev"]\n'
        assert told in path.read_text()
        path.write_text(path.read_text().replace(told, f'cpython = "{case.version}"\n'))
    return checkout


@pytest.fixture(scope="session")
def headers(catalog: Catalog, without_packages: CommandLine) -> Callable[[Case], RunStep]:
    """The step that makes a case's headers; that of the main one against a sysroot that has no others of 3.9."""

    def step(case: Case) -> RunStep:
        chosen = Catalog(without_packages.root) if case == MAIN else catalog
        return headers_step(chosen, chosen.cpython(case.version), ARCH, case.sysroot, case.toolchain)

    return step


def macros(path: Path) -> dict[str, str]:
    """The macros of a ``pyconfig.h``; what is undefined has an empty value."""
    text = path.read_text()
    found = dict(re.findall(r"^\s*#\s*define\s+(\w+)[ \t]*(.*?)\s*$", text, re.MULTILINE))
    return dict.fromkeys(re.findall(r"^/\* #undef (\w+) \*/$", text, re.MULTILINE), "") | found


def differing(ours: Path, theirs: Path) -> dict[str, tuple[str, str]]:
    """The macros that differ: ours, and Debian's."""
    mine, other = macros(ours), macros(theirs)
    return {
        name: (mine.get(name, ""), other.get(name, ""))
        for name in sorted(mine.keys() | other.keys())
        if mine.get(name, "") != other.get(name, "")
    }


@of_each
def test_the_result_is_headers_and_nothing_else(case: Case, headers: Callable[[Case], RunStep], make: Make) -> None:
    step = headers(case)
    out = make(step)[step.key]
    assert {path.name for path in out.iterdir()} == {"usr"}
    assert {path.name for path in (out / "usr").iterdir()} == {"include", "lib"}
    include = out / "usr/include"
    assert {path.name for path in include.iterdir()} == {f"python{case.series}", TRIPLET}
    files = [path for path in (include / f"python{case.series}").rglob("*") if not path.is_dir()]
    assert {path.suffix for path in files} == {".h"}
    assert {"Python.h", "pyconfig.h", "patchlevel.h"} <= {path.name for path in files}
    assert [path.name for path in (include / TRIPLET).iterdir()] == [f"python{case.series}"]
    assert (include / TRIPLET / f"python{case.series}/pyconfig.h").samefile(include / f"python{case.series}/pyconfig.h")
    described = [path for path in (out / "usr/lib").rglob("*") if not path.is_dir()]
    assert len(described) == 1
    assert described[0].match(f"python{case.series}/_sysconfigdata*.py")
    assert "does not ask for" not in Store(read_settings().store).log_path(step.key).read_text()


@of_each
def test_sysconfig_says_what_debians_says(
    case: Case, headers: Callable[[Case], RunStep], make: Make, catalog: Catalog
) -> None:
    import runpy

    step, sysroot = headers(case), sysroot_step(catalog, case.sysroot, ARCH)
    made = make(step, sysroot)
    (ours,) = (made[step.key] / f"usr/lib/python{case.series}").glob("_sysconfigdata*.py")
    folder = made[sysroot.key] / f"usr/lib/python{case.series}"
    if case.series == "2.7":
        theirs = folder / "plat-aarch64-linux-gnu/_sysconfigdata_nd.py"
    else:
        theirs = folder / f"_sysconfigdata__{TRIPLET}.py"
    mine, other = (runpy.run_path(str(path))["build_time_vars"] for path in (ours, theirs))
    names = [
        "SO",
        "SOABI",
        "EXT_SUFFIX",
        "LDVERSION",
        "MULTIARCH",
        "INCLUDEPY",
        "CCSHARED",
        "Py_ENABLE_SHARED",
        "LDLIBRARY",
    ]
    assert {name: mine.get(name) for name in names} == {name: other.get(name) for name in names}
    assert mine["CC"] == other["CC"]
    assert "-fwrapv" in mine["CFLAGS"].split()
    assert "/toolchain" not in mine["CC"] + mine["CXX"] + mine["LDSHARED"] + mine["AR"]


@of_each
def test_no_difference_to_debians_is_unexplained(
    case: Case, headers: Callable[[Case], RunStep], make: Make, catalog: Catalog
) -> None:
    step, sysroot = headers(case), sysroot_step(catalog, case.sysroot, ARCH)
    made = make(step, sysroot)
    ours = made[step.key] / f"usr/include/python{case.series}"
    theirs = made[sysroot.key] / f"usr/include/{TRIPLET}/python{case.series}/pyconfig.h"
    found = differing(ours / "pyconfig.h", theirs)
    known = [item for item in catalog.pythons.differences if any(item.explains(name, case.version) for name in found)]
    unexplained = {
        name: values for name, values in found.items() if not any(item.explains(name, case.version) for item in known)
    }
    assert unexplained == {}
    readers = {path.name: path.read_text() for path in ours.rglob("*.h") if path.name != "pyconfig.h"}
    for name in found:
        read_by = {file for file, text in readers.items() if re.search(rf"\b{name}\b", text)}
        allowed = {file for item in known if item.explains(name, case.version) for file in item.read_by}
        assert read_by <= allowed, f"{name} is read by more than pythons.toml says"


@pytest.mark.long
def test_every_explanation_explains_something(headers: Callable[[Case], RunStep], make: Make, catalog: Catalog) -> None:
    seen: set[tuple[str, str]] = set()
    for param in CASES:
        (case,) = param.values
        assert isinstance(case, Case)
        step, sysroot = headers(case), sysroot_step(catalog, case.sysroot, ARCH)
        made = make(step, sysroot)
        ours = made[step.key] / f"usr/include/python{case.series}/pyconfig.h"
        theirs = made[sysroot.key] / f"usr/include/{TRIPLET}/python{case.series}/pyconfig.h"
        seen |= {(name, case.version) for name in differing(ours, theirs)}
    for item in catalog.pythons.differences:
        for pattern in item.macros:
            alone = item.model_copy(update={"macros": (pattern,)})
            assert any(alone.explains(*one) for one in seen), f"{pattern} differs nowhere"


# --- an extension ----------------------------------------------------------------------------------------------------


def extension_step(step: RunStep, case: Case) -> RunStep:
    """Compiles the extension with the headers alone, by the compiler that configured them."""
    source = FilesStep(name="the extension", files={"probe.c": RenderedFile(text=(HERE / "probe.c").read_text())})
    include = f"-I/python-headers/usr/include/python{case.series}"
    command = (
        "/toolchain/bin/cc",
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-Werror",
        include,
        "probe.c",
        "-o",
        "/build/out/probe.so",
    )
    return replace(
        step,
        name=f"compile an extension for CPython {case.version}",
        inputs={
            **{role: step.inputs[role] for role in ("builder", "sysroot", "toolchain")},
            "source": source,
            "headers": step,
        },
        commands=(command,),
        env={"PATH": "/usr/bin:/bin"},
        cwd="/build/src",
        mounts={"sysroot": "/sysroot", "toolchain": "/toolchain", "headers": "/python-headers"},
        copies={"source": "/build/src"},
        outputs=("probe.so",),
    )


@pytest.fixture
def emulated(make: Make, catalog: Catalog, tmp_path: Path) -> Iterator[Callable[[Case, Path], Ended]]:
    """Runs ``headers/try.py`` in Debian's own Python, on the emulated target."""

    def run(case: Case, extension: Path) -> Ended:
        root = target_root_step(catalog, case.sysroot, ARCH, case.series)
        emulator = emulator_step(catalog)
        made = make(root, emulator)
        settings = read_settings()
        (tmp_path / "out").mkdir()
        job = Job(
            key="0" * 64,
            out=tmp_path / "out",
            work=tmp_path,
            settings=settings,
            log=lambda _line: None,
            cancelled=threading.Event(),
        )
        argv = (
            f"{EMULATOR}/qemu-{ARCH}-static",
            "-cpu",
            "cortex-a53",
            f"/usr/bin/python{case.series}",
            "-B",
            "/probe/try.py",
        )
        mounts = (
            emulator_mount(made[emulator.key], ARCH),
            Mount(source=HERE, target="/probe"),
            Mount(source=extension, target="/extension"),
        )
        return run_emulated(
            Process(argv=argv, env={"PYTHONPATH": "/extension", "LANG": "C.UTF-8"}, cwd="/", timeout=120),
            Place(root=made[root.key], root_key=root.key, mounts=mounts),
            job,
            sandbox_for(settings),
        )

    yield run


@of_each
def test_an_extension_works_in_debians_own_python(
    case: Case,
    headers: Callable[[Case], RunStep],
    make: Make,
    emulated: Callable[[Case, Path], Ended],
) -> None:
    step = extension_step(headers(case), case)
    out = make(step)[step.key]
    facts = read_elf("probe.so", (out / "probe.so").read_bytes())
    assert facts.machine_name == ARCH
    assert set(facts.needed) <= {"libc.so.6", "libpthread.so.0"}
    ended = emulated(case, out)
    assert ended.status == 0, ended.lines
    assert ended.lines[-1].startswith(f"works with CPython {case.series}.")


BUILDS = (
    pytest.param(MAIN, ("wrapt", "--target", "nanopi-m4"), id="setuptools"),
    pytest.param(MAIN, ("dm-tree", "--target", "nanopi-m4"), id="bazel", marks=pytest.mark.long),
    pytest.param(NEWER, ("dm-tree", "--version", "0.1.9", "--target", "rpi4"), id="cmake", marks=pytest.mark.long),
)


@pytest.mark.parametrize(("case", "words"), BUILDS)
def test_a_wheel_is_built_and_proved_with_them(
    case: Case, words: tuple[str, ...], without_packages: CommandLine, tmp_path: Path
) -> None:
    """A build whose sysroot has no package of Python's headers: its wheel passes in Debian's own Python."""
    done = without_packages("build", *words, "--out", tmp_path, "--json", seconds=1700)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["proof"]["passed"]
    keys = {step["name"]: step["key"] for step in answer["steps"]}
    assert f"headers of CPython {case.version} for {case.sysroot} aarch64" in keys
    sysroot = Store(read_settings().store).path(keys[f"assemble sysroot {case.sysroot} aarch64"]) / "out"
    assert not (sysroot / f"usr/include/python{case.series}/Python.h").exists()


@pytest.mark.long
def test_an_interpreter_is_compiled_where_the_builder_has_none(catalog: Catalog, make: Make) -> None:
    """The builder of Debian 11 has no 3.11."""
    step = headers_step(catalog, catalog.cpython("3.11.2"), ARCH, MAIN.sysroot, MAIN.toolchain)
    out = make(step)[step.key]
    assert len(list((out / "usr/lib/python3.11").glob("_sysconfigdata*.py"))) == 1
    found = macros(out / "usr/include/python3.11/pyconfig.h")
    assert (found["HAVE_WORKING_TZSET"], found["HAVE_ALIGNED_REQUIRED"], found["SIZEOF_LONG"]) == ("1", "", "8")


# --- the command -----------------------------------------------------------------------------------------------------


def test_headers_are_left_in_a_folder(without_packages: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "headers"
    answer = without_packages.json("headers", "3.9", "--target", "nanopi-m4", "--out", out)
    assert answer["cpython"] == MAIN.version
    include = Path(answer["include"])
    assert include == out / "usr/include/python3.9"
    assert (include / "pyconfig.h").is_file()
    assert (out / f"usr/include/{TRIPLET}/python3.9").is_symlink()
    again = without_packages("headers", "3.9", "--target", "nanopi-m4", "--out", out)
    assert again.returncode == 2
    assert "this folder is not empty" in again.stderr


def test_a_source_of_another_series_is_told_before_configure_runs(make: Make, catalog: Catalog, tmp_path: Path) -> None:
    """By our own sentence, in a second."""
    (tmp_path / "configure").write_text("PACKAGE_NAME='python'\nPACKAGE_TARNAME='python'\nPACKAGE_VERSION='3.8'\n")
    step = headers_step(catalog, catalog.cpython(MAIN.version), ARCH, MAIN.sysroot, MAIN.toolchain)
    from crosswheel.digest import sha256_tree

    local = LocalStep(name="take it", path=str(tmp_path), sha256=sha256_tree(tmp_path), folder=True)
    other = replace(step, inputs={**step.inputs, "source": TreeStep(name="unpack it", inputs={"archive": local})})
    with pytest.raises(CrosswheelError) as caught:
        make(other)
    assert isinstance(caught.value, StepError)
    assert "its configure is that of 3.8, not that of 3.9" in str(caught.value)


def test_without_a_hard_answer_the_command_says_so(checkout: CommandLine, tmp_path: Path) -> None:
    site = checkout.root / "sysroots/config.site/cpython"
    site.write_text(site.read_text().replace("ac_cv_file__dev_ptmx=yes\n", ""))
    done = checkout("headers", "3.9", "--target", "nanopi-m4", "--out", tmp_path / "out")
    assert done.returncode == DataError.exit_code
    assert "ac_cv_file__dev_ptmx" in done.stderr
    assert "sysroots/config.site/cpython" in done.stderr
    assert "cannot check for file existence when cross compiling" in done.stderr
