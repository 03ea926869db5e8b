"""Why a step failed: the lines of its log that matter, the likely cause, and what to do.

All that is known about failures stands in one table, the most telling first: a compiler that was killed also prints
``error:``, and a missing header inside Bazel also prints ``ERROR:``. The first pattern that a line of the log matches
decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LINES = 20
"""At most so many lines are given."""

OUT_OF_MEMORY = "crosswheel: the container reached its memory limit"
"""How the log line begins by which a sandbox says that the kernel killed a process for want of memory."""

_WIDTH = 400


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """``lines`` are those that matter, ``cause`` and ``advice`` are sentences (both empty where nothing is known)."""

    lines: tuple[str, ...]
    cause: str
    advice: str
    no_space: bool = False
    out_of_memory: bool = False


@dataclass(frozen=True)
class _Pattern:
    """``pick`` says which match is shown: the first (compilers: the rest follows from it) or the last (tracebacks).
    ``before`` and ``after`` are how many lines around it."""

    regex: re.Pattern[str]
    cause: str
    advice: str
    pick: Literal["first", "last"] = "first"
    before: int = 2
    after: int = 6


def _pattern(
    regex: str, cause: str, advice: str, pick: Literal["first", "last"] = "first", before: int = 2, after: int = 6
) -> _Pattern:
    return _Pattern(re.compile(regex), cause, advice, pick, before, after)


_NO_SPACE = _pattern(
    r"No space left on device|ENOSPC|[Dd]isk quota exceeded",
    "A disk is full.",
    "Make room: `./x clean`. The container's /tmp lies in memory and counts as such.",
)

_MEMORY = _pattern(
    rf"^{OUT_OF_MEMORY}|Killed signal terminated program|fatal error: Killed|virtual memory exhausted"
    r"|cc1plus: out of memory|java\.lang\.OutOfMemoryError|MemoryError$|Cannot allocate memory"
    r"|signal 9 \[Killed\]|ld terminated with signal 9",
    "A process was killed because memory ran out; it is not an error of the source.",
    "Give it more memory or let less run at once: `--memory GiB`, `--jobs 1`.",
)

_PATTERNS = (
    _MEMORY,
    _NO_SPACE,
    _pattern(
        r"^config\.site (has no answer|wants an interpreter|wants another source): ",
        "CPython's configure was not begun: it would stop, or find out something that is not so.",
        "An answer goes into a file of sysroots/config.site, and its key into `hard` of sysroots/pythons.toml; an "
        "interpreter is among the packages of the toolchain; a source is that of the series that is asked for.",
        before=0,
        after=3,
    ),
    _pattern(
        r"undeclared inclusion\(s\) in rule",
        "Bazel does not know the folder of a header that the compiler used.",
        "Add it to the toolchain's cxx_builtin_include_directories, or the missing dependency to the BUILD file. With "
        "overridden repositories the compiler needs -fno-canonical-system-headers.",
        before=0,
        after=12,
    ),
    _pattern(
        r"(?i)(sha-?256|checksum|hash|digest).{0,60}(mismatch|does not match|did not match|but wanted|was expected)"
        r"|THESE PACKAGES DO NOT MATCH THE HASHES",
        "A file has other bytes than the release says.",
        "If upstream replaced the file on purpose, check the new one and write its sha256 into the release.",
    ),
    _pattern(
        r"error: patch failed|patch does not apply|Hunk #\d+ FAILED|corrupt patch at line",
        "A patch does not fit the sources.",
        "`./x patches check` shows the hunk and what stands there instead.",
    ),
    _pattern(
        r"HTTP Error (404|410)|(404|410) (Not Found|Gone)|The requested URL returned error: 4\d\d|GET returned 404",
        "An address is dead.",
        "Add another place of the same bytes to the release, or name a `mirror` that has them.",
    ),
    _pattern(
        r"Temporary failure in name resolution|Could not resolve host|UnknownHostException|Unknown host:"
        r"|Name or service not known|Network is unreachable|Error downloading \[|gaierror",
        "Something tried to download, and a step that compiles has no network.",
        "Add what it wants to the release's externals or requires; it is then fetched beforehand, by its sha256.",
        before=4,
    ),
    _pattern(
        r"no such package '|no such target '|[Rr]epository '@[^']+' (is not defined|could not be resolved)",
        "Bazel misses a repository or a package.",
        "Add it to the release's externals, or to the overrides of this version of Bazel.",
        before=0,
        after=8,
    ),
    _pattern(
        r"unrecognized command[- ]line option|unknown argument: '|unrecognized option '--?",
        "The compiler does not know a flag: it is older, or for another architecture, than the flag is meant for.",
        "Change the flag in the release, or choose another toolchain.",
    ),
    _pattern(
        r"Unrecognized option: -|ERROR: .*:: Unrecognized option",
        "This version of Bazel does not know a flag.",
        "Move the flag to the versions of Bazel that know it (toolchains/bazel.toml).",
    ),
    _pattern(
        r"cannot execute binary file|Exec format error",
        "A program of the target was run on this machine.",
        "The build runs a tool it has just built: build that for the host, or run it under the emulator.",
    ),
    _pattern(
        r"version `(GLIBC|GLIBCXX|CXXABI)_[0-9.]+' not found",
        "A program needs a newer C or C++ library than is there.",
        "It was linked against another sysroot than it runs in: check the toolchain's wrappers.",
    ),
    _pattern(
        r"skipping incompatible .* when searching for|file in wrong format|Relocations in generic ELF"
        r"|incompatible with .* output",
        "The linker met a library of another architecture.",
        "The search path leaves the sysroot: look at the -L and -B options in the log.",
    ),
    _pattern(
        r"cannot find -l\S+|cannot find \S+\.o\b",
        "The linker misses a library.",
        "Add the package with the library to the sysroot.",
    ),
    _pattern(
        r"undefined reference to|undefined symbol: ",
        "The linker misses a symbol: a library is absent, too old, or named before what needs it.",
        "Look which library defines it, and whether the link command names it.",
        before=3,
    ),
    _pattern(
        r"fatal error: .*: No such file or directory",
        "The compiler misses a header.",
        "Add the package with the header to the sysroot, or its folder to the include path.",
    ),
    _pattern(
        r"CMake Error",
        "CMake's configuration failed.",
        "The lines say what it misses; its own log lies in the work folder (`--keep-failed`).",
        after=10,
    ),
    _pattern(
        r"(?<![\w-])error: (?!command )|internal compiler error",
        "The compiler refused the source.",
        "If the source is at fault for this compiler or Python, it wants a patch.",
        before=3,
        after=8,
    ),
    _pattern(
        r"^\s*ERROR: ",
        "Bazel stopped.",
        "",
        before=0,
        after=10,
    ),
    _pattern(
        r"ModuleNotFoundError: No module named|ImportError: ",
        "Python misses a module, or a module is of another version than its user wants.",
        "Add the wheel to the release's requires, or the package to the builder.",
        pick="last",
        before=8,
        after=1,
    ),
    _pattern(
        r"command not found|[Ee]xecutable file not found|: not found$|env: .*: No such file or directory"
        r"|exec \S+ failed: No such file|^cannot run \S+: No such file",
        "A program is not in the builder.",
        "Add its package to the toolchain's packages.",
    ),
    _pattern(
        r"Read-only file system",
        "Something writes outside /build and /tmp, where nothing may be written.",
        "Let it write into /build, or give it a writable copy of its input.",
    ),
    _pattern(
        r"Permission denied|Operation not permitted",
        "Something did what an ordinary user may not do.",
        "",
    ),
)

_TRACEBACK = "Traceback (most recent call last):"


def diagnose(log_lines: Sequence[str], exit_code: int) -> Diagnosis:
    """What the log of a failed step says. ``exit_code`` is that of the command that failed (137: killed)."""
    lines = [line.rstrip()[:_WIDTH] for line in log_lines]
    for pattern in _PATTERNS:
        found = _find(pattern, lines)
        if found is not None:
            shown = _traceback(lines, found) or _around(pattern, lines, found)
            return Diagnosis(
                lines=shown,
                cause=pattern.cause,
                advice=pattern.advice,
                no_space=pattern is _NO_SPACE,
                out_of_memory=pattern is _MEMORY,
            )
    last = max((i for i, line in enumerate(lines) if line.startswith(_TRACEBACK)), default=None)
    if last is not None:
        return Diagnosis(lines=_traceback(lines, last), cause="A Python program failed.", advice="")
    tail = tuple([line for line in lines if line.strip()][-LINES // 2 :])
    if exit_code == 137:
        cause = "The command was killed (exit status 137), which mostly means that memory ran out."
        return Diagnosis(lines=tail, cause=cause, advice="Try `--memory GiB` or `--jobs 1`.", out_of_memory=True)
    return Diagnosis(lines=tail, cause="", advice="")


def _find(pattern: _Pattern, lines: Sequence[str]) -> int | None:
    order = range(len(lines)) if pattern.pick == "first" else reversed(range(len(lines)))
    return next((i for i in order if pattern.regex.search(lines[i])), None)


def _around(pattern: _Pattern, lines: Sequence[str], found: int) -> tuple[str, ...]:
    shown = lines[max(0, found - pattern.before) : found + pattern.after + 1]
    return tuple(line for line in shown if line.strip())[:LINES]


def _traceback(lines: Sequence[str], found: int) -> tuple[str, ...]:
    """The traceback that the line ``found`` belongs to: from its head to its exception; empty where it is in none."""
    head = next((i for i in range(found, -1, -1) if lines[i].startswith(_TRACEBACK)), None)
    if head is None:
        return ()
    end = head + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    if found > end:
        return ()
    block = lines[head : end + 1]
    if len(block) <= LINES:
        return tuple(block)
    return (block[0], "  …", *block[-(LINES - 2) :])
