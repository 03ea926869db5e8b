"""CUDA laid out: what goes where, the links that packages lack, and what must be so in the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from elf_writer import write_elf

from crosswheel.building.arranging import run_arrange
from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.errors import StepError
from crosswheel.planning.arranging import ArrangeStep, Placing
from crosswheel.planning.steps import FilesStep, RenderedFile
from crosswheel.spec.base import Arch

pytestmark = pytest.mark.unit

AARCH64, X86_64 = 183, 62
ARCHES: Mapping[str, Arch] = {"targets/x86_64-linux": "x86_64", "targets/aarch64-linux": "aarch64", "bin": "x86_64"}


class Laying:
    """A step with one input, ``part``, and what it does."""

    def __init__(self, tmp_path: Path) -> None:
        self.part = tmp_path / "part"
        self.part.mkdir()
        self.out = tmp_path / "out"
        self.out.mkdir()
        self.lines: list[str] = []
        self.job = Job(
            key="0" * 64,
            out=self.out,
            work=tmp_path,
            settings=Settings(store=tmp_path / "store"),
            log=self.lines.append,
            cancelled=threading.Event(),
        )

    def add(self, name: str, content: bytes = b"x", link: str = "") -> None:
        path = self.part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if link:
            path.symlink_to(link)
        else:
            path.write_bytes(content)

    def library(self, name: str, soname: str, machine: int = AARCH64) -> None:
        self.add(name, write_elf(machine=machine, soname=soname))

    def __call__(
        self,
        *,
        layout: Mapping[str, str] | None = None,
        files: Mapping[str, RenderedFile] | None = None,
        expected: tuple[str, ...] = (),
    ) -> Path:
        layout = {"*": "./"} if layout is None else layout
        step = ArrangeStep(
            name="lay out CUDA",
            inputs={"part": FilesStep(name="part", files={})},
            placings=tuple(Placing(role="part", origin=origin, to=to) for origin, to in layout.items()),
            arches=ARCHES,
            files=files or {},
            expected=expected,
        )
        run_arrange(step, {"part": self.part}, self.job)
        return self.out

    def fails(self, **more: object) -> str:
        with pytest.raises(StepError) as caught:
            self(**more)  # type: ignore[arg-type]
        assert caught.value.exit_code == 4
        return str(caught.value)


@pytest.fixture
def laying(tmp_path: Path) -> Laying:
    return Laying(tmp_path)


STUBS = "targets/aarch64-linux/lib/stubs"
LIB = "targets/aarch64-linux/lib"
HOST = "targets/x86_64-linux/lib"


# --- what goes where -------------------------------------------------------------------------------------------------


def test_files_go_into_a_folder_or_get_another_name(laying: Laying) -> None:
    laying.add("usr/bin/nvcc")
    laying.add("usr/lib/libdevice/a.bc")
    laying.add("usr/include/cudnn_v6.h")
    layout = {"usr/bin/nvcc": "bin/", "usr/lib/libdevice": "nvvm/", "usr/include/cudnn_v*.h": "include/cudnn.h"}
    out = laying(layout=layout)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == ["bin/nvcc", "include/cudnn.h", "nvvm/libdevice/a.bc"]


def test_what_came_first_stays(laying: Laying) -> None:
    laying.add("a/x", b"first")
    laying.add("b/x", b"second")
    laying.add("b/y")
    out = laying(layout={"a/*": "include/", "b/*": "include/"})
    assert (out / "include/x").read_bytes() == b"first"
    assert (out / "include/y").is_file()


def test_links_between_files_stay_links_and_others_become_files(laying: Laying, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"elsewhere")
    laying.add("lib/a.txt")
    laying.add("lib/b.txt", link="a.txt")
    laying.add("lib/c.txt", link=str(tmp_path / "elsewhere"))
    out = laying()
    assert str((out / "lib/b.txt").readlink()) == "a.txt"
    assert not (out / "lib/c.txt").is_symlink()
    assert (out / "lib/c.txt").read_bytes() == b"elsewhere"


def test_every_pattern_without_a_match_is_told(laying: Laying) -> None:
    laying.add("bin/nvcc")
    text = laying.fails(layout={"bin/nvcc": "bin/", "bin/ptxas": "bin/", "nvvm/*": "nvvm/"})
    assert "- part has nothing that matches bin/ptxas" in text
    assert "- part has nothing that matches nvvm/*" in text
    assert "bin/nvcc\n" not in text


def test_rendered_files_take_the_place_of_others(laying: Laying) -> None:
    laying.add("bin/nvcc.profile", b"theirs")
    files = {
        "bin/nvcc.profile": RenderedFile(text="ours"),
        "lib64": RenderedFile(text="targets/x86_64-linux/lib", link=True),
    }
    laying.add(f"{HOST}/a.txt")
    out = laying(files=files)
    assert (out / "bin/nvcc.profile").read_text() == "ours"
    assert (out / "lib64/a.txt").is_file()


def test_a_program_out_of_a_wheel_can_be_run(laying: Laying) -> None:
    """Members of wheels come without the bit."""
    laying.add("bin/nvcc", write_elf(machine=X86_64))
    laying.add("bin/crt/link.stub", b"text")
    out = laying()
    assert os.access(out / "bin/nvcc", os.X_OK)
    assert (out / "bin/nvcc").stat().st_mode & 0o777 == 0o755
    assert not (out / "bin/crt/link.stub").stat().st_mode & 0o111


def test_a_build_that_is_stopped(laying: Laying) -> None:
    laying.add("a")
    laying.job.cancelled.set()
    with pytest.raises(Cancelled):
        laying()


# --- links of libraries ----------------------------------------------------------------------------------------------


def test_a_library_gets_its_soname_and_the_linkers_name(laying: Laying) -> None:
    laying.library(f"{LIB}/libcudart.so.8.0.84", "libcudart.so.8.0")
    out = laying()
    assert str((out / LIB / "libcudart.so.8.0").readlink()) == "libcudart.so.8.0.84"
    assert str((out / LIB / "libcudart.so").readlink()) == "libcudart.so.8.0.84"
    told = "targets/aarch64-linux/lib/libcudart.so.8.0: a link that the packages lack"
    assert told in laying.lines


def test_a_wheels_library_is_its_own_soname(laying: Laying) -> None:
    laying.library(f"{LIB}/libcudart.so.12", "libcudart.so.12")
    out = laying()
    assert str((out / LIB / "libcudart.so").readlink()) == "libcudart.so.12"
    assert not (out / LIB / "libcudart.so.12").is_symlink()


def test_a_stub_alone_gets_links_beside_its_folder_and_the_hosts_full_names(laying: Laying) -> None:
    """CUDA 8.0's cross packages: TensorFlow's cuda_configure.bzl asks for lib/libcublas.so.8.0, for both sides."""
    laying.library(f"{STUBS}/libcublas.so", "libcublas.so.8.0")
    laying.library(f"{HOST}/libcublas.so.8.0.61", "libcublas.so.8.0", X86_64)
    out = laying()
    for name in ("libcublas.so", "libcublas.so.8.0", "libcublas.so.8.0.61"):
        assert str((out / LIB / name).readlink()) == "stubs/libcublas.so"
        assert (out / LIB / name).exists()
    assert str((out / HOST / "libcublas.so.8.0").readlink()) == "libcublas.so.8.0.61"


def test_a_stub_without_a_soname_and_the_drivers(laying: Laying) -> None:
    laying.library(f"{STUBS}/libcufft.so", "")
    laying.library(f"{STUBS}/libcuda.so", "libcuda.so.1")
    out = laying()
    assert str((out / LIB / "libcufft.so").readlink()) == "stubs/libcufft.so"
    assert str((out / LIB / "libcuda.so.1").readlink()) == "stubs/libcuda.so"


def test_a_stub_beside_its_library_gets_none(laying: Laying) -> None:
    laying.library(f"{STUBS}/libcublas.so", "libcublas.so.11")
    laying.library(f"{LIB}/libcublas.so.11.6", "libcublas.so.11")
    out = laying()
    assert str((out / LIB / "libcublas.so").readlink()) == "libcublas.so.11.6"
    assert str((out / LIB / "libcublas.so.11").readlink()) == "libcublas.so.11.6"


def test_a_link_that_leads_nowhere_is_made_anew_where_the_library_is_there(laying: Laying) -> None:
    laying.library(f"{LIB}/libcurand.so.10.3", "libcurand.so.10")
    laying.add(f"{LIB}/libcurand.so", link="libcurand.so.9")
    assert str((laying() / LIB / "libcurand.so").readlink()) == "libcurand.so.10.3"


def test_a_linker_script_is_left_alone(laying: Laying) -> None:
    laying.add(f"{LIB}/libcudnn.so", b"INPUT(libcudnn.so.9)")
    assert sorted(path.name for path in (laying() / LIB).iterdir()) == ["libcudnn.so"]


# --- what must be so -------------------------------------------------------------------------------------------------


def test_every_wrong_thing_is_told_at_once(laying: Laying) -> None:
    laying.library(f"{LIB}/libcudart.so.8.0", "libcudart.so.8.0", X86_64)
    laying.add(f"{HOST}/libnvToolsExt.so", link="libnvToolsExt.so.1")
    text = laying.fails(expected=("bin/nvcc", f"{LIB}/libcublas.so.8.0", f"{LIB}/libcudart.so.*"))
    assert "- bin/nvcc is missing" in text
    assert f"- {LIB}/libcublas.so.8.0 is missing" in text
    assert f"- {LIB}/libcudart.so.8.0 is for x86_64, and not for aarch64" in text
    assert f"- {HOST}/libnvToolsExt.so is a link to libnvToolsExt.so.1, which is not there" in text
    assert f"{LIB}/libcudart.so.* is missing" not in text
    assert "`layout` or `expected`" in text


def test_a_program_of_the_board_among_the_builders(laying: Laying) -> None:
    laying.add("bin/ptxas", write_elf(machine=AARCH64))
    assert "bin/ptxas is for aarch64, and not for x86_64" in laying.fails()


def test_the_key_is_of_what_goes_where(laying: Laying) -> None:
    def key(to: str, expected: tuple[str, ...] = ()) -> str:
        placings = (Placing(role="part", origin="*", to=to),)
        return ArrangeStep(name="x", inputs={}, placings=placings, arches=ARCHES, expected=expected).key

    assert len({key("a/"), key("b/"), key("a/", ("x",))}) == 3
    assert key("a/") == key("a/")
