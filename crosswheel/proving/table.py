"""A proof as plain lines, for a log or a screen that is no terminal."""

from __future__ import annotations

from crosswheel.proving.findings import Finding, Severity, shown
from crosswheel.proving.prove import Proof

_WORDS = {Severity.FAIL: "FAIL", Severity.WARN: "warn", Severity.NOT_PROVEN: "not proven", Severity.PASS: "pass"}


def proof_lines(proof: Proof) -> list[str]:
    """The verdict first, then the findings: the worst first, in the order of the rules otherwise."""
    policy = proof.policy
    counts = ", ".join(f"{len(proof.of(item))} {_WORDS[item]}" for item in Severity if proof.of(item))
    lines = [
        f"{'passed' if proof.passed else 'FAILED'}: {proof.file}",
        f"  for {policy.target}: {policy.sysroot}, {policy.arch}, {policy.cpu}, Python {policy.python}, "
        f"glibc {policy.floors.GLIBC}",
        f"  sha256 {proof.sha256}",
        f"  {counts}",
    ]
    for severity in Severity:
        for finding in proof.of(severity):
            lines.extend(_finding_lines(finding, proof.file))
    return lines


def _finding_lines(finding: Finding, wheel: str) -> list[str]:
    head = f"  {_WORDS[finding.severity]:<10} {finding.rule:<12} "
    subject = "" if finding.subject == wheel else f"{finding.subject}: "
    lines = [head + shown(subject + finding.message)]
    if finding.hint:
        first, *rest = (shown(line) for line in finding.hint.split("\n"))
        lines.append(f"{'':<{len(head)}}→ {first}")
        lines.extend(f"{'':<{len(head)}}  {line}" for line in rest)
    return lines
