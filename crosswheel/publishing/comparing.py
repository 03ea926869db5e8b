"""Whether what lies beside a wheel is about this wheel, and agrees: proof, SBOM, statement and signatures.

Nothing is judged anew here: whether the wheel fits a machine is what the proof says, and what `verify` finds by itself.
Each finding has one of the rules below, and the file that it is about as its subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswheel.digest import sha256_bytes, sha256_file
from crosswheel.errors import DataError
from crosswheel.proving.findings import Finding, Severity, some
from crosswheel.proving.prove import Proof
from crosswheel.publishing import claims
from crosswheel.publishing.inputs import Record, read_record, shown
from crosswheel.publishing.provenance import (
    BUILD_TYPE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    VERDICT,
    given,
    verdict_digest,
)
from crosswheel.publishing.sidecars import ENVELOPE, PROOF, SBOM, SIGSTORE, STATEMENT, sidecar
from crosswheel.publishing.signing import holds, payload_of, signers_of

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

PROOF_RULE, SBOM_RULE, STATEMENT_RULE, SIGNATURE_RULE = "proof", "sbom", "provenance", "signature"
"""What a finding is about."""

_AGAIN = "Build the wheel again, or fetch it again with all that lies beside it."
_FOREIGN = "Do not trust this wheel: fetch it again, with all that lies beside it, from whom you trust."


@dataclass(frozen=True, kw_only=True)
class Trust:
    """Whose signature is wanted: that of ``key``; that of ``identity`` by sigstore, which ``sigstore`` verifies: of a
    bundle's bytes it gives the statement, or raises ``ValueError``. Without both, signatures are compared with the
    statement, and nobody is trusted."""

    key: SSlibKey | None = None
    identity: str | None = None
    sigstore: Callable[[bytes], bytes] | None = None


@dataclass
class _Beside:
    """A wheel and what is known of it. ``found`` are the findings so far."""

    wheel: Path
    sha256: str
    metadata: Mapping[str, tuple[str, ...]] | None
    found: list[Finding] = field(default_factory=list)

    def say(self, rule: str, severity: Severity, suffix: str, message: str, hint: str = "") -> None:
        subject = self.wheel.name + suffix
        self.found.append(Finding(rule=rule, severity=severity, subject=subject, message=message, hint=hint))

    def fail(self, rule: str, suffix: str, message: str, hint: str = _FOREIGN) -> None:
        self.say(rule, Severity.FAIL, suffix, message, hint)

    def failed(self, rule: str) -> bool:
        return any(item.rule == rule and item.severity is Severity.FAIL for item in self.found)

    def load(self, rule: str, suffix: str) -> dict[str, Any] | None:
        """The JSON of a sidecar; None where it is missing or is no object, which is then said."""
        path = sidecar(self.wheel, suffix)
        if not path.is_file():
            self.fail(rule, suffix, "is not there", _AGAIN)
            return None
        try:
            told = claims.read_json(path)
        except ValueError as error:
            self.fail(rule, suffix, str(error), _AGAIN)
            return None
        if not isinstance(told, dict):
            self.fail(rule, suffix, "it is JSON, and no object", _AGAIN)
            return None
        return told


def compare(wheel: Path, metadata: Mapping[str, tuple[str, ...]] | None, trust: Trust) -> tuple[Finding, ...]:
    """The findings about what lies beside ``wheel``, of which ``metadata`` are the headers of METADATA (None for a
    bundle). At least one for each of proof, SBOM, provenance and signature."""
    beside = _Beside(wheel, sha256_file(wheel), metadata)
    record, verdict = _proof(beside)
    sbom = beside.load(SBOM_RULE, SBOM)
    if sbom is not None:
        _sbom(beside, sbom, record)
    statement = beside.load(STATEMENT_RULE, STATEMENT)
    if statement is not None:
        _statement(beside, statement, record, verdict)
    _signatures(beside, trust)
    return tuple(beside.found)


# --- the proof -------------------------------------------------------------------------------------------------------


def _proof(beside: _Beside) -> tuple[Record | None, str | None]:
    """Looks at the proof; the record of the build in it and the digest of its verdict, where it can be compared."""
    told = beside.load(PROOF_RULE, PROOF)
    if told is None:
        return None, None
    try:
        proof = Proof.from_json(told)
        record = read_record(told.get("build"))
    except DataError as error:
        beside.fail(PROOF_RULE, PROOF, f"{error.what} {error.why}".strip(), error.hint or _AGAIN)
        return None, None
    if proof.sha256 != beside.sha256:
        beside.fail(PROOF_RULE, PROOF, _other("wheel", proof.sha256, beside.sha256))
    elif not proof.passed:
        count = len(proof.of(Severity.FAIL))
        beside.fail(PROOF_RULE, PROOF, f"says that the wheel failed: {count} findings", "Do not install this wheel.")
    elif proof.file != beside.wheel.name:
        message = f"names this wheel's sha256, and the wheel {shown(proof.file)}: it was renamed"
        beside.say(PROOF_RULE, Severity.WARN, PROOF, message)
    else:
        where = f"{proof.policy.target} ({proof.policy.cpu}, Python {proof.policy.python})"
        message = f"is about this wheel, and says that it passed {len(proof.rules)} rules for {where}"
        beside.say(PROOF_RULE, Severity.PASS, PROOF, message)
    return record, verdict_digest(proof)


def _other(what: str, told: object, real: str) -> str:
    return f"is about another {what}: its sha256 is {shown(told)[:64]}, and this one's is {real}"


# --- the SBOM --------------------------------------------------------------------------------------------------------


def _sbom(beside: _Beside, document: Any, record: Record | None) -> None:
    try:
        claimed = claims.claims_of_sbom(document)
        requires = claims.requirements_of_sbom(document)
        root = claims.sha256_of(document["metadata"]["component"])
        known = document["bomFormat"] == "CycloneDX"
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is no CycloneDX document about a wheel"
        beside.fail(SBOM_RULE, SBOM, why, _AGAIN)
        return
    if not known:
        beside.fail(SBOM_RULE, SBOM, "it is no CycloneDX document", _AGAIN)
    elif root != beside.sha256:
        beside.fail(SBOM_RULE, SBOM, _other("wheel", root, beside.sha256))
    if record is not None:
        _agree(beside, SBOM_RULE, SBOM, claimed, claims.expected_of_sbom(record))
    lines = (beside.metadata or {}).get("requires-dist", ())
    real = frozenset(line for line in lines if claims.requirement_of(line))
    if requires != real:
        other = some(sorted(shown(line) for line in requires ^ real))
        beside.fail(SBOM_RULE, SBOM, f"does not say that the wheel requires what its METADATA does: {other}")
    if not beside.failed(SBOM_RULE):
        told = f"{len(claimed)} inputs by their sha256" + (", as the proof's record has them" if record else "")
        beside.say(SBOM_RULE, _agreed(record), SBOM, f"is about this wheel, and names {told}")


def _agreed(record: Record | None) -> Severity:
    """What is said of a file that is right in itself. Without the proof's record there is nothing to compare with."""
    return Severity.PASS if record is not None else Severity.NOT_PROVEN


def _agree(beside: _Beside, rule: str, suffix: str, claimed: claims.Claims, expected: claims.Claims) -> None:
    different = list(claims.differences(claimed, expected))
    if different:
        beside.fail(rule, suffix, f"and the record of the build in the proof do not agree: {some(different, most=3)}")


# --- the statement ---------------------------------------------------------------------------------------------------


def _statement(beside: _Beside, told: Any, record: Record | None, verdict: str | None) -> None:
    try:
        subjects = {str(item["digest"]["sha256"]): str(item["name"]) for item in told["subject"]}
        types = (told["_type"], told["predicateType"], told["predicate"]["buildDefinition"]["buildType"])
        definition = told["predicate"]["buildDefinition"]
        claimed = claims.claims_of_statement(definition["resolvedDependencies"])
        external = definition["externalParameters"]
        internal = definition["internalParameters"]
        asked = (external["request"], external["sources"], internal["plan"], internal["steps"])
        byproducts = [dict(item["digest"]) for item in told["predicate"]["runDetails"]["byproducts"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = f": {error}" if isinstance(error, ValueError) else ""
        beside.fail(STATEMENT_RULE, STATEMENT, f"is no statement such as crosswheel writes{why}", _AGAIN)
        return
    wanted = (STATEMENT_TYPE, PREDICATE_TYPE, BUILD_TYPE)
    if types != wanted:
        wrong = next(each for each, right in zip(types, wanted, strict=True) if each != right)
        what = f"is of a type that this crosswheel does not know: {shown(wrong)}"
        beside.fail(STATEMENT_RULE, STATEMENT, what, "A newer crosswheel may know it.")
        return
    if list(subjects) != [beside.sha256]:
        beside.fail(STATEMENT_RULE, STATEMENT, _other("wheel", next(iter(subjects), ""), beside.sha256))
    if record is not None:
        _agree(beside, STATEMENT_RULE, STATEMENT, claimed, claims.expected_of_statement(record))
        _asked(beside, asked, (record.request, given(record), record.plan, record.steps))
    _names_the_others(beside, byproducts, verdict)
    if not beside.failed(STATEMENT_RULE):
        message = f"is about this wheel, and names {len(claimed)} inputs by their sha256"
        more = ", as the proof's record has them" if record else ""
        beside.say(STATEMENT_RULE, _agreed(record), STATEMENT, message + more)


def _asked(beside: _Beside, told: tuple[Any, ...], recorded: tuple[Any, ...]) -> None:
    words = ("request", "given sources", "plan", "steps")
    other = [word for word, one, two in zip(words, told, recorded, strict=True) if one != two]
    if other:
        message = f"and the record of the build in the proof do not agree: other {', '.join(other)}"
        beside.fail(STATEMENT_RULE, STATEMENT, message)


def _names_the_others(beside: _Beside, byproducts: list[dict[str, Any]], verdict: str | None) -> None:
    """Whether the statement is about the proof and the SBOM that lie here, so that its signature covers these, too.
    Where one of them was found wrong, no more is said of it."""
    path = sidecar(beside.wheel, SBOM)
    if not beside.failed(SBOM_RULE) and sha256_bytes(path.read_bytes()) not in _told(byproducts, "sha256"):
        beside.fail(STATEMENT_RULE, STATEMENT, "names another SBOM than the one that lies beside it")
    if not beside.failed(PROOF_RULE) and verdict not in _told(byproducts, VERDICT):
        beside.fail(STATEMENT_RULE, STATEMENT, "names another verdict than that of the proof that lies beside it")


def _told(digests: list[dict[str, Any]], name: str) -> list[Any]:
    return [item[name] for item in digests if name in item]


# --- signatures ------------------------------------------------------------------------------------------------------


def _signatures(beside: _Beside, trust: Trust) -> None:
    envelope, bundle = (sidecar(beside.wheel, suffix) for suffix in (ENVELOPE, SIGSTORE))
    statement = sidecar(beside.wheel, STATEMENT)
    if not statement.is_file():
        beside.fail(SIGNATURE_RULE, STATEMENT, "is not there: there is nothing that could be signed", _AGAIN)
        return
    text = statement.read_bytes()
    if trust.key is not None or envelope.is_file():
        _envelope(beside, envelope, text, trust.key)
    if trust.identity is not None or bundle.is_file():
        _bundle(beside, bundle, text, trust)
    if not any(item.rule == SIGNATURE_RULE for item in beside.found):
        message = "is not signed: whoever can write here can have written it"
        beside.say(SIGNATURE_RULE, Severity.NOT_PROVEN, STATEMENT, message, "`./x sign` signs it with a key of yours.")


def _envelope(beside: _Beside, path: Path, statement: bytes, key: SSlibKey | None) -> None:
    if not path.is_file():
        beside.fail(SIGNATURE_RULE, ENVELOPE, "is not there: the statement is signed by no key")
        return
    try:
        told = claims.read_json(path)
        same = payload_of(told) == statement
        signers = some(shown(each) for each in signers_of(told))
        held = key is not None and holds(told, key)
    except ValueError as error:
        beside.fail(SIGNATURE_RULE, ENVELOPE, f"is no signature: {error}")
        return
    if not same:
        beside.fail(SIGNATURE_RULE, ENVELOPE, "signs another statement than the one that lies beside it")
    elif key is None:
        message = f"says that the statement is signed with the key {signers}; nobody said whose that is"
        beside.say(SIGNATURE_RULE, Severity.NOT_PROVEN, ENVELOPE, message, "--key key.pub says which key you trust.")
    elif held:
        beside.say(SIGNATURE_RULE, Severity.PASS, ENVELOPE, f"signs the statement with this key ({key.keyid[:16]}…)")
    else:
        beside.fail(SIGNATURE_RULE, ENVELOPE, f"is not signed with this key ({key.keyid[:16]}…), but names {signers}")


def _bundle(beside: _Beside, path: Path, statement: bytes, trust: Trust) -> None:
    if not path.is_file():
        beside.fail(SIGNATURE_RULE, SIGSTORE, "is not there: the statement is signed by no identity")
        return
    try:
        told = claims.read_json(path)
        payload = payload_of(told.get("dsseEnvelope") if isinstance(told, dict) else None)
        if trust.sigstore is not None and payload == statement:
            payload = trust.sigstore(path.read_bytes())
    except ValueError as error:
        beside.fail(SIGNATURE_RULE, SIGSTORE, f"is no signature that holds: {error}")
        return
    if payload != statement:
        beside.fail(SIGNATURE_RULE, SIGSTORE, "signs another statement than the one that lies beside it")
    elif trust.sigstore is None:
        message = "says that the statement is signed by sigstore; nobody said by whom"
        hint = "--identity and --issuer say whom you trust."
        beside.say(SIGNATURE_RULE, Severity.NOT_PROVEN, SIGSTORE, message, hint)
    else:
        beside.say(SIGNATURE_RULE, Severity.PASS, SIGSTORE, f"signs the statement, by {trust.identity}")
