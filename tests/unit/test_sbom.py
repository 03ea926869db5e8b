"""The SBOM and the provenance of a released wheel: what is in them, and that equal inputs give equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from packageurl import PackageURL
from sidecar_writer import REQUIRED, Released, planned, proof, release_one, write_locks

from crosswheel.building.locks_used import locks_noted
from crosswheel.building.record import build_record
from crosswheel.building.store import Store
from crosswheel.digest import sha256_bytes, sha256_file, sha256_tree
from crosswheel.errors import DataError
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.sources import LocalSource
from crosswheel.planning.steps import LockStep, RunStep
from crosswheel.proving.bundles import RULES as BUNDLE_RULES
from crosswheel.proving.prove import RULES
from crosswheel.publishing.inputs import inputs_of, read_record, unknown_roots
from crosswheel.publishing.provenance import statement
from crosswheel.publishing.purls import source_purl
from crosswheel.publishing.sbom import sbom
from crosswheel.publishing.sidecars import SUFFIXES, sidecars_of
from crosswheel.spec.catalog import Catalog

pytestmark = pytest.mark.unit

DIGEST = "a" * 64
SOURCE = "a951d2239111dfcc468071bc8ff792c7b1e3192cab5a3c94d33a8b2bda3127fa"


@pytest.fixture
def released(tmp_path: Path, catalog: Catalog) -> Released:
    return release_one(tmp_path, catalog)


def read(released: Released, suffix: str) -> Any:
    return json.loads(released.beside(suffix).read_text())


def components(document: Any) -> dict[str, Any]:
    return {item["bom-ref"]: item for item in document["components"]}


def properties(part: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in part.get("properties", [])}


def valid(text: bytes) -> bool:
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None


# --- the SBOM


def test_the_sbom_is_valid_and_about_the_wheel(released: Released) -> None:
    assert valid(released.beside(".cdx.json").read_bytes())
    document = read(released, ".cdx.json")
    root = document["metadata"]["component"]
    assert root["hashes"] == [{"alg": "SHA-256", "content": sha256_file(released.wheel)}]
    assert (root["name"], root["version"]) == ("quick", "1.0")
    assert root["purl"] == f"pkg:pypi/quick@1.0?file_name={released.wheel.name}"
    assert root["licenses"] == [{"license": {"acknowledgement": "declared", "name": "Apache 2.0"}}]
    assert properties(root)["crosswheel:request:target"] == "rpi4"
    assert "timestamp" not in document["metadata"]


def test_the_schema_is_one_that_refuses(released: Released) -> None:
    document = read(released, ".cdx.json")
    document["components"][0]["hashes"] = [{"alg": "SHA-256", "content": "no digest"}]
    assert not valid(json.dumps(document).encode())


def test_sources_have_their_digest_their_package_url_and_their_patches(released: Released) -> None:
    source = components(read(released, ".cdx.json"))["file dm-tree-0.1.5.tar.gz"]
    assert source["hashes"] == [{"alg": "SHA-256", "content": SOURCE}]
    assert source["purl"] == "pkg:pypi/dm-tree@0.1.5?file_name=dm-tree-0.1.5.tar.gz"
    (patch,) = source["pedigree"]["patches"]
    assert patch["diff"]["url"] == "patches/dm-tree/python-3.10-collections-abc.patch"
    told = properties(source)["crosswheel:patch:python-3.10-collections-abc.patch"]
    assert told == released.record["patches"]["python-3.10-collections-abc.patch"]


def test_packages_of_the_sysroot_are_in_it_and_those_of_the_builder_made_it(released: Released) -> None:
    document = read(released, ".cdx.json")
    packages = {name: item for name, item in components(document).items() if name.startswith("deb ")}
    assert sorted(packages) == [f"deb debian-12-arm64-development {name}" for name in ("g++-12", "libc6-dev")]
    headers = packages["deb debian-12-arm64-development libc6-dev"]
    assert headers["purl"] == "pkg:deb/debian/libc6-dev@1:12.2.0-14%2Bdeb12u1?arch=arm64"
    assert properties(headers)["crosswheel:purpose"] == "sysroot"
    (formula,) = document["formulation"]
    made_with = {item["bom-ref"]: item for item in formula["components"]}
    compiler = made_with["deb gcc-12-arm64-builder g++-12"]
    assert PackageURL.from_string(compiler["purl"]).qualifiers == {"arch": "amd64"}
    assert made_with["file bazel"]["purl"].startswith("pkg:github/bazelbuild/bazel@0.17.2")
    (workflow,) = formula["workflows"]
    assert properties(workflow)["crosswheel:toolchain:g++-12"] == "1:12.2.0-14+deb12u1"


def test_what_only_the_proof_needs_is_not_in_it(released: Released) -> None:
    text = released.beside(".cdx.json").read_text()
    assert "absl_py-1.4.0" not in text and "deb emulator" not in text
    assert "absl_py-1.4.0" in released.beside(".intoto.json").read_text()


def test_requirements_are_those_of_metadata(released: Released) -> None:
    document = read(released, ".cdx.json")
    required = {name: item for name, item in components(document).items() if name.startswith("requires ")}
    assert {name: item["scope"] for name, item in required.items()} == {
        "requires six": "required",
        "requires absl-py": "required",
        "requires pytest": "optional",
    }
    assert "version" not in required["requires six"]
    assert {properties(item)["crosswheel:requires"] for item in required.values()} == set(REQUIRED)
    (graph,) = [
        item for item in document["dependencies"] if item["ref"] == document["metadata"]["component"]["bom-ref"]
    ]
    assert set(graph["dependsOn"]) == set(components(document))


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ({"license-expression": ("MIT OR Apache-2.0",), "license": ("other",)}, {"expression": "MIT OR Apache-2.0"}),
        ({"license": ("Apache-2.0",)}, {"license": {"id": "Apache-2.0"}}),
        (
            {"license": ("The text\nof a licence",), "classifier": ("License :: OSI Approved :: X",)},
            {"license": {"name": "X"}},
        ),
        ({"license": ("x" * 5000,)}, None),
        ({"license": ("UNKNOWN",)}, None),
        ({}, None),
    ],
)
def test_a_licence_is_what_metadata_declares(
    released: Released, headers: dict[str, tuple[str, ...]], licence: dict[str, Any] | None
) -> None:
    record = read_record(released.record)
    text = sbom("quick.whl", DIGEST, record, {"name": ("quick",), "version": ("1",), **headers})
    assert valid(text)
    told = json.loads(text)["metadata"]["component"].get("licenses")
    if licence is None:
        assert told is None
        return
    (found,) = told
    found.pop("acknowledgement", None)
    found.get("license", {}).pop("acknowledgement", None)
    assert found == licence


def test_a_bundle_has_an_sbom_without_metadata(catalog: Catalog, tmp_path: Path) -> None:
    request = Request(recipe="protobuf", target="rpi4")
    made = plan(resolve(request, catalog), catalog, rules=RULES, bundle_rules=BUNDLE_RULES)
    record = read_record(build_record(made, Store(tmp_path)))
    text = sbom("protobuf-3.4.0-rpi4.tar.gz", DIGEST, record, None)
    assert valid(text)
    root = json.loads(text)["metadata"]["component"]
    assert root["purl"].startswith("pkg:generic/protobuf-3.4.0-rpi4.tar.gz@")


@pytest.mark.parametrize("recipe", ["tensorflow", "numpy", "h5py", "grpcio"])
def test_every_kind_of_build_has_valid_ones(catalog: Catalog, tmp_path: Path, recipe: str) -> None:
    """TensorFlow for a GPU has whatever there is: externals of one name, archives in packages, a chain."""
    target = "jetson-tx1" if recipe == "tensorflow" else "rpi4"
    cuda = {"cuda": True} if recipe == "tensorflow" else {}
    version = "1.5.0" if recipe == "tensorflow" else None
    request = Request(recipe=recipe, version=version, target=target, features=cuda)
    record = read_record(build_record(plan(resolve(request, catalog), catalog, rules=RULES), Store(tmp_path)))
    inputs = inputs_of(record)
    assert len({item.name for item in inputs}) == len(inputs)
    assert "source" in {item.purpose for item in inputs}
    assert valid(sbom("x.whl", DIGEST, record, {"name": ("x",), "version": ("1",)}))


# --- the provenance


def test_the_statement_is_about_the_wheel_and_names_all_inputs(released: Released) -> None:
    told = read(released, ".intoto.json")
    assert told["_type"] == "https://in-toto.io/Statement/v1"
    assert told["predicateType"] == "https://slsa.dev/provenance/v1"
    assert told["subject"] == [{"name": released.wheel.name, "digest": {"sha256": sha256_file(released.wheel)}}]
    definition = told["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["request"]["bazel"] == "0.17.2"
    assert definition["externalParameters"]["sources"] == {}
    dependencies = {item["name"]: item for item in definition["resolvedDependencies"]}
    assert dependencies["file dm-tree-0.1.5.tar.gz"]["digest"] == {"sha256": SOURCE}
    assert dependencies["file dm-tree-0.1.5.tar.gz"]["annotations"] == {"purpose": "source"}
    kinds = {name.split()[0] for name in dependencies}
    assert kinds == {"file", "patch", "lock", "deb"}
    assert {item["annotations"]["purpose"] for item in dependencies.values()} >= {
        "source",
        "sysroot",
        "builder",
        "tool",
    }
    (sbom_told, proof_told) = told["predicate"]["runDetails"]["byproducts"]
    assert sbom_told["digest"] == {"sha256": sha256_file(released.beside(".cdx.json"))}
    assert set(proof_told["digest"]) == {"crosswheelVerdict"}
    assert "metadata" not in told["predicate"]["runDetails"]


def test_the_statement_is_one_as_in_toto_and_slsa_have_it(released: Released) -> None:
    """Read by their own definitions, which refuse a field that they do not know."""
    told = read(released, ".intoto.json")
    Statement.copy_from_pb(ParseDict(told, StatementMessage())).validate()
    provenance = ParseDict(told["predicate"], Provenance())
    assert len(provenance.build_definition.resolved_dependencies) == len(inputs_of(read_record(released.record)))
    told["predicate"]["runDetails"]["surprise"] = 1
    with pytest.raises(ParseError):
        ParseDict(told["predicate"], Provenance())


def test_what_the_user_gave_is_said_without_its_path(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "secret-place"
    folder.mkdir()
    (folder / "setup.py").write_text("")
    local = LocalSource(path=str(folder), sha256=sha256_tree(folder), folder=True)
    request = Request(recipe="dm-tree", version="0.1.5", target="rpi4")
    made = plan(resolve(request, catalog), catalog, rules=RULES, sources={"dm-tree": local})
    record = read_record(build_record(made, Store(tmp_path)))
    text = statement("x.whl", DIGEST, record, sbom_sha256=DIGEST, verdict=DIGEST).decode()
    told = json.loads(text)["predicate"]["buildDefinition"]
    assert told["externalParameters"]["sources"] == {"dm-tree": local.sha256}
    (given,) = [item for item in told["resolvedDependencies"] if item["name"] == "folder dm-tree"]
    assert given["digest"] == {"crosswheelTree": local.sha256}
    document = sbom("x.whl", DIGEST, record, {"name": ("x",), "version": ("1",)})
    assert valid(document)
    assert "secret-place" not in text + document.decode()


def test_a_feature_that_is_off_is_in_the_request(catalog: Catalog, tmp_path: Path) -> None:
    request = Request(recipe="tensorflow", version="1.5.0", target="nanopi-m4", features={"jemalloc": False})
    record = build_record(plan(resolve(request, catalog), catalog, rules=RULES), Store(tmp_path))
    assert "no-jemalloc" in record["request"]["features"]


def test_a_lock_that_is_gone_is_said(catalog: Catalog, tmp_path: Path) -> None:
    record = read_record(build_record(planned(catalog), Store(tmp_path)))
    told = json.loads(statement("x.whl", DIGEST, record, sbom_sha256=DIGEST, verdict=DIGEST))
    unknown = told["predicate"]["buildDefinition"]["internalParameters"]["unknownRoots"]
    assert "debian-12-arm64-development" in unknown
    assert '"crosswheel:unknown-root"' in sbom("x.whl", DIGEST, record, None).decode()


# --- equal inputs, equal bytes


def test_equal_inputs_give_equal_bytes(released: Released, catalog: Catalog, tmp_path: Path) -> None:
    """In another folder, from another store, by a proof that took other seconds."""
    other = tmp_path / "other"
    other.mkdir()
    again = release_one(other, catalog)
    proof(again.folder, seconds=99.9)
    again.beside(".cdx.json").unlink()
    again.again()
    for suffix in (".cdx.json", ".intoto.json"):
        assert again.beside(suffix).read_bytes() == released.beside(suffix).read_bytes()


def test_what_is_there_already_is_not_made_again(released: Released, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_ino for path in released.wheel.parent.iterdir()}
    assert len(before) == 4
    monkeypatch.setattr("crosswheel.publishing.sbom.sbom", lambda *_: pytest.fail("made again"))
    released.again()
    assert {path: path.stat().st_ino for path in released.wheel.parent.iterdir()} == before


@pytest.mark.parametrize("suffix", [".cdx.json", ".intoto.json"])
def test_one_that_was_changed_is_made_again(released: Released, suffix: str) -> None:
    right = released.beside(suffix).read_bytes()
    released.beside(suffix).write_bytes(right[:100])
    released.again()
    assert released.beside(suffix).read_bytes() == right


def test_a_signature_goes_with_its_statement(released: Released) -> None:
    released.beside(".intoto.jsonl").write_text("{}")
    released.beside(".sigstore.json").write_text("{}")
    released.again()
    assert list(sidecars_of(released.wheel)) == list(SUFFIXES)
    released.record["request"]["cpu"] = "cortex-a53"
    released.again()
    assert list(sidecars_of(released.wheel)) == [".proof.json", ".cdx.json", ".intoto.json"]


def test_a_wheel_that_failed_has_its_proof_alone(released: Released) -> None:
    failed = released.again(passed=False)
    assert failed.parent.name == "failed"
    assert list(sidecars_of(failed)) == [".proof.json"]
    assert list(released.wheel.parent.iterdir()) == []
    released.again()
    assert list(failed.parent.iterdir()) == []


def test_another_wheel_of_the_name_is_never_seen_with_the_old_files(
    released: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = next(released.folder.glob("*.whl"))
    made.write_bytes(made.read_bytes() + b"more")

    def killed(path: Path, data: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crosswheel.building.release.write_at_once", killed)
    with pytest.raises(KeyboardInterrupt):
        released.again()
    assert list(released.wheel.parent.iterdir()) == []


# --- records and package URLs


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told.pop("inputs"), "build.inputs: Field required"),
        (lambda told: told["inputs"][0].update(sha256="short"), "build.inputs.0.sha256"),
        (lambda told: told.update(steps={}), "build.steps"),
        (lambda told: told.update(roots=[]), "build.roots"),
        (lambda told: told.update(patches={}), "of which no sha256 is told"),
        (lambda told: told["roots"]["emulator"]["files"].clear(), "not of the same packages"),
        (lambda told: told["inputs"][0].update(file="/", places=[]), "name"),
    ],
)
def test_a_record_that_is_none_is_told(released: Released, change: Any, why: str) -> None:
    change(released.record)
    with pytest.raises(DataError) as caught:
        read_record(released.record)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("place", "purl"),
    [
        ("pypi:Foo_Bar==1.0", "pkg:pypi/foo-bar@1.0?file_name=f.zip"),
        ("npm:@bazel/bazelisk@1.2", "pkg:npm/%40bazel/bazelisk@1.2"),
        ("deb-src:abseil=2022-1+deb12u2", "pkg:deb/debian/abseil@2022-1%2Bdeb12u2?arch=source"),
        ("https://github.com/google/re2/archive/refs/tags/v1.tar.gz", "pkg:github/google/re2@v1"),
        ("https://mirror.bazel.build/github.com/google/re2/archive/abc.zip", "pkg:github/google/re2@abc"),
        ("https://zlib.net/f.zip", f"pkg:generic/f.zip?checksum=sha256:{DIGEST}&download_url=https://zlib.net/f.zip"),
        ("https://github.com/google/re2/raw/x/f.zip", None),
    ],
)
def test_package_urls_of_places(place: str, purl: str | None) -> None:
    found, _ = source_purl("f.zip", DIGEST, ("https://example.org/f.zip", place) if purl is None else (place,))
    assert PackageURL.from_string(found).to_string() == found
    assert found == purl if purl else found.startswith("pkg:generic/f.zip?")


def test_what_a_step_had_from_elsewhere_is_said(catalog: Catalog, tmp_path: Path) -> None:
    made, store = planned(catalog), Store(tmp_path)
    (run,) = [step for step in made.steps if isinstance(step, RunStep)]
    note = {
        "cache": {"url": "https://cache.example.org/", "reached": True, "hits": 7},
        "executor": None,
        "upload": True,
    }
    meta = {"name": run.name, "kind": "run", "seconds": 1.0, "bytes": 0, "tool": "0", "files": {}, "links": {}}
    store.path(run.key).mkdir(parents=True)
    (store.path(run.key) / "meta.json").write_text(json.dumps({**meta, "notes": {"remote": note}}))
    record = build_record(made, store)
    assert record["remote"] == {run.name: note}
    told = json.loads(statement("x.whl", DIGEST, read_record(record), sbom_sha256=DIGEST, verdict=DIGEST))
    internal = told["predicate"]["buildDefinition"]["internalParameters"]
    assert internal["remote"] == {run.name: {"cache": "https://cache.example.org/"}}


def test_two_locks_of_one_name_are_both_told(catalog: Catalog, tmp_path: Path) -> None:
    """CUDA's packages: as they are for the toolkit, and installed by force with what they depend on."""
    request = Request(recipe="cuda-check", target="jetson-tx1", features={"cuda": True}, apt_force=True)
    made = plan(resolve(request, catalog), catalog, rules=RULES)
    locks = [step for step in made.steps if isinstance(step, LockStep)]
    assert len({step.lock for step in locks}) < len(locks)
    assert len(build_record(made, Store(tmp_path))["roots"]) == len(locks)


def lock_of(made: Plan, name: str) -> LockStep:
    return next(step for step in made.steps if isinstance(step, LockStep) and step.lock == name)


def test_a_store_that_was_cleaned_changes_nothing(released: Released, catalog: Catalog, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in released.wheel.parent.iterdir()}
    released.record = build_record(planned(catalog), Store(tmp_path / "empty"))
    assert released.record["roots"]["emulator"]["packages"] is None
    released.again()
    assert {path.name: path.read_bytes() for path in released.wheel.parent.iterdir()} == before


def test_what_is_remembered_is_of_the_same_wheel(released: Released, catalog: Catalog, tmp_path: Path) -> None:
    released.record = build_record(planned(catalog), Store(tmp_path / "empty"))
    released.change(".proof.json", lambda told: told.update(sha256=DIGEST))
    released.again()
    assert read(released, ".proof.json")["build"]["roots"]["emulator"]["packages"] is None
    released.beside(".proof.json").write_text("[]")
    released.again()
    assert read(released, ".proof.json")["build"]["roots"]["emulator"]["packages"] is None


def test_a_lock_that_was_resolved_anew_is_not_taken_for_the_one_that_was_used(catalog: Catalog, tmp_path: Path) -> None:
    """The run noted which it was; the lock in the store is another one by now."""
    made, store = planned(catalog), Store(tmp_path)
    write_locks(made, store)
    name = "debian-12-arm64-development"
    lock = lock_of(made, name)
    (run,) = [step for step in made.steps if isinstance(step, RunStep)]
    root = tmp_path / "root" / ".crosswheel"
    root.mkdir(parents=True)
    (root / "lock.json").write_bytes((store.path(lock.key) / "out" / "lock.json").read_bytes())
    notes = locks_noted(run, dict.fromkeys(run.inputs, root.parent))
    meta = {"name": run.name, "kind": "run", "seconds": 1.0, "bytes": 0, "tool": "0", "files": {}, "links": {}}
    store.path(run.key).mkdir(parents=True)
    (store.path(run.key) / "meta.json").write_text(json.dumps({**meta, "notes": notes}))
    used = build_record(made, store)["roots"][name]
    assert sorted(used["packages"]) == ["g++-12", "libc6-dev"]
    (store.path(lock.key) / "out" / "lock.json").write_text('{"schema": 1, "packages": []}')
    record = build_record(made, store)
    assert record["roots"][name] == {**used, "packages": None, "files": None}
    assert name in unknown_roots(read_record(record))


def test_roots_and_what_they_are_for(released: Released) -> None:
    record = released.record
    assert {name: root["purpose"] for name, root in record["roots"].items()} == {
        "gcc-12-arm64-builder": "builder",
        "debian-12-arm64-development": "sysroot",
        "debian-12-arm64-runtime-dm-tree": "trial",
        "emulator": "trial",
    }
    assert record["toolchain"]["packages"]["g++-12"] == "1:12.2.0-14+deb12u1"


def test_a_pinned_lock_is_known_where_the_store_has_it_no_more(data: Path, tmp_path: Path) -> None:
    lock = {"schema": 1, "packages": []}
    folder = data / "sysroots" / "locks"
    folder.mkdir(exist_ok=True)
    (folder / "debian-12-arm64-development.json").write_text(json.dumps(lock))
    record = build_record(planned(Catalog(data)), Store(tmp_path / "store"))
    root = record["roots"]["debian-12-arm64-development"]
    assert (root["packages"], root["lock_sha256"]) == ({}, sha256_bytes(json.dumps(lock).encode()))
