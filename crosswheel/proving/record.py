"""The wheel as an archive and its papers: RECORD, METADATA and WHEEL.

Sources: PEP 427 and the packaging guide's "Binary distribution format" and "Recording installed projects"; "Core
metadata specifications".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from crosswheel.proving.archive import unsafe_name
from crosswheel.proving.dependencies import MOST_REQUIREMENTS
from crosswheel.proving.facts import WheelFacts
from crosswheel.proving.findings import Context, Finding, Rule, Severity, some
from crosswheel.proving.members import STRONG, Member
from crosswheel.spec.requirements import holding, machine_of

ARCHIVE = "archive"
RECORD = "record"
METADATA = "metadata"

_REPACK = "Something changed the wheel after it was packed: `wheel unpack` and `wheel pack` write RECORD anew."


# --- archive ---------------------------------------------------------------------------------------------------------


def _judge_archive(facts: WheelFacts, _: Context) -> Iterator[Finding]:
    for name, count in Counter(member.name for member in facts.members).items():
        if count > 1:
            yield _broken(name, f"is {count} times in the archive: which one is installed depends on the installer")
    for member in facts.members:
        why = unsafe_name(member.name)
        if why:
            yield _broken(member.name, f"has a name that must not be unpacked: {why}")
        if member.is_link:
            yield _broken(member.name, "is a symbolic link, which wheels do not have (pip writes its target as text)")
        if member.trouble:
            yield _broken(member.name, f"cannot be read: {member.trouble}")


def _broken(name: str, message: str) -> Finding:
    return Finding(
        rule=ARCHIVE,
        severity=Severity.FAIL,
        subject=ascii(name)[1:-1] if not name.isprintable() else name,
        message=message,
        hint="Do not install this wheel; build it, or fetch it, again.",
    )


def _looked_archive(facts: WheelFacts, _: Context) -> str:
    unpacked = sum(member.size for member in facts.members)
    return f"{len(facts.members)} members, {facts.size:,} bytes, {unpacked:,} unpacked; all can be read"


# --- record ----------------------------------------------------------------------------------------------------------


def _judge_record(facts: WheelFacts, _: Context) -> Iterator[Finding]:
    if facts.record is None:
        yield _record(facts.record_name, "is missing, or is no table of path, digest and size", _REPACK)
        return
    rows = {row.path: row for row in facts.record}
    if len(rows) != len(facts.record):
        twice = [path for path, count in Counter(row.path for row in facts.record).items() if count > 1]
        yield _record(facts.record_name, f"lists more than once: {some(twice)}")
    members = {member.name: member for member in facts.members}
    for path in rows.keys() - members.keys():
        yield _record(path, "is in RECORD and not in the wheel")
    signatures = {f"{facts.record_name}.jws", f"{facts.record_name}.p7s"}
    for name, member in members.items():
        row = rows.get(name)
        if row is None:
            if name not in signatures:
                yield _record(name, "is in the wheel and not in RECORD")
        elif name != facts.record_name and not member.trouble:
            wrong = _wrong_row(member, row.digest, row.size)
            if wrong:
                yield _record(name, wrong)


def _wrong_row(member: Member, digest: str, size: str) -> str:
    algorithm = digest.partition("=")[0]
    if not digest:
        return "has no digest in RECORD"
    if algorithm not in STRONG:
        return f"has a digest of the kind {algorithm!r} in RECORD; it must be sha256 or better"
    if digest.rstrip("=") != member.digest:
        return f"is not the file of which RECORD has the digest ({digest}, and it is {member.digest})"
    if size != str(member.size):
        return f"has {member.size} bytes, and RECORD says {size or 'nothing'}"
    return ""


def _record(subject: str, message: str, hint: str = _REPACK) -> Finding:
    return Finding(rule=RECORD, severity=Severity.FAIL, subject=subject, message=message, hint=hint)


def _looked_record(facts: WheelFacts, _: Context) -> str:
    return f"RECORD lists {len(facts.record or ())} files; each is there, with its digest and size, and no other"


# --- metadata --------------------------------------------------------------------------------------------------------


def _judge_metadata(facts: WheelFacts, context: Context) -> Iterator[Finding]:
    folder = facts.record_name.removesuffix("/RECORD")
    if facts.metadata is None:
        yield _metadata(f"{folder}/METADATA", "is missing or cannot be read")
    if facts.wheel is None:
        yield _metadata(f"{folder}/WHEEL", "is missing or cannot be read")
    written = "-".join(facts.file.split("-")[:2])
    if folder != f"{written}.dist-info":
        yield from _folder_name(folder, facts)
    if facts.metadata is not None:
        yield from _names(f"{folder}/METADATA", facts)
        yield from _requires_python(f"{folder}/METADATA", facts, context)
        yield from _requires_dist(f"{folder}/METADATA", facts, context)
    if facts.wheel is not None and facts.wheel.get("wheel-version", ("",))[0].partition(".")[0] != "1":
        said = facts.wheel.get("wheel-version", ("nothing",))[0]
        yield _metadata(f"{folder}/WHEEL", f"says Wheel-Version {said}; installers know 1.x")


def _folder_name(folder: str, facts: WheelFacts) -> Iterator[Finding]:
    from packaging.utils import canonicalize_name, canonicalize_version

    name, _, version = folder.removesuffix(".dist-info").partition("-")
    same_version = canonicalize_version(version) == canonicalize_version(facts.version)
    if canonicalize_name(name) != facts.distribution or not same_version:
        yield _metadata(folder, f"is not the .dist-info folder of {facts.distribution} {facts.version}")


def _names(subject: str, facts: WheelFacts) -> Iterator[Finding]:
    from packaging.utils import canonicalize_name, canonicalize_version

    metadata = facts.metadata or {}
    name, version = (metadata.get(key, ("",))[0] for key in ("name", "version"))
    if not metadata.get("metadata-version", ("",))[0]:
        yield _metadata(subject, "has no Metadata-Version: it is no METADATA")
    if canonicalize_name(name) != facts.distribution:
        yield _metadata(subject, f"names the package {name or 'nowhere'}, and the file name says {facts.distribution}")
    if canonicalize_version(version) != canonicalize_version(facts.version):
        yield _metadata(subject, f"says version {version or 'nowhere'}, and the file name says {facts.version}")


def _requires_python(subject: str, facts: WheelFacts, context: Context) -> Iterator[Finding]:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    said = (facts.metadata or {}).get("requires-python", ("",))[0]
    try:
        allowed = SpecifierSet(said)
    except InvalidSpecifier:
        yield _metadata(subject, f"has a Requires-Python that is no version range: {said}")
        return
    # Of X.Y any X.Y.Z may be on the target: it is refused where none would do.
    python = context.policy.python
    if not any(allowed.contains(f"{python}.{patch}") for patch in range(40)):
        yield _metadata(subject, f"requires Python {said}, and {context.policy.target} has {python}")


def _requires_dist(subject: str, facts: WheelFacts, context: Context) -> Iterator[Finding]:
    lines = (facts.metadata or {}).get("requires-dist", ())[:MOST_REQUIREMENTS]
    bad = holding((" ".join(line.split()) for line in lines), machine_of(context.policy))[1]
    if not bad:
        return
    # pip 24.1 is the first that refuses them; it is for Python 3.8 and later.
    strict = machine_of(context.policy).release >= (3, 8)
    message = f"has a Requires-Dist that is no requirement: {some((ascii(line[:60]) for line, _ in bad), 3)}"
    yield replace(_metadata(subject, message), severity=Severity.FAIL if strict else Severity.WARN)


def _metadata(subject: str, message: str) -> Finding:
    return Finding(
        rule=METADATA,
        severity=Severity.FAIL,
        subject=subject,
        message=message,
        hint="pip refuses such a wheel or installs it under another name; build it again from the right source.",
    )


def _looked_metadata(facts: WheelFacts, context: Context) -> str:
    metadata = facts.metadata or {}
    python = metadata.get("requires-python", ("any",))[0]
    return f"{facts.distribution} {facts.version}, for Python {python}; METADATA and WHEEL agree with the file name"


RULES = (
    Rule(
        name=ARCHIVE,
        version=1,
        about="every member can be read and has a name that is safe to unpack",
        judge=_judge_archive,
        looked=_looked_archive,
    ),
    Rule(
        name=RECORD,
        version=1,
        about="RECORD lists every member with its true digest and size, and nothing else",
        judge=_judge_record,
        looked=_looked_record,
    ),
    Rule(
        name=METADATA,
        version=2,
        about="METADATA and WHEEL are of this package and version, and allow the target's Python",
        judge=_judge_metadata,
        looked=_looked_metadata,
    ),
)
