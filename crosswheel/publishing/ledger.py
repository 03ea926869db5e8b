"""What an index holds: ``releases.json``, from which its pages are made. A wheel in it stays as it was published."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version
from pydantic import Field, StringConstraints, ValidationError

from crosswheel.errors import DataError
from crosswheel.spec.base import Model, Name, Sha256

FILE = "releases.json"
SCHEMA = 1
WHEELS = "wheels"
"""The folder of the wheels in an index, by the folders in which builds leave them."""
METADATA = ".metadata"
"""The ending of the file beside a wheel that holds its METADATA alone (PEP 658)."""

_FOLDER = r"^[a-z0-9][a-z0-9._+-]*(/[a-z0-9][a-z0-9._+-]*)?$"


class Listed(Model):
    """A wheel of an index. ``folder`` is that of its target, with the cpu below it where that is not the target's own.

    ``size`` is in bytes, ``metadata_sha256`` that of its METADATA, ``entered`` when it came into the index: ISO 8601,
    UTC, to the second.
    """

    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*\.whl$")]
    folder: Annotated[str, StringConstraints(pattern=_FOLDER)]
    target: Name
    cpu: str
    sha256: Sha256
    size: int = Field(ge=0)
    metadata_sha256: Sha256
    requires_python: str | None = None
    entered: datetime

    @property
    def place(self) -> str:
        """``rpi4/NAME.whl``: what tells it from all other wheels of the index."""
        return f"{self.folder}/{self.file}"

    @property
    def path(self) -> str:
        """Where it lies, from the index's folder."""
        return f"{WHEELS}/{self.place}"

    @property
    def own(self) -> bool:
        """Whether it was built for the target's own cpu."""
        return "/" not in self.folder

    @cached_property
    def project(self) -> str:
        """The normalised name (PEP 503)."""
        return canonicalize_name(self.file.partition("-")[0])

    @cached_property
    def version(self) -> Version:
        return parse_wheel_filename(self.file)[1]

    @property
    def order(self) -> tuple[str, Version, str, str]:
        """By package, version, file name and place."""
        return self.project, self.version, self.file, self.folder


class Ledger(Model):
    """All wheels of an index, in the order of :attr:`Listed.order`."""

    wheels: tuple[Listed, ...] = ()

    @classmethod
    def of(cls, wheels: Iterable[Listed]) -> Ledger:
        return cls(wheels=tuple(sorted(wheels, key=lambda wheel: wheel.order)))

    @property
    def places(self) -> dict[str, Listed]:
        """The wheels by their :attr:`Listed.place`."""
        return {wheel.place: wheel for wheel in self.wheels}

    def text(self) -> bytes:
        """The content of ``releases.json``: equal ledgers give equal bytes."""
        wheels = [wheel.model_dump(mode="json", exclude_none=True) for wheel in self.wheels]
        return (json.dumps({"schema": SCHEMA, "wheels": wheels}, indent=1, sort_keys=True) + "\n").encode()


def parse_ledger(text: bytes, where: str) -> Ledger:
    """The ledger of which ``text`` is the content. Raises ``DataError``."""
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
            raise ValueError(f"it is not of schema {SCHEMA}, which this crosswheel reads")
        ledger = Ledger.model_validate(value)
        for wheel in ledger.wheels:
            parse_wheel_filename(wheel.file)
        if len(ledger.places) != len(ledger.wheels):
            raise ValueError("a wheel is in it twice")
    except (ValueError, ValidationError) as error:
        raise DataError(
            "the list of this index's wheels cannot be read",
            where=where,
            why=str(error),
            hint="bring the file back from where the index was published to; it is what the pages are made from",
        ) from error
    return ledger


def read_ledger(folder: Path) -> Ledger:
    """The ledger of the index in ``folder``. Raises ``DataError``."""
    path = folder / FILE
    try:
        return parse_ledger(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(
            "this is no index: its list of wheels cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            hint=f"./x index build {folder}",
        ) from error


def now() -> datetime:
    """The time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
