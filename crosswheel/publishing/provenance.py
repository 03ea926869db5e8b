"""The provenance of a wheel: an in-toto Statement v1 with the predicate SLSA provenance v1.

Sources: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and resource_descriptor.md beside it;
https://slsa.dev/spec/v1.0/provenance. What the parameters of this build type mean stands in docs/provenance.md.

There is no time and no invocation in it: crosswheel takes from its store what it has built, and a statement that said
when would be another each time. So equal inputs give equal bytes, and a signature stays good.
"""

from __future__ import annotations

import json
from typing import Any

from crosswheel.digest import sha256_json
from crosswheel.proving.prove import Proof
from crosswheel.publishing.inputs import Input, Record, inputs_of, unknown_roots
from crosswheel.publishing.sidecars import PROOF, SBOM

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""What a DSSE envelope with a statement in it says that it holds."""

BUILD_TYPE = "urn:crosswheel:build:v1"
"""What the parameters mean: docs/provenance.md. It changes when one of them does."""

VERDICT = "crosswheelVerdict"
"""What the digest of a proof's verdict is called (:func:`verdict_digest`)."""

BUILDER = "urn:crosswheel:builder:v1"
"""Who built: crosswheel itself, on whichever machine. Whoever signs the statement vouches for that machine."""


def statement(file: str, sha256: str, record: Record, *, sbom_sha256: str, verdict: str) -> bytes:
    """The statement about the wheel (or bundle) ``file``, made as ``record`` says, whose SBOM has ``sbom_sha256``;
    ``verdict`` is the digest of what its proof says (:func:`verdict_digest`). Equal arguments give equal bytes."""
    told = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": file, "digest": {"sha256": sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"request": record.request, "sources": given(record)},
                "internalParameters": {
                    "plan": record.plan,
                    "steps": record.steps,
                    "toolchain": record.toolchain.model_dump(mode="json"),
                    "unknownRoots": unknown_roots(record),
                    **({"remote": _remote(record)} if record.remote else {}),
                },
                "resolvedDependencies": [descriptor(item) for item in inputs_of(record)],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"crosswheel": record.crosswheel}},
                "byproducts": [
                    {"name": file + SBOM, "digest": {"sha256": sbom_sha256}},
                    {"name": file + PROOF, "digest": {VERDICT: verdict}},
                ],
            },
        },
    }
    # On one line: it is made for each release of what is there already, and indented JSON takes ten times as long.
    return (json.dumps(told, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def _remote(record: Record) -> dict[str, Any]:
    """Where steps had results from: the endpoints that they reached, without how often, which is another each time."""
    return {
        step: {
            name: told["url"]
            for name, told in sorted(note.items())
            if isinstance(told, dict) and told.get("reached") and isinstance(told.get("url"), str)
        }
        for step, note in record.remote.items()
    }


def given(record: Record) -> dict[str, str]:
    """What the user gave in place of what the written data names: its digest by its name. The digest of a folder is
    that of its tree."""
    return {item.file: item.sha256 for item in record.inputs if item.given}


def verdict_digest(proof: Proof) -> str:
    """The digest of what a proof says: of which file, for which policy, by which rules, which findings of which
    severity, how many tests. What the findings tell in words is not in it, nor how long the tests took: so the same
    verdict has the same digest, whenever and wherever it is found."""
    run = proof.run
    return sha256_json(
        {
            "sha256": proof.sha256,
            "policy": proof.policy.model_dump(mode="json"),
            "rules": dict(proof.rules),
            "findings": [[item.rule, item.severity.value, item.subject] for item in proof.findings],
            "run": [run.qemu, run.tests, run.failures, run.skipped] if run else None,
        }
    )


def descriptor(item: Input) -> dict[str, Any]:
    """An input as in-toto has it. The digest of a folder is not called sha256: no file of it has that."""
    return {
        "name": item.name,
        **({"uri": item.purl} if item.purl else {}),
        "digest": {digest_name(item): item.sha256},
        "annotations": {"purpose": item.purpose},
    }


def digest_name(item: Input) -> str:
    """What the digest of an input is called."""
    return "crosswheelTree" if item.kind == "folder" else "sha256"
