"""The files that tell Bazel of toolchains, in the flavours and for the Bazels that no golden build has."""

from __future__ import annotations

import pytest
from test_keys import HERE, agree

from crosswheel.planning.render import Renderer
from crosswheel.planning.steps import RenderedFile
from crosswheel.planning.toolchains import Paths, bazel_files, toolchain_files, values_of
from crosswheel.planning.wrappers import Cuda
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.golden

CUDA = Cuda(
    root="/cuda",
    target_dir="aarch64-linux",
    nvcc="/cuda/bin/nvcc",
    standard="c++11",
    capabilities=("5.3",),
    target_options=("-target-dir", "aarch64-linux"),
    target_headers=("/sysroot/usr/local/cuda/include",),
    host_headers=("/cuda/include",),
    target_libraries=(),
    host_libraries=("/cuda/lib64", "/cudnn/lib64"),
)
STYLES = ("crosstool", "starlark", "platforms")


def rendered(catalog: Catalog, name: str, cuda: Cuda | None) -> dict[str, RenderedFile]:
    """All files of a target's toolchain, for every Bazel."""
    target = catalog.target(name)
    system = target.systems[0]
    chain, cpu = catalog.toolchain(system.toolchain), catalog.cpu(target.cpu)
    values = values_of(system, chain, cpu, target.arch, Paths(), cuda)
    renderer = Renderer(catalog)
    files = toolchain_files(renderer, values)
    for style in STYLES:
        files |= bazel_files(renderer, values, style)
    return files


@pytest.mark.parametrize(("name", "cuda"), [("nanopi-m4", CUDA), ("rpi4", None)])
def test_toolchains(catalog: Catalog, name: str, cuda: Cuda | None) -> None:
    files = rendered(catalog, name, cuda)
    wanted = [path for path in sorted(files) if path.startswith((*STYLES, "bin/c", "host/bin/c", "lib/"))]
    text = "".join(f"==== {path}\n{files[path].text}" for path in wanted)
    agree(HERE / "rendered" / f"toolchain-{name}{'-cuda' if cuda else ''}.txt", text)


@pytest.mark.parametrize("name", ["nanopi-m4", "x86_64"])
def test_a_flavour_for_cuda_leaves_the_plain_one_as_it_is(catalog: Catalog, name: str) -> None:
    """What is compiled without CUDA stays valid where CUDA comes in."""
    plain, both = rendered(catalog, name, None), rendered(catalog, name, CUDA)
    changed = {path for path in plain if plain[path] != both[path]}
    added = both.keys() - plain.keys()
    assert changed == {
        f"{style}/{file}"
        for style, file in (
            ("crosstool", "BUILD"),
            ("crosstool", "CROSSTOOL"),
            ("starlark", "BUILD"),
            ("platforms", "BUILD"),
            ("cmake", "toolchain.cmake"),
            ("meson", "cross.ini"),
        )
    }
    assert added == {
        "lib/nvcc.awk",
        *(f"{side}bin/cuda/{name}" for side in ("", "host/") for name in ("cc", "c++", "nvcc")),
    }
    assert both["crosstool/CROSSTOOL"].text.count("\ntoolchain {\n") == 4
    assert both["platforms/BUILD"].text.count("\ntoolchain(\n") == 4
