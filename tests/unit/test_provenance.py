"""`verify --provenance` and `sign`: one change is told once, in its place; a signature holds or does not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invoke.context import Context
from invoke.exceptions import Exit
from sidecar_writer import Released, release_one

from crosswheel.cli import inspect
from crosswheel.cli.provenance import Trusted, compare_all, sign
from crosswheel.errors import InputError
from crosswheel.proving.facts import read_metadata
from crosswheel.proving.findings import Finding, Severity
from crosswheel.publishing.comparing import Trust, compare
from crosswheel.publishing.signing import private_key, public_key, sigstore_payload, sigstore_signed
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

OTHER = "b" * 64


@pytest.fixture
def released(tmp_path: Path, catalog: Catalog) -> Released:
    return release_one(tmp_path, catalog)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Released:
    """One that a test leaves as it was."""
    return release_one(tmp_path_factory.mktemp("shared"), Catalog(Path(__file__).resolve().parents[2]))


def write_key(folder: Path, key: Any, *, password: bytes | None = None) -> tuple[Path, Path]:
    """A key pair as PEM files."""
    private, public = folder / "key.pem", folder / "key.pub"
    how = BestAvailableEncryption(password) if password else NoEncryption()
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_key(tmp_path, ed25519.Ed25519PrivateKey.generate())


def found(released: Released, trust: Trust | None = None) -> tuple[Finding, ...]:
    return compare(released.wheel, read_metadata(released.wheel), trust or Trust())


def failures(released: Released, trust: Trust | None = None) -> list[tuple[str, str]]:
    return [(item.rule, item.message) for item in found(released, trust) if item.severity is Severity.FAIL]


def put_sign(released: Released, key: Path) -> None:
    sign(Context(), wheels=[str(released.wheel)], key=str(key))


# --- one change, told once


def test_what_was_released_agrees(released: Released) -> None:
    severities = {item.rule: item.severity for item in found(released)}
    assert severities == {
        "proof": Severity.PASS,
        "sbom": Severity.PASS,
        "provenance": Severity.PASS,
        "signature": Severity.NOT_PROVEN,
    }


def component(told: Any, name: str) -> Any:
    everything = [*told["components"], *told["formulation"][0]["components"]]
    return next(item for item in everything if item["bom-ref"] == name)


def dependency(told: Any, name: str) -> Any:
    items = told["predicate"]["buildDefinition"]["resolvedDependencies"]
    return next(item for item in items if item["name"] == name)


def digest(name: str) -> Callable[[Any], object]:
    return lambda told: component(told, name)["hashes"][0].update(content=OTHER)


def dependency_digest(name: str) -> Callable[[Any], object]:
    return lambda told: dependency(told, name).update(digest={"sha256": OTHER})


def remove_dependency(told: Any) -> None:
    told["predicate"]["buildDefinition"]["resolvedDependencies"].remove(dependency(told, "file bazel"))


def add_dependency(told: Any) -> None:
    more = {"name": "file evil.tar.gz", "digest": {"sha256": OTHER}}
    told["predicate"]["buildDefinition"]["resolvedDependencies"].append(more)


def patch_of_sbom(told: Any) -> None:
    items = component(told, "file dm-tree-0.1.5.tar.gz")["properties"]
    next(item for item in items if item["name"].startswith("crosswheel:patch:"))["value"] = OTHER


def lock_of_sbom(told: Any) -> None:
    items = told["metadata"]["properties"]
    next(item for item in items if item["name"] == "crosswheel:lock:emulator")["value"] = OTHER


def required_more(told: Any) -> None:
    component(told, "requires six")["properties"][0]["value"] = "evil"


def definition(told: Any) -> Any:
    return told["predicate"]["buildDefinition"]


def external(**more: Any) -> Callable[[Any], object]:
    return lambda told: definition(told)["externalParameters"].update(more)


def internal(**more: Any) -> Callable[[Any], object]:
    return lambda told: definition(told)["internalParameters"].update(more)


def another_root(told: Any) -> None:
    told["metadata"]["component"]["hashes"][0]["content"] = OTHER


def two_subjects(told: Any) -> None:
    told["subject"].append({**told["subject"][0], "digest": {"sha256": OTHER}})


def a_failure(told: Any) -> None:
    told["findings"][0]["severity"] = "fail"


@pytest.mark.parametrize(
    ("suffix", "change", "rule", "said"),
    [
        (".proof.json", lambda told: told.update(sha256=OTHER), "proof", "is about another wheel"),
        (".proof.json", a_failure, "proof", "says that the wheel failed"),
        (".proof.json", lambda told: told.pop("build"), "proof", "build: Input should be"),
        (".proof.json", lambda told: told.update(schema=9), "proof", "its schema is 9"),
        (".proof.json", lambda told: told["rules"].update(tag=7), "provenance", "names another verdict"),
        (".cdx.json", digest("file dm-tree-0.1.5.tar.gz"), "sbom", f"tar.gz has {OTHER[:16]} instead"),
        (".cdx.json", digest("deb gcc-12-arm64-builder g++-12"), "sbom", "deb gcc-12-arm64-builder g++-12 has"),
        (".cdx.json", patch_of_sbom, "sbom", "patch python-3.10-collections-abc.patch has"),
        (".cdx.json", lock_of_sbom, "sbom", "lock emulator has"),
        (".cdx.json", required_more, "sbom", "what its METADATA does: evil, six"),
        (".cdx.json", lambda told: told["components"].pop(0), "sbom", "is missing"),
        (".cdx.json", another_root, "sbom", "another wheel"),
        (".cdx.json", lambda told: told.update(bomFormat="SPDX"), "sbom", "no CycloneDX document"),
        (".cdx.json", lambda told: told.update(serialNumber="urn:x"), "provenance", "names another SBOM"),
        (".intoto.json", dependency_digest("file bazel"), "provenance", f"file bazel has {OTHER[:16]} instead of"),
        (".intoto.json", dependency_digest("patch python-3.10-collections-abc.patch"), "provenance", "patch python"),
        (".intoto.json", dependency_digest("deb emulator libc6-dev"), "provenance", "deb emulator libc6-dev has"),
        (".intoto.json", dependency_digest("lock emulator"), "provenance", "lock emulator has"),
        (".intoto.json", remove_dependency, "provenance", "file bazel is missing"),
        (".intoto.json", add_dependency, "provenance", "file evil.tar.gz is in no record"),
        (".intoto.json", lambda told: told["subject"][0]["digest"].update(sha256=OTHER), "provenance", "another wheel"),
        (".intoto.json", two_subjects, "provenance", "another wheel"),
        (".intoto.json", lambda told: told.update(predicateType="x"), "provenance", "does not know: x"),
        (".intoto.json", external(request={}), "provenance", "other request"),
        (".intoto.json", external(sources={"a": OTHER}), "provenance", "other given sources"),
        (".intoto.json", internal(plan=OTHER), "provenance", "other plan"),
        (".intoto.json", internal(steps={}), "provenance", "other steps"),
        (".intoto.json", lambda told: told["predicate"].pop("runDetails"), "provenance", "is no statement"),
    ],
)  # fmt: skip
def test_one_change_is_told_once(
    released: Released, suffix: str, change: Callable[[Any], object], rule: str, said: str
) -> None:
    released.change(suffix, change)
    ((told, message),) = failures(released)
    assert told == rule
    assert said in message


def test_a_change_of_the_record_is_told_of_both_that_were_made_of_it(released: Released) -> None:
    released.change(".proof.json", lambda told: told["build"]["inputs"][0].update(sha256=OTHER))
    assert [rule for rule, _ in failures(released)] == ["sbom", "provenance"]
    assert all(f"instead of {OTHER[:16]}" in message for _, message in failures(released))


def test_another_wheel_is_told_of_all_three(released: Released) -> None:
    released.wheel.write_bytes(released.wheel.read_bytes() + b"more")
    assert [rule for rule, _ in failures(released)] == ["proof", "sbom", "provenance"]
    assert all("is about another wheel" in message for _, message in failures(released))


def test_a_renamed_wheel_is_warned_of(released: Released) -> None:
    name = released.wheel.name.replace("1.0-", "1.0-7-")
    for path in list(released.wheel.parent.iterdir()):
        path.rename(path.with_name(path.name.replace(released.wheel.name, name)))
    released.wheel = released.wheel.with_name(name)
    assert failures(released) == []
    (warned,) = [item for item in found(released) if item.severity is Severity.WARN]
    assert "it was renamed" in warned.message


# --- what is missing, cut off, hostile


@pytest.mark.parametrize(
    ("suffix", "rule"), [(".proof.json", "proof"), (".cdx.json", "sbom"), (".intoto.json", "provenance")]
)
def test_a_missing_file_is_told_once(released: Released, suffix: str, rule: str) -> None:
    released.beside(suffix).unlink()
    told = [(rule, message) for rule, message in failures(released) if rule != "signature"]
    assert told == [(rule, "is not there")]


@pytest.mark.parametrize(
    ("suffix", "rule"), [(".proof.json", "proof"), (".cdx.json", "sbom"), (".intoto.json", "provenance")]
)
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "cut off"),
        (b"", "cut off"),
        (b"\xff\xfe{}", "no UTF-8"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b"[]", ""),
        (b"{}", ""),
        (b"null", ""),
        (b'"\\u001b[2J"', ""),
    ],
)
def test_a_hostile_file_is_one_clear_error(
    released: Released, suffix: str, rule: str, data: bytes | None, said: str
) -> None:
    path = released.beside(suffix)
    path.write_bytes(path.read_bytes()[:-200] if data is None else data)
    (told,) = [message for name, message in failures(released) if name == rule]
    assert said in told
    assert {name for name, _ in failures(released)} == {rule}


def test_a_file_without_end_is_not_read(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosswheel.publishing.claims.MOST_BYTES", 2**20)
    with released.beside(".cdx.json").open("wb") as stream:
        stream.truncate(2**30)
    assert failures(released) == [("sbom", "it has more than 1 MiB")]


def places(value: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a value of JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [so_far, *(place for key, item in items for place in places(item, (*so_far, key)))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from([".proof.json", ".cdx.json", ".intoto.json"]),
    where=st.integers(min_value=0),
    what=st.one_of(
        st.none(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just([{}]), st.just("\x1b")
    ),
)
def test_no_change_of_a_file_ends_in_a_traceback(shared: Released, suffix: str, where: int, what: Any) -> None:
    path = shared.beside(suffix)
    right = path.read_bytes()
    told = json.loads(right)
    ways = places(told)[1:]
    *way, last = ways[where % len(ways)]
    inner = told
    for key in way:
        inner = inner[key]
    inner[last] = what
    try:
        path.write_text(json.dumps(told))
        rules = {item.rule for item in found(shared)}
        assert rules == {"proof", "sbom", "provenance", "signature"}
    finally:
        path.write_bytes(right)


# --- signatures


@pytest.mark.parametrize(
    "make",
    [
        ed25519.Ed25519PrivateKey.generate,
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["ed25519", "p256", "p384", "rsa"],
)
def test_a_signature_holds_by_its_key_and_no_other(released: Released, tmp_path: Path, make: Callable[[], Any]) -> None:
    private, public = write_key(tmp_path, make())
    put_sign(released, private)
    envelope = released.beside(".intoto.jsonl").read_text()
    assert envelope.count("\n") == 1
    told = json.loads(envelope)
    assert base64.b64decode(told["payload"]) == released.beside(".intoto.json").read_bytes()
    assert failures(released, Trust(key=public_key(public))) == []
    (other := tmp_path / "other").mkdir()
    _, stranger = write_key(other, make())
    ((rule, message),) = failures(released, Trust(key=public_key(stranger)))
    assert rule == "signature" and "is not signed with this key" in message
    # and again: nothing is written, although ECDSA and RSA would give other bytes
    put_sign(released, private)
    assert released.beside(".intoto.jsonl").read_text() == envelope


def test_the_signature_is_as_dsse_has_it(released: Released, tmp_path: Path) -> None:
    """The pre-authentication encoding by hand, as its protocol says it, without the library that signed."""
    key = ed25519.Ed25519PrivateKey.generate()
    put_sign(released, write_key(tmp_path, key)[0])
    told = json.loads(released.beside(".intoto.jsonl").read_text())
    kind, payload = told["payloadType"].encode(), base64.b64decode(told["payload"])
    assert kind == b"application/vnd.in-toto+json"
    text = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    key.public_key().verify(base64.b64decode(told["signatures"][0]["sig"]), text)


def test_two_keys_sign_one_statement(released: Released, tmp_path: Path, keys: tuple[Path, Path]) -> None:
    (other := tmp_path / "other").mkdir()
    more = write_key(other, ec.generate_private_key(ec.SECP256R1()))
    put_sign(released, keys[0])
    put_sign(released, more[0])
    for _, public in (keys, more):
        assert failures(released, Trust(key=public_key(public))) == []


def test_the_key_id_is_a_hint_alone(released: Released, keys: tuple[Path, Path]) -> None:
    put_sign(released, keys[0])
    released.change(".intoto.jsonl", lambda told: told["signatures"][0].pop("keyid"))
    assert failures(released, Trust(key=public_key(keys[1]))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda told: told["signatures"][0].update(sig=base64.b64encode(b"x" * 64).decode()),
            "not signed with this key",
        ),
        (lambda told: told["signatures"][0].update(sig="no base64"), "is no signature"),
        (lambda told: told.update(signatures=[]), "no signatures"),
        (lambda told: told.update(signatures=[7]), "is none"),
        (lambda told: told.update(payloadType="text/plain"), "payloadType"),
        (lambda told: told.update(payload=base64.b64encode(b"{}").decode()), "signs another statement"),
        (lambda told: told.update(payload="ü"), "is no signature"),
        (lambda told: told.clear(), "payloadType"),
    ],
)
def test_a_signature_that_was_changed_does_not_hold(
    released: Released, keys: tuple[Path, Path], change: Callable[[Any], object], said: str
) -> None:
    put_sign(released, keys[0])
    released.change(".intoto.jsonl", change)
    ((rule, message),) = failures(released, Trust(key=public_key(keys[1])))
    assert (rule, said in message) == ("signature", True), message


def test_a_statement_that_was_changed_after_it_was_signed(released: Released, keys: tuple[Path, Path]) -> None:
    put_sign(released, keys[0])
    text = released.beside(".intoto.json")
    text.write_text(text.read_text().replace("\n", "\n "))
    assert failures(released) == [("signature", "signs another statement than the one that lies beside it")]


def test_a_signature_that_is_wanted_and_not_there(released: Released, keys: tuple[Path, Path]) -> None:
    ((rule, message),) = failures(released, Trust(key=public_key(keys[1])))
    assert (rule, message) == ("signature", "is not there: the statement is signed by no key")


def test_a_signature_by_nobody_in_particular_is_not_proven(released: Released, keys: tuple[Path, Path]) -> None:
    put_sign(released, keys[0])
    (told,) = [item for item in found(released) if item.rule == "signature"]
    assert told.severity is Severity.NOT_PROVEN and "nobody said whose" in told.message


def test_what_does_not_agree_is_not_signed(released: Released, keys: tuple[Path, Path]) -> None:
    released.change(".cdx.json", digest("file bazel"))
    with pytest.raises(Exit) as caught:
        put_sign(released, keys[0])
    assert caught.value.code == 2
    assert not released.beside(".intoto.jsonl").exists()


def test_a_stale_signature_is_replaced(released: Released, keys: tuple[Path, Path]) -> None:
    put_sign(released, keys[0])
    released.record["request"]["cpu"] = "cortex-a53"
    old = released.beside(".intoto.jsonl").read_bytes()
    released.again()
    released.beside(".intoto.jsonl").write_bytes(old)
    assert failures(released) == [("signature", "signs another statement than the one that lies beside it")]
    put_sign(released, keys[0])
    assert failures(released, Trust(key=public_key(keys[1]))) == []


# --- keys


def test_an_encrypted_key_is_asked_for_its_password(tmp_path: Path) -> None:
    private, _ = write_key(tmp_path, ed25519.Ed25519PrivateKey.generate(), password=b"word")
    assert private_key(private, lambda: "word").public_key.keytype == "ed25519"
    with pytest.raises(InputError, match="no private key"):
        private_key(private, lambda: "wrong")
    with pytest.raises(InputError, match="nobody is here to be asked"):
        private_key(private, None)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100_000, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    for read in (lambda: private_key(path, None), lambda: public_key(path)):
        with pytest.raises(InputError) as caught:
            read()
        assert caught.value.hint


def test_a_key_that_cannot_sign_is_told(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, x25519.X25519PrivateKey.generate())
    with pytest.raises(InputError, match="no private key that signs"):
        private_key(private, None)
    with pytest.raises(InputError, match="no public key that verifies"):
        public_key(public)


def test_the_two_keys_are_not_taken_for_each_other(keys: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="this is a public key"):
        private_key(keys[1], None)
    with pytest.raises(InputError, match="this is a private key"):
        public_key(keys[0])
    with pytest.raises(InputError, match="cannot be read"):
        public_key(keys[0].with_name("none"))


# --- sigstore


def test_without_sigstore_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "sigstore", None)
    for ask in (lambda: sigstore_signed([b"{}"], None), lambda: sigstore_payload(b"{}", "me", None, offline=True)):
        with pytest.raises(Exception, match="sigstore is not installed") as caught:
            ask()
        assert "crosswheel[sigstore]" in caught.value.hint  # type: ignore[attr-defined]


def bundle(released: Released) -> bytes:
    payload = base64.b64encode(released.beside(".intoto.json").read_bytes()).decode()
    envelope = {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": [{"sig": "AAAA"}]}
    return json.dumps({"dsseEnvelope": envelope}).encode()


def test_a_bundle_is_compared_and_trusted_by_identity_alone(released: Released) -> None:
    path = released.beside(".sigstore.json")
    path.write_bytes(bundle(released))
    (told,) = [item for item in found(released) if item.rule == "signature"]
    assert told.severity is Severity.NOT_PROVEN
    right = Trust(identity="me", sigstore=lambda _: released.beside(".intoto.json").read_bytes())
    assert failures(released, right) == []

    def refuse(_: bytes) -> bytes:
        raise ValueError("it is somebody else's")

    ((rule, message),) = failures(released, Trust(identity="me", sigstore=refuse))
    assert rule == "signature" and "it is somebody else's" in message
    path.write_bytes(b'{"dsseEnvelope": []}')
    assert [rule for rule, _ in failures(released, right)] == ["signature"]
    path.unlink()
    assert failures(released, right) == [("signature", "is not there: the statement is signed by no identity")]


# --- the command line


def verify(*wheels: Path, **options: Any) -> int:
    try:
        inspect.verify(Context(), wheels=[str(wheel) for wheel in wheels], **options)
    except Exit as ended:
        return int(ended.code)
    return 0


def test_the_exit_codes(released: Released, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(released.wheel, provenance=True) == 0
    assert capsys.readouterr().out.startswith("✓ ")
    assert verify(released.wheel, provenance=True, key=str(keys[1])) == 1
    assert "FAIL       signature  .intoto.jsonl is not there" in capsys.readouterr().out
    assert verify(released.wheel, provenance=True, key=str(keys[0])) == 2
    assert verify(released.wheel, key=str(keys[1])) == 2
    assert verify(released.wheel, provenance=True, target="rpi4") == 2
    assert verify(released.wheel, provenance=True, issuer="https://example.org") == 2
    assert verify(released.wheel.with_name("none-1.0-py3-none-any.whl"), provenance=True) == 2
    (broken := released.wheel.with_name("broken-1.0-py3-none-any.whl")).write_bytes(b"no zip")
    assert verify(broken, provenance=True) == 2


def test_json_has_the_findings(released: Released, capsys: pytest.CaptureFixture[str]) -> None:
    released.change(".intoto.json", remove_dependency)
    assert verify(released.wheel, provenance=True, json=True) == 1
    (told,) = json.loads(capsys.readouterr().out)["provenance"]
    assert told["passed"] is False
    (failed,) = [item for item in told["findings"] if item["severity"] == "fail"]
    assert failed["subject"] == f"{released.wheel.name}.intoto.json"


def test_what_is_hostile_reaches_no_terminal(released: Released, capsys: pytest.CaptureFixture[str]) -> None:
    add = {"name": "\x1b]0;owned\x07 \u202e", "digest": {"sha256": "\x1b[2J"}}
    released.change(".intoto.json", lambda told: definition(told)["resolvedDependencies"].append(add))
    assert compare_all([released.wheel], Trusted(), as_json=False) is False
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\u202e" not in out


def test_sign_says_what_it_did(released: Released, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for new in (True, False):
        sign(Context(), wheels=[str(released.wheel)], key=str(keys[0]), json=True)
        (told,) = json.loads(capsys.readouterr().out)["signed"]
        assert told == {"file": str(released.beside(".intoto.jsonl")), "new": new}
    for options in ({}, {"key": str(keys[0]), "sigstore": True}):
        with pytest.raises(Exit) as caught:
            sign(Context(), wheels=[str(released.wheel)], **options)
        assert caught.value.code == 2
