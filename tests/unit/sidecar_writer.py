"""A released wheel with all that lies beside it, of a real plan of which nothing was built: the locks are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wheel_writer import POLICY, good_files, metadata, write_wheel

from crosswheel.building.record import build_record
from crosswheel.building.release import release
from crosswheel.building.store import Store
from crosswheel.digest import sha256_bytes, sha256_file, sha256_json
from crosswheel.planning.plan import Plan, plan
from crosswheel.planning.resolve import Request, resolve
from crosswheel.planning.steps import LockStep
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import RULES, Proof, RunFacts
from crosswheel.publishing.sidecars import made_sidecars
from crosswheel.spec.catalog import Catalog

REQUIRED = ("six (>=1.12.0)", "absl-py>=0.6.1 ; python_version >= '3.8'", "pytest ; extra == 'test'")
HEADERS = "License: Apache 2.0\nClassifier: License :: OSI Approved :: Apache Software License\n"


def planned(catalog: Catalog) -> Plan:
    """The plan of the main job."""
    request = Request(recipe="dm-tree", version="0.1.5", target="rpi4", python="3.11")
    return plan(resolve(request, catalog), catalog, rules=RULES)


def write_locks(made: Plan, store: Store) -> None:
    """A small lock of two packages for every root of a plan."""
    for step in made.steps:
        if not isinstance(step, LockStep):
            continue
        packages = [_package(name, step) for name in ("g++-12", "libc6-dev")]
        out = store.path(step.key) / "out"
        out.mkdir(parents=True)
        (out / "lock.json").write_text(json.dumps({"schema": 1, "packages": packages}))


def _package(name: str, step: LockStep) -> dict[str, Any]:
    digest = sha256_bytes(f"{name} {step.architecture}".encode())
    told = {"package": name, "version": "1:12.2.0-14+deb12u1", "architecture": step.architecture, "sha256": digest}
    return {**told, "archive": "debian-security", "path": f"pool/{name}.deb", "size": 1}


@dataclass
class Released:
    """A released wheel. ``again`` releases it once more; ``folder`` is what its build left."""

    wheel: Path
    folder: Path
    record: dict[str, Any]
    out: Path

    def again(self, *, passed: bool = True) -> Path:
        """Releases it, with the record as it is now."""
        proof(self.folder, passed=passed)
        made = next(self.folder.glob("*.whl"))
        place = {"out": self.out, "folder": "rpi4"}
        beside = made_sidecars
        return release(made, self.folder / "proof.json", self.record, passed=passed, sidecars=beside, **place)  # type: ignore[arg-type]

    def beside(self, suffix: str) -> Path:
        """A file beside it."""
        return self.wheel.with_name(self.wheel.name + suffix)

    def change(self, suffix: str, change: Callable[[Any], object]) -> None:
        """Changes the JSON of a file beside it."""
        told = json.loads(self.beside(suffix).read_text())
        change(told)
        self.beside(suffix).write_text(json.dumps(told, indent=1) + "\n")


def proof(folder: Path, *, passed: bool = True, seconds: float = 8.2) -> None:
    """Writes the proof of the wheel in a folder."""
    made = next(folder.glob("*.whl"))
    severity = Severity.PASS if passed else Severity.FAIL
    Proof(
        file=made.name,
        sha256=sha256_file(made),
        size=made.stat().st_size,
        policy=POLICY,
        policy_sha256=sha256_json(POLICY.model_dump(mode="json")),
        rules={"tag": 1},
        findings=(Finding(rule="tag", severity=severity, subject=made.name, message=f"said in {seconds} s"),),
        run=RunFacts(qemu=POLICY.qemu, seconds=seconds, tests=7, failures=0, skipped=2),
    ).write(folder / "proof.json")


def release_one(folder: Path, catalog: Catalog) -> Released:
    """Releases a wheel of the plan of the main job."""
    made = folder / "made"
    made.mkdir()
    more = HEADERS + "".join(f"Requires-Dist: {line}\n" for line in REQUIRED)
    write_wheel(made, {**good_files(), "quick-1.0.dist-info/METADATA": metadata(more=more)})
    steps = planned(catalog)
    store = Store(folder / "store")
    write_locks(steps, store)
    released = Released(
        wheel=folder / "dist" / "rpi4" / next(made.glob("*.whl")).name,
        folder=made,
        record=build_record(steps, store),
        out=folder / "dist",
    )
    released.again()
    return released
