"""``[remote]`` of the settings file: a remote cache and an executor for what Bazel builds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from crosswheel.building.remote.endpoints import Remote, checked
from crosswheel.errors import InputError
from crosswheel.spec.base import Model

CACHE = "CROSSWHEEL_REMOTE_CACHE"
UPLOAD = "CROSSWHEEL_REMOTE_UPLOAD"

_WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class RemoteSettings(Model):
    """See :class:`crosswheel.building.remote.endpoints.Remote`. ``credentials`` is a command line."""

    cache: str | None = None
    executor: str | None = None
    instance: str = ""
    credentials: str = ""
    ca: Path | None = None
    upload: bool = True


def remote_of(user: RemoteSettings, env: Mapping[str, str]) -> Remote | None:
    """The endpoints; the environment wins over the file. An empty ``CROSSWHEEL_REMOTE_CACHE`` names none, so that one
    build does without. ``InputError`` for what cannot be used."""
    cache = env.get(CACHE, user.cache) or None
    where = CACHE if env.get(CACHE) else "[remote] in the settings file"
    if CACHE in env and not cache:
        return None
    try:
        command = tuple(shlex.split(user.credentials))
    except ValueError as error:
        raise InputError("`credentials` is no command line.", where=where, why=str(error)) from error
    return checked(
        Remote(
            cache=cache,
            executor=user.executor,
            instance=user.instance,
            credentials=command,
            ca=user.ca.expanduser() if user.ca else None,
            upload=_upload(env, user.upload),
        ),
        where,
    )


def _upload(env: Mapping[str, str], user: bool) -> bool:
    given = env.get(UPLOAD)
    if not given:
        return user
    if given.lower() not in _WORDS:
        raise InputError(f"{UPLOAD}={given} says neither yes nor no", hint=f"{UPLOAD}=0 sends nothing, 1 sends results")
    # It may take the right away, and not give it: a job that runs strangers' changes cannot be talked into sending.
    return _WORDS[given.lower()] and user
