"""What the wheel carries against what its name says: the machine of every ELF file, and the tags.

Sources: PEP 425 (tags), PEP 427 (wheels), PEP 600 (manylinux_X_Y), PEP 3149 and CPython's SOABI (extension suffixes);
glibc's elf/dl-load.c for the ELF header that it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from packaging.tags import Tag, parse_tag
from packaging.version import Version

from crosswheel.proving.abi import demands
from crosswheel.proving.elf import ElfFacts
from crosswheel.proving.facts import Facts, WheelFacts
from crosswheel.proving.findings import Context, Finding, Rule, Severity, some
from crosswheel.proving.processor import MACHINES
from crosswheel.spec.policy import Policy
from crosswheel.spec.requirements import machine_of

MACHINE = "machine"
TAG = "tag"

_SYSTEMS = (0, 3)
"""EI_OSABI: System V and GNU; glibc refuses others ("ELF file OS ABI invalid")."""

_LEGACY: Mapping[str, str] = {"manylinux1": "2.5", "manylinux2010": "2.12", "manylinux2014": "2.17"}
"""PEP 600: the old names and the glibc that each promises to be enough."""

_MANYLINUX = re.compile(r"^(?:manylinux_(\d+)_(\d+)|(manylinux1|manylinux2010|manylinux2014))_(\w+)$")
_SUFFIX = re.compile(r"^(?P<stem>.+?)\.(?P<soabi>cpython-[0-9]+[a-z]*-[\w-]+|pypy[\w-]+|abi3)\.so$")


# --- machine ---------------------------------------------------------------------------------------------------------


def _judge_machine(facts: Facts, context: Context) -> Iterator[Finding]:
    arch = context.policy.arch
    for name, why in facts.garbled.items():
        yield Finding(
            rule=MACHINE,
            severity=Severity.FAIL,
            subject=name,
            message=f"begins like an ELF file, and is none that can be loaded: {why}",
            hint="It may have been cut short or edited; build it again.",
        )
    for name, why in facts.unread.items():
        yield Finding(
            rule=MACHINE,
            severity=Severity.NOT_PROVEN,
            subject=name,
            message=f"is a static library of which not all could be read: {why}",
            hint="Whoever links with it gets code that nobody judged: leave it out of the wheel, or make it anew.",
        )
    for elf in facts.native():
        wrong = _wrong_header(elf, arch)
        if wrong:
            yield Finding(
                rule=MACHINE,
                severity=Severity.FAIL,
                subject=elf.name,
                message=f"is {wrong}; {context.policy.target} is {arch}",
                hint="A tool of the host made it, or it was copied from the host: its rule does not use the toolchain "
                "of the target.",
            )


def _wrong_header(elf: ElfFacts, arch: str) -> str:
    """What is not the target's in an ELF header, in words; empty where all is."""
    if elf.machine != MACHINES[arch]:
        return f"for {elf.machine_name}"
    if elf.bits != 64 or not elf.little_endian:
        return f"{elf.bits}-bit, {'little' if elf.little_endian else 'big'} endian"
    if elf.osabi not in _SYSTEMS:
        return f"for another system than Linux (EI_OSABI {elf.osabi})"
    if elf.flags:
        return f"marked with the flags {elf.flags:#x}, which {arch} does not have"
    return ""


def _looked_machine(facts: Facts, context: Context) -> str:
    native = sum(1 for _ in facts.native())
    device = len(facts.elfs) - native
    more = f", and {device} with code for a GPU" if device else ""
    return f"{native} ELF files, all for {context.policy.arch}{more}; {len(facts.members)} members"


# --- tag -------------------------------------------------------------------------------------------------------------


def _judge_tag(facts: WheelFacts, context: Context) -> Iterator[Finding]:
    tags = [tag for text in facts.tags for tag in parse_tag(text)]
    yield from _installable(tags, facts, context)
    yield from _said_twice(facts, context)
    yield from _pure_or_not(tags, facts, context)
    yield from _manylinux(tags, facts, context)
    yield from _suffixes(facts, context)


def accepted_tags(policy: Policy) -> frozenset[Tag]:
    """The tags that pip takes on the target: of CPython ``policy.python`` on glibc up to the target's."""
    return frozenset(machine_of(policy).ranks)


def _installable(tags: Iterable[Tag], facts: WheelFacts, context: Context) -> Iterator[Finding]:
    accepted = accepted_tags(context.policy)
    tags = list(tags)
    if any(tag in accepted for tag in tags):
        return
    policy = context.policy
    platforms, pythons = {tag.platform for tag in accepted}, {(tag.interpreter, tag.abi) for tag in accepted}
    if not any(tag.platform in platforms for tag in tags):
        why = (
            f"no platform of it ({some(sorted({tag.platform for tag in tags}))}) is one that {policy.target} is: "
            f"{policy.arch} with glibc {policy.floors.GLIBC}"
        )
    elif not any((tag.interpreter, tag.abi) in pythons for tag in tags):
        said = some(sorted({f"{tag.interpreter}-{tag.abi}" for tag in tags}))
        why = f"it is for {said}, and {policy.target} has CPython {policy.python}"
    else:
        why = f"none of its tags ({some(facts.tags)}) is one for CPython {policy.python} on {policy.arch}"
    yield Finding(
        rule=TAG,
        severity=Severity.FAIL,
        subject=facts.file,
        message=f"pip does not install it on {policy.target}: {why}",
        hint="Build or take the wheel for this target and this Python.",
    )


def _said_twice(facts: WheelFacts, context: Context) -> Iterator[Finding]:
    if facts.wheel is None:
        return
    inside = {str(tag) for text in facts.wheel.get("tag", ()) for tag in _parsed(text)}
    if inside != set(facts.tags):
        yield Finding(
            rule=TAG,
            severity=context.blame,
            subject=facts.file,
            message=f"its name says {some(facts.tags)}, and WHEEL in it says {some(sorted(inside)) or 'nothing'}",
            hint="The file was renamed, or the build was told the platform in one place only: write the tags anew "
            "with `wheel tags`.",
        )


def _parsed(text: str) -> frozenset[Tag]:
    return parse_tag(text) if text.count("-") == 2 else frozenset()


def _pure_or_not(tags: Iterable[Tag], facts: WheelFacts, context: Context) -> Iterator[Finding]:
    pure = all(tag.platform == "any" for tag in tags)
    native = [elf.name for elf in facts.native()]
    if pure and native:
        yield Finding(
            rule=TAG,
            severity=Severity.FAIL,
            subject=facts.file,
            message=f"is tagged for any platform, and has machine code: {some(native)}",
            hint="Tell the build that the wheel is for a platform (has_ext_modules, --plat-name).",
        )
    if not pure and not facts.elfs and not facts.garbled:
        yield Finding(
            rule=TAG,
            severity=context.blame,
            subject=facts.file,
            message="is tagged for a platform, and has no machine code at all",
            hint="An extension is optional in many a setup.py, and one that does not compile is left out in silence: "
            "look for the compiler's error in the log of the build.",
        )


def _manylinux(tags: Iterable[Tag], facts: WheelFacts, context: Context) -> Iterator[Finding]:
    promises = [promise for tag in tags if (promise := _promised(tag.platform)) is not None]
    found = demands(facts, "GLIBC")
    if promises and found and found[0].number > min(promises):
        worst = found[0]
        harmless = worst.number <= Version(context.policy.floors.GLIBC)
        symbols = some(worst.need.symbols, 3)
        yield Finding(
            rule=TAG,
            severity=context.blame if harmless else Severity.FAIL,
            subject=facts.file,
            message=f"its tag promises that glibc {min(promises)} is enough, and {worst.elf.name} wants "
            f"{worst.need.version} ({symbols})",
            hint=f"The true tag is manylinux_{worst.number.major}_{worst.number.minor}, or linux; pip installs it "
            "where it cannot be loaded.",
        )


def _promised(platform: str) -> Version | None:
    match = _MANYLINUX.match(platform)
    if match is None:
        return None
    return Version(_LEGACY[match[3]] if match[3] else f"{match[1]}.{match[2]}")


def _suffixes(facts: WheelFacts, context: Context) -> Iterator[Finding]:
    """Extension modules of which no file has a suffix that the target's Python looks for."""
    policy = context.policy
    loaded = f"cpython-{soabi_version(policy.python)}-{policy.arch}-linux-gnu"
    modules: dict[str, list[tuple[str, str]]] = {}
    for elf in facts.native():
        match = _SUFFIX.match(elf.name)
        if match:
            modules.setdefault(match["stem"], []).append((elf.name, match["soabi"]))
    plain = {elf.name for elf in facts.native()}
    for stem, files in modules.items():
        if f"{stem}.so" in plain or any(soabi in (loaded, "abi3") for _, soabi in files):
            continue
        yield Finding(
            rule=TAG,
            severity=Severity.FAIL,
            subject=files[0][0],
            message=f"is an extension module that the target's Python does not find: it looks for .{loaded}.so, "
            f".abi3.so and .so, and there is {some(soabi for _, soabi in files)}",
            hint="The build asked the host's Python for the suffix: let it read the target's sysconfig data.",
        )


def soabi_version(python: str) -> str:
    """The version in the suffix of extension modules: ``311``; ``36m`` up to 3.7 (CPython's ABIFLAGS)."""
    major, minor = (int(part) for part in python.split("."))
    return f"{major}{minor}" + ("m" if (major, minor) < (3, 8) else "")


def _looked_tag(facts: WheelFacts, context: Context) -> str:
    return f"{some(facts.tags)}: pip installs it on {context.policy.target}, and its files are what it says"


MACHINE_RULE = Rule(
    name=MACHINE,
    version=2,
    about="every ELF file is for the target's machine",
    judge=_judge_machine,
    looked=_looked_machine,
)

RULES: tuple[Rule[WheelFacts], ...] = (
    MACHINE_RULE,
    Rule(
        name=TAG,
        version=1,
        about="pip installs the wheel on the target, and its tags are true of its files",
        judge=_judge_tag,
        looked=_looked_tag,
    ),
)
