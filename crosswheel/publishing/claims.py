"""What a wheel's SBOM and its statement claim that it was made of: each input's name and digest, read from JSON that a
stranger may have written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from crosswheel.publishing.inputs import Record, inputs_of, shown
from crosswheel.spec.requirements import MOST_LINE

MOST_BYTES = 64 * 2**20
"""A larger sidecar is not read; those of TensorFlow have some hundred KiB."""

TREE = "folder sha256-tree:"
"""What begins the property of a folder in an SBOM, whose digest is no file's."""

MADE_OF = ("source", "sysroot", "builder", "tool")
"""The purposes of the inputs that an SBOM has; what a proof alone needs is in the statement."""

Claims = Mapping[str, str | None]
"""The digests of inputs by their names (:class:`crosswheel.publishing.inputs.Input`); None where none is told."""


def read_json(path: Path) -> Any:
    """The JSON of a sidecar. ``ValueError`` says what is wrong with it: it is too large, cut off, no JSON, nested
    without end, or says one key twice, of which readers would take one or the other."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror or error}") from error
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    return parse_json(text)


def parse_json(text: bytes) -> Any:
    """As :func:`read_json`, of bytes."""
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is no JSON that can be read: it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError("it is no JSON: it is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON, or is cut off: {error}") from error


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it says {ascii(twice)[:120]} twice in one object")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"it holds {text}, which is no JSON")


def expected_of_sbom(record: Record) -> Claims:
    """What the SBOM of a build with this record claims."""
    made_of = [item for item in inputs_of(record) if item.purpose in MADE_OF]
    patches = {file for item in made_of for file in item.patches}
    components = {item.name: item.sha256 for item in made_of if item.kind not in ("patch", "lock")}
    locks = {f"lock {name}": root.lock_sha256 for name, root in record.roots.items() if root.lock_sha256}
    return {**components, **{f"patch {file}": record.patches[file] for file in patches}, **locks}


def expected_of_statement(record: Record) -> Claims:
    """What the statement of a build with this record claims."""
    return {item.name: item.sha256 for item in inputs_of(record)}


def claims_of_sbom(document: Any) -> Claims:
    """What an SBOM claims, and nothing of what METADATA requires. ``ValueError`` where it is no such document."""
    found: dict[str, str | None] = {}
    try:
        formulas = document.get("formulation", [])
        components = [*document.get("components", []), *(each for f in formulas for each in f.get("components", []))]
        for component in components:
            name = str(component["bom-ref"])
            if name.startswith("requires "):
                continue
            if name in found:
                raise ValueError(f"it has two components {shown(name)}")
            properties = _properties(component)
            found[name] = sha256_of(component) or _tree(properties)
            for key, value in properties:
                if key.startswith("crosswheel:patch:"):
                    found[f"patch {key.removeprefix('crosswheel:patch:')}"] = value
        for key, value in _properties(document["metadata"]):
            if key.startswith("crosswheel:lock:"):
                found[f"lock {key.removeprefix('crosswheel:lock:')}"] = value
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no CycloneDX document such as crosswheel writes: {_why(error)}") from error
    return found


def requirement_of(line: str) -> Requirement | None:
    """What a line of METADATA requires; None for one that cannot be read, which is the proof's to tell of."""
    if len(line) > MOST_LINE:
        return None
    try:
        return Requirement(line)
    except (InvalidRequirement, RecursionError):
        return None


def requirements_of_sbom(document: Any) -> frozenset[str]:
    """The lines of METADATA that an SBOM says the wheel requires. ``KeyError`` and the like where it is none."""
    return frozenset(
        value
        for component in document.get("components", [])
        if str(component["bom-ref"]).startswith("requires ")
        for key, value in _properties(component)
        if key == "crosswheel:requires"
    )


def _properties(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(item["name"]), str(item["value"])) for item in part.get("properties", [])]


def _tree(properties: Iterable[tuple[str, str]]) -> str | None:
    return next((value.removeprefix(TREE) for key, value in properties if value.startswith(TREE)), None)


def sha256_of(component: Mapping[str, Any]) -> str | None:
    """The sha256 of a component, None where none is told. ``ValueError`` where there are two."""
    found = [str(item["content"]) for item in component.get("hashes", []) if item["alg"] == "SHA-256"]
    if len(found) > 1:
        raise ValueError(f"its component {shown(component.get('name'))} has {len(found)} sha256")
    return found[0] if found else None


def claims_of_statement(dependencies: Any) -> Claims:
    """What the ``resolvedDependencies`` of a statement claim. ``ValueError`` where they are none."""
    found: dict[str, str | None] = {}
    try:
        for item in dependencies:
            name, digest = str(item["name"]), item["digest"]
            if name in found:
                raise ValueError(f"it has two dependencies {shown(name)}")
            found[name] = digest.get("sha256") or digest.get("crosswheelTree")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its resolvedDependencies are none: {_why(error)}") from error
    return found


def _why(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def differences(claimed: Claims, expected: Claims) -> Iterator[str]:
    """A phrase for each input in which claims differ from the record of the build: other digests, what is missing, and
    what nobody recorded."""
    for name, digest in expected.items():
        if name not in claimed:
            yield f"{name} is missing"
        elif claimed[name] != digest:
            yield f"{name} has {_short(claimed[name])} instead of {_short(digest)}"
    for name in claimed:
        if name not in expected:
            yield f"{shown(name)} is in no record"


def _short(digest: str | None) -> str:
    return shown(digest)[:16] if digest else "no digest"
