"""The kinds of step that lay out libraries which no distribution installs as a build wants them: CUDA and cuDNN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from crosswheel.digest import Json
from crosswheel.planning.steps import RenderedFile, Step
from crosswheel.spec.base import Arch
from crosswheel.spec.sources import Place


@dataclass(frozen=True, kw_only=True)
class MembersStep(Step):
    """Gets some members of a wheel. Result: ``out/<path of the member>``, and the wheel's RECORD.

    ``sha256`` is the wheel's, ``record`` that of its RECORD, which has the sha256 of every member: where the package
    index serves parts of files, no more than these members is got. ``members`` are patterns of paths.
    """

    kind: ClassVar[str] = "members"

    file: str
    sha256: str
    record: str
    members: tuple[str, ...]
    places: tuple[Place, ...]

    def fields(self) -> dict[str, Json]:
        return {"file": self.file, "sha256": self.sha256, "record": self.record, "members": list(self.members)}


@dataclass(frozen=True, kw_only=True)
class Placing:
    """What goes where: files of the input ``role`` that match the pattern ``origin``, to ``to``; a ``to`` that ends
    with ``/`` is a folder."""

    role: str
    origin: str
    to: str


@dataclass(frozen=True, kw_only=True)
class ArrangeStep(Step):
    """Lays files of the inputs out in one folder, and gives its libraries the links that compilers and loaders ask for.

    ``placings`` are done in order; what an earlier one brought is not brought again. ``files`` are rendered. The links
    are found by looking: every shared library gets its SONAME and its ``.so``, and one that is a stub alone (below
    ``stubs``) gets them beside ``stubs``. ``arches`` maps a folder to the architecture of every program and library
    below it. ``expected`` are paths that must be there in the end. Result: ``out/``.
    """

    kind: ClassVar[str] = "arrange"

    placings: tuple[Placing, ...]
    arches: Mapping[str, Arch]
    files: Mapping[str, RenderedFile] = field(default_factory=dict)
    expected: tuple[str, ...] = ()

    def fields(self) -> dict[str, Json]:
        return {
            "placings": [[placing.role, placing.origin, placing.to] for placing in self.placings],
            "arches": dict(self.arches),
            "files": {
                path: {"text": file.text, "executable": file.executable, "link": file.link}
                for path, file in self.files.items()
            },
            "expected": list(self.expected),
        }
