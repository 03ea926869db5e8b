"""Writes what builds leave: wheels in the folders of their targets, each with a proof beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from crosswheel.digest import sha256_file
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof
from crosswheel.publishing.sidecars import PROOF, sidecar
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy, policy_for

CATALOG = Catalog(Path(__file__).resolve().parents[1])
WHEN = datetime(2026, 11, 21, 23, 0, 0, tzinfo=UTC)


def released(
    dist: Path,
    name: str = "quick",
    version: str = "1.0",
    *,
    folder: str = "rpi4",
    tag: str = "cp311-cp311-linux_aarch64",
    build: str = "",
    more: str = "Requires-Python: >=3.8,<4\n",
    content: bytes = b"answer = 42\n",
    severity: Severity = Severity.PASS,
    told: Mapping[str, object] | None = None,
) -> Path:
    """A wheel in ``dist/<folder>/`` that installs a module ``name`` with this ``content``, and its proof; ``told`` is
    what the proof says otherwise."""
    stem = f"{name}-{version}"
    files = {
        f"{name}.py": content,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\n".encode(),
        f"{stem}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n"
            + (f"Build: {build}\n" if build else "")
        ).encode(),
    }
    record = f"{stem}.dist-info/RECORD"
    rows = [_row(member, data) for member, data in files.items()] + [f"{record},,"]
    wheel = dist / folder / f"{stem}{f'-{build}' if build else ''}-{tag}.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in {**files, record: "\n".join(rows).encode()}.items():
            archive.writestr(zipfile.ZipInfo(member, (2020, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    policy = _policy(folder)
    proof = Proof(
        file=wheel.name,
        sha256=sha256_file(wheel),
        size=wheel.stat().st_size,
        policy=policy,
        policy_sha256="b" * 64,
        rules={"tag": 1},
        findings=(Finding(rule="tag", severity=severity, subject=wheel.name, message="it was said"),),
        run=None,
    )
    text = {**proof.as_json(), **(told or {}), "build": {"recipe": name}}
    sidecar(wheel, PROOF).write_text(json.dumps(text))
    return wheel


def _row(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def _policy(folder: str) -> Policy:
    name, _, cpu = folder.partition("/")
    target = CATALOG.target(name)
    system, chosen = target.systems[0], CATALOG.cpu(cpu or target.cpu)
    has = CATALOG.instruction_set(target, chosen)
    return policy_for(target, CATALOG.sysroot(system.sysroot), chosen, system.python, has)
