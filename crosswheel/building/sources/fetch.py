"""Gets a file by its sha256: from the user's mirror, else from the places that its source names, in their order.

Whatever a place gives is judged here, once for all of them: bytes of another hash are kept aside for a person to look
at, and nothing of them is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.sources.mirror import ask_mirror, held_at, judge
from crosswheel.building.sources.places import MAX_BYTES, PlaceError
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError, InputError, MachineError
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.sources import Place
from crosswheel.spec.sysroots import Archive

FILL = "fill the mirror where there is a network: ./x mirror PACKAGE --target T --to DIR"
"""What to do where a mirror lacks something."""


@dataclass(frozen=True)
class _Tried:
    """A place that did not give the file. ``place`` is as it may be shown."""

    place: str
    reason: str


def run_fetch(step: FetchStep, inputs: Mapping[str, Path], job: Job, *, archives: Mapping[str, Archive]) -> None:
    """Brings the step's file to ``job.out/<file>``. ``archives`` are apt's, by name (for ``deb-src:``).

    With ``settings.offline`` the mirror alone is asked. ``FetchError`` names every place with its own reason.
    """
    tried: list[_Tried] = []
    for place, bring in _ways(step, job, archives):
        if job.cancelled.is_set():
            raise Cancelled
        scratch = job.work / str(len(tried))
        scratch.mkdir()
        try:
            found = bring(scratch)
        except (PlaceError, MachineError) as error:
            tried.append(_Tried(place, _with_hint(error)))
            _log(job, f"{place}: {tried[-1].reason}")
            continue
        found.chmod(0o755 if step.executable else 0o644)
        shutil.move(found, job.out / step.file)
        job.log(f"{step.file} from {place}")
        return
    raise _failed(step, tried, job.settings)


def _log(job: Job, text: str) -> None:
    for line in text.splitlines():
        job.log(line)


def _with_hint(error: Exception) -> str:
    return f"{error.what} ({error.hint})" if isinstance(error, MachineError) and error.hint else str(error)


_Bring = Callable[[Path], Path]
"""Brings the file into a folder and gives its path there; ``PlaceError`` if it does not."""


def _ways(step: FetchStep, job: Job, archives: Mapping[str, Archive]) -> list[tuple[str, _Bring]]:
    ways: list[tuple[str, _Bring]] = []
    if job.settings.mirror is not None:
        ways.append((f"the mirror {shown(job.settings.mirror)}", lambda folder: _mirrored(step, folder, job)))
    if not job.settings.offline:
        ways += [(shown(place.uri), _way(place, step, job, archives)) for place in step.places]
    return ways


def _way(place: Place, step: FetchStep, job: Job, archives: Mapping[str, Archive]) -> _Bring:
    def bring(folder: Path) -> Path:
        job.log(f"asking {shown(place.uri)}")
        return _from_place(place, step, folder, job, archives)

    return bring


def _from_place(place: Place, step: FetchStep, folder: Path, job: Job, archives: Mapping[str, Archive]) -> Path:
    """The file of a place, judged; where it holds the source as a member, that member, judged as well."""
    name = step.file if place.member is None else f"{step.file}.package"
    got = folder / name
    _download(place, step, got, job, archives)
    _as_pinned(place, got, place.sha256 or step.sha256, job)
    judge(got, place.sha256 or step.sha256, job.settings.store)
    if place.member is None:
        return got
    from crosswheel.building.sources.unpack import take_member

    file = folder / step.file
    try:
        take_member(got, place.member, file)
    except InputError as error:
        raise PlaceError(f"{error.what}" + (f": {error.why}" if error.why else "")) from error
    got.unlink()
    judge(file, step.sha256, job.settings.store)
    return file


def _as_pinned(place: Place, got: Path, sha256: str, job: Job) -> None:
    """A forge makes an archive when it is asked for it, and its git writes it otherwise than years ago."""
    if place.uri.startswith(("https:", "http:")) and place.uri.endswith(".tar.gz") and sha256_file(got) != sha256:
        from crosswheel.building.sources.older_archives import restore

        if restore(got, sha256):
            job.log(f"{shown(place.uri)} gave the archive as git writes it today; made the pinned bytes from it")


def _download(place: Place, step: FetchStep, dest: Path, job: Job, archives: Mapping[str, Archive]) -> None:
    scheme, _, rest = place.uri.partition(":")
    if scheme in ("https", "http"):
        from crosswheel.building.sources.places.http import download

        download(place.uri, dest, job.cancelled)
    elif scheme == "pypi":
        from crosswheel.building.sources.places.registries import from_pypi

        from_pypi(rest, step.file, place.sha256 or step.sha256, dest, job)
    elif scheme == "npm":
        from crosswheel.building.sources.places.registries import from_npm

        from_npm(rest, dest, job)
    elif scheme == "deb-src":
        from crosswheel.building.sources.places.debian import from_debian

        from_debian(rest, step.file, dest, job, archives)
    else:
        raise PlaceError(f"{scheme!r} is no scheme that is known here")
    if dest.stat().st_size > MAX_BYTES:
        dest.unlink()
        raise PlaceError(f"the file is longer than {MAX_BYTES:,} bytes")


def _failed(step: FetchStep, tried: list[_Tried], settings: Settings) -> FetchError:
    lines = []
    for number, way in enumerate(tried, start=1):
        first, *more = way.reason.splitlines() or [""]
        lines += [f"{number}. {way.place}: {first}", *(f"     {line}" for line in more)]
    place = f"{shown(settings.mirror.rstrip('/')) if settings.mirror else 'MIRROR'}/{held_at(step.sha256)}"
    by_hand = f"get it by hand (sha256 {step.sha256}), then give it with --source NAME=PATH, or put it at {place}"
    if not settings.offline:
        places = "the one place" if len(tried) == 1 else f"any of {len(tried)} places"
        return FetchError(
            f"{step.file} could not be had from {places}",
            where=step.name,
            why="\n".join(lines),
            hint=by_hand + ("" if settings.mirror else " and name that folder with --mirror"),
        )
    known = ", ".join(shown(each.uri) for each in step.places)
    return FetchError(
        f"{step.file} (sha256 {step.sha256}) could not be had from the mirror, and the build is offline",
        where=step.name,
        why="\n".join([*(lines or ["no mirror is set: name one with --mirror"]), f"elsewhere it is at {known}"]),
        hint=f"{FILL}; or {by_hand}",
    )


def origin_of(log: str, file: str) -> str | None:
    """Which place gave a file, as the log of the step that fetched it says."""
    for line in reversed(log.splitlines()):
        if line.startswith(f"{file} from "):
            return line.removeprefix(f"{file} from ")
    return None


# --- the mirror ------------------------------------------------------------------------------------------------------


def from_mirror(settings: Settings, sha256: str, dest: Path, job: Job) -> bool:
    """Whether the user's mirror gave the file of that sha256, which then lies at ``dest``.

    ``False`` where no mirror is set, or it does not hold the file, cannot be reached, or gives other bytes (they are
    kept aside); the log says which.
    """
    if settings.mirror is None:
        return False
    try:
        ask_mirror(settings.mirror, held_at(sha256), dest, job.cancelled)
        judge(dest, sha256, settings.store)
    except PlaceError as error:
        _log(job, f"the mirror {shown(settings.mirror)}: {error}")
        return False
    return True


def _mirrored(step: FetchStep, folder: Path, job: Job) -> Path:
    file = folder / step.file
    if job.settings.mirror is None:
        raise PlaceError("no mirror is set")
    ask_mirror(job.settings.mirror, held_at(step.sha256), file, job.cancelled)
    judge(file, step.sha256, job.settings.store)
    return file


def shown(place: str) -> str:
    """A place as it may be shown: a URL without its credentials."""
    from crosswheel.building.sources.places.http import without_credentials

    return without_credentials(place) if urlsplit(place).scheme in ("http", "https") else place
