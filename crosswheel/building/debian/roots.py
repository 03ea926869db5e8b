"""Roots: the packages of a lock, downloaded and extracted at the same time, and made fit for use.

No script of a package runs. What scripts would have made and a root cannot do without (:mod:`.finish`) is made here,
and written down in ``.crosswheel/made.json``.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

from crosswheel.building.debian.apt import Lock, LockedPackage
from crosswheel.building.debian.aptrun import AptRunner, apt_runner
from crosswheel.building.debian.deb import Alternative, alternatives, extract
from crosswheel.building.debian.debs import Search
from crosswheel.building.debian.finish import finish
from crosswheel.building.debian.given import package_in
from crosswheel.building.debian.hygiene import (
    ALWAYS_MERGED,
    MERGED,
    check_links,
    merge,
    merge_usr,
    refuse_dangling,
    tidy,
)
from crosswheel.building.job import Cancelled, Job
from crosswheel.planning.steps import LockStep, RootStep
from crosswheel.spec.sysroots import Archive

FOLDER = ".crosswheel"
"""Where a root keeps its ``lock.json`` and ``made.json``."""

_Unpacked = tuple[list[str], list[Alternative]]


def run_root(
    step: RootStep,
    inputs: Mapping[str, Path],
    job: Job,
    *,
    archives: Mapping[str, Archive],
    snapshot: str | None = None,
) -> None:
    """Makes ``out/`` the root of the input ``lock``; the other inputs are packages with archives in them, by the
    archives' names. ``snapshot`` is a date (``20260101T000000Z``) to try besides those that the lock itself suggests.

    ``FetchError`` names packages that cannot be had, packages with wrong bytes and dangling ``.so`` links.
    """
    where = str(inputs["lock"] / "lock.json")
    text = (inputs["lock"] / "lock.json").read_text()
    lock = Lock.parse(text, where)
    parts = job.out / FOLDER / "parts"
    parts.mkdir(parents=True)
    files = {name: package_in(path) for name, path in inputs.items() if name != "lock"}
    unpacked = _fetch_and_extract(step, lock, job, archives, snapshot, parts, files)
    links = _assemble(job, lock, parts, unpacked)
    shutil.rmtree(parts)
    wishes = [wish for package in lock.packages for wish in unpacked[package.package][1]]
    made = finish(job.out, wishes)
    for item in made:
        job.log(f"made {item.path}: {item.why}")
    dangling = check_links(job.out, links)
    resolved_by = _resolved_by(step)
    if resolved_by is None or resolved_by.dependencies:  # else what a link leads to may be in another root
        refuse_dangling(dangling, step.name, job.log)
    (job.out / FOLDER / "lock.json").write_text(text)
    (job.out / FOLDER / "made.json").write_text(json.dumps([vars(item) for item in made], indent=1) + "\n")


def _fetch_and_extract(
    step: RootStep,
    lock: Lock,
    job: Job,
    archives: Mapping[str, Archive],
    snapshot: str | None,
    parts: Path,
    files: Mapping[str, Path],
) -> dict[str, _Unpacked]:
    """Extracts each package into a folder of its own below ``parts``, as soon as it is here."""
    futures: dict[str, Future[_Unpacked]] = {}
    guard = threading.Lock()
    resolved_by = _resolved_by(step)

    @cache
    def runner() -> AptRunner:
        return apt_runner([archives[suite.archive] for suite in lock.suites if suite.archive in archives], job)

    with ThreadPoolExecutor(max(2, job.settings.jobs), thread_name_prefix="extract") as pool:

        def ready(package: LockedPackage, deb: Path) -> None:
            with guard:
                futures[package.package] = pool.submit(_unpack, package, deb, parts / package.package, job)

        search = Search(
            lock=lock,
            job=job,
            archives=archives,
            runner=runner,
            ready=ready,
            where=step.name,
            lock_name=resolved_by.lock if resolved_by else "NAME",
            snapshot=snapshot or (resolved_by.snapshot if resolved_by else None),
            files=files,
        )
        try:
            search.run()
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _resolved_by(step: RootStep) -> LockStep | None:
    origin = step.inputs.get("lock")
    return origin if isinstance(origin, LockStep) else None


def _unpack(package: LockedPackage, deb: Path, folder: Path, job: Job) -> _Unpacked:
    if job.cancelled.is_set():
        raise Cancelled
    folder.mkdir()
    extract(deb, folder, package.title)
    merge_usr(folder)
    return tidy(folder, job.log), alternatives(deb)


def _assemble(job: Job, lock: Lock, parts: Path, unpacked: Mapping[str, _Unpacked]) -> list[tuple[str, str]]:
    """Merges the packages into the root, by name, so that the order of downloads does not matter. Gives the links
    with the packages that they came with."""
    for name in ALWAYS_MERGED:
        (job.out / "usr" / name).mkdir(parents=True)
    links = []
    for package in lock.packages:
        for top in sorted((parts / package.package).iterdir()):
            merge(top, job.out / top.name, job.out, partial(_log, job, package.title))
        links += [(package.package, link) for link in unpacked[package.package][0]]
    for name in MERGED:
        if (job.out / "usr" / name).is_dir():
            (job.out / name).symlink_to(f"usr/{name}")
    return links


def _log(job: Job, title: str, line: str) -> None:
    job.log(f"{title}: {line}")
