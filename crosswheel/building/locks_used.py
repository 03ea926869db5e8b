"""Which lock a root was made of, as far as the store knows it: for the record of a build.

A lock that is not pinned may be resolved anew, with other packages, when the store has lost it, while what was built
with the former one is still there. So a run notes the locks of its roots by their sha256, and a record tells no
packages of a lock that is another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from crosswheel.building.artefacts import Damaged, read_meta
from crosswheel.building.store import Store
from crosswheel.digest import Json, sha256_bytes, sha256_file
from crosswheel.planning.steps import BundleProofStep, LockStep, ProofStep, RootStep, RunStep, Step

NOTE = "locks"
"""What the note is called in an artefact's meta.json: the sha256 of each lock by the key of its step."""

_RUNNING = (RunStep, ProofStep, BundleProofStep)

_IN_ROOT = Path(".crosswheel") / "lock.json"


def locks_noted(step: Step, inputs: Mapping[str, Path]) -> dict[str, Json]:
    """The note about the roots in which a step runs something; nothing where there are none with a lock."""
    found: dict[str, Json] = {}
    if not isinstance(step, _RUNNING):
        return {}
    for role, needed in step.inputs.items():
        lock = inputs[role] / _IN_ROOT
        if isinstance(needed, RootStep) and lock.is_file():
            found[needed.inputs["lock"].key] = sha256_file(lock)
    return {NOTE: found} if found else {}


class LocksUsed:
    """The locks that the steps of a plan were made with."""

    def __init__(self, steps: Iterable[Step], store: Store) -> None:
        self._store = store
        self._roots = {step.inputs["lock"].key: step.key for step in steps if isinstance(step, RootStep)}
        self._noted: dict[str, str] = {}
        for step in steps:
            if isinstance(step, _RUNNING):
                self._noted |= _noted(step, store)

    def of(self, step: LockStep) -> tuple[str | None, bytes | None]:
        """The sha256 of the lock that was used, and its text, where the store still has that very lock: in the root
        that was made of it, as the result of its step, or pinned in the written data."""
        noted = self._noted.get(step.key)
        for text in self._texts(step):
            if noted in (None, sha256_bytes(text)):
                return sha256_bytes(text), text
        return noted, None

    def _texts(self, step: LockStep) -> Iterable[bytes]:
        places = [self._store.path(step.key) / "out" / "lock.json"]
        if step.key in self._roots:
            places.insert(0, self._store.path(self._roots[step.key]) / "out" / _IN_ROOT)
        yield from (place.read_bytes() for place in places if place.is_file())
        if step.pinned is not None:
            yield step.pinned.encode()  # the result of such a step is that text


def _noted(step: Step, store: Store) -> dict[str, str]:
    try:
        note = read_meta(store.path(step.key)).notes.get(NOTE, {})
    except (FileNotFoundError, Damaged):
        return {}  # it is in the store no more
    return {str(key): str(value) for key, value in note.items()} if isinstance(note, Mapping) else {}
