"""Signatures of a wheel's statement: by a key, as a DSSE envelope; by sigstore, as its bundle.

Sources: DSSE v1 (https://github.com/secure-systems-lab/dsse), of which securesystemslib is an implementation; for
sigstore, sigstore-python (https://sigstore.github.io/sigstore-python/), which ``crosswheel[sigstore]`` installs. Both
sign the very bytes of the statement.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crosswheel.errors import FetchError, InputError, MachineError
from crosswheel.publishing.claims import parse_json
from crosswheel.publishing.inputs import shown
from crosswheel.publishing.provenance import PAYLOAD_TYPE

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

_MAKE_KEY = "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub"

MOST_KEY = 64 * 1024
"""A file of more bytes is no key."""


# --- keys ------------------------------------------------------------------------------------------------------------


def private_key(path: Path, ask_password: Callable[[], str] | None) -> CryptoSigner:
    """The key in the PEM file ``path``: Ed25519, ECDSA or RSA. ``ask_password`` is asked where the file is encrypted;
    None where nobody can be asked. ``InputError`` for what is no such key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.exceptions import UnsupportedLibraryError
    from securesystemslib.signer import CryptoSigner

    text = _pem(path)
    if b"PUBLIC KEY-----" in text and b"PRIVATE KEY-----" not in text:
        raise InputError("this is a public key, which signs nothing", where=str(path), hint="give the private one")
    encrypted = b"ENCRYPTED" in text
    if encrypted and ask_password is None:
        what = "this key is encrypted, and nobody is here to be asked for its password"
        raise InputError(what, where=str(path), hint=f"openssl pkey -in {path.name} -out plain.pem")
    password = ask_password().encode() if encrypted and ask_password else None
    try:
        key: PrivateKeyTypes = load_pem_private_key(text, password)
        return CryptoSigner(key)
    except (ValueError, TypeError, UnsupportedAlgorithm, UnsupportedLibraryError) as error:
        raise _no_key(path, "no private key that signs", error) from error


def public_key(path: Path) -> SSlibKey:
    """The public key in the PEM file ``path``. ``InputError`` for what is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    text = _pem(path)
    if b"PRIVATE KEY-----" in text:
        what = "this is a private key: give the public one, and keep this from whoever only verifies"
        raise InputError(what, where=str(path), hint=f"openssl pkey -in {path.name} -pubout -out {path.stem}.pub")
    try:
        key: PublicKeyTypes = load_pem_public_key(text)
        return SSlibKey.from_crypto(key)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(path, "no public key that verifies", error) from error


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_KEY + 1)
    except OSError as error:
        raise InputError("this key cannot be read", where=str(path), why=str(error), hint=_MAKE_KEY) from error
    if len(text) > MOST_KEY or b"-----BEGIN" not in text:
        raise InputError("this is no PEM file with a key", where=str(path), hint=_MAKE_KEY)
    return text


def _no_key(path: Path, what: str, error: Exception) -> InputError:
    why = str(error) or type(error).__name__
    return InputError(f"this is {what} (Ed25519, ECDSA or RSA, as PEM)", where=str(path), why=why, hint=_MAKE_KEY)


# --- envelopes -------------------------------------------------------------------------------------------------------


def signed(statement: bytes, signer: CryptoSigner, old: bytes | None) -> bytes:
    """The statement in a DSSE envelope, signed: one line of JSON. ``old`` is the envelope that lies there: what is
    signed with this key already stays as it is, and other keys' signatures of the same statement stay in it."""
    from securesystemslib.dsse import Envelope

    envelope = Envelope(statement, PAYLOAD_TYPE, {})
    known = _known(old, statement)
    if known is not None and old is not None:
        if holds(known, signer.public_key):
            return old
        kept = [item for item in known["signatures"] if item.get("keyid")]
        envelope = Envelope.from_dict({**known, "signatures": kept})
    envelope.sign(signer)
    return _line(envelope)


def _known(old: bytes | None, statement: bytes) -> Any:
    """The envelope in ``old``, if it is one of this statement."""
    if old is None:
        return None
    try:
        told = parse_json(old)
        return told if payload_of(told) == statement else None
    except ValueError:
        return None


def _line(envelope: Envelope) -> bytes:
    return (json.dumps(envelope.to_dict(), separators=(",", ":"), sort_keys=True) + "\n").encode()


def payload_of(envelope: Any) -> bytes:
    """What the JSON of an envelope holds. ``ValueError`` where it is none with a statement, or unsigned."""
    if not isinstance(envelope, dict):
        raise ValueError("it is no DSSE envelope")
    kind, payload, signatures = (envelope.get(key) for key in ("payloadType", "payload", "signatures"))
    if kind != PAYLOAD_TYPE:
        raise ValueError(f"its payloadType is {shown(kind)}, and a statement's is {PAYLOAD_TYPE}")
    if not isinstance(payload, str) or not isinstance(signatures, list) or not signatures:
        raise ValueError("it has no payload, or no signatures")
    for item in signatures:
        if not isinstance(item, dict) or not isinstance(item.get("sig"), str):
            raise ValueError("one of its signatures is none")
    return base64.b64decode(payload, validate=True)


def signers_of(envelope: Any) -> list[str]:
    """The key ids that an envelope names, for people: they are hints, and prove nothing."""
    return [str(item.get("keyid") or "no key id")[:64] for item in envelope["signatures"]]


def holds(envelope: Any, key: SSlibKey) -> bool:
    """Whether one of the signatures of an envelope (see :func:`payload_of`) is this key's. A key id is a hint and is
    not asked, as DSSE has it. ``ValueError`` where a signature is no base64."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature

    text = Envelope(payload_of(envelope), PAYLOAD_TYPE, {}).pae()
    for item in envelope["signatures"]:
        try:
            key.verify_signature(Signature(key.keyid, base64.b64decode(item["sig"], validate=True).hex()), text)
            return True
        except UnverifiedSignatureError:
            continue
    return False


# --- sigstore --------------------------------------------------------------------------------------------------------

_SIGSTORE = "pip install 'crosswheel[sigstore]'"


def sigstore_signed(statements: list[bytes], token: str | None) -> list[bytes]:
    """Sigstore's bundles of the statements, by the identity that ``token`` (OpenID Connect) or the machine has: a CI
    job's own, where the CI gives it one.

    Raises ``MachineError`` where sigstore is not installed or there is no identity, ``FetchError`` where its services
    do not answer or refuse.
    """
    try:
        from sigstore import errors, oidc
        from sigstore.dsse import Statement
        from sigstore.models import ClientTrustConfig
        from sigstore.sign import SigningContext
    except ImportError as error:
        raise _not_installed() from error
    try:
        found = token or oidc.detect_credential()
    except oidc.IdentityError as error:
        raise MachineError("this machine's identity cannot be asked for", why=str(error), hint=_IDENTITY) from error
    if not found:
        raise MachineError("there is no identity to sign with by sigstore", hint=_IDENTITY)
    try:
        context = SigningContext.from_trust_config(ClientTrustConfig.production())
        with context.signer(oidc.IdentityToken(found)) as signer:
            return [f"{signer.sign_dsse(Statement(text)).to_json()}\n".encode() for text in statements]
    except oidc.IdentityError as error:
        raise MachineError("sigstore does not take this identity", why=str(error), hint=_IDENTITY) from error
    except (errors.Error, OSError) as error:
        hint = "its public services must be reached from here; a key needs none: --key key.pem"
        raise FetchError("sigstore did not sign", why=str(error) or type(error).__name__, hint=hint) from error


_IDENTITY = (
    "In a CI job with an identity (GitHub Actions: permissions: id-token: write) it is found; else give a token of "
    "yours by --identity-token FILE, or sign with a key: --key key.pem"
)


def sigstore_payload(bundle: bytes, identity: str, issuer: str | None, *, offline: bool) -> bytes:
    """The statement in a bundle, whose signature was made by ``identity`` (of ``issuer``) and is in sigstore's log.

    Raises ``ValueError`` where it does not hold, ``MachineError`` where sigstore is not installed, ``FetchError`` where
    its root of trust cannot be had.
    """
    try:
        from sigstore import errors
        from sigstore.models import Bundle, InvalidBundle
        from sigstore.verify import Verifier, policy
    except ImportError as error:
        raise _not_installed() from error
    try:
        verifier = Verifier.production(offline=offline)
    except (errors.Error, OSError) as error:
        raise FetchError("sigstore's root of trust cannot be had", why=str(error) or type(error).__name__) from error
    try:
        kind, payload = verifier.verify_dsse(
            Bundle.from_json(bundle), policy.Identity(identity=identity, issuer=issuer)
        )
    except (errors.VerificationError, InvalidBundle) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if kind != PAYLOAD_TYPE:
        raise ValueError(f"it signs {shown(kind)}, which is no statement")
    return bytes(payload)


def _not_installed() -> MachineError:
    return MachineError("sigstore is not installed beside crosswheel", hint=_SIGSTORE)
