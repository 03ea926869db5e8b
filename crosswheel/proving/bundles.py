"""Bundles: what is known of one, the rules that judge it, and what its attempts on the emulated target mean.

A bundle is a ``.tar.gz`` of one folder with programs and libraries that are no Python package. The rules on machine,
symbol versions and libraries are the wheels' own.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from crosswheel.digest import sha256_file, sha256_json
from crosswheel.errors import InputError
from crosswheel.proving import abi, cuda, isa, libraries, payload
from crosswheel.proving.archive import MOST_BYTES, MOST_MEMBERS, Entry, Unreadable, unsafe_name
from crosswheel.proving.emulate import NAME as EMULATED
from crosswheel.proving.emulate import VERSION as EMULATED_VERSION
from crosswheel.proving.emulate import RunOutcome, ended_badly, not_run
from crosswheel.proving.facts import Facts
from crosswheel.proving.findings import Context, Finding, Rule, Severity, judged
from crosswheel.proving.members import Gathered
from crosswheel.proving.processor import Processor
from crosswheel.proving.prove import Proof, RunFacts
from crosswheel.spec.outputs import Attempt
from crosswheel.spec.policy import Policy

CONTENTS = "contents"

_PIECE = 1 << 20
_BROKEN = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError)


@dataclass(frozen=True, kw_only=True)
class BundleFacts(Facts):
    """One bundle. ``tops`` are the folders at its top, of which there must be one: the names of ``members`` are below
    it. ``links`` maps the name of a symbolic link to where it leads, as written. ``odd`` are members that are neither
    files, folders nor symbolic links."""

    word: ClassVar[str] = "bundle"
    place: ClassVar[str] = "the bundle"

    tops: tuple[str, ...]
    links: Mapping[str, str]
    odd: tuple[str, ...]

    @property
    def aliases(self) -> frozenset[str]:
        return frozenset(self.links)


def read_bundle(path: Path, processor: Processor | None = None) -> BundleFacts:
    """The facts of the bundle at ``path``; those of its machine code are about what ``processor`` lacks, and none
    without one. ``InputError`` where it is no tar archive, or one beyond all measure."""
    gathered = Gathered({}, processor)
    tops: dict[str, None] = {}
    links: dict[str, str] = {}
    odd: list[str] = []
    size = 0
    try:
        with tarfile.open(path, "r:gz") as archive:
            for number, member in enumerate(archive):
                size += member.size
                if number > MOST_MEMBERS or size > MOST_BYTES:
                    raise InputError("This bundle is larger than any that is read.", where=str(path))
                top, _, name = member.name.partition("/")
                tops[top] = None
                if member.issym():
                    links[name] = member.linkname
                elif not member.isdir():
                    odd += [] if member.isreg() else [member.name]
                    entry = Entry(name=name, size=member.size, packed=0, mode=member.mode & 0o7777, is_link=False)
                    gathered.add(entry, _pieces(archive, member))
    except _BROKEN as error:
        raise InputError(
            "This file is no bundle: it cannot be read as a .tar.gz archive.",
            where=str(path),
            why=str(error),
            hint="It may be cut short: build it again.",
        ) from error
    return BundleFacts(
        file=path.name,
        sha256=sha256_file(path),
        size=path.stat().st_size,
        members=tuple(gathered.members),
        elfs=tuple(gathered.elfs),
        garbled=gathered.garbled,
        unread=gathered.unread,
        paths=gathered.paths,
        fatbins=gathered.fatbins,
        code=gathered.code,
        tops=tuple(tops),
        links=links,
        odd=tuple(odd),
    )


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise Unreadable("it is no file")
    while piece := stream.read(_PIECE):
        yield piece


# --- contents --------------------------------------------------------------------------------------------------------


def _judge_contents(facts: BundleFacts, _: Context) -> Iterator[Finding]:
    if len(facts.tops) != 1:
        yield _contents(
            facts.file, f"has {len(facts.tops)} folders at its top, and must have one, which unpackers strip"
        )
    for member in facts.members:
        why = unsafe_name(member.name)
        if why:
            yield _contents(ascii(member.name)[1:-1], f"has a name that must not be unpacked: {why}")
        if member.trouble:
            yield _contents(member.name, f"cannot be read: {member.trouble}")
    for name in facts.odd:
        yield _contents(name, "is neither a file, a folder nor a symbolic link")
    there = {member.name for member in facts.members} | facts.links.keys()
    folders = {folder for name in there for folder in _folders(name)}
    for name, target in facts.links.items():
        leads = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        if target.startswith("/") or leads not in there | folders:
            yield _contents(name, f"is a link to {target}, which is not in the bundle")
    if not facts.elfs and not facts.garbled:
        yield _contents(facts.file, "has no machine code at all: the build made nothing for the target")


def _folders(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def _contents(subject: str, message: str) -> Finding:
    hint = "Look at the output's commands: they fill /build/out, and all of it becomes the bundle."
    return Finding(rule=CONTENTS, severity=Severity.FAIL, subject=subject, message=message, hint=hint)


def _looked_contents(facts: BundleFacts, _: Context) -> str:
    unpacked = sum(member.size for member in facts.members)
    archives = sum(member.name.endswith(".a") for member in facts.members)
    more = f"; {archives} static libraries, into which no rule looks" if archives else ""
    return (
        f"{len(facts.members)} files, {len(facts.links)} links, {facts.size:,} bytes, {unpacked:,} unpacked; all can "
        f"be read, and every link leads to a file in it{more}"
    )


STATIC_RULES: tuple[Rule[BundleFacts], ...] = (
    Rule(
        name=CONTENTS,
        version=1,
        about="a bundle has one folder, whose members can be read, and whose links lead to files in it",
        judge=_judge_contents,
        looked=_looked_contents,
    ),
    payload.MACHINE_RULE,
    *abi.RULES,
    *libraries.RULES,
    *isa.RULES,
    *cuda.RULES,
)

RULES: Mapping[str, int] = {**{rule.name: rule.version for rule in STATIC_RULES}, EMULATED: EMULATED_VERSION}
"""The rules of a bundle and their versions: what the key of its proof depends on."""

_HOPELESS = (CONTENTS, payload.MACHINE)


# --- the attempts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """How one attempt ended. ``left`` maps each file that it was to leave to its text, None where it is not there."""

    run: RunOutcome
    left: Mapping[str, str | None] = field(default_factory=dict)


Attempts = Callable[[], tuple[Sequence[AttemptOutcome], Mapping[str, str]]]
"""Runs all attempts one after the other; also gives what took part (see :class:`RunOutcome`)."""


def prove_bundle(
    bundle: Path,
    policy: Policy,
    *,
    sonames: frozenset[str],
    attempts: Sequence[Attempt],
    version: str,
    timeout: int,
    run: Attempts,
) -> Proof:
    """Judges ``bundle``, which crosswheel built, against ``policy``; see :func:`crosswheel.proving.prove.prove`.
    ``version`` is what ``{version}`` stands for in what the attempts expect, ``timeout`` that of each in seconds."""
    facts = read_bundle(bundle, isa.processor_of(policy))
    context = Context(policy=policy, sonames=sonames, built_here=True)
    findings = [finding for rule in STATIC_RULES for finding in judged(rule, facts, context)]
    hopeless = [item.rule for item in findings if item.rule in _HOPELESS and item.severity is Severity.FAIL]
    said: list[Finding]
    run_facts = None
    if hopeless:
        said = [not_run(facts.file, f"nothing was run, because the rule {hopeless[0]} failed")]
    else:
        outcomes, used = run()
        pairs = list(zip(attempts, outcomes, strict=True))
        failed = [list(_judge(facts.file, policy, *pair, version, timeout)) for pair in pairs]
        said = [finding for found in failed for finding in found] or [_passed(facts.file, policy, pairs)]
        run_facts = RunFacts(
            qemu=policy.qemu,
            seconds=sum(outcome.run.seconds for outcome in outcomes),
            tests=len(outcomes),
            failures=sum(1 for found in failed if found),
            skipped=0,
            used=used,
        )
    return Proof(
        kind="bundle",
        file=facts.file,
        sha256=facts.sha256,
        size=facts.size,
        policy=policy,
        policy_sha256=sha256_json(policy.model_dump(mode="json")),
        rules=RULES,
        findings=(*findings, *said),
        run=run_facts,
    )


def _judge(
    bundle: str, policy: Policy, attempt: Attempt, outcome: AttemptOutcome, version: str, timeout: int
) -> Iterator[Finding]:
    """What is wrong with one attempt."""
    run = outcome.run
    bad = ended_badly(bundle, policy, run, timeout, status=attempt.status)
    if bad:
        yield bad
        return
    said = "\n".join(run.lines)
    for what, pattern, text in (
        ("it said", attempt.expect, said),
        *((f"it left {name} with", pattern, outcome.left.get(name)) for name, pattern in attempt.leaves.items()),
    ):
        wanted = pattern.replace("{version}", re.escape(version))
        if text is None:
            yield _unlike(bundle, f"{run.what}: {what.removesuffix(' with').replace('it left', 'it did not leave')}")
        elif not re.search(wanted, text, re.MULTILINE):
            begin = text.strip()[:200] or "nothing"
            yield _unlike(bundle, f"{run.what}: {what} {begin!r}, in which nothing matches {wanted!r}")


def _unlike(bundle: str, message: str) -> Finding:
    hint = "It ran, and did not do its work; or the recipe expects what another version does."
    return Finding(rule=EMULATED, severity=Severity.FAIL, subject=bundle, message=message, hint=hint)


def _passed(bundle: str, policy: Policy, pairs: Sequence[tuple[Attempt, AttemptOutcome]]) -> Finding:
    seconds = sum(outcome.run.seconds for _, outcome in pairs)
    done = "; ".join(outcome.run.what for _, outcome in pairs)
    message = (
        f"{len(pairs)} attempts did as expected in {seconds:.1f} s under qemu-{policy.arch} -cpu {policy.qemu}, in the "
        f"root of {policy.sysroot}: {done}"
    )
    return Finding(rule=EMULATED, severity=Severity.PASS, subject=bundle, message=message)
