"""Renders the files that tell compilers, Bazel, CMake, Meson and setuptools about a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crosswheel.planning.render import Renderer
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.wrappers import Cuda, for_cuda, host_wrapper, target_wrapper
from crosswheel.spec.base import Arch
from crosswheel.spec.targets import Cpu, System, Toolchain

SYSROOT = "/sysroot"
TOOLCHAIN = "/toolchain"
BUILD = "/build"
EXTERNALS = "/externals"
REQUIRES = "/requires"
PYTHON_HEADERS = "/python-headers"

HOST_ARCH: Arch = "x86_64"
"""The architecture of the builders."""

DEB_ARCH: Mapping[Arch, str] = {"aarch64": "arm64", "x86_64": "amd64"}
"""Debian's name of an architecture (https://wiki.debian.org/Multiarch/Tuples)."""

BAZEL_CPU: Mapping[Arch, str] = {"aarch64": "aarch64", "x86_64": "k8"}
"""Bazel's ``--cpu`` (``CPU.java`` of Bazel: k8 is x86_64 on Linux)."""

_LONG_DOUBLE: Mapping[Arch, str] = {"aarch64": "IEEE_QUAD_LE", "x86_64": "INTEL_EXTENDED_16_BYTES_LE"}
"""numpy's Meson property ``longdouble_format`` (numpy/meson.build: it cannot be found out without running)."""

_TOOLS = ("ar", "as", "ld", "nm", "objcopy", "objdump", "ranlib", "readelf", "strip")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the sysroot and the rendered files are seen by the build. ``python`` is a root of its own with the headers
    of the target's Python, where they are not in the sysroot."""

    sysroot: str = SYSROOT
    toolchain: str = TOOLCHAIN
    python: str = ""


def triplet(arch: Arch) -> str:
    """Debian's multiarch tuple, which is also the prefix of its cross compilers."""
    return f"{arch}-linux-gnu"


def values_of(
    system: System, toolchain: Toolchain, cpu: Cpu, arch: Arch, paths: Paths, cuda: Cuda | None = None
) -> dict[str, Any]:
    """What the templates know of a target. With ``cuda``, its compilers have a flavour for it beside the plain one."""
    cross = "" if arch == HOST_ARCH else "-cross"
    return {
        "arch": arch,
        "triplet": triplet(arch),
        "gcc": toolchain.gcc,
        "gcc_headers": _gcc_headers(f"/usr/lib/gcc{cross}/{triplet(arch)}/{toolchain.gcc}", toolchain.gcc),
        "python": system.python,
        "soabi": f"cpython-{system.python.replace('.', '')}{_letter(system.python)}-{triplet(arch)}",
        # Since 3.6 sysconfig takes the name from _PYTHON_SYSCONFIGDATA_NAME.
        "sysconfigdata": "_sysconfigdata" if system.python == "3.5" else "_sysconfigdata__crosswheel",
        "python_before_argv": system.python in ("3.5", "3.6", "3.7"),
        "cpu_flags": list(cpu.flags),
        "cuda": cuda,
        "sysroot": paths.sysroot,
        "python_root": paths.python or paths.sysroot,
        "python_described": _described(system.python, triplet(arch), upstream=bool(paths.python)),
        "toolchain": paths.toolchain,
        # No path of the build is to reach the wheel, by __FILE__ or by debug information.
        "prefix_map": [(BUILD, "."), (EXTERNALS, "external"), (REQUIRES, "requires"), (paths.sysroot, "")]
        + ([(paths.python, "")] if paths.python else []),
    }


def _gcc_headers(folder: str, gcc: str) -> list[str]:
    """The folders of gcc's own headers, below the one of its version. To gcc 9 ``limits.h`` has a folder of its own, as
    the packages of Ubuntu and Debian show."""
    return [f"{folder}/include", *([f"{folder}/include-fixed"] if int(gcc.partition(".")[0]) < 10 else [])]


def _letter(python: str) -> str:
    """``m`` in the names of what Pythons from 3.3 to 3.7 load (PEP 3149)."""
    return "m" if python.startswith("3.") and int(python.partition(".")[2]) < 8 else ""


def _described(python: str, host: str, *, upstream: bool) -> str:
    """The module in which a Python says how it was built, as Debian and Ubuntu call it, or as ``upstream`` does:
    ``sysconfig.py`` of 3.5 has no machine in the name, that of 3.6 on has the ABI's letter as well."""
    minor = int(python.partition(".")[2])
    if not upstream and python == "3.5":
        return f"plat-{host}/_sysconfigdata_m"  # libpython3.5-stdlib of Ubuntu 16.04
    if not upstream and (python.startswith("2.") or minor >= 8):
        return f"_sysconfigdata__{host}"
    if python.startswith("2.") or minor < 6:
        return "_sysconfigdata"
    return f"_sysconfigdata_{'m' if minor < 8 else ''}_linux_{host}"


def toolchain_files(renderer: Renderer, values: Mapping[str, Any]) -> dict[str, RenderedFile]:
    """The files below the toolchain's folder that every backend shares: path → file."""
    # All values are texts, and lists and tables of texts, so what is written of them tells them apart.
    return renderer.catalog.once("toolchain", repr(values), lambda: _toolchain_files(renderer, values))


def _toolchain_files(renderer: Renderer, values: Mapping[str, Any]) -> dict[str, RenderedFile]:
    files: dict[str, RenderedFile] = {}

    def put(path: str, template: str, *, executable: bool = False, **more: Any) -> None:
        files[path] = RenderedFile(text=renderer.render(template, {**values, **more}), executable=executable)

    prefix, gcc, cuda = values["triplet"], values["gcc"], values["cuda"]
    for name, driver in (("cc", "gcc"), ("c++", "g++")):
        target = target_wrapper(values, name, f"/usr/bin/{prefix}-{driver}-{gcc}")
        host = host_wrapper(values, name, f"/usr/bin/{triplet(HOST_ARCH)}-{driver}-{gcc}")
        for folder, wrapper in (("", target), ("host/", host)):
            put(f"{folder}bin/{name}", "wrappers/compiler.sh.j2", executable=True, wrapper=wrapper)
            if cuda:
                flavour = for_cuda(wrapper, cuda, values["toolchain"], host=bool(folder))
                put(f"{folder}bin/cuda/{name}", "wrappers/compiler.sh.j2", executable=True, wrapper=flavour)
                put(f"{folder}bin/cuda/nvcc", "wrappers/nvcc.sh.j2", executable=True, wrapper=flavour.cuda)
    if cuda:
        put("lib/nvcc.awk", "wrappers/nvcc.awk.j2", standard=cuda.standard)
    put("lib/arguments.awk", "wrappers/arguments.awk.j2")
    for tool in _TOOLS:
        put(f"bin/{tool}", "wrappers/tool.sh.j2", executable=True, tool=f"/usr/bin/{prefix}-{tool}")
    put("bin/pkg-config", "wrappers/pkg-config.sh.j2", executable=True)
    put("bin/python3", "wrappers/python.sh.j2", executable=True)
    put("lib/target.specs", "wrappers/target.specs.j2")
    put(f"python/{values['sysconfigdata']}.py", "python/sysconfigdata.py.j2")
    put("python/sitecustomize.py", "python/sitecustomize.py.j2")
    put("cmake/toolchain.cmake", "cmake/toolchain.cmake.j2", externals={})
    put(
        "meson/cross.ini",
        "meson/cross.ini.j2",
        properties={"longdouble_format": _LONG_DOUBLE[values["arch"]]},
    )
    return files


# --- Bazel -----------------------------------------------------------------------------------------------------------

_FLAGS: Mapping[str, tuple[str, ...]] = {
    "compile_flags": ("-U_FORTIFY_SOURCE", "-fstack-protector", "-Wall", "-fno-omit-frame-pointer"),
    "cxx_flags": ("-std=c++14",),
    # Without the first, overridden repositories give "undeclared inclusion(s)"; the rest keeps the time out.
    "unfiltered_flags": (
        "-fno-canonical-system-headers",
        "-Wno-builtin-macro-redefined",
        '-D__DATE__="redacted"',
        '-D__TIMESTAMP__="redacted"',
        '-D__TIME__="redacted"',
    ),
    # TensorFlow gives -ltensorflow_framework before the archives that want it, where a linker that takes a shared
    # library only as needed leaves it out: Debian's gcc 12 and later ask for that (`gcc -dumpspecs`).
    "first_link_flags": ("-Wl,--no-as-needed",),
    "link_flags": ("-lstdc++", "-lm", "-Wl,-z,relro,-z,now", "-pass-exit-codes"),
    "opt_compile_flags": (
        "-g0",
        "-O2",
        "-D_FORTIFY_SOURCE=1",
        "-DNDEBUG",
        "-ffunction-sections",
        "-fdata-sections",
    ),
    "opt_link_flags": ("-Wl,--gc-sections",),
}


_TEMPLATES: Mapping[str, Mapping[str, str]] = {
    "crosstool": {"BUILD": "crosstool/BUILD.j2", "CROSSTOOL": "crosstool/CROSSTOOL.j2"},
    "starlark": {
        "BUILD": "starlark/BUILD.j2",
        "cc_toolchain_config.bzl": "starlark/cc_toolchain_config.bzl.j2",
    },
    "platforms": {
        "BUILD": "platforms/BUILD.j2",
        "cc_toolchain_config.bzl": "starlark/cc_toolchain_config.bzl.j2",
    },
}


def bazel_files(
    renderer: Renderer, values: Mapping[str, Any], style: str, repositories: Iterable[str] = ()
) -> dict[str, RenderedFile]:
    """The C++ toolchains of the target and of the host, as a Bazel repository called ``crosswheel``.

    ``style`` is ``crosstool`` (a CROSSTOOL text file, up to Bazel 0.24), ``starlark`` (``cc_toolchain_config``, chosen
    by ``--crosstool_top`` and ``--compiler``) or ``platforms`` (chosen by ``--platforms``, from Bazel 7 on).
    ``repositories`` are rendered below ``repositories/``, where that of the target's Python headers lies as well.
    """
    brought = tuple(repositories)
    of = (repr(values), style, brought)
    return renderer.catalog.once("Bazel's toolchain", of, lambda: _bazel_files(renderer, values, style, brought))


def _bazel_files(
    renderer: Renderer, values: Mapping[str, Any], style: str, repositories: Iterable[str]
) -> dict[str, RenderedFile]:
    more = {**values, **_FLAGS, "sides": [_target_side(values), _host_side(values)]}
    files = {
        f"{style}/{name}": RenderedFile(text=renderer.render(template, more))
        for name, template in _TEMPLATES[style].items()
    }
    files["WORKSPACE"] = RenderedFile(text=renderer.render("externals/WORKSPACE.j2", {"name": "crosswheel"}))
    files["BUILD"] = RenderedFile(text="")
    headers = "repositories/python_headers"
    files[f"{headers}/BUILD.bazel"] = RenderedFile(text=renderer.render("externals/python_headers.BUILD.j2", {}))
    files[f"{headers}/WORKSPACE"] = RenderedFile(
        text=renderer.render("externals/WORKSPACE.j2", {"name": "python_headers"})
    )
    files[f"{headers}/include"] = RenderedFile(
        text=f"{values['python_root']}/usr/include/python{values['python']}", link=True
    )
    for repository in repositories:
        for template in renderer.catalog.template_files(f"repositories/{repository}"):
            files[template] = RenderedFile(text=renderer.render(template, values))
    return files


def _target_side(values: Mapping[str, Any]) -> dict[str, Any]:
    folder = f"{values['toolchain']}/bin"
    headers = [
        f"{values['sysroot']}/usr/include",
        f"{values['sysroot']}/usr/local/include",
        *values["gcc_headers"],
    ]
    if values["python_root"] != values["sysroot"]:
        headers.append(f"{values['python_root']}/usr/include")
    cuda: Cuda | None = values["cuda"]
    return {
        "name": "target",
        "arch": values["arch"],
        "bazel_cpu": BAZEL_CPU[values["arch"]],
        "triplet": values["triplet"],
        "flavours": _flavours("target", folder, f"{folder}/", headers, cuda, cuda.target_headers if cuda else ()),
    }


def _host_side(values: Mapping[str, Any]) -> dict[str, Any]:
    prefix = triplet(HOST_ARCH)
    folder = f"{values['toolchain']}/host/bin"
    headers = [
        "/usr/include",
        "/usr/local/include",
        *_gcc_headers(f"/usr/lib/gcc/{prefix}/{values['gcc']}", values["gcc"]),
    ]
    cuda: Cuda | None = values["cuda"]
    return {
        "name": "host",
        "arch": HOST_ARCH,
        "bazel_cpu": BAZEL_CPU[HOST_ARCH],
        "triplet": prefix,
        "flavours": _flavours("host", folder, f"/usr/bin/{prefix}-", headers, cuda, cuda.host_headers if cuda else ()),
    }


def _flavours(
    name: str, folder: str, prefix: str, headers: list[str], cuda: Cuda | None, more: Iterable[str]
) -> list[dict[str, Any]]:
    """What ``--compiler`` chooses from: ``gcc``, and ``cuda`` where there is a toolkit, whose headers are ``more``."""
    plain = {"id": name, "compiler": "gcc", "tools": _tools(f"{folder}/cc", prefix), "include_dirs": headers}
    if cuda is None:
        return [plain]
    tools = _tools(f"{folder}/cuda/cc", prefix)
    folders = [*headers, *more, *cuda.stand_ins]
    return [plain, {"id": f"{name}-cuda", "compiler": "cuda", "tools": tools, "include_dirs": folders}]


def _tools(compiler: str, prefix: str) -> list[tuple[str, str]]:
    """Bazel's names of the tools; what no build of ours uses points to a program that fails."""
    plain = [(name, prefix + name) for name in ("ar", "ld", "nm", "objcopy", "objdump", "strip")]
    unused = [("gcov", "/bin/false"), ("dwp", "/bin/false"), ("compat-ld", prefix + "ld")]
    return [("gcc", compiler), ("cpp", compiler), *plain, *unused]
