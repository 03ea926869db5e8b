"""What `verify --provenance` and `sign` do: what lies beside a wheel is compared, or signed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.errors import InputError
from crosswheel.proving.findings import Finding, Severity

if TYPE_CHECKING:
    from crosswheel.publishing.comparing import Trust

_BUNDLE = ".tar.gz"


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """Whom the options of `verify --provenance` say to trust: a public key's file; an identity of sigstore, and who
    vouches for it."""

    key: str | None = None
    identity: str | None = None
    issuer: str | None = None
    offline: bool = False

    def asked(self, provenance: bool, *judging: object) -> bool:
        """Whether `verify` was asked to compare, and not to judge, which ``judging`` are the options of. ``InputError``
        where it was asked both."""
        if not provenance and (self.key or self.identity or self.issuer):
            what = "--key, --identity and --issuer say who must have signed the provenance"
            raise InputError(what, hint="add --provenance, which compares what lies beside the wheel")
        if provenance and any(judging):
            what = "--provenance compares what lies beside a wheel; the target and the like are what it is judged for"
            raise InputError(what, where="--provenance", hint="ask both, one after the other")
        return provenance


def compare_all(wheels: Sequence[Path], trusted: Trusted, *, as_json: bool) -> bool:
    """Compares what lies beside each wheel, and shows the findings; whether nothing failed. Nothing is judged anew."""
    from crosswheel.digest import sha256_file
    from crosswheel.proving.facts import read_metadata
    from crosswheel.publishing.comparing import compare

    trust = _trust(trusted)
    _refuse_no_files(wheels)
    told = []
    for wheel in wheels:
        metadata = None if wheel.name.endswith(_BUNDLE) else read_metadata(wheel)
        findings = compare(wheel, metadata, trust)
        told.append((wheel, findings))
        if not as_json:
            _show(wheel, findings)
    if as_json:
        entries = [
            {
                "wheel": str(wheel),
                "sha256": sha256_file(wheel),
                "passed": _passed(findings),
                "findings": [finding.as_json() for finding in findings],
            }
            for wheel, findings in told
        ]
        print(json.dumps({"provenance": entries}, indent=2))
    return all(_passed(findings) for _, findings in told)


def _trust(trusted: Trusted) -> Trust:
    from crosswheel.publishing.comparing import Trust
    from crosswheel.publishing.signing import public_key, sigstore_payload

    if trusted.issuer and not trusted.identity:
        raise InputError(
            "an issuer vouches for an identity, and none is named", where="--issuer", hint="--identity WHO"
        )
    key = public_key(Path(trusted.key)) if trusted.key else None
    if trusted.identity is None:
        return Trust(key=key)
    identity, issuer, offline = trusted.identity, trusted.issuer, trusted.offline

    def sigstore(bundle: bytes) -> bytes:
        return sigstore_payload(bundle, identity, issuer, offline=offline)

    return Trust(key=key, identity=identity, sigstore=sigstore)


def _refuse_no_files(wheels: Sequence[Path]) -> None:
    """``InputError`` for what is no wheel and no bundle; told before the first is looked at."""
    for wheel in wheels:
        if not wheel.is_file():
            raise InputError("there is no such wheel", where=str(wheel))
        if not wheel.name.endswith(_BUNDLE) and not is_zipfile(wheel):
            raise InputError("this is no wheel: it is no zip archive", where=str(wheel), hint="fetch it again")


def _passed(findings: Sequence[Finding]) -> bool:
    return not any(finding.severity is Severity.FAIL for finding in findings)


def _show(wheel: Path, findings: Sequence[Finding]) -> None:
    from crosswheel.cli.console import write_pieces
    from crosswheel.cli.lines import plain

    words = {Severity.FAIL: "FAIL", Severity.WARN: "warn", Severity.NOT_PROVEN: "not proven", Severity.PASS: "pass"}
    styles = {Severity.FAIL: "bold red", Severity.WARN: "yellow", Severity.NOT_PROVEN: "yellow", Severity.PASS: "green"}
    mark = ("✓", "green") if _passed(findings) else ("✗", "bold red")
    pieces = [mark, (f" {plain(str(wheel))}\n", "bold")]
    for finding in findings:
        word = words[finding.severity]
        # The name of the wheel is on the line above; what is told is which of the files beside it.
        suffix = finding.subject.removeprefix(wheel.name)
        line = f"{finding.rule:10} {plain(suffix)} {plain(finding.message)}"
        pieces += [("  ", ""), (word, styles[finding.severity]), (f"{' ' * (10 - len(word))} {line}\n", "")]
        if finding.hint:
            pieces.append((f"{' ' * 24}→ {plain(finding.hint)}\n", ""))
    write_pieces(pieces, sys.stdout)


# --- sign ------------------------------------------------------------------------------------------------------------


@task(
    rest="wheels",
    help={
        "wheels": "Released wheels, with their statements beside them; any number.",
        "key": "A private key (Ed25519, ECDSA or RSA) in a PEM file.",
        "sigstore": "Sign by sigstore, with the identity that this machine or --identity-token has.",
        "identity-token": "A file with an OpenID Connect token, for --sigstore.",
        "json": "Print one JSON object on stdout.",
    },
)
def sign(
    _context: Context,
    wheels: Sequence[str] = (),
    key: str | None = None,
    sigstore: bool = False,
    identity_token: str | None = None,
    json: bool = False,
) -> None:
    """Sign the provenance of released wheels, with a key or by sigstore. What does not agree is not signed."""
    if not wheels:
        raise InputError("no wheel is named", hint="./x sign dist/rpi4/*.whl --key key.pem")
    if bool(key) == sigstore:
        raise InputError("say with what to sign: --key FILE, or --sigstore", hint="each is a signature of its own")
    paths = [Path(wheel) for wheel in wheels]
    statements = _statements(paths)
    signed = _by_sigstore(statements, identity_token) if key is None else _by_key(statements, Path(key))
    _tell_signed(signed, as_json=json)


def _statements(wheels: Sequence[Path]) -> dict[Path, bytes]:
    """The statement of each wheel. ``InputError`` for one that does not agree with what lies beside it: a signature
    says that it does."""
    from crosswheel.proving.facts import read_metadata
    from crosswheel.publishing.comparing import SIGNATURE_RULE, Trust, compare
    from crosswheel.publishing.sidecars import STATEMENT, sidecar

    _refuse_no_files(wheels)
    found = {}
    for wheel in wheels:
        metadata = None if wheel.name.endswith(_BUNDLE) else read_metadata(wheel)
        wrong = [
            f"{finding.subject}: {finding.message}"
            for finding in compare(wheel, metadata, Trust())
            if finding.severity is Severity.FAIL and finding.rule != SIGNATURE_RULE
        ]
        if wrong:
            hint = f"./x verify --provenance {wheel}"
            raise InputError(
                "what lies beside this wheel is not signed", where=str(wheel), why="\n".join(wrong), hint=hint
            )
        found[wheel] = sidecar(wheel, STATEMENT).read_bytes()
    return found


def _by_key(statements: dict[Path, bytes], key: Path) -> dict[Path, bool]:
    """Writes the envelopes; which of them are new. One that is signed with this key stays as it is."""
    from crosswheel.building.disk import write_at_once
    from crosswheel.publishing.sidecars import ENVELOPE, sidecar
    from crosswheel.publishing.signing import private_key, signed

    signer = private_key(key, _ask_password if sys.stdin.isatty() else None)
    done = {}
    for wheel, statement in statements.items():
        path = sidecar(wheel, ENVELOPE)
        old = path.read_bytes() if path.is_file() else None
        new = signed(statement, signer, old)
        write_at_once(path, new)
        done[path] = new != old
    return done


def _ask_password() -> str:
    from getpass import getpass

    return getpass("password of the key: ")


def _by_sigstore(statements: dict[Path, bytes], token: str | None) -> dict[Path, bool]:
    from crosswheel.building.disk import write_at_once
    from crosswheel.publishing.sidecars import SIGSTORE, sidecar
    from crosswheel.publishing.signing import sigstore_signed

    bundles = sigstore_signed(list(statements.values()), _token(token))
    done = {}
    for wheel, bundle in zip(statements, bundles, strict=True):
        path = sidecar(wheel, SIGSTORE)
        write_at_once(path, bundle)
        done[path] = True
    return done


def _token(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("this token cannot be read", where=f"--identity-token {file}", why=str(error)) from error


def _tell_signed(signed: dict[Path, bool], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"signed": [{"file": str(path), "new": new} for path, new in signed.items()]}, indent=2))
        return
    for path, new in signed.items():
        print(f"{path}: {'signed' if new else 'was signed with this key already'}")
