"""Gets a file by its sha256: from the user's mirror, else from the places that its source names, in their order.

Whatever a place gives is judged here, once for all of them: bytes of another hash are kept aside for a person to look
at, and nothing of them is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from crosswheel.building.job import Cancelled, Job, Settings
from crosswheel.building.sources.kept import keep
from crosswheel.building.sources.places import MAX_BYTES, PlaceError
from crosswheel.digest import sha256_file
from crosswheel.errors import FetchError, InputError, MachineError
from crosswheel.planning.steps import FetchStep
from crosswheel.spec.models import Archive, Place


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
    for place in step.places:
        ways.append((shown(place.uri), _way(place, step, job, archives)))
    return ways


def _way(place: Place, step: FetchStep, job: Job, archives: Mapping[str, Archive]) -> _Bring:
    def bring(folder: Path) -> Path:
        if job.settings.offline:
            raise PlaceError("not asked: offline, where the mirror alone counts")
        job.log(f"asking {shown(place.uri)}")
        return _from_place(place, step, folder, job, archives)

    return bring


def _from_place(place: Place, step: FetchStep, folder: Path, job: Job, archives: Mapping[str, Archive]) -> Path:
    """The file of a place, judged; where it holds the source as a member, that member, judged as well."""
    name = step.file if place.member is None else f"{step.file}.package"
    got = folder / name
    _download(place, step, got, job, archives)
    _judge(got, place.sha256 or step.sha256, job.settings)
    if place.member is None:
        return got
    from crosswheel.building.sources.unpack import take_member

    file = folder / step.file
    try:
        take_member(got, place.member, file)
    except InputError as error:
        raise PlaceError(f"{error.what}" + (f": {error.why}" if error.why else "")) from error
    got.unlink()
    _judge(file, step.sha256, job.settings)
    return file


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


def _judge(path: Path, sha256: str, settings: Settings) -> None:
    """Bytes of another hash are moved to ``<store>/kept/``; ``PlaceError`` says what came and where it lies."""
    found = sha256_file(path)
    if found == sha256:
        return
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(512).lstrip().lower()
    kept = keep(settings.store, path)
    page = "; it is a web page" if head.startswith((b"<!doctype html", b"<html")) else ""
    raise PlaceError(
        f"it gave other bytes: sha256 {found} instead of {sha256} ({size:,} bytes{page});\n"
        f"nothing of them was used, they are kept in {kept}"
    )


def _failed(step: FetchStep, tried: list[_Tried], settings: Settings) -> FetchError:
    lines = []
    for number, way in enumerate(tried, start=1):
        first, *more = way.reason.splitlines() or [""]
        lines += [f"{number}. {way.place}: {first}", *(f"     {line}" for line in more)]
    held = f"sha256/{step.sha256[:2]}/{step.sha256}"
    folder = settings.mirror.rstrip("/") if settings.mirror else "MIRROR"
    by_mirror = f"put it at {shown(folder)}/{held}" + ("" if settings.mirror else " and name that folder with --mirror")
    if settings.offline and settings.mirror is None:
        lines.append("offline, and no mirror is set")
    places = "the one place" if len(tried) == 1 else f"any of {len(tried)} places"
    return FetchError(
        f"{step.file} could not be had from {places}",
        where=step.name,
        why="\n".join(lines),
        hint=f"get it by hand (sha256 {step.sha256}), then give it with --source NAME=PATH, or {by_mirror}",
    )


# --- the mirror ------------------------------------------------------------------------------------------------------


def from_mirror(settings: Settings, sha256: str, dest: Path, job: Job) -> bool:
    """Whether the user's mirror gave the file of that sha256, which then lies at ``dest``.

    ``False`` where no mirror is set, or it does not hold the file, cannot be reached, or gives other bytes (they are
    kept aside); the log says which. The layout is ``<mirror>/sha256/<first two digits>/<sha256>``.
    """
    if settings.mirror is None:
        return False
    try:
        _ask_mirror(settings.mirror, sha256, dest, job)
        _judge(dest, sha256, settings)
    except PlaceError as error:
        _log(job, f"the mirror {shown(settings.mirror)}: {error}")
        return False
    return True


def _mirrored(step: FetchStep, folder: Path, job: Job) -> Path:
    file = folder / step.file
    if job.settings.mirror is None:
        raise PlaceError("no mirror is set")
    _ask_mirror(job.settings.mirror, step.sha256, file, job)
    _judge(file, step.sha256, job.settings)
    return file


def _ask_mirror(mirror: str, sha256: str, dest: Path, job: Job) -> None:
    held = f"sha256/{sha256[:2]}/{sha256}"
    scheme = urlsplit(mirror).scheme
    if scheme in ("http", "https"):
        from crosswheel.building.sources.places.http import download

        download(f"{mirror.rstrip('/')}/{held}", dest, job.cancelled)
        return
    folder = Path(unquote(urlsplit(mirror).path)) if scheme == "file" else Path(mirror).expanduser()
    if not folder.is_dir():
        raise PlaceError(f"{folder} is no folder")
    file = folder / held
    if not file.is_file():
        raise PlaceError(f"it does not hold {held}")
    shutil.copyfile(file, dest)


def shown(place: str) -> str:
    """A place as it may be shown: a URL without its credentials."""
    from crosswheel.building.sources.places.http import without_credentials

    return without_credentials(place) if urlsplit(place).scheme in ("http", "https") else place
