"""The compilers' wrappers in the flavour for CUDA: what goes to nvcc, with which arguments, and what does not."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from crosswheel.planning.render import Renderer
from crosswheel.planning.wrappers import Cuda, Wrapper, for_cuda
from crosswheel.spec.catalog import Catalog

FAKE = """#!/bin/sh
# Writes down its name and arguments.
for argument in {name} "$@"; do printf '%s\\0' "$argument"; done >>{calls}
printf '\\n' >>{calls}
exit "${{EXIT:-0}}"
"""
CUDA = {
    "root": "/cuda",
    "target_dir": "aarch64-linux",
    "target_libraries": (),
    "standard": "c++11",
    "capabilities": ("5.3", "6.2"),
    "target_options": ("-target-dir", "aarch64-linux"),
    "target_headers": ("/cuda/include",),
    "host_headers": ("/cuda/include",),
    "host_libraries": ("/cuda/lib 64", "/cudnn/lib64"),
}
GENCODE = [
    "-gencode=arch=compute_53,code=[sm_53,compute_53]",
    "-gencode=arch=compute_62,code=[sm_62,compute_62]",
]


@dataclass(frozen=True)
class Bench:
    """A toolchain's folder with the wrappers for CUDA of one side."""

    folder: Path
    side: str

    def call(self, *arguments: str, code: int = 0, **env: str) -> list[list[str]]:
        """What is called, with which arguments."""
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        ran = self.run(*arguments, **env)
        assert ran.returncode == code, ran.stderr
        assert ran.stderr == ""
        text = calls.read_text() if calls.exists() else ""
        return [call.split("\0") for call in text.split("\0\n")[:-1]]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.folder / self.side / "bin/cuda/cc"), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def ours(self, call: list[str]) -> list[str]:
        """A call of nvcc without what every call begins with."""
        begins = ["nvcc", "-ccbin", str(self.folder / self.side / "bin/cc")]
        begins += ["-target-dir", "aarch64-linux"] if not self.side else []
        assert call[: len(begins)] == begins
        rest = call[len(begins) :]
        assert rest[:2] == GENCODE
        return rest[2:]


def bench(catalog: Catalog, folder: Path, side: str) -> Bench:
    renderer = Renderer(catalog)
    bin_ = folder / side / "bin"
    (bin_ / "cuda").mkdir(parents=True)
    (folder / "lib").mkdir(exist_ok=True)
    for name in ("driver", "nvcc"):
        fake = folder / name
        fake.write_text(FAKE.format(name=name, calls=folder / "calls"))
        fake.chmod(0o755)
    cuda = Cuda(nvcc=str(folder / "nvcc"), **CUDA)  # type: ignore[arg-type]
    plain = Wrapper(
        name="cc",
        driver=str(folder / "driver"),
        purpose="for a test",
        options=(),
        arguments=str(folder / "lib/arguments.awk"),
        relocatable=not side,
    )
    wrapper = for_cuda(plain, cuda, str(folder), host=bool(side))
    assert wrapper.cuda is not None
    for path, template in (
        (bin_ / "cuda/cc", "wrappers/compiler.sh.j2"),
        (folder / "lib/arguments.awk", "wrappers/arguments.awk.j2"),
    ):
        path.write_text(renderer.render(template, {"wrapper": wrapper}))
    (bin_ / "cuda/nvcc").write_text(renderer.render("wrappers/nvcc.sh.j2", {"wrapper": wrapper.cuda}))
    (folder / "lib/nvcc.awk").write_text(renderer.render("wrappers/nvcc.awk.j2", {"standard": cuda.standard}))
    for script in ("cc", "nvcc"):
        (bin_ / "cuda" / script).chmod(0o755)
    return Bench(folder, side)


@pytest.fixture
def target(catalog: Catalog, tmp_path: Path) -> Bench:
    return bench(catalog, tmp_path, "")


@pytest.fixture
def host(catalog: Catalog, tmp_path: Path) -> Bench:
    return bench(catalog, tmp_path, "host")


# --- which of the two compiles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "a.cc", "-o", "a.o"),
        ("-x", "c++", "-c", "a.cc", "-o", "a.o"),
        ("-c", "cuda", "-o", "a.cu"),
        ("-Icuda", "-DX=-x cuda", "-c", "a.cc", "-o", "a.cu.o"),
        ("a.cu.o", "-o", "bazel-out/k8-opt/bin/a"),
    ],
)
def test_gcc_compiles_what_is_none_of_cuda(target: Bench, arguments: tuple[str, ...]) -> None:
    assert target.call(*arguments) == [["driver", *arguments]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-x", "cuda", "-c", "a.cc", "-o", "a.o"),
        ("-xcuda", "-c", "a.cc", "-o", "a.o"),
        ("-x", "cu", "-o", "a.o", "-c", "a.cc"),
    ],
)
def test_nvcc_compiles_what_is_said_to_be_of_cuda(target: Bench, arguments: tuple[str, ...]) -> None:
    (call,) = target.call(*arguments)
    assert target.ours(call) == ["-x", "cu", "-I.", "-Xcompiler", "-fPIC", "-c", "a.cc", "-o", "a.o"]


@pytest.mark.parametrize("source", ["a.cu", "k/a b.cu.cc"])
def test_nvcc_compiles_a_source_of_cuda(target: Bench, source: str) -> None:
    (call,) = target.call("-c", source, "-o", "a.o")
    assert call[-4:] == ["-c", source, "-o", "a.o"]


def test_a_response_file_is_read_for_it(target: Bench) -> None:
    (target.folder / "cuda.params").write_text("-x\ncuda\n-DX='a b'\n-c\na.cc\n-o\na.o\n")
    (target.folder / "plain.params").write_text("-c\na.cc\n-DX='-x cuda'\n-o\na.cu.o\n")
    (call,) = target.call("@cuda.params")
    assert call[-4:] == ["-c", "a.cc", "-o", "a.o"]
    assert "-DX=a b" in call
    assert target.call("@plain.params") == [["driver", "@plain.params"]]


def test_the_exit_code_is_nvccs(target: Bench) -> None:
    assert len(target.call("-c", "a.cu", "-o", "a.o", "-MF", "a.d", code=3, EXIT="3")) == 1


def test_the_host_has_its_own_compiler(host: Bench) -> None:
    (call,) = host.call("-c", "a.cu", "-o", "a.o")
    assert host.ours(call)[-4:] == ["-c", "a.cu", "-o", "a.o"]


# --- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "translated"),
    [
        (["-DX=1", "-D", "Y", "-UZ", "-U", "W"], ["-DX=1", "-DY", "-UZ", "-UW"]),
        (["-DX=f(a,b)"], ["-DX=f(a\\,b)"]),
        (['-D__DATE__="redacted"'], ['-D__DATE__="redacted"']),
        (["-Ia", "-I", "b c"], ["-Ia", "-Ib c"]),
        (["-isystem", "a", "-isystemb"], ["-isystem", "a", "-isystem", "b"]),
        (["-iquote", "."], ["-Xcompiler", "-iquote", "-Xcompiler", "."]),
        (["-include", "x.h"], ["-include", "x.h"]),
        (["-O2", "-O3"], ["-O2", "-O3"]),
        (["-O"], ["-O1"]),
        (["-Os"], ["-O2"]),
        (["-Ofast"], ["-O3"]),
        (["-std=c++14"], ["-std=c++11"]),
        (["-std=gnu++17"], ["-std=c++11"]),
        (["-std=c++0x"], ["-std=c++11"]),
        (["-std=c++03"], ["-std=c++03"]),
        (["-m64", "-w", "-g"], ["-m64", "-w", "-g"]),
        (["-g0"], ["-Xcompiler", "-g0"]),
        (["-Wall", "-Wno-unused", "-MD", "-MT", "x"], []),
        (["-fno-canonical-system-headers"], ["-Xcompiler", "-fno-canonical-system-headers"]),
        (["-frandom-seed=a,b"], ["-Xcompiler", "-frandom-seed=a\\,b"]),
        (["--sysroot=/s"], ["-Xcompiler", "--sysroot=/s"]),
        (["-nvcc_options=relaxed-constexpr"], ["--expt-relaxed-constexpr"]),
        (["-nvcc_options", "ftz=true"], ["--ftz=true"]),
        (["-nvcc_options=expt-relaxed-constexpr"], ["--expt-relaxed-constexpr"]),
        (["-Xcuda-fatbinary=--compress-all"], ["--fatbin-options=--compress-all"]),
        (["-DX=it's", "-DY=$HOME", "-DZ=`id`", "-DN=a\nb"], ["-DX=it's", "-DY=$HOME", "-DZ=`id`", "-DN=a\nb"]),
    ],
)
def test_arguments_are_nvccs(target: Bench, given: list[str], translated: list[str]) -> None:
    (call,) = target.call(*given, "-c", "a.cu.cc", "-o", "a.o")
    ours = target.ours(call)
    assert ours == ["-x", "cu", "-I.", "-Xcompiler", "-fPIC", *translated, "-c", "a.cu.cc", "-o", "a.o"]


def test_architectures_of_the_arguments_come_instead(target: Bench) -> None:
    (call,) = target.call("--cuda-gpu-arch=sm_70", "--cuda-include-ptx=sm_80", "-c", "a.cu", "-o", "a.o")
    assert [word for word in call if "gencode" in word] == [
        "-gencode=arch=compute_70,code=sm_70",
        "-gencode=arch=compute_80,code=compute_80",
    ]


def test_dependencies_are_asked_for_first(target: Bench) -> None:
    first, second = target.call("-MD", "-MF", "o/a.d", "-c", "a.cu", "-o", "a.o", "-DX")
    assert first[:-4] == second[:-4]
    assert first[-4:] == ["-M", "a.cu", "-o", "o/a.d"]
    assert second[-4:] == ["-c", "a.cu", "-o", "a.o"]


@pytest.mark.parametrize("arguments", [("-c", "a.cu"), ("-c", "a.cu", "b.cu", "-o", "a.o"), ("-x", "cuda")])
def test_what_it_cannot_do_it_says(target: Bench, arguments: tuple[str, ...]) -> None:
    ran = target.run(*arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith("crosswheel's nvcc wants one source")
    assert not (target.folder / "calls").exists()


# --- linking ----------------------------------------------------------------------------------------------------------


def test_what_bazel_links_for_the_host_finds_cuda(host: Bench, target: Bench) -> None:
    link = ["a.o", "-lcudart", "-o", "bazel-out/host/bin/a"]
    folders = CUDA["host_libraries"]
    more = [word for folder in folders for word in (f"-L{folder}", f"-Wl,-rpath,{folder}")]
    assert host.call(*link) == [["driver", *link, *more]]
    assert target.call(*link) == [["driver", *link]]
    assert host.call("a.o", "-o", "conftest") == [["driver", "a.o", "-o", "conftest"]]
