"""Releases that build themselves by commands of their own, which the written data names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import OUT, TOOLS, Compilation, filled
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.toolchains import BAZEL_CPU, HOST_ARCH, bazel_files


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """The compilers by ``CC`` and ``CXX``, and, for a release that runs a Bazel of its own, the toolchains that it is
    to be told of."""
    build = resolution.release.script
    assert build is not None, "the models give commands to every release that is built by them"
    output = build.outputs[resolution.output]
    toolchain = values["toolchain"]
    words = {
        "{out}": OUT,
        "{tools}": TOOLS,
        "{toolchain}": toolchain,
        "{cpu}": BAZEL_CPU[values["arch"]],
        "{host_cpu}": BAZEL_CPU[HOST_ARCH],
    }
    return Compilation(
        files=bazel_files(renderer, values, build.bazel) if build.bazel else {},
        env={
            "CC": f"{toolchain}/bin/cc",
            "CXX": f"{toolchain}/bin/c++",
            **{name: filled(text, words) for name, text in output.env.items()},
        },
        commands=tuple(tuple(filled(word, words) for word in command) for command in output.commands),
    )
