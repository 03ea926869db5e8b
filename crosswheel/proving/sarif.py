"""Proofs as SARIF 2.1.0, the format in which CI viewers take findings. Source: OASIS, *Static Analysis Results
Interchange Format (SARIF) Version 2.1.0*, whose sections are named below.

All proofs are in one run, because GitHub's code scanning refuses a file in which several runs are of one tool and one
category. What passed is no result, although SARIF has a word for it (``kind`` is ``pass``): the same code scanning does
not know that word, and would show an alert for each rule that a wheel passed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from crosswheel.digest import sha256_json
from crosswheel.proving import bundles, emulate
from crosswheel.proving.findings import Finding, Severity, shown
from crosswheel.proving.prove import STATIC_RULES, Proof

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_KINDS = {
    Severity.FAIL: {"kind": "fail", "level": "error"},
    Severity.WARN: {"kind": "fail", "level": "warning"},
    Severity.NOT_PROVEN: {"kind": "open", "level": "none"},
}
"""What is no failure has no level (3.27.9, 3.27.10)."""

_ABOUT: Mapping[str, str] = {
    **{rule.name: rule.about for rule in bundles.STATIC_RULES},
    **{rule.name: rule.about for rule in STATIC_RULES},
    emulate.NAME: emulate.ABOUT,
}


def sarif(proofs: Mapping[str, Proof], *, version: str) -> dict[str, Any]:
    """The log of ``proofs``, which are those of the files at these paths: below the folder that the viewer begins at,
    or absolute. ``version`` is crosswheel's."""
    rules = list(dict.fromkeys(name for proof in proofs.values() for name in proof.rules))
    versions = {name: number for proof in proofs.values() for name, number in proof.rules.items()}
    judged_for = sorted({f"{proof.policy.target}-{proof.policy.cpu}" for proof in proofs.values()})
    run = {
        "tool": {
            "driver": {
                "name": "crosswheel",
                "version": version,
                "rules": [_descriptor(name, versions[name]) for name in rules],
            }
        },
        # What stands before the last slash is the category, by which a viewer knows what a later run replaces (3.17.3).
        "automationDetails": {"id": f"crosswheel/{'+'.join(judged_for)}/"},
        "invocations": [
            {"executionSuccessful": True, "exitCode": 0 if all(proof.passed for proof in proofs.values()) else 1}
        ],
        "artifacts": [_artifact(path, proof) for path, proof in proofs.items()],
        "results": [
            result
            for index, (path, proof) in enumerate(proofs.items())
            for result in _results(proof, {"uri": _uri(path), "index": index}, rules)
        ],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _descriptor(rule: str, version: int) -> dict[str, Any]:
    about = _sentence(_ABOUT.get(rule, rule))
    return {
        "id": rule,
        "name": "".join(word.capitalize() for word in rule.split("_")),
        "shortDescription": {"text": about},
        "fullDescription": {"text": about},
        "help": {"text": f"{about} What the answers mean, and what to do: docs/proof.md of crosswheel."},
        "properties": {"version": version},
    }


def _sentence(text: str) -> str:
    said = _text(text[:1].upper() + text[1:])
    return said if said.endswith("?") else f"{said}."


def _artifact(path: str, proof: Proof) -> dict[str, Any]:
    policy = proof.policy
    return {
        "location": {"uri": _uri(path)},
        "length": proof.size,
        "hashes": {"sha-256": proof.sha256},
        "roles": ["analysisTarget"],
        "properties": {
            "passed": proof.passed,
            "rulesPassed": list(dict.fromkeys(finding.rule for finding in proof.of(Severity.PASS))),
            "target": policy.target,
            "sysroot": policy.sysroot,
            "python": policy.python,
            "cpu": policy.cpu,
            "policySha256": proof.policy_sha256,
        },
    }


def _results(proof: Proof, location: Mapping[str, Any], rules: Sequence[str]) -> Iterable[dict[str, Any]]:
    alike: Counter[str] = Counter()
    for finding in proof.findings:
        if finding.severity is Severity.PASS:
            continue
        own = finding.subject == proof.file
        place: dict[str, Any] = {"physicalLocation": {"artifactLocation": dict(location)}}
        if not own:
            name = shown(finding.subject)
            place["logicalLocations"] = [
                {"name": name, "fullyQualifiedName": f"{shown(proof.file)}!{name}", "kind": "resource"}
            ]
        fingerprint = _fingerprint(proof, finding)
        alike[fingerprint] += 1
        known = f"{fingerprint}:{alike[fingerprint]}"
        message = finding.message if own else f"{shown(finding.subject)}: {finding.message}"
        yield {
            "ruleId": finding.rule,
            **({"ruleIndex": rules.index(finding.rule)} if finding.rule in rules else {}),
            **_KINDS[finding.severity],
            "message": {"text": _text(f"{message}\n{finding.hint}".strip())},
            "locations": [place],
            # GitHub looks at the second alone, and would make one of the file's lines, which a wheel has not.
            "partialFingerprints": {"finding/v1": known, "primaryLocationLineHash": known},
        }


def _fingerprint(proof: Proof, finding: Finding) -> str:
    """The same for the same finding on another build of the wheel: numbers of its message do not count."""
    said = re.sub(r"[0-9]+", "#", finding.message)
    what = (proof.policy.target, proof.file, finding.rule, finding.subject, said)
    return sha256_json([shown(each) for each in what])[:32]


def _uri(path: str) -> str:
    """A path as a reference that a URI may be, whatever is in it."""
    encoded = quote(path, safe="/", errors="surrogateescape")
    return f"file://{encoded}" if path.startswith("/") else encoded


def _text(text: str) -> str:
    """A plain text message (3.11.5, 3.11.6): braces, which would be places for arguments, are doubled, and nothing of a
    wheel becomes a link."""
    plain = "\n".join(shown(line) for line in text.split("\n"))
    return plain.replace("{", "{{").replace("}", "}}").replace("](", "] (")
