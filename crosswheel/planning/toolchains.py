"""Renders the files that tell compilers, Bazel, CMake, Meson and setuptools about a target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from crosswheel.planning.render import Renderer
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.wrappers import host_wrapper, target_wrapper
from crosswheel.spec.models import Arch, Cpu, System, Toolchain

SYSROOT = "/sysroot"
TOOLCHAIN = "/toolchain"
BUILD = "/build"
EXTERNALS = "/externals"
REQUIRES = "/requires"

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
    """Where the sysroot and the rendered files are seen by the build."""

    sysroot: str = SYSROOT
    toolchain: str = TOOLCHAIN


def triplet(arch: Arch) -> str:
    """Debian's multiarch tuple, which is also the prefix of its cross compilers."""
    return f"{arch}-linux-gnu"


def values_of(system: System, toolchain: Toolchain, cpu: Cpu, arch: Arch, paths: Paths) -> dict[str, Any]:
    """What the templates know of a target."""
    cross = "" if arch == HOST_ARCH else "-cross"
    return {
        "arch": arch,
        "triplet": triplet(arch),
        "gcc": toolchain.gcc,
        "gcc_lib": f"/usr/lib/gcc{cross}/{triplet(arch)}/{toolchain.gcc}",
        "python": system.python,
        "soabi": f"cpython-{system.python.replace('.', '')}-{triplet(arch)}",
        "sysconfigdata": "_sysconfigdata__crosswheel",
        "cpu_flags": list(cpu.flags),
        "sysroot": paths.sysroot,
        "toolchain": paths.toolchain,
        # No path of the build is to reach the wheel, by __FILE__ or by debug information.
        "prefix_map": [(BUILD, "."), (EXTERNALS, "external"), (REQUIRES, "requires"), (paths.sysroot, "")],
    }


def toolchain_files(renderer: Renderer, values: Mapping[str, Any]) -> dict[str, RenderedFile]:
    """The files below the toolchain's folder that every backend shares: path → file."""
    files: dict[str, RenderedFile] = {}

    def put(path: str, template: str, *, executable: bool = False, **more: Any) -> None:
        files[path] = RenderedFile(text=renderer.render(template, {**values, **more}), executable=executable)

    prefix, gcc = values["triplet"], values["gcc"]
    for name, driver in (("cc", "gcc"), ("c++", "g++")):
        target = target_wrapper(values, name, f"/usr/bin/{prefix}-{driver}-{gcc}")
        host = host_wrapper(values, name, f"/usr/bin/{triplet(HOST_ARCH)}-{driver}-{gcc}")
        put(f"bin/{name}", "wrappers/compiler.sh.j2", executable=True, wrapper=target)
        put(f"host/bin/{name}", "wrappers/compiler.sh.j2", executable=True, wrapper=host)
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


def bazel_files(
    renderer: Renderer, values: Mapping[str, Any], style: str, repositories: Iterable[str] = ()
) -> dict[str, RenderedFile]:
    """The C++ toolchains of the target and of the host, as a Bazel repository called ``crosswheel``.

    ``style`` is ``crosstool`` (a CROSSTOOL text file, up to Bazel 0.24) or ``starlark`` (``cc_toolchain_config``).
    ``repositories`` are rendered below ``repositories/``, where that of the target's Python headers lies as well.
    """
    sides = [_target_side(values), _host_side(values)]
    more = {**values, **_FLAGS, "sides": sides}
    templates = {
        "crosstool": {"BUILD": "crosstool/BUILD.j2", "CROSSTOOL": "crosstool/CROSSTOOL.j2"},
        "starlark": {
            "BUILD": "starlark/BUILD.j2",
            "cc_toolchain_config.bzl": "starlark/cc_toolchain_config.bzl.j2",
        },
    }[style]
    files = {f"{style}/{name}": RenderedFile(text=renderer.render(t, more)) for name, t in templates.items()}
    files["WORKSPACE"] = RenderedFile(text=renderer.render("externals/WORKSPACE.j2", {"name": "crosswheel"}))
    files["BUILD"] = RenderedFile(text="")
    headers = "repositories/python_headers"
    files[f"{headers}/BUILD.bazel"] = RenderedFile(text=renderer.render("externals/python_headers.BUILD.j2", {}))
    files[f"{headers}/WORKSPACE"] = RenderedFile(
        text=renderer.render("externals/WORKSPACE.j2", {"name": "python_headers"})
    )
    files[f"{headers}/include"] = RenderedFile(
        text=f"{values['sysroot']}/usr/include/python{values['python']}", link=True
    )
    for repository in repositories:
        for template in renderer.catalog.template_files(f"repositories/{repository}"):
            files[template] = RenderedFile(text=renderer.render(template, values))
    return files


def _target_side(values: Mapping[str, Any]) -> dict[str, Any]:
    folder = f"{values['toolchain']}/bin"
    return {
        "name": "target",
        "bazel_cpu": BAZEL_CPU[values["arch"]],
        "triplet": values["triplet"],
        "tools": _tools(f"{folder}/cc", f"{folder}/"),
        "include_dirs": [
            f"{values['sysroot']}/usr/include",
            f"{values['sysroot']}/usr/local/include",
            f"{values['gcc_lib']}/include",
        ],
    }


def _host_side(values: Mapping[str, Any]) -> dict[str, Any]:
    prefix = triplet(HOST_ARCH)
    return {
        "name": "host",
        "bazel_cpu": BAZEL_CPU[HOST_ARCH],
        "triplet": prefix,
        "tools": _tools(f"{values['toolchain']}/host/bin/cc", f"/usr/bin/{prefix}-"),
        "include_dirs": [
            "/usr/include",
            "/usr/local/include",
            f"/usr/lib/gcc/{prefix}/{values['gcc']}/include",
        ],
    }


def _tools(compiler: str, prefix: str) -> list[tuple[str, str]]:
    """Bazel's names of the tools; what no build of ours uses points to a program that fails."""
    plain = [(name, prefix + name) for name in ("ar", "ld", "nm", "objcopy", "objdump", "strip")]
    unused = [("gcov", "/bin/false"), ("dwp", "/bin/false"), ("compat-ld", prefix + "ld")]
    return [("gcc", compiler), ("cpp", compiler), *plain, *unused]
