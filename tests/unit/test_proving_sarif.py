"""Proofs as SARIF: what each severity becomes, what a viewer needs of it, and that no name of a wheel breaks it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wheel_writer import EXTENSION, NAME, POLICY

from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import RULES, Proof
from crosswheel.proving.sarif import sarif

pytestmark = pytest.mark.unit

# RFC 3986: what may stand in a reference, and how all else is written.
URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*")


def finding(severity: Severity, subject: str = NAME, message: str = "it is so", **more: str) -> Finding:
    return Finding(**{"rule": "abi", "severity": severity, "subject": subject, "message": message, **more})  # type: ignore[arg-type]


def proof(*findings: Finding, file: str = NAME) -> Proof:
    return Proof(
        file=file,
        sha256="0a" * 32,
        size=7,
        policy=POLICY,
        policy_sha256="0b" * 32,
        rules=RULES,
        findings=findings,
        run=None,
    )


def run_of(*proofs: Proof) -> dict[str, Any]:
    """The one run of a log, which is as the standard has it."""
    log = sarif({f"dist/{number}/{each.file}": each for number, each in enumerate(proofs)}, version="1.2")
    return checked(log)


def checked(log: dict[str, Any]) -> dict[str, Any]:
    """What the standard's schema, and its rules that a schema cannot tell, ask of a log such as ours."""
    json.dumps(log, allow_nan=False).encode("ascii")
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert set(run) == {"tool", "automationDetails", "invocations", "artifacts", "results"}
    rules, artifacts = run["tool"]["driver"]["rules"], run["artifacts"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert len({artifact["location"]["uri"] for artifact in artifacts}) == len(artifacts)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert (result["level"] == "none") == (result["kind"] != "fail")
        (location,) = result["locations"]
        place = location["physicalLocation"]["artifactLocation"]
        assert place["uri"] == artifacts[place["index"]]["location"]["uri"]
        assert URI.fullmatch(place["uri"])
        assert shows(result["message"]["text"])
        assert all(each["fullyQualifiedName"].isprintable() for each in location.get("logicalLocations", ()))
    return run


def shows(text: str) -> bool:
    """Whether a viewer shows it as it is: no control characters, no links, no places for arguments."""
    bare = text.replace("{{", "").replace("}}", "")
    return all(char.isprintable() or char == "\n" for char in text) and not {"{", "}"} & set(bare) and "](" not in text


@pytest.mark.parametrize(
    ("severity", "kind", "level"),
    [
        (Severity.FAIL, "fail", "error"),
        (Severity.WARN, "fail", "warning"),
        (Severity.NOT_PROVEN, "open", "none"),
    ],
)
def test_what_a_severity_becomes(severity: Severity, kind: str, level: str) -> None:
    run = run_of(proof(finding(severity, hint="do this")))
    (result,) = run["results"]
    assert (result["ruleId"], result["kind"], result["level"]) == ("abi", kind, level)
    assert result["message"]["text"] == "it is so\ndo this"
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": int(severity is Severity.FAIL)}]


def test_what_passed_is_no_result_but_is_told() -> None:
    """A viewer that does not know `kind` would show an alert."""
    run = run_of(proof(finding(Severity.PASS), finding(Severity.PASS, rule="tag")))
    assert run["results"] == []
    (artifact,) = run["artifacts"]
    assert artifact["properties"]["passed"] is True
    assert artifact["properties"]["rulesPassed"] == ["abi", "tag"]


def test_the_rules_have_words_and_versions() -> None:
    driver = run_of(proof())["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("crosswheel", "1.2")
    assert {rule["id"]: rule["properties"]["version"] for rule in driver["rules"]} == dict(RULES)
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"][-1] in ".?", rule["id"]
        assert rule["shortDescription"]["text"].rstrip(".") != rule["id"]
        assert "docs/proof.md" in rule["help"]["text"]


def test_a_member_is_named_and_the_wheel_is_the_file() -> None:
    run = run_of(proof(finding(Severity.FAIL, EXTENSION)))
    (result,) = run["results"]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"] == {"uri": f"dist/0/{NAME}", "index": 0}
    assert location["logicalLocations"] == [
        {"name": EXTENSION, "fullyQualifiedName": f"{NAME}!{EXTENSION}", "kind": "resource"}
    ]
    assert result["message"]["text"] == f"{EXTENSION}: it is so"
    (artifact,) = run["artifacts"]
    assert artifact["hashes"] == {"sha-256": "0a" * 32}
    assert artifact["roles"] == ["analysisTarget"]


def test_two_wheels_are_in_one_run() -> None:
    other = "other-1.0-py3-none-any.whl"
    run = run_of(proof(finding(Severity.WARN)), proof(finding(Severity.FAIL, other), file=other))
    places = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in run["results"]]
    assert places == [{"uri": f"dist/0/{NAME}", "index": 0}, {"uri": f"dist/1/{other}", "index": 1}]
    assert run["automationDetails"]["id"] == "crosswheel/rpi4-cortex-a72/"
    assert run["invocations"][0]["exitCode"] == 1


def test_another_processor_is_another_category() -> None:
    """So that what was said of one is not replaced by what is said of another."""
    for_other = replace(proof(), policy=POLICY.model_copy(update={"cpu": "cortex-a53"}))
    assert run_of(for_other)["automationDetails"]["id"] == "crosswheel/rpi4-cortex-a53/"


def fingerprints(*findings: Finding) -> list[dict[str, str]]:
    return [result["partialFingerprints"] for result in run_of(proof(*findings))["results"]]


def test_a_fingerprint_outlives_numbers_and_the_order_of_others() -> None:
    old = finding(Severity.FAIL, message="3 functions want GLIBC_2.38")
    new = finding(Severity.FAIL, message="14 functions want GLIBC_2.39")
    another = finding(Severity.WARN, rule="tag")
    assert fingerprints(old)[0] == fingerprints(another, new)[1]
    assert len({each["primaryLocationLineHash"] for each in fingerprints(old, another, new)}) == 3


def test_findings_that_are_alike_are_told_apart() -> None:
    first, second = fingerprints(finding(Severity.FAIL), finding(Severity.FAIL))
    assert first["finding/v1"].endswith(":1")
    assert second["finding/v1"].endswith(":2")


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("dist/a b.whl", "dist/a%20b.whl"),
        ("/srv/ä.whl", "file:///srv/%C3%A4.whl"),
        ("c:evil#?%.whl", "c%3Aevil%23%3F%25.whl"),
        ("a\x1b\n\udcff.whl", "a%1B%0A%FF.whl"),
    ],
)
def test_a_path_is_written_as_a_reference(path: str, uri: str) -> None:
    run = checked(sarif({path: proof(finding(Severity.FAIL))}, version="1"))
    assert run["artifacts"][0]["location"]["uri"] == uri


def test_a_wheel_cannot_write_links_or_arguments_into_a_message() -> None:
    run = run_of(proof(finding(Severity.FAIL, "\x1b]0;x\x07[see](https://evil.example){0}\u202e.so")))
    (result,) = run["results"]
    assert result["message"]["text"].startswith("\\x1b]0;x\\x07[see] (https://evil.example){{0}}\\u202e.so: ")


texts = st.text(st.characters(exclude_categories=()), min_size=1)


@given(subject=texts, message=texts, hint=texts, file=texts)
def test_any_text_is_told(subject: str, message: str, hint: str, file: str) -> None:
    """Halves of characters too: names in a wheel need not be UTF-8."""
    told = proof(finding(Severity.FAIL, subject, message, hint=hint), file=file)
    checked(sarif({"dist/any.whl": told}, version="1"))
