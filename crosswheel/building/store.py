"""The content-addressed folder of artefacts.

Layout::

    artefacts/<key[:2]>/<key>/   out/ (the result), step.json (what the key is made of), meta.json, log.txt
    tmp/<key>.<random>/          a step that runs; of a killed build until the next one that needs the key
    failed/<key>/                a step that failed: log.txt, step.json, and with --keep-failed its work/
    kept/                        what must not be used and may be looked at: wrong sources, damaged artefacts
    locks/                       <key>.lock: who makes the artefact; <key>.use: who reads it
    debs/                        downloaded packages

An artefact appears by one rename, so it is there whole or not at all.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from crosswheel.building import manifest
from crosswheel.building.artefacts import (
    Artefact,
    Building,
    Damaged,
    Meta,
    Record,
    name_of,
    read_meta,
    read_step,
    write_meta,
)
from crosswheel.building.disk import remove
from crosswheel.building.job import Cancelled
from crosswheel.digest import Json
from crosswheel.errors import InputError, MachineError
from crosswheel.planning.steps import Step

_KEY_DIGITS = 64
_POLL_SECONDS = 0.2


class Store:
    """See the module. Paths are made when they are needed."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def made(self, name: str) -> Path:
        """A folder of the store, made if it is not there. ``MachineError`` where that is not possible."""
        folder = self.root / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (PermissionError, NotADirectoryError, FileExistsError) as error:
            raise MachineError(
                "The store cannot be written.",
                where=str(folder),
                why=str(error),
                hint="Set CROSSWHEEL_STORE to a folder of your own.",
            ) from error
        return folder

    # --- artefacts -------------------------------------------------------------------------------------------------

    def path(self, key: str) -> Path:
        """The artefact's folder, there or not."""
        return self.root / "artefacts" / key[:2] / key

    def cache(self, name: str) -> Path:
        """Where a folder that outlives steps lies: a build tool's own cache, which saves work and changes no result."""
        return self.root / "caches" / name

    def has(self, key: str) -> bool:
        """Whether the artefact is there; its contents are not looked at (see :meth:`lookup`)."""
        return (self.path(key) / "meta.json").exists()

    def lookup(self, key: str, damaged: Callable[[str], None] | None = None) -> Artefact | None:
        """The artefact, if it is there and whole. One with missing, truncated or altered files counts as absent;
        ``damaged`` is then told what is wrong with it."""
        folder = self.path(key)
        try:
            read_step(folder, key)
            meta = read_meta(folder)
            wrong = manifest.damage(folder / "out", meta.manifest)
            if wrong:
                raise Damaged(wrong)
        except FileNotFoundError:
            if folder.exists() and damaged:
                damaged("step.json or meta.json is missing")
            return None
        except Damaged as error:
            if damaged:
                damaged(str(error))
            return None
        return Artefact(key=key, path=folder / "out", meta=meta)

    def touch(self, key: str) -> None:
        """Says that the artefact was used now: cleaning removes the least recently used first."""
        os.utime(self.path(key) / "meta.json")

    def set_aside(self, key: str) -> Path | None:
        """Moves a damaged artefact to ``kept/``. The caller holds the key's lock. None if there was nothing."""
        folder = self.path(key)
        if not folder.exists():
            return None
        place = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=self.made("kept")))
        return folder.rename(place / "damaged")

    # --- making an artefact ----------------------------------------------------------------------------------------

    def open_tmp(self, step: Step) -> Building:
        """A new folder for a run of ``step``. The caller holds the key's lock."""
        folder = Path(tempfile.mkdtemp(prefix=f"{step.key}.", dir=self.made("tmp")))
        folder.chmod(0o755)  # mkdtemp makes it private, and it becomes the artefact's folder
        building = Building(key=step.key, folder=folder)
        building.out.mkdir()
        building.work.mkdir()
        record = {"name": step.name, "described": step.described()}
        (folder / "step.json").write_text(json.dumps(record, sort_keys=True, indent=1))
        building.log.touch()
        return building

    def leftovers(self, key: str) -> list[Path]:
        """What killed builds left of ``key`` in ``tmp/``. Only the holder of the key's lock knows that it is not in
        use."""
        return sorted((self.root / "tmp").glob(f"{key}.*"))

    def commit(
        self, building: Building, step: Step, seconds: float, notes: Mapping[str, Json] | None = None
    ) -> Artefact:
        """Makes the folder the artefact, in one rename. The caller holds the key's lock."""
        from importlib.metadata import version

        self.discard(building.work) if step.kind == "run" else remove(building.work)
        listed = manifest.seal(building.out)
        meta = Meta(
            name=step.name,
            kind=step.kind,
            seconds=round(seconds, 3),
            bytes=listed.bytes,
            tool=version("crosswheel"),
            manifest=listed,
            notes=notes or {},
        )
        write_meta(building.folder, meta)
        self.set_aside(step.key)
        remove(self.root / "failed" / step.key)
        target = self.path(step.key)
        target.parent.mkdir(parents=True, exist_ok=True)
        building.folder.rename(target)
        return Artefact(key=step.key, path=target / "out", meta=meta)

    def fail(self, building: Building, *, keep_work: bool) -> Path:
        """Keeps a failed step's log and description in ``failed/<key>/``, and its work folder where wanted. Needs no
        free space: it removes before it renames. The caller holds the key's lock."""
        remove(building.out)
        if not keep_work:
            remove(building.work)
        target = self.made("failed") / building.key
        remove(target)
        return building.folder.rename(target)

    def discard(self, path: Path) -> None:
        """Removes a folder without making anybody wait: what Bazel leaves are a hundred thousand files, and minutes.
        It leaves its place in one move; a process of its own removes it, even where folders are not writable. What a
        machine that stops leaves of it is a leftover of ``tmp/`` like any other."""
        if not path.is_dir() or path.is_symlink():
            remove(path)
            return
        grave = tempfile.mkdtemp(prefix="removed.", dir=self.made("tmp"))
        path.rename(Path(grave, "discarded"))
        script = 'chmod -R u+rwX "$1"; exec rm -rf -- "$1"'
        subprocess.Popen(
            ("sh", "-c", script, "sh", grave),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    # --- locks -----------------------------------------------------------------------------------------------------

    @contextmanager
    def hold(
        self, key: str, *, waiting: Callable[[], None] | None = None, cancelled: threading.Event | None = None
    ) -> Iterator[None]:
        """Holds the key's lock: one process at a time makes an artefact.

        ``waiting`` is called once if another process has it. :class:`Cancelled` is raised if ``cancelled`` is set
        meanwhile.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.made("locks") / f"{key}.lock")
        told = False
        while True:
            try:
                lock.acquire(timeout=_POLL_SECONDS if told else 0, poll_interval=_POLL_SECONDS / 4)
                break
            except Timeout:
                if waiting and not told:
                    waiting()
                told = True
            if cancelled and cancelled.is_set():
                raise Cancelled
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def use(self, key: str) -> Iterator[None]:
        """Keeps :meth:`clean` of any process from removing the artefact. Any number of processes may use it."""
        with (self.made("locks") / f"{key}.use").open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    def unused(self, key: str, stack: ExitStack) -> bool:
        """Whether no process makes or uses the artefact. If so, both of its locks are taken until ``stack`` ends."""
        from filelock import FileLock, Timeout

        locks = self.made("locks")
        try:
            stack.enter_context(FileLock(locks / f"{key}.lock", timeout=0))
        except Timeout:
            return False
        stream = stack.enter_context((locks / f"{key}.use").open("a"))
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    # --- what people ask for ---------------------------------------------------------------------------------------

    def describe(self, key_or_prefix: str) -> Record:
        """What is known of a key, or of the only key that begins so. ``InputError`` where there is none or more."""
        key = self._resolve(key_or_prefix.lower())
        places: tuple[tuple[Literal["stored", "failed", "running"], Path], ...] = (
            ("stored", self.path(key)),
            *(("running", folder) for folder in self.leftovers(key)),
            ("failed", self.root / "failed" / key),
        )
        state, folder = next((state, folder) for state, folder in places if folder.exists())
        try:
            name, described = read_step(folder, key)
            meta = read_meta(folder) if state == "stored" else None
        except (FileNotFoundError, Damaged) as error:
            why = "step.json or meta.json is missing" if isinstance(error, FileNotFoundError) else str(error)
            hint = "Build again: the step is made anew."
            raise InputError("This artefact is damaged.", where=str(folder), why=f"{why}.", hint=hint) from None
        return Record(key=key, name=name, step=described, state=state, folder=folder, meta=meta)

    def log_path(self, key_or_prefix: str) -> Path:
        """The log of a stored, failed or running step."""
        return self.describe(key_or_prefix).log

    def keys(self) -> dict[str, Path]:
        """All keys that the store knows, with a folder of each."""
        running = {path.name[:_KEY_DIGITS]: path for path in (self.root / "tmp").glob("*")}
        failed = {path.name: path for path in (self.root / "failed").glob("*")}
        stored = {path.name: path for path in (self.root / "artefacts").glob("*/*")}
        return {key: path for key, path in (running | failed | stored).items() if len(key) == _KEY_DIGITS}

    # --- inside ----------------------------------------------------------------------------------------------------

    def _resolve(self, text: str) -> str:
        keys = self.keys()
        found = [key for key in keys if key.startswith(text)] if text else []
        if len(found) == 1:
            return found[0]
        nearest = found or sorted(keys, key=lambda key: (-_shared(key, text), key))
        lines = [f"{key[:16]}  {name_of(keys[key])}" for key in sorted(nearest[:5])]
        if found:
            what = f"{len(found)} keys begin with “{text}”."
        elif keys:
            what = f"No step in the store has a key that begins with “{text}”."
        else:
            what = "The store is empty."
        why = "\n".join((["The nearest are:"] if not found else []) + lines) if lines else ""
        raise InputError(what, where=str(self.root), why=why, hint="`./x plan PACKAGE` prints the keys of a build.")


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
