"""What a wheel's files are linked with, and where they look for it.

Sources: ld.so(8) for RPATH, RUNPATH and $ORIGIN; glibc 2.41's NEWS for executable stacks; PEP 513 and auditwheel's
policies for what may not be bundled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from packaging.version import Version

from crosswheel.proving.elf import ElfFacts
from crosswheel.proving.facts import Facts
from crosswheel.proving.findings import Context, Finding, Rule, Severity, some

NEEDED = "needed"
BUNDLED = "bundled"
RUNPATH = "runpath"
PATHS = "paths"
SEGMENTS = "segments"

_LOADERS: Mapping[str, str] = {"aarch64": "/lib/ld-linux-aarch64.so.1", "x86_64": "/lib64/ld-linux-x86-64.so.2"}

_GLIBC = frozenset(
    {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2"}
)
"""On every machine with glibc, whether its root is at hand or not."""

_NAME = r"(?:-[0-9a-f]{8,}|-\d+(?:\.\d+)*)?\.so(?:\.\d+)*$"
_LIBC = re.compile(rf"^(?:lib(?:anl|c|dl|m|mvec|nsl|pthread|resolv|rt|thread_db|util)|ld-linux[a-z0-9_-]*){_NAME}")
_RUNTIMES = re.compile(rf"^lib(?:stdc\+\+|gcc_s){_NAME}")
_DRIVERS = re.compile(rf"^lib(?:cuda|nvcuvid|nvidia-[a-z0-9-]+){_NAME}")

_NO_EXEC_STACK_SINCE = Version("2.41")
_ORIGIN = re.compile(r"^\$(?:ORIGIN|\{ORIGIN\})(?:/|$)")


# --- needed ----------------------------------------------------------------------------------------------------------


def _judge_needed(facts: Facts, context: Context) -> Iterator[Finding]:
    wheel = _Places(facts)
    missing: dict[str, list[ElfFacts]] = {}
    expected = _LOADERS[context.policy.arch]
    always = _GLIBC | {PurePosixPath(expected).name}
    for elf in facts.native():
        if elf.interpreter and elf.interpreter != expected:
            yield _needed(facts, elf.name, f"asks for the loader {elf.interpreter}; the target's is {expected}")
        for soname in elf.needed:
            there = soname in (always if context.sonames is None else context.sonames)
            if not there and context.brought(soname) is None and not wheel.reaches(elf, soname):
                missing.setdefault(soname, []).append(elf)
    unknown = [soname for soname in missing if context.sonames is None and not wheel.has(soname)]
    if unknown:
        yield Finding(
            rule=NEEDED,
            severity=Severity.NOT_PROVEN,
            subject=facts.file,
            message=f"no root of the target is at hand in which to look for {some(unknown, 8)}",
            hint="Name a target whose root can be assembled.",
        )
    for soname, elfs in missing.items():
        if soname not in unknown:
            yield _missing(soname, elfs, wheel, facts, context)


class _Places:
    """Where the wheel's libraries will lie, and where its files look."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        installed = {elf.name: PurePosixPath(facts.installed_name(elf.name)) for elf in facts.elfs}
        self._folders = {path.parent.as_posix() for path in installed.values()}
        self._files = {path.as_posix() for path in installed.values()} | facts.aliases
        self._names = {path.name for path in installed.values()} | {elf.soname for elf in facts.elfs if elf.soname}
        # A DT_RPATH serves the libraries that its file loads, too (ld.so(8)); which those are is not followed.
        self._inherited = {place for elf in facts.elfs for place in self._searched(elf, elf.rpath)}

    def _searched(self, elf: ElfFacts, entries: tuple[str, ...]) -> set[str]:
        places = (resolved(self._facts.installed_name(elf.name), entry) for entry in entries)
        return {place for place in places if place is not None}

    def reaches(self, elf: ElfFacts, soname: str) -> bool:
        """Whether ``elf`` finds a library of the wheel by its RUNPATH, or by some file's RPATH."""
        folders = self._searched(elf, elf.runpath) | self._inherited
        return any(PurePosixPath(folder, soname).as_posix() in self._files for folder in folders)

    def has(self, soname: str) -> bool:
        """Whether the wheel has such a library anywhere."""
        return soname in self._names

    def looks_elsewhere(self, elf: ElfFacts) -> list[str]:
        """The folders of other packages where ``elf`` looks."""
        return sorted(self._searched(elf, elf.rpath + elf.runpath) - self._folders)


def _missing(soname: str, elfs: list[ElfFacts], wheel: _Places, facts: Facts, context: Context) -> Finding:
    others = some([elf.name for elf in elfs[1:]], 2)
    wanted = f"wants {soname}{f' (as do {others})' if others else ''}"
    elsewhere = sorted({folder for elf in elfs for folder in wheel.looks_elsewhere(elf)})
    if wheel.has(soname):
        return Finding(
            rule=NEEDED,
            severity=Severity.WARN,
            subject=elfs[0].name,
            message=f"{wanted}, which is in the {facts.word}, and no RPATH leads there: it is found only where "
            "something has loaded it before",
            hint="Link with -Wl,-rpath,'$ORIGIN/…' to the folder in which the library lies.",
        )
    if elsewhere and facts.may_require:
        return Finding(
            rule=NEEDED,
            severity=Severity.NOT_PROVEN,
            subject=elfs[0].name,
            message=f"{wanted}; the target does not have it, and a package that this {facts.word} requires may "
            f"bring it to {some(elsewhere, 2)}",
            hint="Look whether one of the wheel's requirements does.",
        )
    return _needed(facts, elfs[0].name, f"{wanted}; neither the {facts.word} nor {context.policy.target} has it")


def _needed(facts: Facts, subject: str, message: str) -> Finding:
    return Finding(
        rule=NEEDED,
        severity=Severity.FAIL,
        subject=subject,
        message=message,
        hint="Link with the target's libraries (a dangling .so link in a sysroot changes what -l finds), link it "
        f"statically, or put the library into the {facts.word} with an RPATH of $ORIGIN.",
    )


def _looked_needed(facts: Facts, context: Context) -> str:
    wanted = sorted({soname for elf in facts.native() for soname in elf.needed})
    here = [soname for soname in wanted if soname in (context.sonames or ()) or context.brought(soname) is None]
    brought = "".join(f"; {soname} is {context.brought(soname)}" for soname in wanted if soname not in here)
    return f"{len(here)} libraries are wanted, and all are there: {some(here, 8) or 'none'}{brought}"


# --- bundled ---------------------------------------------------------------------------------------------------------


def _judge_bundled(facts: Facts, context: Context) -> Iterator[Finding]:
    for member in facts.members:
        name = member.name.rpartition("/")[2]
        for pattern, severity, why in (
            (_LIBC, Severity.FAIL, "a part of glibc, which must be the one of the machine: two of them end in a crash"),
            (_DRIVERS, Severity.FAIL, "a part of the GPU's driver, which must be the one of the machine's kernel"),
            (_RUNTIMES, context.blame, "a compiler's runtime: a second one beside the target's breaks exceptions"),
        ):
            if pattern.match(name):
                yield Finding(
                    rule=BUNDLED,
                    severity=severity,
                    subject=member.name,
                    message=f"is {why}",
                    hint=f"Leave it out of the {facts.word}; the build copied it in (a `locate` or a glob found too "
                    "much).",
                )


def _looked_bundled(facts: Facts, _: Context) -> str:
    libraries = [elf for elf in facts.native() if elf.soname]
    return f"{len(libraries)} libraries with a SONAME; none is the system's own"


# --- runpath ---------------------------------------------------------------------------------------------------------


def resolved(installed: str, entry: str) -> str | None:
    """The folder, below site-packages, that an entry of RPATH or RUNPATH of the file ``installed`` leads to.

    ``""`` is site-packages itself. None where the entry is not relative to $ORIGIN or leads out of site-packages.
    """
    if not _ORIGIN.match(entry):
        return None
    parts = list(PurePosixPath(installed).parts[:-1])
    for part in PurePosixPath(entry).parts[1:]:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return "/".join(parts)


def _judge_runpath(facts: Facts, context: Context) -> Iterator[Finding]:
    for elf in facts.native():
        for entry in dict.fromkeys(elf.rpath + elf.runpath):
            kind = "an RPATH" if entry in elf.rpath else "a RUNPATH"
            if not _ORIGIN.match(entry):
                where = f"the folder {entry}" if entry else "whatever folder the program is started in"
                severity, why = Severity.FAIL, f"has {kind} that names {where}, on any machine that it comes to"
            elif resolved(facts.installed_name(elf.name), entry) is None:
                severity, why = context.blame, f"has {kind} that leads out of {facts.place}: {entry}"
            else:
                continue
            yield Finding(
                rule=RUNPATH,
                severity=severity,
                subject=elf.name,
                message=why,
                hint="Only $ORIGIN and what lies below or beside the wheel belongs there: link without -rpath, or with "
                "-Wl,-rpath,'$ORIGIN/…'.",
            )


def _looked_runpath(facts: Facts, _: Context) -> str:
    entries = [entry for elf in facts.native() for entry in elf.rpath + elf.runpath]
    return f"{len(entries)} entries of RPATH and RUNPATH, all relative to $ORIGIN and inside {facts.place}"


# --- paths -----------------------------------------------------------------------------------------------------------


_COMPILED = "Compile with -ffile-prefix-map=$PWD=. (assertions and debug information name source files)"
_WRITTEN = "Let the build write it with paths that are relative, or leave it out of the wheel"
_MENDED: Mapping[str, str] = {
    ".a": _COMPILED,
    ".la": "Leave it out of the wheel: no target needs libtool's files",
    ".o": _COMPILED,
    ".pc": "Begin its paths with ${pcfiledir}, which is where it will lie",
    ".pyc": "Leave it out of the wheel: whoever installs it compiles it, with the path where it lies then",
}


def _judge_paths(facts: Facts, context: Context) -> Iterator[Finding]:
    searched = {elf.name: set(elf.rpath + elf.runpath) for elf in facts.elfs}
    compiled = searched.keys() | facts.garbled.keys()
    for name, paths in facts.paths.items():
        found = [path for path in paths if path not in searched.get(name, ())]
        if found:
            yield Finding(
                rule=PATHS,
                severity=context.blame,
                subject=name,
                message=f"has paths of the machine that built it in it: {some([path[:120] for path in found], 3)}",
                hint=f"{_MENDED.get(PurePosixPath(name).suffix, _COMPILED if name in compiled else _WRITTEN)}: such "
                "paths give away the builder and make two builds differ.",
            )


def _looked_paths(facts: Facts, _: Context) -> str:
    return (
        f"{len(facts.members)} files, {len(facts.elfs)} of them ELF; none has a path below /build, /home, /root or a "
        "temporary folder in it"
    )


# --- segments --------------------------------------------------------------------------------------------------------


def _judge_segments(facts: Facts, context: Context) -> Iterator[Finding]:
    refused = Version(context.policy.floors.GLIBC) >= _NO_EXEC_STACK_SINCE
    for elf in facts.native():
        # Without the header, glibc's default for x86_64 is an executable stack (its sysdeps/x86/stackinfo.h).
        stack = context.policy.arch == "x86_64" if elf.exec_stack is None else elf.exec_stack
        if stack and elf.dynamic:
            yield Finding(
                rule=SEGMENTS,
                severity=Severity.FAIL if refused else context.blame,
                subject=elf.name,
                message="asks for an executable stack" + (", and the target's glibc refuses that" if refused else ""),
                hint="Some assembly file in it lacks .note.GNU-stack: link with -Wl,-z,noexecstack.",
            )
        if elf.text_relocations:
            yield Finding(
                rule=SEGMENTS,
                severity=context.blame,
                subject=elf.name,
                message="has text relocations: its code is written to when it is loaded, which hardened systems forbid",
                hint="Something in it was compiled without -fPIC.",
            )


def _looked_segments(facts: Facts, _: Context) -> str:
    return f"{sum(1 for elf in facts.native() if elf.dynamic)} loadable files: no executable stack, no text relocations"


RULES = (
    Rule(
        name=NEEDED,
        version=1,
        about="every library that a file wants is in the wheel or on the target",
        judge=_judge_needed,
        looked=_looked_needed,
    ),
    Rule(
        name=BUNDLED,
        version=1,
        about="no part of the system itself is in the wheel",
        judge=_judge_bundled,
        looked=_looked_bundled,
    ),
    Rule(
        name=RUNPATH,
        version=1,
        about="libraries are looked for relative to the file, inside site-packages",
        judge=_judge_runpath,
        looked=_looked_runpath,
    ),
    Rule(
        name=PATHS,
        version=2,
        about="no file has a path of the machine that built it in it",
        judge=_judge_paths,
        looked=_looked_paths,
    ),
    Rule(
        name=SEGMENTS,
        version=1,
        about="no executable stack and no text relocations",
        judge=_judge_segments,
        looked=_looked_segments,
    ),
)
