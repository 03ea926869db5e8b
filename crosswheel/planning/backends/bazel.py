"""Packages that Bazel builds: by their ``setup.py``, which calls it, or by their labels. It reads our ``.bazelrc``
from the build's home folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crosswheel.planning.backends import OUT, REPOSITORY_CACHE, TOOLS, Compilation, filled, make_wheel
from crosswheel.planning.fitting import NUMPY
from crosswheel.planning.render import Renderer
from crosswheel.planning.resolve import Resolution
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.toolchains import BAZEL_CPU, BUILD, HOST_ARCH, REQUIRES, bazel_files
from crosswheel.planning.wrappers import Cuda
from crosswheel.spec.releases import BazelBuild
from crosswheel.spec.targets import BazelTool

_SIZED = f"{BUILD}/machine/bazelrc"
"""The part of the ``.bazelrc`` that depends on the machine."""

PYTHON_REPOSITORY = "local_config_python"

CUDA_REPOSITORY = "cuda"

DISK_CACHE = "/cache"
"""Where the results of Bazel's actions are seen, which outlive a build."""


def compilation(
    resolution: Resolution, renderer: Renderer, values: Mapping[str, Any], externals: Mapping[str, str]
) -> Compilation:
    """The toolchains as a repository, and a ``.bazelrc`` that overrides every repository Bazel would download, or names
    the cache that holds its file."""
    tool = resolution.bazel
    build = resolution.release.bazel
    assert tool is not None and build is not None, "resolution gives a Bazel to every release that is built by it"
    toolchain = values["toolchain"]
    repositories = tuple(dict.fromkeys((*build.repositories, *tool.repositories)))
    overrides = {
        "crosswheel": toolchain,
        **{name: f"{toolchain}/repositories/{name}" for name in ("python_headers", *repositories)},
        **externals,
    }
    disk_cache = bool(build.outputs and tool.disk_cache)
    bazelrc = renderer.render(
        "bazel/bazelrc.j2",
        {
            "output_base": f"{BUILD}/bazel/base",
            "output_user_root": f"{BUILD}/bazel",
            "java_heap_mib": build.heap,
            "overrides": sorted(overrides.items()),
            "style": tool.style,
            "compiler": "cuda" if values["cuda"] else "gcc",
            "flavour": "-cuda" if values["cuda"] else "",
            "target_cpu": BAZEL_CPU[values["arch"]],
            "host_cpu": BAZEL_CPU[HOST_ARCH],
            "path": f"{toolchain}/host/path:/usr/bin:/bin",
            "flags": _flags(resolution, tool, build, disk_cache=disk_cache),
            "sized": _SIZED,
        },
    )
    python = f"/usr/bin/python{values['python']}"
    return Compilation(
        files={
            **bazel_files(renderer, values, tool.style, repositories),
            **_python_links(resolution, values, repositories),
            **_cuda_links(values["cuda"], repositories),
            # Bazel's own stubs and many a genrule ask the PATH for `python`.
            "host/path/python": RenderedFile(text=python, link=True),
        },
        home={".bazelrc": RenderedFile(text=bazelrc)},
        # Bazel refuses to run without a user name; the container's user has no entry in /etc/passwd.
        env={"USER": "crosswheel", **_answers(resolution, build, python, toolchain, values["cuda"])},
        sized_files={_SIZED: "".join(f"build {flag}\n" for flag in tool.sized)},
        path=(f"{TOOLS}/bazel", f"{toolchain}/host/path"),
        caches={"bazel": DISK_CACHE} if disk_cache else {},
        commands=_commands(resolution, build, python),
    )


def _python_links(
    resolution: Resolution, values: Mapping[str, Any], repositories: tuple[str, ...]
) -> dict[str, RenderedFile]:
    """The links of the repository ``local_config_python``, which TensorFlow's own rule would make of the builder's
    Python; pure headers, of the target's."""
    if PYTHON_REPOSITORY not in repositories:
        return {}
    sysroot, python = values["sysroot"], values["python"]
    numpy = f"{sysroot}/{resolution.sysroot.pythons[python].numpy_include}"
    if resolution.numpy:
        numpy = f"{REQUIRES}/{NUMPY}/numpy/core/include"
    links = {
        "python_include": f"{values['python_root']}/usr/include/python{python}",
        "numpy_include/numpy": f"{numpy}/numpy",
    }
    folder = f"repositories/{PYTHON_REPOSITORY}"
    return {f"{folder}/{name}": RenderedFile(text=to, link=True) for name, to in links.items()}


def _cuda_links(cuda: Cuda | None, repositories: tuple[str, ...]) -> dict[str, RenderedFile]:
    """The links of the repository ``cuda`` to the headers of the target's CUDA and cuDNN."""
    if cuda is None or CUDA_REPOSITORY not in repositories:
        return {}
    names = ("include", "cudnn")
    return {
        f"repositories/{CUDA_REPOSITORY}/{name}": RenderedFile(text=folder, link=True)
        for name, folder in zip(names, cuda.target_headers, strict=False)
    }


def _flags(resolution: Resolution, tool: BazelTool, build: BazelBuild, *, disk_cache: bool) -> list[str]:
    chosen = [flag for name, flags in build.features.items() if name in resolution.features for flag in flags]
    native = tool.native if build.outputs and resolution.target.arch == HOST_ARCH else ()
    caches = [f"{tool.repository_cache}={REPOSITORY_CACHE}"] if build.outputs and tool.repository_cache else []
    if disk_cache:
        caches.append(f"{tool.disk_cache}={DISK_CACHE}")
    return [*tool.flags, *native, *build.flags, *chosen, *caches]


def _answers(
    resolution: Resolution, build: BazelBuild, python: str, toolchain: str, cuda: Cuda | None
) -> dict[str, str]:
    """The environment in which ``configure`` asks nothing."""
    if build.configure is None:
        return {}
    answers = dict(build.configure.answers)
    for name, more in build.configure.features.items():
        if name in resolution.features:
            answers |= more
    words = {"{python}": python, "{toolchain}": toolchain, **_cuda_words(resolution, cuda)}
    return {name: filled(value, words) for name, value in answers.items()}


def _cuda_words(resolution: Resolution, cuda: Cuda | None) -> dict[str, str]:
    """What the placeholders of CUDA stand for, in a build for a GPU."""
    choice = resolution.cuda
    if choice is None or cuda is None:
        return {}
    cudnn = choice.cudnn
    return {
        "{cuda}": cuda.root,
        "{cuda_target}": f"{cuda.root}/targets/{cuda.target_dir}",
        "{cuda_version}": choice.toolkit.version,
        "{cudnn}": cuda.folders[-1] if cudnn else "",
        # the part of the version that is in the libraries' names
        "{cudnn_version}": cudnn.version.partition(".")[0] if cudnn else "",
        "{capabilities}": ",".join(choice.capabilities),
    }


def _commands(resolution: Resolution, build: BazelBuild, python: str) -> tuple[tuple[str, ...], ...]:
    if not build.outputs:
        return (make_wheel(resolution.python),)
    output = build.outputs[resolution.output]
    configure = (build.configure.command,) if build.configure else ()
    words = {"{python}": python, "{out}": OUT, "{platform}": f"linux_{resolution.target.arch}"}
    return tuple(
        tuple(filled(word, words) for word in command)
        for command in (*configure, ("bazel", "build", *output.targets), *output.pack)
    )
