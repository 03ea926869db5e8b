"""What the user and the machine say: environment, settings file and options, in one frozen value.

The settings file is ``$CROSSWHEEL_SETTINGS``, else ``settings.toml`` in the user's configuration folder
(``~/.config/crosswheel`` on Linux). Options of a command win over the environment, and that over the file. This is the
only module that reads the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from crosswheel.building.job import Settings
from crosswheel.cli.remote_settings import RemoteSettings, remote_of
from crosswheel.errors import InputError
from crosswheel.spec.base import Model
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.layers import own_folder
from crosswheel.spec.toml import load

_PACKAGE = Path(__file__).resolve().parents[1]
_INSTALLED = _PACKAGE / "_data"

CHECKOUT = not _INSTALLED.is_dir()
"""Whether this is a checkout; else crosswheel was installed from a wheel, which brings its data in the package."""

DATA = _PACKAGE.parent if CHECKOUT else _INSTALLED
"""What holds the shipped ``recipes/``, ``toolchains/``, ``sysroots/`` and ``patches/``: the checkout, or a folder of
the package."""

_OWN_DATA = "CROSSWHEEL_DATA"


MIRROR_HELP = {
    "mirror": "A folder or URL that holds sources by sha256, asked first.",
    "offline": "Ask nothing but the mirror.",
}
"""The options that say where tasks fetch from."""

BUILD_HELP = {
    "out": "Where released wheels go (default: dist).",
    "jobs": "How many compilers run at once (default: the number of processors).",
    "sandbox": "docker (default), or host: in a chroot of this machine, which is not hermetic.",
    **MIRROR_HELP,
    "keep-failed": "Keep the folder of a failed step, for `./x shell KEY`.",
    "json": "Print one JSON object on stdout, and nothing else there.",
}
"""The options of tasks that build."""


class UserSettings(Model):
    """What ``settings.toml`` may say. ``memory`` is in GiB, ``apt_mirrors`` maps ``debian`` and the like to URLs."""

    store: Path | None = None
    data: Path | None = None
    mirror: str | None = None
    apt_mirrors: dict[str, str] = Field(default_factory=dict)
    jobs: int | None = Field(default=None, gt=0)
    memory: float | None = Field(default=None, gt=0)
    sandbox: Literal["docker", "host"] = "docker"
    remote: RemoteSettings = Field(default_factory=RemoteSettings)


def read_settings(
    *,
    environ: Mapping[str, str] | None = None,
    jobs: int | None = None,
    memory: float | None = None,
    sandbox: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
    keep_failed: bool = False,
    apt_mirrors: Mapping[str, str] | None = None,
) -> Settings:
    """The settings of one command; ``apt_mirrors`` win over the file's. Raises ``InputError`` for values that cannot
    be."""
    env = os.environ if environ is None else environ
    user = _user_settings(env)
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs} is no number of jobs", hint="give 1 or more")
    if memory is not None and memory <= 0:
        raise InputError(f"--memory {memory} is no amount of memory", hint="give GiB, such as --memory 8")
    chosen = sandbox or user.sandbox
    if chosen not in ("docker", "host"):
        raise InputError(f"there is no sandbox {chosen!r}", hint="--sandbox docker, or --sandbox host")
    gib = memory or user.memory or max(1.0, _memory_gib() * 0.8)
    return Settings(
        store=_store(env, user),
        apt_mirrors={**user.apt_mirrors, **(apt_mirrors or {})},
        mirror=mirror or env.get("CROSSWHEEL_MIRROR") or user.mirror,
        offline=offline,
        jobs=jobs or user.jobs or os.cpu_count() or 1,
        memory=int(gib * 1024),
        sandbox="host" if chosen == "host" else "docker",
        keep_failed=keep_failed,
        remote=None if offline else remote_of(user.remote, env),
    )


def use_data(folder: str) -> None:
    """Takes ``--data DIR`` for this process, and for those that it starts."""
    os.environ[_OWN_DATA] = str(Path(folder).expanduser().absolute())


def the_catalog() -> Catalog:
    """The shipped data, with the user's own over it: ``--data DIR``, else ``CROSSWHEEL_DATA``, else the settings
    file's ``data``. ``InputError`` for a folder that holds none."""
    given = os.environ.get(_OWN_DATA) or _user_settings(os.environ).data
    return Catalog(DATA, own_folder(Path(given).expanduser()) if given else None)


def to_write(catalog: Catalog, *parts: str) -> Path:
    """Where a command writes a file of data: in the user's folder, else in the checkout. ``InputError`` where there is
    neither, but an installed package alone."""
    if catalog.own == DATA and not CHECKOUT:
        raise InputError(
            f"{'/'.join(parts)} would be written into the installed package",
            why="an update of the package would remove it",
            hint="name a folder of your own with --data DIR, or set CROSSWHEEL_DATA",
        )
    return catalog.own.joinpath(*parts)


def _user_settings(env: Mapping[str, str]) -> UserSettings:
    given = env.get("CROSSWHEEL_SETTINGS")
    if given:
        return load(UserSettings, Path(given))
    import platformdirs

    path = platformdirs.user_config_path("crosswheel") / "settings.toml"
    return load(UserSettings, path) if path.is_file() else UserSettings()


def _store(env: Mapping[str, str], user: UserSettings) -> Path:
    given = env.get("CROSSWHEEL_STORE")
    if given:
        return Path(given).expanduser().absolute()
    if user.store:
        return user.store.expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("crosswheel").absolute()


def _memory_gib() -> float:
    """The machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
