"""Which mirror of an archive serves: what the user set, else what this machine's apt uses, else upstream's own URLs and
the dated snapshot, one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote, unquote

from crosswheel.building.debian.aptrun import HELPER, AptRunner
from crosswheel.building.job import Settings
from crosswheel.spec.sysroots import Archive

SNAPSHOT_FORMAT = "%Y%m%dT%H%M%SZ"
"""How a snapshot archive writes a time in its URLs (UTC)."""

_TARGET = re.compile(r"^'(?P<base>.+?)/dists/(?P<suite>[^']+)/InRelease' (?P<file>\S+) ")


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """Where an archive can be had. ``base`` ends with ``/``; ``dated`` is set for a snapshot, whose Release files may
    have expired; ``reason`` says why this one."""

    archive: str
    base: str
    dated: bool
    reason: str


@dataclass(frozen=True)
class Configured:
    """A suite in this machine's apt configuration. ``list_file`` is the name of its InRelease among apt's lists."""

    base: str
    suite: str
    list_file: str


def parse_configured(text: str) -> list[Configured]:
    """The suites in the output of ``apt-get update --print-uris``, in order; flat repositories are left out.

    apt prints this from its configuration alone, so it works on a machine that never downloaded a list, in some
    0.02 s (``apt-get indextargets`` prints nothing there, and takes 0.5 s where there are lists).
    """
    found = [_TARGET.match(line) for line in text.splitlines()]
    return [Configured(match["base"] + "/", match["suite"], match["file"]) for match in found if match]


def label_of(release: str) -> str:
    """The ``Label`` field of a Release or InRelease file; empty if there is none."""
    match = re.search(r"^Label: *(.*?) *$", release, re.MULTILINE)
    return match[1] if match else ""


def machine_mirrors(runner: AptRunner, work: Path) -> dict[str, str]:
    """Label of an archive → the base that this machine's apt uses for it; the first one configured wins.

    The label is read from apt's own lists, and from the mirror where there are none. It only chooses the mirror:
    what comes from it is checked against the archive's keyring.
    """
    listed = runner.run(("apt-get", "update", "--print-uris"), ())
    if listed.status != 0:
        return {}
    folders = runner.run(("apt-config", "shell", "lists", "Dir::State::lists/d"), ())
    match = re.search(r"lists='(.*)'", folders.output)
    lists = Path(match[1]) if match else None
    mirrors: dict[str, str] = {}
    seen: set[str] = set()
    for entry in parse_configured(listed.output):
        if entry.base in seen:
            continue
        seen.add(entry.base)
        label = label_of(_release(entry, runner, lists, work / f"release-{len(seen)}"))
        mirrors.setdefault(label, plain_file(entry.base))
    mirrors.pop("", None)
    return mirrors


def _release(entry: Configured, runner: AptRunner, lists: Path | None, scratch: Path) -> str:
    """The InRelease of a configured suite; empty where it cannot be had, which only means another mirror is taken."""
    stored = lists / entry.list_file if lists and runner.shares_files else None
    if stored and stored.is_file():
        return stored.read_text(errors="replace")
    uri = plain_file(f"{entry.base}dists/{entry.suite}/InRelease")
    runner.run((HELPER, "-o", "APT::Sandbox::User=root", "download-file", uri, str(scratch)), (scratch.parent,))
    return scratch.read_text(errors="replace") if scratch.is_file() else ""


def plain_file(uri: str) -> str:
    """A path or a ``file:`` URI as ``copy:``: with ``file:`` apt leaves links to the mirror's files, not the files."""
    path = uri.removeprefix("file:")
    if path.startswith("/"):
        return "copy:/" + quote(unquote(path.lstrip("/")), safe="/~+")
    return uri


def dated(archive: Archive, date: str) -> Mirror | None:
    """The snapshot of an archive at a time such as ``20260101T000000Z``; None for one that has no snapshots."""
    if archive.snapshot is None:
        return None
    base = archive.snapshot.replace("{date}", date).rstrip("/") + "/"
    return Mirror(archive=archive.name, base=plain_file(base), dated=True, reason=f"the snapshot of {date}")


def snapshot_date(time: datetime) -> str:
    """A time (UTC) as snapshot archives write it."""
    return time.strftime(SNAPSHOT_FORMAT)


def candidates(
    archives: Sequence[Archive], settings: Settings, machine: Callable[[], Mapping[str, str]], date: str
) -> dict[str, tuple[Mirror, ...]]:
    """Where each archive may be had, by its name, what is asked first coming first: the mirror that the user set, or
    the machine's own, and nothing else; without these, upstream's URL, its older ones, and the snapshot of ``date``.

    ``machine`` (see :func:`machine_mirrors`) is asked only where the user set none. An archive that is nowhere but in
    a file that was not given has an empty tuple.
    """
    found: dict[str, tuple[Mirror, ...]] = {}
    known: Mapping[str, str] | None = None
    for archive in archives:
        if archive.name in settings.apt_mirrors:
            base = plain_file(settings.apt_mirrors[archive.name].rstrip("/") + "/")
            found[archive.name] = (_mirror(archive, base, "set by the user"),)
            continue
        if archive.label and known is None:
            known = machine()
        if archive.label and known and archive.label in known:
            found[archive.name] = (_mirror(archive, known[archive.label], "used by this machine's apt"),)
            continue
        upstream = [_mirror(archive, archive.uri, "upstream's own")] if archive.uri else []
        older = [_mirror(archive, base, "upstream's own, for what is no longer supported") for base in archive.older]
        snapshot = dated(archive, date)
        found[archive.name] = (*upstream, *older, *([snapshot] if snapshot else []))
    return found


def _mirror(archive: Archive, base: str, reason: str) -> Mirror:
    return Mirror(archive=archive.name, base=base, dated=base in archive.older, reason=reason)


def choose(
    archives: Sequence[Archive], settings: Settings, machine: Callable[[], Mapping[str, str]], date: str
) -> dict[str, Mirror]:
    """The first of the :func:`candidates` of each archive that has one."""
    found = candidates(archives, settings, machine, date)
    return {name: mirrors[0] for name, mirrors in found.items() if mirrors}
