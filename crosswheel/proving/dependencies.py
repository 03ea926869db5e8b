"""What the wheel requires: is there something for the target that serves it, or does the board find out?

The rule reads METADATA. What there is, others have to find out (``Context.offered``): it is on the package index, in
folders and in the store.

Sources: PEP 508 (requirements and markers); pip's own order (the newest version first, a source archive where that has
no wheel for the machine: pip's documentation, "Finding packages").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from packaging.requirements import Requirement

from crosswheel.proving.facts import WheelFacts
from crosswheel.proving.findings import Finding, Rule, Severity, some
from crosswheel.proving.offered import Found, Offered
from crosswheel.spec.policy import Policy
from crosswheel.spec.requirements import holding, key_of, machine_of

NAME = "dependencies"

MOST_REQUIREMENTS = 1000
"""So many lines of Requires-Dist are read; the most on the package index are some hundreds."""

Headers = Mapping[str, tuple[str, ...]]
"""The headers of METADATA by their lower-case names."""


def requirements_of(metadata: Headers | None, policy: Policy, python: str | None) -> list[Requirement]:
    """What a wheel of these headers requires on the target, without extras. Lines that are no requirement are left out
    (the rule ``metadata`` names them), and those beyond :data:`MOST_REQUIREMENTS`."""
    lines = (metadata or {}).get("requires-dist", ())[:MOST_REQUIREMENTS]
    return holding((" ".join(line.split()) for line in lines), machine_of(policy, python))[0]


def findings_of(file: str, metadata: Headers | None, policy: Policy, offered: Offered | None) -> list[Finding]:
    """What the rule says of the wheel ``file`` with these headers of METADATA."""
    found = list(_troubles(file, metadata, policy, offered))
    return found or [_finding(file, Severity.PASS, _all_there(metadata, policy, offered), _given(offered))]


def _troubles(file: str, metadata: Headers | None, policy: Policy, offered: Offered | None) -> Iterator[Finding]:
    lines = (metadata or {}).get("requires-dist", ())
    if len(lines) > MOST_REQUIREMENTS:
        message = f"has {len(lines):,} lines of Requires-Dist, of which {MOST_REQUIREMENTS:,} were looked at"
        yield _finding(file, Severity.NOT_PROVEN, message)
    required = requirements_of(metadata, policy, offered.python if offered else None)
    if not required:
        return
    names = sorted({key_of(each).partition("[")[0] for each in required})
    if offered is None or offered.trouble:
        yield _nobody_asked(file, policy.target, names, offered)
        return
    left = [name for name in names if name not in offered.found]
    if left:
        yield _finding(file, Severity.NOT_PROVEN, f"requires {some(left)}, and nobody asked what there is of them")
    said = [finding for _, item in sorted(offered.found.items()) for finding in _said(file, policy.target, item)]
    yield from said
    if said and any(item.there for item in offered.found.values()):
        yield _finding(file, Severity.PASS, _there(offered, policy), _given(offered))


def _nobody_asked(file: str, target: str, names: list[str], offered: Offered | None) -> Finding:
    if offered:
        message = f"requires {some(names)} on {target}, and the package index could not be asked: {offered.trouble}"
        return _finding(file, Severity.NOT_PROVEN, message, "Mend the network or pip's configuration, and ask again.")
    return _finding(
        file,
        Severity.NOT_PROVEN,
        f"requires {some(names)} on {target}; whether there are wheels of them was not asked",
        f"`./x verify` with this wheel and --target {target} asks the package index, unless it is --offline.",
    )


def _said(file: str, target: str, item: Found) -> Iterator[Finding]:
    asked = " and ".join(item.asked)
    if item.kind == "source":
        there = f"pip would build {item.file} there, with compilers if it has code in C"
        message = f"{asked}: there is no wheel for {target}; {there}"
        yield _finding(file, Severity.WARN, message, _remedy(item, target))
    elif item.kind == "nothing":
        older = "" if item.direct else ", or takes an older version of what requires it"
        message = f"{asked}: `pip install` fails on {target}{older}: {item.why}"
        yield _finding(file, Severity.WARN, message, _remedy(item, target))
    elif item.kind == "address":
        message = f"{asked}: is fetched from the address that METADATA names; nobody looked what is there"
        yield _finding(
            file, Severity.NOT_PROVEN, message, "Require a version instead, which an index can be asked for."
        )
    elif item.kind == "unasked":
        yield _finding(file, Severity.NOT_PROVEN, f"{asked}: the package index could not be asked: {item.why}")
    elif item.newer:
        message = (
            f"{asked}: pip would build {item.newer} on {target}, because it is newer than the last with a wheel for it "
            f"({item.version})"
        )
        yield _finding(file, Severity.WARN, message, "`pip install --prefer-binary` takes the wheel.")


def _remedy(item: Found, target: str) -> str:
    if item.build:
        return f"`{item.build}` makes a wheel of it."
    told = []
    if item.fits:
        told.append(f"{item.fits} has a wheel for {target}: if the package works with it, widen the range in METADATA.")
    if item.recipe:
        told.append(f"No release of the recipe {item.recipe} serves: add one (docs/add-a-version.md).")
    else:
        told.append("Give it a recipe (docs/add-a-package.md), or install it from elsewhere first.")
    return "\n".join(told)


def _finding(file: str, severity: Severity, message: str, hint: str = "") -> Finding:
    return Finding(rule=NAME, severity=severity, subject=file, message=message, hint=hint)


def _all_there(metadata: Headers | None, policy: Policy, offered: Offered | None) -> str:
    if metadata is None:
        return "METADATA cannot be read, so pip knows of nothing that it requires"
    if not offered or not offered.found:
        return f"requires nothing on {policy.target}"
    return _there(offered, policy)


def _there(offered: Offered, policy: Policy) -> str:
    """How much is required, and what serves it."""
    found = offered.found.values()
    direct = sum(item.direct for item in found)
    by_these = f" and, by these, {len(found) - direct} more" if len(found) > direct else ""
    there = [item for item in found if item.there]
    whole = "it is" if len(found) == 1 else "all are"
    part = f"{len(there)} {'is' if len(there) == 1 else 'are'}"
    are = whole if len(there) == len(found) else part
    served = ", ".join(_counted(there, policy.sysroot))
    some_of = "these" if offered.unread == len(found) else f"{offered.unread} of these"
    turn = f"; the index does not tell what {some_of} require in turn" if offered.unread else ""
    return f"requires {_many(direct, 'project')}{by_these} on {policy.target}; {are} there: {served}{turn}"


def _given(offered: Offered | None) -> str:
    """What pip must be told to find wheels of ours."""
    folders = {item.folder for item in offered.found.values() if item.there and item.folder} if offered else set()
    return (
        f"pip finds wheels of ours with {' '.join(f'--find-links {each}' for each in sorted(folders))}"
        if folders
        else ""
    )


def _counted(found: Iterable[Found], sysroot: str) -> Iterator[str]:
    """How many of each kind; by name those that pip does not find by itself."""
    kinds: dict[str, list[Found]] = {}
    for item in found:
        kinds.setdefault(item.kind, []).append(item)
    if "index" in kinds:
        yield f"{_many(len(kinds['index']), 'wheel')} on the package index"
    if "ours" in kinds:
        yield f"{_many(len(kinds['ours']), 'wheel')} of ours ({some(item.file for item in kinds['ours'])})"
    if "package" in kinds:
        yield f"{_many(len(kinds['package']), 'package')} of {sysroot} ({some(item.file for item in kinds['package'])})"


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


RULES: tuple[Rule[WheelFacts], ...] = (
    Rule(
        name=NAME,
        version=1,
        about="what the wheel requires is there for the target, or is said to be missing",
        judge=lambda facts, context: _troubles(facts.file, facts.metadata, context.policy, context.offered),
        looked=lambda facts, context: _all_there(facts.metadata, context.policy, context.offered),
    ),
)
