"""The symbol versions that a wheel's files want of the target's C and C++ libraries, against what the target has.

A symbol version that the target's library lacks stops the loader: "version `GLIBC_2.34' not found". Sources: glibc's
elf/dl-version.c; the ABI history in libstdc++'s manual ("ABI Policy and Guidelines") and in gcc's libgcc-std.ver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from crosswheel.proving.elf import ElfFacts, VersionNeed
from crosswheel.proving.facts import Facts
from crosswheel.proving.findings import Context, Finding, Rule, Severity, some

NAME = "abi"

FAMILIES: Mapping[str, tuple[str, str]] = {
    "GLIBC": (
        "glibc",
        "Link it against the target's own libc: the compiler took a newer one of the builder.",
    ),
    "GLIBCXX": (
        "libstdc++",
        "Compile and link it with the target's libstdc++ (its headers and -L), or with the gcc of the target's era.",
    ),
    "CXXABI": (
        "libstdc++'s C++ runtime",
        "Compile and link it with the target's libstdc++ (its headers and -L), or with the gcc of the target's era.",
    ),
    "GCC": (
        "libgcc",
        "Link it with the target's libgcc_s (-B and -L into the target's gcc folder), or with -static-libgcc.",
    ),
}
"""Family of versions → the library's name for people, and what in the toolchain would fix it."""

RELR = "GLIBC_ABI_DT_RELR"
RELR_SINCE = Version("2.36")
"""glibc 2.36 understands packed relative relocations (its NEWS). An older one must be told by the version
GLIBC_ABI_DT_RELR, and refuses; where a linker leaves that out, it loads the file without relocating it."""

_RELR_HINT = (
    "Link without packed relative relocations: -Wl,-z,nopack-relative-relocs (GNU ld), --pack-dyn-relocs=none (lld)."
)
_LAWFUL_WORDS = frozenset({"CXXABI_TM_1", "CXXABI_FLOAT128"})
"""Versions without a number that libstdc++ has had since gcc 4.7 and 4.9, before any target of ours."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """A file that wants a numbered version of a family."""

    elf: ElfFacts
    need: VersionNeed
    number: Version


def demands(facts: Facts, family: str) -> list[Demand]:
    """Who wants which version of ``family`` (``GLIBC``), of libraries that are not in the wheel; the newest first."""
    bundled = {elf.soname for elf in facts.elfs}
    found = []
    for elf in facts.native():
        for need in elf.versions:
            number = _number(need.version, family)
            if number is not None and not need.weak and need.library not in bundled:
                found.append(Demand(elf=elf, need=need, number=number))
    return sorted(found, key=lambda demand: demand.number, reverse=True)


def _number(version: str, family: str) -> Version | None:
    head, _, tail = version.partition("_")
    if head != family or not tail[:1].isdigit():
        return None
    try:
        return Version(tail)
    except InvalidVersion:
        return None


def _judge(facts: Facts, context: Context) -> Iterator[Finding]:
    for family in FAMILIES:
        floor = Version(getattr(context.policy.floors, family))
        above = [demand for demand in demands(facts, family) if demand.number > floor]
        for elf in {demand.elf.name: demand.elf for demand in above}.values():
            mine = [demand for demand in above if demand.elf is elf]
            yield _too_new(elf, mine, family, str(floor), context)
    yield from _relr(facts, context)
    yield from _unknown(facts, context)


def _too_new(elf: ElfFacts, above: list[Demand], family: str, floor: str, context: Context) -> Finding:
    people, hint = FAMILIES[family]
    wants = "; ".join(_wanted(demand.need) for demand in above[:3])
    more = f"; and {len(above) - 3} more versions" if len(above) > 3 else ""
    return Finding(
        rule=NAME,
        severity=Severity.FAIL,
        subject=elf.name,
        message=f"wants {wants}{more}; {context.policy.target} ({context.policy.sysroot}) has {people} up to "
        f"{family}_{floor}",
        hint=hint,
    )


def _wanted(need: VersionNeed) -> str:
    text = f"{need.version} of {need.library}"
    if need.symbols:
        text += f" for {', '.join(need.symbols[:3])}"
    return f"{text} and {need.count - 3} more" if need.count > 3 else text


def _relr(facts: Facts, context: Context) -> Iterator[Finding]:
    if Version(context.policy.floors.GLIBC) >= RELR_SINCE:
        return
    for elf in facts.native():
        said = any(need.version == RELR for need in elf.versions)
        if said or elf.relr:
            how = f"wants {RELR}" if said else f"has packed relative relocations (DT_RELR) and does not ask for {RELR}"
            yield Finding(
                rule=NAME,
                severity=Severity.FAIL,
                subject=elf.name,
                message=f"{how}; glibc understands them since {RELR_SINCE}, and {context.policy.target} has "
                f"{context.policy.floors.GLIBC}",
                hint=_RELR_HINT,
            )


def _unknown(facts: Facts, context: Context) -> Iterator[Finding]:
    """Versions of the families that have no number: private interfaces, and marks of a newer time."""
    for elf in facts.native():
        names = sorted(
            {
                need.version
                for need in elf.versions
                if need.version.partition("_")[0] in FAMILIES
                and _number(need.version, need.version.partition("_")[0]) is None
                and need.version not in _LAWFUL_WORDS | {RELR}
                and not need.weak
            }
        )
        if names:
            yield Finding(
                rule=NAME,
                severity=Severity.FAIL,
                subject=elf.name,
                message=f"wants {some(names)}, which no release of these libraries promises to have",
                hint="GLIBC_PRIVATE binds a file to one build of glibc; other names come from a linker or a libc that "
                "is newer than the target's. Link against the target's own libc.",
            )


def _looked(facts: Facts, context: Context) -> str:
    newest = []
    for family in FAMILIES:
        found = demands(facts, family)
        if found:
            newest.append(f"{family}_{found[0].number} (the target has {getattr(context.policy.floors, family)})")
    files = sum(1 for _ in facts.native())
    return f"{files} ELF files; the newest versions wanted: {', '.join(newest) or 'none'}"


RULES = (
    Rule(
        name=NAME,
        version=1,
        about="no symbol version is newer than the target's glibc, libstdc++ and libgcc",
        judge=_judge,
        looked=_looked,
    ),
)
