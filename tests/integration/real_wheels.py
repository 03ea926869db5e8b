"""Wheels of the package index of which it is known what they do: pip brings each once, to the user's store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.execute import execute
from crosswheel.building.runners import runners
from crosswheel.building.store import Store
from crosswheel.cli.console import Screen
from crosswheel.cli.settings import read_settings
from crosswheel.planning.sources import fetch_step
from crosswheel.planning.steps import FetchStep, Step
from crosswheel.proving.findings import Finding, Severity
from crosswheel.proving.prove import Proof
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.sources import Place, Source

TAGS = {
    "py27": "cp27-cp27mu-manylinux1_x86_64",
    "py36": "cp36-cp36m-manylinux1_x86_64",
    "x86_64": "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64",
    "aarch64": "cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64",
    "py39, aarch64": "cp39-cp39-manylinux2014_aarch64",
}
WHEELS: Mapping[tuple[str, str], str] = {
    ("tensorflow==1.5.0", "py27"): "aa99f4ca738978eeea308a2c8a97fcac3cdbbb0080c9c8259c78af018abb95e9",
    ("tensorflow==1.5.0", "py36"): "1257ff741bc7238329da5c48cee4e2def142e788084977416706e180dc3a65a7",
    ("tensorflow==1.6.0", "py27"): "6d6f8ac26f857ab79c13b594efcb13d5485d1dbfdaa8e54b064ea7b4b28a9cf8",
    ("tensorflow==1.6.0", "py36"): "d0e5daf51cf9a711a0dc95b5bf4a9eeeb1cb485197cb923b8940f2a905850407",
    ("numpy==1.16.6", "py27"): "1680c8d5086a88d293dfd1a10b6429a09140cacee878034fa2308472ec835db4",
    ("numpy==1.16.6", "py36"): "60c56922c9d759d664078fbef94132377ef1498ab27dd3d0cc7a21b346e68c06",
    ("numpy==1.26.4", "x86_64"): "666dbfb6ec68962c033a450943ded891bed2d54e6755e35e5835d63f4f6931d5",
    ("numpy==1.26.4", "aarch64"): "7ab55401287bfec946ced39700c053796e7cc0e3acbef09993a9ad2adba6ca6e",
    ("tflite-runtime==2.11.0", "py39, aarch64"): "e15ebb86a1039cbbe9132cb3497466e248d401b03b963b6d4045f732d1a66e2a",
    ("tensorflow==2.20.0", "aarch64"): "3e9568c8efcb05c0266be223e3269c62ebf7ad3498f156438311735f6fa5ced5",
}
"""(requirement, tag) → sha256."""


def fetching(requirement: str, tag: str) -> FetchStep:
    """The step that brings a wheel of :data:`WHEELS`."""
    stem = requirement.replace("==", "-").replace("tflite-runtime", "tflite_runtime")
    return wheel_step(requirement, f"{stem}-{TAGS[tag]}.whl", WHEELS[requirement, tag])


def wheel_step(requirement: str, file: str, sha256: str) -> FetchStep:
    """The step that brings a wheel."""
    return fetch_step(Source(file=file, sha256=sha256, places=(Place(uri=f"pypi:{requirement}"),)))


def made(steps: Iterable[Step], catalog: Catalog) -> Mapping[str, Path]:
    """Runs ``steps`` in the user's store; the artefact of each by its key."""
    settings = read_settings()
    with Screen(quiet=True) as screen:
        done = execute(tuple(steps), Store(settings.store), settings, runners(catalog, settings), screen).artefacts
    return {key: artefact.path for key, artefact in done.items()}


@dataclass(frozen=True)
class Told:
    """A proof, by rule and severity."""

    proof: Proof

    def of(self, rule: str, severity: Severity) -> list[Finding]:
        return [item for item in self.proof.of(severity) if item.rule == rule]

    @property
    def failed(self) -> set[str]:
        """The rules that failed."""
        return {item.rule for item in self.proof.of(Severity.FAIL)}

    def text(self, rule: str, severity: Severity) -> str:
        return "\n".join(f"{item.subject}: {item.message}" for item in self.of(rule, severity))
