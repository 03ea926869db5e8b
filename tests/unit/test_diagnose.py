"""What a failed step's log says: realistic logs, the lines that must be shown, the cause, and what must not mislead."""

from __future__ import annotations

import pytest

from crosswheel.building.diagnose import LINES, OUT_OF_MEMORY, diagnose

pytestmark = pytest.mark.unit

COMPILER = """\
running build_ext
aarch64-linux-gnu-gcc -Wall -O2 -fPIC -I/sysroot/usr/include/python3.11 -c ml_dtypes/_src/dtypes.cc -o build/dtypes.o
ml_dtypes/_src/dtypes.cc: In function 'bool Initialize()':
ml_dtypes/_src/dtypes.cc:214:18: error: 'PyArray_DescrProto' was not declared in this scope; did you mean 'PyArray'?
  214 |   auto* descr = (PyArray_DescrProto*)p;
      |                  ^~~~~~~~~~~~~~~~~~
      |                  PyArray_Descr
ml_dtypes/_src/dtypes.cc:220:5: error: 'p' was not declared in this scope
error: command '/toolchain/bin/gcc' failed with exit code 1
"""

KILLED = """\
[1,204 / 3,077] Compiling tensorflow/core/kernels/conv_ops.cc; 88s local
ERROR: /build/src/tensorflow/core/kernels/BUILD:3112:1: C++ compilation of rule '//…:conv_ops' failed (Exit 1)
gcc: fatal error: Killed signal terminated program cc1plus
compilation terminated.
Target //tensorflow/tools/pip_package:build_pip_package failed to build
"""

LINKER = """\
/usr/bin/aarch64-linux-gnu-ld: bazel-out/aarch64-opt/bin/tree/_objs/_tree.so/tree.pic.o: in function `PyInit__tree':
tree.cc:(.text+0x40): undefined reference to `absl::lts_20211102::Mutex::Lock()'
collect2: error: ld returned 1 exit status
"""

LIBRARY = """\
/usr/lib/gcc-cross/aarch64-linux-gnu/12/../../../../aarch64-linux-gnu/bin/ld: cannot find -lz: No such file or directory
collect2: error: ld returned 1 exit status
"""

FOREIGN = """\
/usr/bin/ld: skipping incompatible /usr/lib/x86_64-linux-gnu/libm.so when searching for -lm
/usr/bin/ld: cannot find -lm
collect2: error: ld returned 1 exit status
"""

INCLUSION = """\
INFO: Analysed target //tree:_tree.so (12 packages loaded).
ERROR: /build/src/tree/BUILD:8:1: undeclared inclusion(s) in rule '//tree:_tree.so':
this rule is missing dependency declarations for the following files included by 'tree/tree.cc':
  '/usr/lib/gcc-cross/aarch64-linux-gnu/12/include/stddef.h'
  '/usr/lib/gcc-cross/aarch64-linux-gnu/12/include/stdint.h'
Target //tree:_tree.so failed to build
"""

PACKAGE = """\
ERROR: /build/src/tree/BUILD:26:1: no such package '@pybind11//': and referenced by '//tree:_tree.so'
ERROR: Analysis of target '//tree:_tree.so' failed; build aborted: no such package '@pybind11//'
"""

NETWORK = """\
Loading: 0 packages loaded
ERROR: An error occurred during the fetch of repository 'com_google_absl':
   java.io.IOException: Error downloading [https://example.invalid/a.tar.gz] to /build/home/x: Unknown host: it
"""

PIP = """\
Processing /build/src
  Installing build dependencies: started
  WARNING: Retrying after connection broken by 'NewConnectionError: [Errno -3] Temporary failure in name resolution'
ERROR: Could not find a version that satisfies the requirement setuptools>=77 (from versions: none)
"""

TRACEBACK = """\
Traceback (most recent call last):
  File "/build/src/first.py", line 1, in <module>
    raise OSError("caught and printed")
OSError: caught and printed
going on
Traceback (most recent call last):
  File "/build/src/setup.py", line 80, in <module>
    main()
  File "/build/src/setup.py", line 33, in main
    version = read_version()
  File "/build/src/setup.py", line 12, in read_version
    return text.split('"')[1]
IndexError: list index out of range
"""

MODULE = """\
Traceback (most recent call last):
  File "/build/src/setup.py", line 3, in <module>
    import numpy
ModuleNotFoundError: No module named 'numpy'
"""

FULL = """\
aarch64-linux-gnu-g++ -O2 -c a.cc
/tmp/ccX1.s: Assembler messages:
/tmp/ccX1.s: Fatal error: can't write 12 bytes to section .text of a.o: 'No space left on device'
error: command '/toolchain/bin/g++' failed with exit code 1
"""

HASH = """\
Downloading abseil.tar.gz
error: abseil.tar.gz: sha256 mismatch: expected 5ca3, got 77bc
"""

BAZEL_HASH = """\
ERROR: An error occurred during the fetch of repository 'zlib':
   java.io.IOException: Checksum was 9128 but wanted c3e5
"""

PATCH = """\
Checking patch tree/__init__.py...
error: patch failed: tree/__init__.py:31
error: tree/__init__.py: patch does not apply
"""

DEAD = """\
WARNING: Download from https://example.invalid/f3a22f35b044.tar.gz failed: GET returned 404 Not Found
ERROR: no such package '@eigen_archive//': java.io.IOException
"""

HEADER = """\
In file included from tree/tree.cc:20:
/sysroot/usr/include/python3.11/Python.h:8:10: fatal error: pyconfig.h: No such file or directory
    8 | #include "pyconfig.h"
      |          ^~~~~~~~~~~~
compilation terminated.
"""

FLAG = """\
gcc: error: unrecognized command-line option '-mfpu=neon'
gcc: error: unrecognized command-line option '-mfloat-abi=softfp'
"""

CMAKE = """\
-- Detecting CXX compile features - done
CMake Error at CMakeLists.txt:14 (find_package):
  By not providing "Findabsl.cmake" in CMAKE_MODULE_PATH this project has
  asked CMake to find a package configuration file provided by "absl".
-- Configuring incomplete, errors occurred!
"""

EXEC = """\
/bin/sh: 1: ./generator: Exec format error
make: *** [Makefile:3: table.h] Error 126
"""

READ_ONLY = """\
touch: cannot touch '/usr/local/x': Read-only file system
"""

ABSENT = """\
/bin/sh: 1: swig: not found
"""

SYMBOL_VERSION = """\
./protoc: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by ./protoc)
"""

BAZEL = """\
INFO: Reading options
ERROR: /build/src/tree/BUILD:3:1: name 'pytype_library' is not defined
ERROR: error loading package 'tree'
"""


@pytest.mark.parametrize(
    ("log", "cause", "shown"),
    [
        (COMPILER, "compiler refused", "'PyArray_DescrProto' was not declared"),
        (KILLED, "memory ran out", "Killed signal terminated program cc1plus"),
        (LINKER, "misses a symbol", "undefined reference to `absl"),
        (LIBRARY, "misses a library", "cannot find -lz"),
        (FOREIGN, "another architecture", "skipping incompatible"),
        (INCLUSION, "does not know the folder", "include/stdint.h"),
        (PACKAGE, "misses a repository", "@pybind11//"),
        (NETWORK, "has no network", "Unknown host"),
        (PIP, "has no network", "name resolution"),
        (TRACEBACK, "Python program failed", "IndexError: list index out of range"),
        (MODULE, "Python misses a module", "No module named 'numpy'"),
        (FULL, "disk is full", "No space left on device"),
        (HASH, "other bytes", "sha256 mismatch"),
        (BAZEL_HASH, "other bytes", "Checksum was 9128"),
        (PATCH, "patch does not fit", "tree/__init__.py:31"),
        (DEAD, "address is dead", "404"),
        (HEADER, "misses a header", "pyconfig.h"),
        (FLAG, "does not know a flag", "-mfpu=neon"),
        (CMAKE, "CMake's configuration failed", "Findabsl.cmake"),
        (EXEC, "program of the target", "Exec format error"),
        (READ_ONLY, "writes outside", "/usr/local/x"),
        (ABSENT, "not in the builder", "swig"),
        (SYMBOL_VERSION, "newer C or C++ library", "GLIBC_2.34"),
        (BAZEL, "Bazel stopped", "pytype_library"),
    ],
)
def test_the_cause_is_found_in_the_middle_of_a_long_log(log: str, cause: str, shown: str) -> None:
    noise = [f"[{i:,} / 9,999] Compiling external/thing/file_{i}.cc; 1s local" for i in range(2000)]
    found = diagnose([*noise, *log.splitlines(), *noise[:500]], 1)
    assert cause in found.cause
    assert any(shown in line for line in found.lines), found.lines
    assert 0 < len(found.lines) <= LINES
    assert found.no_space is (log is FULL)


def test_the_first_compiler_error_is_shown_with_its_surroundings() -> None:
    lines = diagnose(COMPILER.splitlines(), 1).lines
    assert "In function 'bool Initialize()'" in "\n".join(lines)
    assert any("^~~~" in line for line in lines)


def test_of_several_tracebacks_the_last_is_shown_whole() -> None:
    lines = diagnose(TRACEBACK.splitlines(), 1).lines
    assert lines[0].startswith("Traceback") and lines[-1].startswith("IndexError")
    assert not any("caught and printed" in line for line in lines)


def test_a_long_traceback_is_cut_in_its_middle() -> None:
    frames = [f'  File "a.py", line {i}, in f' for i in range(100)]
    lines = diagnose(["Traceback (most recent call last):", *frames, "RecursionError: too deep"], 1).lines
    assert len(lines) == LINES
    assert lines[0].startswith("Traceback") and lines[-1] == "RecursionError: too deep"


def test_a_container_at_its_limit_is_out_of_memory() -> None:
    found = diagnose(["compiling", "error: command 'g++' failed", f"{OUT_OF_MEMORY} of 64 MiB"], 137)
    assert "memory ran out" in found.cause and "--memory" in found.advice


def test_a_killed_command_is_suspected_of_memory() -> None:
    assert "memory" in diagnose(["compiling"], 137).cause


def test_an_unknown_failure_shows_the_end_of_the_log() -> None:
    found = diagnose([*(f"line {i}" for i in range(100)), "", "the end"], 3)
    assert found.lines[-1] == "the end" and len(found.lines) == LINES // 2
    assert (found.cause, found.advice) == ("", "")


def test_an_empty_log_is_no_fault() -> None:
    assert diagnose([], 1).lines == ()


def test_a_summary_is_not_taken_for_the_compilers_error() -> None:
    log = ["error: command '/toolchain/bin/gcc' failed with exit code 1"]
    assert diagnose(log, 1).cause == ""
