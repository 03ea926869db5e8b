"""What the toolchain tells compilers before gcc 10: these lack options, and have their headers elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from crosswheel.planning.render import Renderer
from crosswheel.planning.toolchains import Paths, bazel_files, toolchain_files, values_of
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

CATALOG = Catalog(Path(__file__).resolve().parents[2])


@pytest.mark.parametrize(
    ("target", "gcc", "option", "fixed"),
    [
        ("jetson-tx1", "5", "-fdebug-prefix-map", True),
        ("jetson-nano", "7", "-fdebug-prefix-map", True),
        ("jetson-xavier", "9", "-ffile-prefix-map", True),
        ("nanopi-m4", "10", "-ffile-prefix-map", False),
    ],
)
def test_options_and_headers_of_a_gcc(target: str, gcc: str, option: str, fixed: bool) -> None:
    board = CATALOG.target(target)
    system = board.systems[0]
    toolchain = CATALOG.toolchain(system.toolchain)
    assert toolchain.gcc == gcc
    values = values_of(system, toolchain, CATALOG.cpu(board.cpu), board.arch, Paths())
    files = toolchain_files(Renderer(CATALOG), values)
    folder = f"/usr/lib/gcc-cross/aarch64-linux-gnu/{gcc}"
    for name in ("cc", "c++"):
        wrapper = files[f"bin/{name}"].text
        assert {"-ffile-prefix-map", "-fdebug-prefix-map"} & set(wrapper.replace("=", " ").split()) == {option}
        assert f"{option}=/build=." in wrapper
        assert f"-idirafter {folder}/include " in wrapper
        # limits.h: Python.h includes it.
        assert (f"-idirafter {folder}/include-fixed " in wrapper) == fixed
    told = bazel_files(Renderer(CATALOG), values, "crosstool")["crosstool/CROSSTOOL"].text
    for place in (folder, f"/usr/lib/gcc/x86_64-linux-gnu/{gcc}"):
        assert f'"{place}/include"' in told
        assert (f'"{place}/include-fixed"' in told) == fixed
