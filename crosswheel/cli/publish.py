"""The task `publish`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.settings import read_settings, the_catalog
from crosswheel.errors import InputError

if TYPE_CHECKING:
    from crosswheel.publishing.carriers import Carrier

_SSH = re.compile(r"^(?:[\w.-]+@)?(?:[\w.-]+|\[[0-9A-Fa-f:.]+\]):(?!//)(?P<folder>.+)$")
"""A folder of another machine, as scp and rsync take it."""


@task(
    iterable=["also"],
    help={
        "folder": "The index.",
        "destination": "A folder, s3://BUCKET/FOLDER, rclone:REMOTE:FOLDER, USER@HOST:FOLDER or ssh://….",
        "endpoint": "The URL of an S3-like server that is not Amazon's.",
        "ssh-config": "A configuration file for ssh.",
        "also": "A folder in the index's that goes with it, such as page; may be given several times.",
        "drop": "Take wheels off the published pages that this index does not have.",
        "json": "Print one JSON object on stdout.",
    },
)
def publish(
    _context: Context,
    folder: str,
    destination: str,
    endpoint: str | None = None,
    ssh_config: str | None = None,
    also: Sequence[str] = (),
    drop: bool = False,
    json: bool = False,
) -> None:
    """Copy an index and its wheels to a folder, to an S3-like bucket by rclone, or over ssh by rsync.

    What is there with the same hash is not sent. Wheels go first and pages last: one that is interrupted leaves the
    old index whole.
    """
    from crosswheel.publishing.publish import publish as send

    carrier = carrier_of(destination, folder=Path(folder), endpoint=endpoint, config=ssh_config)
    done = send(Path(folder), carrier, the_catalog(), also=also, drop=drop)
    if json:
        from crosswheel.cli.build import print_json

        told = {"destination": carrier.place, "sent": list(done.sent), "bytes": done.size, "same": done.same}
        print_json({**told, "removed": list(done.removed), "notes": list(done.notes)})
        return
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    sent = f"{len(done.sent)} files sent ({done.size / 2**20:,.1f} MiB)" if done.sent else "nothing to send"
    removed = f", {len(done.removed)} removed" if done.removed else ""
    print(f"{carrier.place}: {sent}, {done.same} were there{removed}.")


def carrier_of(destination: str, *, folder: Path, endpoint: str | None = None, config: str | None = None) -> Carrier:
    """What carries to ``destination``, with its tools on this machine. ``InputError`` for what is no place, and for an
    option that does not go with it."""
    from crosswheel.cli.doctor import prepare_for_publishing

    scheme = destination.partition(":")[0]
    over_ssh = scheme == "ssh" or (scheme not in ("s3", "rclone", "rsync") and _SSH.match(destination))
    if endpoint and scheme != "s3":
        raise InputError("only a bucket has an endpoint", where=f"--endpoint {endpoint}", hint="s3://BUCKET/FOLDER")
    if config and not over_ssh:
        raise InputError("only what goes over ssh reads it", where=f"--ssh-config {config}", hint="USER@HOST:FOLDER")
    if scheme in ("s3", "rclone"):
        carrier = _rclone(destination, endpoint)
        prepare_for_publishing(read_settings(), "rclone")
        return carrier
    if over_ssh or scheme == "rsync":
        carrier = _rsync(destination, Path(config) if config else None)
        prepare_for_publishing(read_settings(), "rsync", *(["ssh"] if over_ssh else []))
        return carrier
    return _folder(destination, folder)


def _folder(destination: str, index: Path) -> Carrier:
    from crosswheel.publishing.to_folder import Folder

    place = Path(destination).expanduser().absolute()
    here, there = index.resolve(), place.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise InputError("an index is not published into itself", where=destination, hint="name another folder")
    if place.exists() and not place.is_dir():
        raise InputError("this is no folder", where=destination)
    return Folder(place)


def _rclone(destination: str, endpoint: str | None) -> Carrier:
    from crosswheel.publishing.to_rclone import CA_BUNDLE, Rclone

    certificates = os.environ.get(CA_BUNDLE)
    scheme, _, rest = destination.partition(":")
    if scheme == "rclone":
        if ":" not in rest:
            raise InputError("this names no remote of rclone's", where=destination, hint="rclone:REMOTE:FOLDER")
        return Rclone(remote=rest, place=destination, certificates=certificates)
    bucket = rest.removeprefix("//").strip("/")
    if not rest.startswith("//") or not bucket:
        raise InputError("this names no bucket", where=destination, hint="s3://BUCKET/FOLDER")
    provider = ("--s3-provider", "Other", "--s3-endpoint", endpoint) if endpoint else ("--s3-provider", "AWS")
    options = ("--s3-env-auth", "--s3-no-check-bucket", *provider)
    return Rclone(remote=f":s3:{bucket}", place=destination, options=options, certificates=certificates)


def _rsync(destination: str, config: Path | None) -> Carrier:
    from crosswheel.publishing.to_rsync import Rsync

    if config and not config.is_file():
        raise InputError("there is no such file", where=f"--ssh-config {config}")
    if not destination.startswith("ssh://"):
        return Rsync(to=destination, config=config)
    try:
        url = urlsplit(destination)
        port = url.port
    except ValueError as error:
        raise InputError("this is no URL", where=destination, why=str(error)) from error
    if not url.hostname or not url.path.strip("/"):
        raise InputError("this names no host and folder", where=destination, hint="ssh://USER@HOST:PORT/FOLDER")
    user = f"{url.username}@" if url.username else ""
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return Rsync(to=f"{user}{host}:{url.path}", port=port, config=config)
