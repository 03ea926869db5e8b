"""What lies beside a released wheel: the one list of the endings, and where to find each file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswheel.digest import sha256_bytes

if TYPE_CHECKING:
    from crosswheel.publishing.inputs import Record

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


def made_sidecars(made: Path, released: Path, proof: Mapping[str, Any]) -> Mapping[str, bytes | None]:
    """What is to lie beside ``released``, where the wheel ``made`` goes, besides its ``proof``, which has the record of
    the build: bytes by ending, None for what must go. A bundle has these as well.

    The SBOM that lies there is kept where the statement that lies there names it and is the very one that would be
    written: then both were made of the same inputs. A signature stays with the statement that it is about.
    """
    from crosswheel.proving.prove import Proof
    from crosswheel.publishing.inputs import read_record
    from crosswheel.publishing.provenance import statement, verdict_digest

    record, proved = read_record(proof["build"]), Proof.from_json(proof)
    name, sha256, verdict = released.name, proved.sha256, verdict_digest(proved)
    old_sbom, old_statement = (_read(sidecar(released, suffix)) for suffix in (SBOM, STATEMENT))
    if old_sbom is not None and old_statement is not None:
        same = statement(name, sha256, record, sbom_sha256=sha256_bytes(old_sbom), verdict=verdict)
        if same == old_statement:
            return {SBOM: old_sbom, STATEMENT: old_statement}
    new_sbom = _sbom(made, name, sha256, record)
    new_statement = statement(name, sha256, record, sbom_sha256=sha256_bytes(new_sbom), verdict=verdict)
    stale = {} if new_statement == old_statement else dict.fromkeys(SIGNATURES)
    return {SBOM: new_sbom, STATEMENT: new_statement, **stale}


def _sbom(made: Path, name: str, sha256: str, record: Record) -> bytes:
    from crosswheel.proving.facts import read_metadata
    from crosswheel.publishing.sbom import sbom

    return sbom(name, sha256, record, read_metadata(made) if name.endswith(".whl") else None)


def _read(path: Path) -> bytes | None:
    """What lies there, if it is a file that can be read; else it is made anew."""
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError:
        return None
