"""What lies beside a released wheel: the one list of the endings, and where to find each file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PROOF = ".proof.json"
"""The proof (:class:`crosswheel.proving.prove.Proof`), with the record of the build under ``build``."""

SBOM = ".cdx.json"
"""What the wheel is made of: a CycloneDX 1.6 document (:mod:`crosswheel.publishing.sbom`)."""

STATEMENT = ".intoto.json"
"""How it was made: an in-toto Statement v1 with SLSA provenance v1 (:mod:`crosswheel.publishing.provenance`)."""

ENVELOPE = ".intoto.jsonl"
"""The statement's signature by a key: one DSSE envelope on one line, whose payload is the statement's bytes."""

SIGSTORE = ".sigstore.json"
"""The statement's signature by sigstore: a Sigstore bundle, whose DSSE payload is the statement's bytes."""

SIGNATURES = (ENVELOPE, SIGSTORE)
"""What only a signed wheel has beside it. A wheel may have both."""

SUFFIXES = (PROOF, SBOM, STATEMENT, *SIGNATURES)
"""Every ending, in the order in which the files are written: each goes with those before it, the wheel comes last."""


def sidecar(wheel: Path, suffix: str) -> Path:
    """Where the file with this ending lies, there or not: ``NAME.whl`` has ``NAME.whl.proof.json`` beside it."""
    return wheel.with_name(wheel.name + suffix)


def sidecars_of(wheel: Path) -> Mapping[str, Path]:
    """The files that do lie beside a wheel, by their endings."""
    return {suffix: path for suffix in SUFFIXES if (path := sidecar(wheel, suffix)).is_file()}
