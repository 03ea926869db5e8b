"""Whether the archives that a build needs can be reached: asked of all at once, before anything long runs."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from crosswheel.building.debian.aptrun import HELPER, AptRunner, apt_runner
from crosswheel.building.debian.debs import deb_path
from crosswheel.building.debian.lock import Lock
from crosswheel.building.debian.mirrors import Mirror, candidates, machine_mirrors
from crosswheel.building.job import Job, Settings
from crosswheel.building.sources.mirror import held_at, is_url, mirror_folder, mirrored_lock
from crosswheel.building.sources.places import PlaceError
from crosswheel.building.store import Store
from crosswheel.errors import FetchError
from crosswheel.planning.steps import FetchStep, LockStep, RootStep, Step
from crosswheel.spec.sources import Source
from crosswheel.spec.sysroots import Archive, Suite

SECONDS = 10
"""How long a server may take to answer."""

_PARALLEL = 8


@dataclass(frozen=True)
class Wanted:
    """An archive, one of its suites, the snapshot that may serve, and the step for which it is wanted."""

    archive: Archive
    suite: Suite
    snapshot: str
    step: str


def refuse_unreachable(
    goals: Iterable[Step], store: Store, archives: Mapping[str, Archive], settings: Settings
) -> None:
    """``FetchError`` naming every archive that the goals' missing locks and roots need and that cannot be reached, with
    what was asked and what to do. What the store and the user's mirror have is not asked for."""
    with tempfile.TemporaryDirectory(prefix="crosswheel-reach-") as folder:
        job = Job(
            key="",
            out=Path(folder),
            work=Path(folder),
            settings=settings,
            log=lambda line: None,
            cancelled=threading.Event(),
        )
        wanted = list(_wanted(_missing(goals, store), store, archives, job))
        if not wanted:
            return
        runner = apt_runner([each.archive for each in wanted], job)
        machine = machine_mirrors(runner, job.work) if any(each.archive.label for each in wanted) else {}
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="reach") as pool:
            said = list(pool.map(lambda each: _unreachable(each, settings, machine, runner, job.work), wanted))
    failed = [(each, why) for each, why in zip(wanted, said, strict=True) if why]
    if failed:
        raise _told(failed)


def _missing(goals: Iterable[Step], store: Store) -> Iterator[Step]:
    """The steps that will run, as the executor finds them: nothing below what is in the store."""
    todo, seen = list(goals), set[str]()
    while todo:
        step = todo.pop()
        if step.key in seen:
            continue
        seen.add(step.key)
        if not store.has(step.key):
            yield step
            todo += step.inputs.values()


def _wanted(steps: Iterable[Step], store: Store, archives: Mapping[str, Archive], job: Job) -> Iterator[Wanted]:
    """Each archive once."""
    seen: set[str] = set()
    for step in steps:
        lock = step.inputs.get("lock") if isinstance(step, RootStep) else step
        if not isinstance(lock, LockStep):
            continue
        for suite in lock.suites:
            name = suite.archive
            brought = lock.inputs.get(name)
            here = brought is not None and (not isinstance(brought, FetchStep) or store.has(brought.key))
            if here or name in seen or name not in archives or not _asks(step, lock, name, store, job):
                continue
            seen.add(name)
            yield Wanted(archives[name], suite, lock.snapshot, step.name)


def _asks(step: Step, lock: LockStep, archive: str, store: Store, job: Job) -> bool:
    """Whether a step needs an archive: to resolve, or for packages of its lock that are not on this machine."""
    text = lock.pinned or _text(lock, store, job)
    if text is None:
        return True
    if not isinstance(step, RootStep):
        return False
    mirror = job.settings.mirror
    for package in Lock.parse(text, lock.name).packages:
        held = [deb_path(job.settings.store, package.sha256)]
        held += [mirror_folder(mirror) / held_at(package.sha256)] if mirror and not is_url(mirror) else []
        if package.archive == archive and not any(path.is_file() for path in held):
            return not (mirror and is_url(mirror))  # a mirror that is a URL is asked when its turn comes
    return False


def _text(lock: LockStep, store: Store, job: Job) -> str | None:
    """The lock, if it is in the store or in the user's mirror."""
    artefact = store.lookup(lock.key) if store.has(lock.key) else None
    if artefact:
        return (artefact.path / "lock.json").read_text(encoding="utf-8")
    try:
        return mirrored_lock(job.settings.mirror, lock.key, job) if job.settings.mirror else None
    except PlaceError:
        return None


def _unreachable(
    wanted: Wanted, settings: Settings, machine: Mapping[str, str], runner: AptRunner, work: Path
) -> list[str]:
    """What each place of an archive said; empty as soon as one gives a suite's Release file."""
    if wanted.archive.file:
        return _without_file(wanted.archive.file, settings)
    said: list[str] = []
    for mirror in candidates([wanted.archive], settings, lambda: machine, wanted.snapshot)[wanted.archive.name]:
        problem = _asked(mirror, wanted.suite, runner, work / wanted.archive.name)
        if problem is None:
            return []
        said.append(f"{mirror.base}: {problem}")
    return said or ["no place of it is known"]


def _asked(mirror: Mirror, suite: Suite, runner: AptRunner, scratch: Path) -> str | None:
    folder = suite.name.strip("/") + "/" if suite.flat else f"dists/{suite.name}/"
    times = [part for kind in ("http", "https") for part in ("-o", f"Acquire::{kind}::Timeout={SECONDS}")]
    problem = ""
    for file in ("InRelease", "Release"):
        uri = mirror.base + folder.lstrip("/") + file
        scratch.unlink(missing_ok=True)
        argv = (HELPER, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0", *times, "download-file", uri)
        folders = [scratch.parent, *([Path(mirror.base[5:])] if mirror.base.startswith("copy:/") else [])]
        ran = runner.run((*argv, str(scratch)), folders)
        if scratch.is_file():
            return None
        complaint = next((line for line in ran.complaints(1)), f"status {ran.status}")
        problem = problem or complaint.removeprefix("E: Failed to fetch ").removeprefix(uri).strip()
    return problem


def _without_file(file: Source, settings: Settings) -> list[str]:
    """The same of a package in which an archive lies."""
    import requests

    from crosswheel.building.sources.places.http import reason

    mirror = settings.mirror
    if mirror and (is_url(mirror) or (mirror_folder(mirror) / held_at(file.sha256)).is_file()):
        return []
    said = []
    for place in file.places:
        try:
            requests.head(place.uri, timeout=SECONDS, allow_redirects=True).raise_for_status()
        except requests.RequestException as error:
            said.append(f"{place.uri}: {reason(error)}")
        else:
            return []
    return said


def _told(failed: Sequence[tuple[Wanted, list[str]]]) -> FetchError:
    names = [wanted.archive.name for wanted, _ in failed]
    what_to_give = "FILE.deb" if failed[0][0].archive.file else "FOLDER"
    what = f"The archive {names[0]} cannot" if len(names) == 1 else f"The archives {', '.join(names)} cannot"
    why = [f"{wanted.archive.name} ({wanted.step}):\n  " + "\n  ".join(said) for wanted, said in failed]
    hints = [
        f"--source {names[0]}={what_to_give} takes it from a copy on this machine (signatures and hashes are checked);",
        f'apt_mirrors = {{ {names[0]} = "URL" }} in the settings file takes it from a mirror;',
        "--mirror DIR takes everything from a folder that `./x mirror` filled where there is a network.",
    ]
    return FetchError(
        f"{what} be reached, and nothing was begun.",
        where=failed[0][0].step,
        why="\n".join(why),
        hint="\n".join(hints),
    )
