"""The user's mirror: a folder, or a URL, that holds files by sha256, and locks by the key of their step.

Layout::

    sha256/<first two digits>/<sha256>   every file, locks too
    manifest.json                        what they are, what they are for, where they came from; which lock is whose

``./x mirror`` fills such a folder (:mod:`.mirroring`). A folder of files without a manifest serves as well, as long as
no lock is asked of it.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, StringConstraints, ValidationError

from crosswheel.building.job import Job
from crosswheel.building.sources.kept import keep
from crosswheel.building.sources.places import PlaceError
from crosswheel.digest import sha256_file
from crosswheel.errors import InputError
from crosswheel.spec.base import Model, Sha256

MANIFEST = "manifest.json"
SCHEMA = 1
"""Version of the manifest's format; one of another version is refused."""

_MANIFEST_BYTES = 256 << 20


def held_at(sha256: str) -> str:
    """Where a mirror holds a file, below its top."""
    return f"sha256/{sha256[:2]}/{sha256}"


class MirroredFile(Model):
    """One file: its own ``name``, its ``size`` in bytes, what it is ``needed`` for, and the ``origin`` that gave it."""

    name: str
    sha256: Sha256
    size: int = Field(ge=0)
    needed: tuple[str, ...]
    origin: str


class MirroredLock(Model):
    """The lock of a step: the step's ``key`` and name, and the sha256 of the lock's text."""

    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    step: str
    sha256: Sha256


class Manifest(Model):
    """``manifest.json``, sorted, one line for each file and lock."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    files: tuple[MirroredFile, ...] = ()
    locks: tuple[MirroredLock, ...] = ()

    @classmethod
    def parse(cls, text: str, where: str) -> Manifest:
        """The manifest that ``text`` says. ``InputError`` if it says none."""
        hint = "the files themselves are named by their sha256; remove the manifest and fill the mirror again"
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError("the mirror's manifest is no JSON", where=where, why=str(error), hint=hint) from error
        found = value.get("schema") if isinstance(value, dict) else None
        if found != SCHEMA:
            raise InputError(f"the manifest's schema is {found!r}; this crosswheel reads {SCHEMA}", where=where)
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:8]]
            what = "the mirror's manifest cannot be used"
            raise InputError(what, where=where, why="\n".join(problems), hint=hint) from error

    def merged(self, files: Iterable[MirroredFile], locks: Iterable[MirroredLock]) -> Manifest:
        """With more files and locks. What a file is needed for is joined; where it came from first stays."""
        joined = {file.sha256: file for file in self.files}
        for file in files:
            old = joined.get(file.sha256)
            needed = tuple(sorted({*file.needed, *(old.needed if old else ())}))
            joined[file.sha256] = (old or file).model_copy(update={"needed": needed})
        keyed = {lock.key: lock for lock in (*self.locks, *locks)}
        return Manifest(
            files=tuple(sorted(joined.values(), key=lambda file: (file.name, file.sha256))),
            locks=tuple(sorted(keyed.values(), key=lambda lock: (lock.step, lock.key))),
        )

    def text(self) -> str:
        """As JSON: the same for the same content."""
        rows = {
            key: ",\n".join(f"  {json.dumps(item.model_dump(mode='json'))}" for item in items)
            for key, items in (("files", self.files), ("locks", self.locks))
        }
        parts = [f' "{key}": [\n{text}\n ]' if text else f' "{key}": []' for key, text in rows.items()]
        return "{\n" + ",\n".join([f' "schema": {SCHEMA}', *parts]) + "\n}\n"


# --- asking it -------------------------------------------------------------------------------------------------------


def is_url(mirror: str) -> bool:
    """Whether a mirror is asked over the network."""
    return urlsplit(mirror).scheme in ("http", "https")


def mirror_folder(mirror: str) -> Path:
    """The folder that a mirror is, which is no URL: a path, or ``file://…``."""
    return Path(unquote(urlsplit(mirror).path)) if urlsplit(mirror).scheme == "file" else Path(mirror).expanduser()


def ask_mirror(mirror: str, path: str, dest: Path, cancelled: threading.Event) -> None:
    """Writes what the mirror holds at ``path`` to ``dest``. ``PlaceError`` if it does not hold it."""
    if is_url(mirror):
        from crosswheel.building.sources.places.http import download

        download(f"{mirror.rstrip('/')}/{path}", dest, cancelled)
        return
    folder = mirror_folder(mirror)
    if not folder.is_dir():
        raise PlaceError(f"{folder} is no folder")
    if not (folder / path).is_file():
        raise PlaceError(f"it does not hold {path}")
    shutil.copyfile(folder / path, dest)


def judge(path: Path, sha256: str, store: Path) -> None:
    """Bytes of another hash are moved to ``<store>/kept/``; ``PlaceError`` says what came and where it lies."""
    found = sha256_file(path)
    if found == sha256:
        return
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    kept = keep(store, path)
    page = "; it is a web page" if head.startswith((b"<!doctype html", b"<html")) else ""
    raise PlaceError(
        f"it gave other bytes: sha256 {found} instead of {sha256} ({size:,} bytes{page});\n"
        f"nothing of them was used, they are kept in {kept}"
    )


def mirrored_lock(mirror: str, key: str, job: Job) -> str:
    """The text of the lock that the mirror holds for a step's key. ``PlaceError`` if it holds none, or a wrong one."""
    scratch = job.work / MANIFEST
    ask_mirror(mirror, MANIFEST, scratch, job.cancelled)
    try:
        manifest = Manifest.parse(scratch.read_text(encoding="utf-8", errors="replace"), MANIFEST)
    except InputError as error:
        raise PlaceError(f"its {MANIFEST} cannot be read: {error.what}") from error
    found = next((lock for lock in manifest.locks if lock.key == key), None)
    if found is None:
        raise PlaceError(f"its {MANIFEST} has no lock of the key {key[:12]}")
    file = job.work / f"{found.sha256}.json"
    ask_mirror(mirror, held_at(found.sha256), file, job.cancelled)
    judge(file, found.sha256, job.settings.store)
    return file.read_text(encoding="utf-8")
