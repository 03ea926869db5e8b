"""Paths of the machine of a build: in what tools wrote, and not in what people wrote."""

from __future__ import annotations

import py_compile
from pathlib import Path

import pytest
from elf_writer import write_elf
from hypothesis import given
from hypothesis import strategies as st
from wheel_writer import EXTENSION, good_files, write_wheel

from crosswheel.proving.build_paths import BuildPaths, Writer, bytecode_path, shebang_path, writer_of
from crosswheel.proving.facts import read_wheel

pytestmark = pytest.mark.unit


def found(tmp_path: Path, files: dict[str, bytes]) -> dict[str, tuple[str, ...]]:
    return dict(read_wheel(write_wheel(tmp_path, {**good_files(), **files})).paths)


def bytecode(tmp_path: Path, source: str, said: str) -> bytes:
    """What this Python compiles of ``source``, which is said to lie at ``said``."""
    (tmp_path / "source.py").write_text(source)
    py_compile.compile(str(tmp_path / "source.py"), cfile=str(tmp_path / "made.pyc"), dfile=said, doraise=True)
    return (tmp_path / "made.pyc").read_bytes()


ARCHIVE = (
    b"!<arch>\n" + b"a.o/            0           0     0     644     24        `\n" + b"\0/home/me/work/a.c:12\0\0\0"
)


@pytest.mark.parametrize(
    ("name", "data", "path"),
    [
        ("quick/lib/libown.a", ARCHIVE, "/home/me/work/a.c"),
        ("quick/lib/own.o", write_elf(text=b"\0/build/src/own.c\0"), "/build/src/own.c"),
        ("quick/kernels.fatbin", b"\x50\xed\x55\xba" + b"\0" * 40 + b"/tmp/nvcc/a.cu\0", "/tmp/nvcc/a.cu"),
        ("quick/lib/pkgconfig/own.pc", b"prefix=/build/out/usr\nlibdir=${prefix}/lib\n", "/build/out/usr"),
        ("quick/lib/libown.la", b"libdir='/tmp/stage/lib'\n", "/tmp/stage/lib"),
        ("quick/cmake/OwnConfig.cmake", b'set(OWN_ROOT "/root/own")\n', "/root/own"),
        ("quick/cmake/own-config.cmake", b'set(OWN_ROOT "/root/own")\n', "/root/own"),
        ("quick/cmake/OwnTargets-release.cmake", b'"/home/me/own/lib/libown.a"\n', "/home/me/own/lib/libown.a"),
        ("quick/_sysconfigdata__linux_aarch64.py", b"'CC': '/home/me/gcc/bin/gcc'", "/home/me/gcc/bin/gcc"),
        ("quick/__config__.py", b'"path": r"/tmp/build-env-99dkri7b/bin/python"', "/tmp/build-env-99dkri7b/bin/python"),
        ("quick-1.0.dist-info/direct_url.json", b'{"url": "file:///home/me/quick"}', "/home/me/quick"),
        ("quick.egg-info/SOURCES.txt", b"/tmp/work/quick/a.c\n", "/tmp/work/quick/a.c"),
        ("quick/settings.json", b'{"cache": "/home/me/.cache"}', "/home/me/.cache"),
        (
            "quick/made.ini",
            b"python = /tmp/pip-build-env-kd82ls0q/overlay/bin/python\n",
            "/tmp/pip-build-env-kd82ls0q/overlay/bin/python",
        ),
        ("quick/made.cfg", b"python = /tmp/pip-install-kd82ls0q/quick/x\n", "/tmp/pip-install-kd82ls0q/quick/x"),
        ("quick/made.py", b"# protoc /build/src/quick/a.proto\n", "/build/src/quick/a.proto"),
        ("quick-1.0.data/scripts/go", b"#!/home/me/venv/bin/python3\npass\n", "/home/me/venv/bin/python3"),
    ],
)
def test_what_tools_wrote(name: str, data: bytes, path: str, tmp_path: Path) -> None:
    assert found(tmp_path, {name: data}) == {name: (path,)}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("quick/io.py", b'"""Reads /home/alex/data.txt and /tmp/tfdbg_1/file.c, or /root/x."""'),
        ("quick/include/sqlite3.h", b'** "file:/home/fred/data.db"\n'),
        ("quick/README.rst", b"cd /home/me/work; /build/default\n"),
        ("quick-1.0.dist-info/licenses/LICENSE", b"/home/me/x\n"),
        ("quick/static/app.js", b"/home/adele/workspace/react/view.js"),
        ("quick/cmake/Android.cmake", b'include("${NDK}/build/cmake/abis.cmake")'),
        ("quick/cmake/OwnConfig.cmake", b'include("${NDK}/build/cmake/abis.cmake" "${X}/home/a/b")'),
        ("quick/presets.json", b'{"dir": "${source}/build/default", "tmp": "/tmp/x/y/z", "x": "/root/item"}'),
        ("quick/go", b"#!/usr/bin/env python3\n# /home/me/x\n"),
        ("quick-1.0.data/scripts/go", b"#!python\n"),
    ],
)
def test_what_people_wrote(name: str, data: bytes, tmp_path: Path) -> None:
    assert found(tmp_path, {name: data}) == {}


def test_a_report_of_a_failure_in_metadata(tmp_path: Path) -> None:
    """gRPC's quotes one."""
    text = good_files()["quick-1.0.dist-info/METADATA"] + b"\n  /tmp/pip-build-U8pSsr/cython/Scanners.c:4:20\n"
    assert found(tmp_path, {"quick-1.0.dist-info/METADATA": text}) == {}


@pytest.mark.parametrize("length", [40, 254, 255, 256, 300])
def test_compiled_python_says_where_its_source_lay(length: int, tmp_path: Path) -> None:
    stem = "/project/build/"
    said = stem + "d" * (length - len(stem) - len("/fast.py")) + "/fast.py"
    data = bytecode(tmp_path, "def f():\n    return 1\n", said)
    assert len(said) == length
    assert found(tmp_path, {"quick/__pycache__/fast.cpython-311.pyc": data}) == {
        "quick/__pycache__/fast.cpython-311.pyc": (said,)
    }


def test_compiled_python_with_a_relative_path_and_a_path_of_its_own(tmp_path: Path) -> None:
    source = 'DEFAULT = "/home/me/other.py"\nDOC = "see /home/me/fast.py there"\n'
    data = bytecode(tmp_path, source, "quick/fast.py")
    assert found(tmp_path, {"quick/__pycache__/fast.cpython-311.pyc": data}) == {}


def test_compiled_python_2(tmp_path: Path) -> None:
    said = b"/tmp/pip-build/quick/fast.py"
    data = b"\x03\xf3\r\n\0\0\0\0c\0\0\0\0" + b"s" + len(said).to_bytes(4, "little") + said
    assert found(tmp_path, {"quick/fast.pyc": data}) == {"quick/fast.pyc": (said.decode(),)}


@given(st.binary(max_size=3000), st.sampled_from(["fast.pyc", ".pyc", "a/b.cpython-311.pyc", "x"]))
def test_any_bytes_as_compiled_python(data: bytes, name: str) -> None:
    assert bytecode_path(name, data).isprintable()


def test_a_path_that_would_write_to_a_terminal() -> None:
    said = b"/\x1b[31m/fast.py"
    assert bytecode_path("fast.pyc", b"z" + bytes([len(said)]) + said) == "/\\x1b[31m/fast.py"


@given(st.binary(max_size=400))
def test_any_bytes_as_a_script(data: bytes) -> None:
    assert not shebang_path(data)
    assert shebang_path(b"#!/home/me/bin/python\n" + data) == "/home/me/bin/python"


@pytest.mark.timeout(20)
def test_compiled_python_made_to_take_long() -> None:
    assert bytecode_path("a.pyc", b"/a.py" * 3_000_000) == ""


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"/home/me/x", b" /tmp/a/b.c ", b"file:///root/x"])))
def test_the_pieces_do_not_matter(pieces: list[bytes]) -> None:
    for writer in Writer:
        whole, parts = BuildPaths(writer, text=True), BuildPaths(writer, text=True)
        whole.feed(b"".join(pieces))
        for piece in pieces:
            parts.feed(piece)
        assert whole.found() == parts.found()


def test_the_writer_of_a_file() -> None:
    assert writer_of(EXTENSION, b"\x7fELF") is Writer.TOOL
    assert writer_of("a/b.pc", b"prefix") is Writer.TOOL
    assert writer_of("a/FindOwn.cmake", b"set") is Writer.PERSON
    assert writer_of("q-1.dist-info/RECORD", b"") is Writer.TOOL
    assert writer_of("q-1.dist-info/METADATA", b"") is Writer.PERSON
    assert writer_of("a/b.toml", b"") is Writer.DATA
    assert writer_of("a/b.py", b"") is Writer.PERSON
