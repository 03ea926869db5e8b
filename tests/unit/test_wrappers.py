"""The compilers' wrappers: arguments in, arguments out."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from crosswheel.planning.render import Renderer
from crosswheel.planning.wrappers import Wrapper
from crosswheel.spec.catalog import Catalog

DRIVER = """#!/bin/sh
# A compiler that writes down what it is given, and what the response files say that it is given.
for argument do
    printf '%s\\0' "$argument"
    case $argument in @*) [ ! -r "${argument#@}" ] || cat "${argument#@}" >>"$(dirname "$0")/responses" ;; esac
done >"$(dirname "$0")/given"
exit "${DRIVER_EXIT:-0}"
"""
OUT = ("-o", "bazel-out/aarch64-opt/bin/tensorflow/python/_p.so")
AWKWARD = ("a b", "'", '"', "\\", "$HOME", "`id`", "*", "new\nline", "\ttab", '-DX="y z"', "", "é", "a;b", "#c")


@dataclass(frozen=True)
class Bench:
    """A folder as Bazel's execroot, with one wrapper in front of a driver that writes down its arguments."""

    folder: Path
    wrapper: Path

    def call(self, *arguments: str, code: int = 0, **env: str) -> list[str]:
        """What the driver is given where the wrapper is given these."""
        given = self.folder / "bin" / "given"
        given.unlink(missing_ok=True)
        ran = subprocess.run(
            [str(self.wrapper), *arguments],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        assert ran.stderr == ""
        return given.read_text().split("\0")[:-1] if given.exists() else []

    def file(self, path: str, text: str = "") -> str:
        """A file below the folder; returns its path from there."""
        whole = self.folder / path
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text)
        return path

    def response(self) -> list[str]:
        """The words of the response file that the driver was given, which are a line each."""
        text = (self.folder / "bin" / "responses").read_text()
        return text.splitlines()


def bench(catalog: Catalog, folder: Path, *, relocatable: bool, options: Sequence[tuple[str, ...]] = ()) -> Bench:
    """The wrapper of the target (``relocatable``), or that of the host."""
    renderer = Renderer(catalog)
    bin_ = folder / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "driver").write_text(DRIVER)
    (bin_ / "arguments.awk").write_text(renderer.render("wrappers/arguments.awk.j2", {}))
    wrapper = Wrapper(
        name="cc",
        driver=str(bin_ / "driver"),
        purpose="for a test",
        options=tuple(options),
        arguments=str(bin_ / "arguments.awk"),
        relocatable=relocatable,
    )
    (bin_ / "cc").write_text(renderer.render("wrappers/compiler.sh.j2", {"wrapper": wrapper}))
    for script in ("driver", "cc"):
        (bin_ / script).chmod(0o755)
    return Bench(folder, bin_ / "cc")


@pytest.fixture
def target(catalog: Catalog, tmp_path: Path) -> Bench:
    made = bench(catalog, tmp_path / "target", relocatable=True)
    made.file(OUT[1])
    return made


@pytest.fixture
def host(catalog: Catalog, tmp_path: Path) -> Bench:
    return bench(catalog, tmp_path / "host", relocatable=False)


@pytest.fixture(params=["host", "target"])
def either(request: pytest.FixtureRequest) -> Bench:
    chosen = request.getfixturevalue(request.param)
    assert isinstance(chosen, Bench)
    return chosen


# --- what goes through as it is ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", "a.cc", "-o", "bazel-out/k8-opt/bin/a.o"),
        ("-o", "bazel-out/k8-opt/bin/a_gen_cc.o", "-c", "a.cc"),
        ("-E", "-"),
        ("--version",),
        (),
        ("-o", "bazel-out/k8-opt/bin/a", "a.o", "-lm"),
        ("-o", "-c", "a.o"),
        ("-Xlinker", "-E", "-o", "bazel-out/k8-opt/bin/a", "a.o"),
        AWKWARD,
        ("-o", "bazel-out/k8-opt/bin/a", *AWKWARD),
        ("-o", "out/with space/x_gen_cc", "a.o"),
        ("@missing", "-o", "bazel-out/k8-opt/bin/a"),
    ],
)
def test_arguments_go_through(either: Bench, arguments: tuple[str, ...]) -> None:
    assert either.call(*arguments) == list(arguments)


def test_options_come_first_and_keep_their_words(catalog: Catalog, tmp_path: Path) -> None:
    options = [("-idirafter", "/a b/it's"), ("-DX=$Y",)]
    given = bench(catalog, tmp_path, relocatable=True, options=options).call("-c", "a.c")
    assert given == ["-idirafter", "/a b/it's", "-DX=$Y", "-c", "a.c"]


@pytest.mark.parametrize("arguments", [("-c", "a.cc"), ("a.o", "-o", "bazel-out/k8-opt/bin/a")])
def test_the_exit_code_is_the_compilers(either: Bench, arguments: tuple[str, ...]) -> None:
    either.call(*arguments, code=3, DRIVER_EXIT="3")


def test_a_response_file_goes_through(either: Bench) -> None:
    text = "-o\nbazel-out/k8-opt/bin/a\n-Wl,-rpath,$ORIGIN/..\n" + "".join(f"o/{n}.o\n" for n in range(3000))
    response = either.file("a-2.params", text)
    assert either.call(f"@{response}") == [f"@{response}"]


# --- generators -------------------------------------------------------------------------------------------------------

FRAMEWORK = "tensorflow/libtensorflow_framework.so"


@pytest.mark.parametrize("suffix", ["", ".1", ".2"])
@pytest.mark.parametrize("configuration", ["host", "k8-opt", "k8-opt-exec-2B5CBBC6"])
@pytest.mark.parametrize("name", ["array_ops_gen_cc", "gen_math_ops_py_wrappers_cc"])
def test_a_generator_gets_the_library_of_its_configuration(
    either: Bench, name: str, configuration: str, suffix: str
) -> None:
    binaries = f"bazel-out/{configuration}/bin"
    either.file(f"{binaries}/{FRAMEWORK}{suffix}")
    either.file(f"bazel-out/other/bin/{FRAMEWORK}")
    arguments = ["-o", f"{binaries}/tensorflow/cc/{name}", "-ltensorflow_framework", "a.a"]
    more = [f"-L{binaries}/tensorflow", f"-l:libtensorflow_framework.so{suffix}"]
    assert either.call(*arguments) == arguments + more
    joined = [f"-o{arguments[1]}", *arguments[2:]]
    assert either.call(*joined) == joined + more


def test_a_generator_whose_output_is_in_a_response_file(either: Bench) -> None:
    either.file(f"bazel-out/host/bin/{FRAMEWORK}")
    more = ["-Lbazel-out/host/bin/tensorflow", "-l:libtensorflow_framework.so"]
    inner = either.file("inner.params", '-DX="a\nb"\n\\-o "bazel-out/host/bin/a b/x\'s"_gen_cc\n')
    outer = either.file("outer.params", f"a.a 'b c.a'\n@{inner}\n")
    assert either.call(f"@{outer}") == [f"@{outer}", *more]


@pytest.mark.parametrize(
    "output",
    [
        "bazel-out/host/bin/tensorflow/gen_cc_not",  # another name
        "bazel-out/host/bin/tensorflow/x_gen_cc.o",
        "bazel-out/empty/bin/tensorflow/x_gen_cc",  # no library in its configuration
        "elsewhere/host/bin/tensorflow/x_gen_cc",  # not Bazel's
    ],
)
def test_what_is_no_generator_gets_nothing(either: Bench, output: str) -> None:
    either.file(f"bazel-out/host/bin/{FRAMEWORK}")
    either.file(f"elsewhere/host/bin/{FRAMEWORK}")
    assert either.call("a.a", "-o", output) == ["a.a", "-o", output]


# --- RPATH ------------------------------------------------------------------------------------------------------------

ABSOLUTE = "/build/bazel/base/execroot/org_tensorflow/bazel-out/aarch64-opt/bin/tensorflow"


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ([f"-Wl,-rpath,{ABSOLUTE}"], []),
        ([f"-Wl,-rpath={ABSOLUTE}"], []),
        ([f"-Wl,--rpath={ABSOLUTE}"], []),
        ([f"-Wl,-R,{ABSOLUTE}"], []),
        ([f"-Wl,-R{ABSOLUTE}"], []),
        (["-Wl,-rpath", f"-Wl,{ABSOLUTE}"], []),
        (["-Xlinker", "-rpath", "-Xlinker", ABSOLUTE], []),
        (["-Wl,-rpath,../local_config_cuda/cuda/lib64"], []),
        (["-Wl,-rpath,$ORIGINAL/lib"], []),
        ([f"-Wl,-rpath,$ORIGIN/..:{ABSOLUTE}:$ORIGIN"], ["-rpath", "$ORIGIN/..:$ORIGIN"]),
        ([f"-Wl,-z,now,-rpath,{ABSOLUTE},-soname,x.so"], ["-z", "now", "-soname", "x.so"]),
        ([f"-Wl,-rpath,{ABSOLUTE}", "-Wl,@linkers.params"], ["@linkers.params"]),
        (["-Wl,-rpath,${ORIGIN}/a", "-Wl,-rpath,/x"], ["-rpath", "${ORIGIN}/a"]),
    ],
)
def test_an_rpath_of_the_build_is_dropped(target: Bench, arguments: list[str], kept: list[str]) -> None:
    given = target.call("a b.o", *arguments, *OUT, "new\nline")
    assert given == [f"@{OUT[1]}.arguments"]
    linker = [f"-Wl,{word}" for word in kept]
    assert target.response() == ["a\\ b.o", *linker, *OUT, "new\\", "line"]
    assert not (target.folder / given[0][1:]).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-Wl,-rpath,$ORIGIN/,-rpath,$ORIGIN/..,-rpath,$ORIGIN/../.."],
        ["-Wl,-rpath,$ORIGIN/../../_solib_aarch64/_U_S_Stensorflow"],
        ["-Wl,-rpath-link,/sysroot/usr/lib"],
        ["-Xlinker", "-rpath-link", "-Xlinker", "/sysroot/usr/lib"],
        ["-Wl,-rpath,${ORIGIN}"],
    ],
)
def test_an_rpath_that_holds_in_the_wheel_is_kept(target: Bench, arguments: list[str]) -> None:
    assert target.call(*arguments, *OUT) == [*arguments, *OUT]


def test_a_comma_for_the_linker_survives(target: Bench) -> None:
    target.call("-Xlinker", "--defsym=a,b", f"-Wl,-rpath,{ABSOLUTE}", *OUT)
    assert target.response() == ["-Xlinker", "--defsym=a,b", *OUT]


def test_an_rpath_in_a_response_file_is_dropped(target: Bench) -> None:
    objects = [f"o/{n}.o" for n in range(3000)]
    lines = [*OUT, f"-Wl,-rpath,{ABSOLUTE}", "-Wl,-rpath,$ORIGIN/..", "'it is'", *objects]
    response = target.file("p.params", "\n".join(lines))
    given = target.call(f"@{response}", "-lm", code=4, DRIVER_EXIT="4")
    assert given == [f"@{OUT[1]}.arguments"]
    assert target.response() == [*OUT, "-Wl,-rpath", "-Wl,$ORIGIN/..", "it\\ is", *objects, "-lm"]


def test_plain_lines_between_quotes_belong_to_their_word(target: Bench) -> None:
    text = f"a.o\n'one\nplain\n@line'\nb.o\n\\\nc.o\n\"\"\n-Wl,-rpath,{ABSOLUTE}\n-o\n{OUT[1]}\nlast.o"
    target.call(f"@{target.file('p.params', text)}")
    words = ["a.o", "one\\", "plain\\", "@line", "b.o", "\\", "c.o", '""', *OUT, "last.o"]
    assert target.response() == words


def test_a_generator_without_its_rpath_gets_its_library(target: Bench) -> None:
    target.file(f"bazel-out/host/bin/{FRAMEWORK}")
    output = target.file("bazel-out/host/bin/tensorflow/x_gen_cc")
    given = target.call("a.a", f"-Wl,-rpath,{ABSOLUTE}", "-o", output)
    assert given == [f"@{output}.arguments", "-Lbazel-out/host/bin/tensorflow", "-l:libtensorflow_framework.so"]
    assert target.response() == ["a.a", "-o", output]


def test_an_rpath_in_a_response_file_is_kept_where_bazel_does_not_link(target: Bench) -> None:
    response = target.file("p.params", f"-o\nlibx.so\n-Wl,-rpath,{ABSOLUTE}\na.o\n")
    assert target.call(f"@{response}") == [f"@{response}"]
    assert not (target.folder / "libx.so.arguments").exists()


def test_the_host_and_others_keep_every_rpath(host: Bench, target: Bench) -> None:
    """CMake writes its build folder into what it links and looks for it there when it installs."""
    arguments = [f"-Wl,-rpath,{ABSOLUTE}", "-o", "libx.so"]
    assert target.call(*arguments) == arguments
    arguments = [f"-Wl,-rpath,{ABSOLUTE}", *OUT]
    assert host.call(*arguments) == arguments
