"""Packages whose ``setup.py`` calls Bazel, which reads our ``.bazelrc`` from the build's home folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import TOOLS, Compilation
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.toolchains import BAZEL_CPU, BUILD, HOST_ARCH, bazel_files

_JAVA_HEAP_MIB = 1024
_SIZED = f"{BUILD}/machine/bazelrc"
"""The part of the ``.bazelrc`` that depends on the machine."""


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """The toolchains as a repository, and a ``.bazelrc`` that overrides every repository Bazel would download."""
    tool = resolution.bazel
    build = resolution.release.bazel
    assert tool is not None and build is not None, "resolution gives a Bazel to every release that is built by it"
    toolchain = values["toolchain"]
    repositories = (*build.repositories, *tool.repositories)
    overrides = {
        "crosswheel": toolchain,
        **{name: f"{toolchain}/repositories/{name}" for name in ("python_headers", *repositories)},
        **externals,
    }
    bazelrc = renderer.render(
        "bazel/bazelrc.j2",
        {
            "output_base": f"{BUILD}/bazel/base",
            "output_user_root": f"{BUILD}/bazel",
            "java_heap_mib": _JAVA_HEAP_MIB,
            "overrides": sorted(overrides.items()),
            "style": tool.style,
            "target_cpu": BAZEL_CPU[values["arch"]],
            "host_cpu": BAZEL_CPU[HOST_ARCH],
            "flags": [*tool.flags, *build.flags],
            "sized": _SIZED,
        },
    )
    return Compilation(
        files=bazel_files(renderer, values, tool.style, repositories),
        home={".bazelrc": RenderedFile(text=bazelrc)},
        # Bazel refuses to run without a user name; the container's user has no entry in /etc/passwd.
        env={"USER": "crosswheel"},
        sized_files={_SIZED: "".join(f"build {flag}\n" for flag in tool.sized)},
        path=(f"{TOOLS}/bazel",),
    )
