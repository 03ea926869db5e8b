"""An index of 1,000 wheels: made, again with nothing new, with one more, and published; to a folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from benchmarks.rows import Row, below
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.digest import sha256_json
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof
from crosswheel.publishing.index import Built, build_index
from crosswheel.publishing.publish import publish
from crosswheel.publishing.sidecars import PROOF, sidecar
from crosswheel.publishing.to_folder import Folder
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import policy_for

WHEELS = 1000
PACKAGES = 50
TARGETS = ("rpi4", "rk3588", "nanopi-m4", "jetson-nano", "sbsa-debian")
SIZE = 100_000
"""Bytes of each wheel, which are no better to pack than machine code: dm-tree's has 130,000."""

_T = TypeVar("_T")


def measure(settings: Settings) -> Iterator[Row]:
    """The rows. Nothing of the machine's store is touched."""
    catalog = Catalog(DATA)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for number in range(WHEELS):
            _wheel(root / "dist", number, catalog)
        made, seconds = _timed(lambda: build_index(root / "index", root / "dist", catalog))
        note = f"{len(made.added)} wheels of {PACKAGES} packages for {len(TARGETS)} targets, {len(made.written)} files"
        yield below("index of 1,000 wheels: made", seconds, "s", 10, note=note)
        again, seconds = _timed(lambda: build_index(root / "index", root / "dist", catalog))
        yield below("index of 1,000 wheels: again, nothing new", seconds, "s", 5, note=_told(again))
        _wheel(root / "dist", WHEELS, catalog)
        more, seconds = _timed(lambda: build_index(root / "index", root / "dist", catalog))
        yield below("index of 1,000 wheels: one more", seconds, "s", 5, note=_told(more))
        sent, seconds = _timed(lambda: publish(root / "index", Folder(root / "published"), catalog))
        note = f"{len(sent.sent)} files, {sent.size / 2**20:.0f} MiB, to a folder"
        yield below("index of 1,000 wheels: published", seconds, "s", 10, note=note)
        sent, seconds = _timed(lambda: publish(root / "index", Folder(root / "published"), catalog))
        yield below("index of 1,000 wheels: published again", seconds, "s", 5, note=f"{len(sent.sent)} files sent")
        yield from _pip(root / "published")


def _pip(index: Path) -> Iterator[Row]:
    """What pip needs to find a wheel in it, all in all."""
    words = ("--platform", "linux_aarch64", "--python-version", "3.11", "--only-binary", ":all:", "--no-deps")
    simple = (index / TARGETS[0] / "simple").as_uri()
    with tempfile.TemporaryDirectory() as to:
        argv = [sys.executable, "-m", "pip", "download", "--index-url", simple, "--dest", to, *words, "package-0"]
        environ = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        began = time.perf_counter()
        subprocess.run(argv, env=environ, check=True, capture_output=True)
        yield below("index of 1,000 wheels: pip download", time.perf_counter() - began, "s", 5)


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def _told(done: Built) -> str:
    return f"{len(done.added)} wheels added, {len(done.written)} files written"


def _wheel(dist: Path, number: int, catalog: Catalog) -> None:
    """A wheel and its proof, as a build leaves them."""
    target = catalog.target(TARGETS[number % len(TARGETS)])
    name, version = f"package_{number // len(TARGETS) % PACKAGES}", f"1.{number // len(TARGETS) // PACKAGES}"
    system, cpu = target.systems[0], catalog.cpu(target.cpu)
    has = catalog.instruction_set(target, cpu)
    policy = policy_for(target, catalog.sysroot(system.sysroot), cpu, system.python, has)
    wheel = dist / target.name / f"{name}-{version}-cp311-cp311-linux_aarch64.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.8\n\n{'About it. ' * 500}\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.so", hashlib.shake_128(str(number).encode()).digest(SIZE))
        archive.writestr(f"{info}/METADATA", text)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-linux_aarch64\n")
        archive.writestr(f"{info}/RECORD", "")
    data = wheel.read_bytes()
    proof = Proof(
        file=wheel.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        policy=policy,
        policy_sha256=sha256_json(policy.model_dump(mode="json")),
        rules={},
        findings=(Finding(rule="tag", severity=Severity.PASS, subject=wheel.name, message="made for a measurement"),),
        run=None,
    )
    sidecar(wheel, PROOF).write_text(json.dumps(proof.as_json()))
