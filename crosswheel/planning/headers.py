"""The steps that make a Python's headers for a target of CPython's own source.

CPython's configure compiles for the target, and is told by ``CONFIG_SITE`` what it would find out by running programs
there. The target's interpreter is neither built nor run.
"""

from __future__ import annotations

from collections.abc import Mapping

from crosswheel.planning.backends import OUT, SOURCE_DATE_EPOCH, filled
from crosswheel.planning.render import renderer_of
from crosswheel.planning.roots import builder_step, sysroot_step
from crosswheel.planning.sources import LocalSource, fetch_step
from crosswheel.planning.steps import FilesStep, LocalStep, RenderedFile, RunStep, Step, TreeStep
from crosswheel.planning.toolchains import (
    BUILD,
    HOST_ARCH,
    SYSROOT,
    TOOLCHAIN,
    Paths,
    toolchain_files,
    triplet,
    values_of,
)
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.config_site import answers_for
from crosswheel.spec.pythons import CPython, Machine
from crosswheel.spec.targets import Cpu, System

_SOURCE = "/source"
_INTERPRETER = "/interpreter"
_OBJECTS = f"{BUILD}/objects"
_CONFIG_SITE = "headers/config.site"
_CHECK = "headers/check.py"
_NAMES = "names"
"""Where the compilers have the names that configure looks for, and that stand in ``_sysconfigdata`` afterwards, as in a
distribution's own: no folder of a build is to."""

_TOOLS: Mapping[str, str] = {
    "gcc": "cc",
    "g++": "c++",
    **{name: name for name in ("ar", "pkg-config", "ranlib", "readelf")},
}
_PARTS = ("bin/", "lib/", "host/bin/")
"""The toolchain's files that compiling C depends on. The processor's flags do not change what configure finds, so all
processors of a sysroot share headers."""


def headers_step(
    catalog: Catalog,
    cpython: CPython,
    arch: Arch,
    sysroot: str,
    toolchain: str,
    given: LocalSource | None = None,
) -> RunStep:
    """The headers of a CPython for ``arch``, configured with the compilers of a toolchain against a sysroot. ``given``
    is the source that the user gave.

    Result: ``usr/include/pythonX.Y``, ``usr/lib/pythonX.Y/_sysconfigdata*.py``, and the link
    ``usr/include/<triplet>/pythonX.Y``, by which Debian's headers find the ``pyconfig.h`` of an architecture.
    """
    series, host = cpython.series, triplet(arch)
    answers = answers_for(catalog, cpython, Machine(arch, catalog.sysroot(sysroot).floors.GLIBC))
    chain = catalog.toolchain(toolchain)
    own = series not in chain.pythons
    interpreter = f"{_INTERPRETER}/bin/python{series}" if own else f"/usr/bin/python{series}"
    source = _source_tree(cpython, given)
    builder = builder_step(catalog, toolchain, arch)
    inputs: dict[str, Step] = {
        "builder": builder,
        "sysroot": sysroot_step(catalog, sysroot, arch),
        "toolchain": _toolchain(catalog, System(python=series, sysroot=sysroot, toolchain=toolchain), arch, answers),
        "source": source,
    }
    mounts = {"sysroot": SYSROOT, "toolchain": TOOLCHAIN, "source": _SOURCE}
    if own:
        inputs["interpreter"] = _interpreter_step(catalog, cpython, source, builder, chain.gcc)
        mounts["interpreter"] = _INTERPRETER
    site = f"{TOOLCHAIN}/{_CONFIG_SITE}"
    words = {"{interpreter}": interpreter}
    arguments = [filled(word, words) for word in catalog.pythons.arguments_for(cpython.version)]
    return RunStep(
        name=f"headers of CPython {cpython.version} for {sysroot} {arch}",
        inputs=inputs,
        commands=(
            ("python3", f"{TOOLCHAIN}/{_CHECK}", f"{_SOURCE}/configure", site, series, interpreter),
            # The two machines have different names where they are of one architecture, too: nothing is to be run.
            (f"{_SOURCE}/configure", f"--host={host}", "--build=x86_64-pc-linux-gnu", "--prefix=/usr", *arguments),
            *_taking(series, host),
        ),
        env={
            "PATH": f"{TOOLCHAIN}/{_NAMES}:{_INTERPRETER}/bin:/usr/bin:/bin",
            "CONFIG_SITE": site,
            "CC": f"{host}-gcc",
            "CXX": f"{host}-g++",
            "READELF": f"{host}-readelf",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        },
        cwd=_OBJECTS,
        mounts=mounts,
        copies={},
        outputs=(f"usr/include/python{series}/pyconfig.h", f"usr/lib/python{series}/_sysconfigdata*.py"),
    )


def _taking(series: str, host: str) -> tuple[tuple[str, ...], ...]:
    """The commands that leave the headers and ``_sysconfigdata`` in the result, and nothing else."""
    headers, library = f"/usr/include/python{series}", f"{OUT}/usr/lib/python{series}"
    # 3.5 to 3.7 have their headers in a folder with the ABI's letter (PEP 3149).
    more = (f"python{series}m",) if series in ("3.5", "3.6", "3.7") else ()
    return (
        ("mkdir", "-p", library, f"{OUT}/usr/include/{host}"),
        ("make", "inclinstall", f"DESTDIR={OUT}", f"INCLUDEPY={headers}", f"CONFINCLUDEPY={headers}"),
        # Up to 3.10 this would compile the target's interpreter; the builder's runs in its place, as configure has it
        # from PYTHON_FOR_BUILD with all that it is told in _PYTHON_* variables.
        ("make", "pybuilddir.txt", "--old-file=python"),
        ("find", "build", "-name", "_sysconfigdata*.py", "-exec", "cp", "-t", library, "{}", "+"),
        ("ln", "-s", f"../python{series}", f"{OUT}/usr/include/{host}/python{series}"),
        *(("ln", "-s", f"python{series}", f"{OUT}/usr/include/{name}") for name in more),
        *(("ln", "-s", f"../python{series}", f"{OUT}/usr/include/{host}/{name}") for name in more),
    )


def _source_tree(cpython: CPython, given: LocalSource | None) -> TreeStep:
    archive: Step = fetch_step(cpython)
    if given:
        name = f"take CPython {cpython.version}"
        archive = LocalStep(name=name, path=given.path, sha256=given.sha256, folder=given.folder)
    return TreeStep(name=f"unpack CPython {cpython.version}", inputs={"archive": archive})


def _toolchain(catalog: Catalog, system: System, arch: Arch, answers: Mapping[str, str]) -> FilesStep:
    renderer = renderer_of(catalog)
    any_cpu = Cpu(name="any", arch=arch, flags=(), qemu="", source="")
    values = values_of(system, catalog.toolchain(system.toolchain), any_cpu, arch, Paths())
    files = {path: file for path, file in toolchain_files(renderer, values).items() if path.startswith(_PARTS)}
    for name, tool in _TOOLS.items():
        files[f"{_NAMES}/{triplet(arch)}-{name}"] = RenderedFile(text=f"../bin/{tool}", link=True)
    lines = [f"{key}={value}\n" for key, value in sorted(answers.items())]
    files[_CONFIG_SITE] = RenderedFile(text="".join(lines))
    files[_CHECK] = RenderedFile(text=renderer.render(f"{_CHECK}.j2", {}))
    return FilesStep(name=f"render toolchain for headers of CPython {system.python} {arch}", files=files)


def _interpreter_step(catalog: Catalog, cpython: CPython, source: Step, builder: Step, gcc: str) -> RunStep:
    """An interpreter that runs in the builder, where that has none of the series: enough of it to write down what
    configure found, which is Python's own to do."""
    series = cpython.series
    library = f"{OUT}/lib/python{series}"
    native = [word for word in catalog.pythons.arguments_for(cpython.version) if "{" not in word]
    return RunStep(
        name=f"compile CPython {cpython.version} for the builder",
        inputs={"builder": builder, "source": source},
        commands=(
            (f"{_SOURCE}/configure", *(word for word in native if word != "--enable-shared")),
            ("make", "python"),
            # Its own description: site.py of 3.6 and before does not start without it.
            ("make", "pybuilddir.txt"),
            ("mkdir", "-p", f"{OUT}/bin", f"{library}/lib-dynload"),
            ("cp", "python", f"{OUT}/bin/python{series}"),
            ("cp", "-r", f"{_SOURCE}/Lib/.", library),
            ("find", "build", "-name", "_sysconfigdata*.py", "-exec", "cp", "-t", library, "{}", "+"),
            ("rm", "-rf", f"{library}/test"),
        ),
        env={
            "PATH": "/usr/bin:/bin",
            "CC": f"/usr/bin/{triplet(HOST_ARCH)}-gcc-{gcc}",
            # It runs for a second: compiling it quickly is worth more.
            "CFLAGS": "-O0",
            "SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH,
        },
        cwd=_OBJECTS,
        mounts={"source": _SOURCE},
        copies={},
        outputs=(f"bin/python{series}",),
        sized_env={"MAKEFLAGS": "-j{jobs}"},
    )
