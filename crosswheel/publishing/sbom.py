"""The SBOM of a wheel: a CycloneDX 1.6 document that says what the wheel is made of.

Source: the CycloneDX specification 1.6 (https://cyclonedx.org/docs/1.6/json/), of which cyclonedx-python-lib is the
implementation. That has no ``formulation`` yet, so this part is added to what it writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import (
    Component,
    ComponentScope,
    ComponentType,
    Diff,
    Patch,
    PatchClassification,
    Pedigree,
)
from cyclonedx.model.license import License, LicenseAcknowledgement
from cyclonedx.model.lifecycle import LifecyclePhase, PredefinedLifecycle
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from crosswheel.publishing.claims import TREE, requirement_of
from crosswheel.publishing.inputs import Input, Record, inputs_of, unknown_roots
from crosswheel.publishing.purls import pypi_purl

_NAMESPACE = UUID("6f5d4b52-2d0a-5f0e-9a57-3f6f5c1f7c1e")
"""Of the serial numbers: each is made of the wheel and its record, so that equal wheels have equal documents."""

IN_IT = ("source", "sysroot")
"""The purposes of the inputs that are components: what is compiled in, and what is compiled against or linked."""

MADE_WITH = ("builder", "tool")
"""The purposes of those that make it. What a proof alone needs is in the provenance, and not here."""

_MOST_LICENSE = 100
"""A ``License`` header of more characters, or of several lines, is a licence's text and not its name."""

_PATCHED = "The sha256 is that of the source before these patches; each patch's own is among the properties."

Metadata = Mapping[str, tuple[str, ...]]
"""The headers of METADATA by lower-case name (:func:`crosswheel.proving.facts.read_metadata`)."""


def sbom(file: str, sha256: str, record: Record, metadata: Metadata | None) -> bytes:
    """The SBOM of the wheel (or bundle) ``file``, made as ``record`` says. ``metadata`` are the headers of the wheel's
    METADATA, None for what has none. Equal arguments give equal bytes: the document has no time."""
    inputs = [item for item in inputs_of(record) if item.kind not in ("patch", "lock")]
    patches = record.patches
    root = _root(file, sha256, record, metadata)
    parts = [_component(item, record, patches) for item in inputs if item.purpose in IN_IT]
    required = list(_required(metadata))
    bom = _document(file, sha256, record)
    bom.metadata.component = root
    for component in (*parts, *required):
        bom.components.add(component)
    bom.register_dependency(root, [*parts, *required])
    told = _written(bom)
    made_with = [_component(item, record, patches) for item in inputs if item.purpose in MADE_WITH]
    told["formulation"] = [_formula(record, made_with)]
    return (json.dumps(told, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _document(file: str, sha256: str, record: Record) -> Bom:
    tool = Component(type=ComponentType.APPLICATION, name="crosswheel", version=record.crosswheel, bom_ref="crosswheel")
    locks = [
        Property(name=f"crosswheel:lock:{name}", value=root.lock_sha256)
        for name, root in record.roots.items()
        if root.lock_sha256
    ]
    unknown = [Property(name="crosswheel:unknown-root", value=name) for name in unknown_roots(record)]
    return Bom(
        serial_number=uuid5(_NAMESPACE, f"{file} {sha256} {record.plan}"),
        metadata=BomMetaData(
            tools=ToolRepository(components=[tool]),
            lifecycles=[PredefinedLifecycle(phase=LifecyclePhase.BUILD)],
            properties=[Property(name="crosswheel:plan", value=record.plan), *locks, *unknown],
        ),
    )


def _written(bom: Bom) -> dict[str, Any]:
    """The document as JSON has it, without the time that the library gives every document."""
    told: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    told.get("metadata", {}).pop("timestamp", None)
    return told


def _formula(record: Record, made_with: Iterable[Component]) -> dict[str, Any]:
    """How it was made: the compilers and all else in the builder, and the tools, as components of a formula."""
    bom = Bom(components=made_with)
    request = record.request
    return {
        "bom-ref": "formula",
        "components": _written(bom).get("components", []),
        "workflows": [
            {
                "bom-ref": "build",
                "uid": record.plan,
                "name": f"build {record.recipe} {record.version} for {request.get('target')}",
                "taskTypes": ["build"],
                "properties": [
                    {"name": "crosswheel:toolchain", "value": record.toolchain.name},
                    *(
                        {"name": f"crosswheel:toolchain:{name}", "value": text}
                        for name, text in sorted(record.toolchain.packages.items())
                    ),
                ],
            }
        ],
    }


def _root(file: str, sha256: str, record: Record, metadata: Metadata | None) -> Component:
    is_wheel = metadata is not None
    headers = metadata or {}
    name = headers.get("name", (record.recipe,))[0]
    version = headers.get("version", (record.version,))[0]
    purl = pypi_purl(name, version, file) if is_wheel else PackageURL("generic", None, file, version).to_string()
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=f"{record.output} {file}",
        purl=PackageURL.from_string(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        licenses=_licenses(headers),
        description=headers.get("summary", (None,))[0],
        properties=[
            Property(name="crosswheel:file", value=file),
            *(
                Property(name=f"crosswheel:request:{key}", value=value if isinstance(value, str) else json.dumps(value))
                for key, value in sorted(record.request.items())
                if value not in (None, [], False)
            ),
        ],
    )


def _licenses(headers: Metadata) -> list[License]:
    """The licence as METADATA declares it, by the most exact of its headers; none where it declares none."""
    told = [text.strip() for name in ("license-expression", "license") for text in headers.get(name, ())]
    # Of a package that says none, older setuptools write "UNKNOWN".
    named = [text for text in told if text not in ("", "UNKNOWN") and "\n" not in text and len(text) <= _MOST_LICENSE]
    prefix = "License :: "
    classes = [text.rpartition(" :: ")[2] for text in headers.get("classifier", ()) if text.startswith(prefix)]
    factory = LicenseFactory()
    declared = LicenseAcknowledgement.DECLARED
    if named:
        return [factory.make_from_string(named[0], license_acknowledgement=declared)]
    return [factory.make_from_string(text, license_acknowledgement=declared) for text in sorted(set(classes))]


def _component(item: Input, record: Record, patches: Mapping[str, str]) -> Component:
    purl = PackageURL.from_string(item.purl) if item.purl else None
    named = item.file if purl is None or purl.type == "generic" else purl.name
    file = None if item.kind == "deb" else item.file
    properties = {"purpose": item.purpose, "file": file, "root": item.root, "given": _given(item)}
    return Component(
        type=ComponentType.CONTAINER if item.kind == "image" else ComponentType.LIBRARY,
        name=named,
        version=item.version,
        bom_ref=item.name,
        purl=purl,
        scope=ComponentScope.REQUIRED,
        hashes=() if item.kind == "folder" else [HashType(alg=HashAlgorithm.SHA_256, content=item.sha256)],
        properties=[
            *(Property(name=f"crosswheel:{key}", value=value) for key, value in properties.items() if value),
            *(Property(name=f"crosswheel:patch:{file}", value=patches[file]) for file in item.patches),
        ],
        pedigree=_pedigree(item, record) if item.patches else None,
    )


def _given(item: Input) -> str | None:
    """Of a folder that the user gave, its digest, which is no file's; of a file of theirs, that they gave it."""
    if item.kind == "folder":
        return f"{TREE}{item.sha256}"
    return "file" if item.kind == "file" and item.purl is None else None


def _pedigree(item: Input, record: Record) -> Pedigree:
    return Pedigree(
        patches=[
            Patch(type=PatchClassification.UNOFFICIAL, diff=Diff(url=XsUri(f"patches/{record.recipe}/{file}")))
            for file in item.patches
        ],
        notes=_PATCHED,
    )


def _required(metadata: Metadata | None) -> Iterator[Component]:
    """What METADATA requires, by project: which version and file it will be is pip's to choose on the board."""
    found: dict[str, list[str]] = {}
    names: dict[str, str] = {}  # as they are written, by the normalised ones
    for line in (metadata or {}).get("requires-dist", ()):
        requirement = requirement_of(line)
        if requirement:
            key = str(canonicalize_name(requirement.name))
            names.setdefault(key, requirement.name)
            found.setdefault(key, []).append(line)
    for name, lines in sorted(found.items()):
        optional = all("extra" in str(Requirement(line).marker or "") for line in lines)
        yield Component(
            type=ComponentType.LIBRARY,
            name=names[name],
            bom_ref=f"requires {name}",
            purl=PackageURL.from_string(pypi_purl(name, None)),
            scope=ComponentScope.OPTIONAL if optional else ComponentScope.REQUIRED,
            properties=[Property(name="crosswheel:requires", value=line) for line in sorted(set(lines))],
        )
