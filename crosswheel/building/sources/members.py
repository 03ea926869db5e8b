"""Gets members of a wheel: out of the user's mirror, which holds the whole of it; else only them, from the index; else
the whole wheel, where the index does not serve parts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from crosswheel.building.job import Job
from crosswheel.building.sources.fetch import from_mirror, run_fetch
from crosswheel.building.sources.places import PlaceError
from crosswheel.building.sources.places.client import run_client
from crosswheel.building.sources.record import Mismatch, take_members
from crosswheel.errors import FetchError
from crosswheel.planning.arranging import MembersStep
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.sysroots import Archive

SECONDS = 1800.0
"""How long pip may take for the members of one wheel."""

_NO_PARTS, _NOT_LISTED = 5, 3


def run_members(step: MembersStep, inputs: Mapping[str, Path], job: Job, *, archives: Mapping[str, Archive]) -> None:
    """Brings the members below ``job.out``; see :class:`crosswheel.planning.arranging.MembersStep`. ``FetchError``
    where they cannot be had, or are not those that are pinned."""
    wheel = job.work / step.file
    if from_mirror(job.settings, step.sha256, wheel, job):
        _take(step, wheel, job)
    elif job.settings.offline or not _parts(step, job):
        run_fetch(whole(step), inputs, job, archives=archives)
        _take(step, job.out / step.file, job)


def whole(step: MembersStep) -> FetchStep:
    """The step that gets the whole wheel: what a mirror holds."""
    return FetchStep(name=f"fetch {step.file}", file=step.file, sha256=step.sha256, places=step.places)


def _parts(step: MembersStep, job: Job) -> bool:
    """Gets no more than the members; False where no index serves parts of the wheel."""
    for place in step.places:
        scheme, _, release = place.uri.partition(":")
        if scheme != "pypi":
            continue
        dest = job.work / "members"
        dest.mkdir(exist_ok=True)
        module = "crosswheel.building.sources.pip_members"
        name = release.partition("==")[0]
        argv = (sys.executable, "-P", "-m", module, name, step.file, step.record, str(dest), *step.members)
        try:
            ended = run_client(argv, job=job, folder=job.work, seconds=SECONDS, output=dest)
        except PlaceError as error:
            job.log(f"{place.uri}: {error}")
            continue
        if ended.status == 0:
            shutil.copytree(dest, job.out, dirs_exist_ok=True)
            return True
        job.log(f"{place.uri}: {ended.last() or f'pip ended with status {ended.status}'}")
        shutil.rmtree(dest)
    return False


def _take(step: MembersStep, file: Path, job: Job) -> None:
    """The members out of the whole wheel, which is then not wanted any more."""
    try:
        with ZipFile(file) as wheel:
            take_members(wheel, step.record, step.members, job.out)
    except (Mismatch, BadZipFile) as error:
        raise FetchError(f"{step.file} is not the wheel that is pinned", where=step.name, why=str(error)) from error
    file.unlink()
