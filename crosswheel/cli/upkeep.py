"""The tasks that keep things in order: `clean`, `sysroot`, `toolchain`, `patches`, `status`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.cli.arguments import task
from crosswheel.cli.settings import DATA, read_settings, the_catalog
from crosswheel.errors import InputError
from crosswheel.spec.catalog import Catalog

_DURATION = re.compile(r"^(\d+)\s*(m|h|d|w)$")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?$", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_duration(text: str) -> timedelta:
    """``30m``, ``12h``, ``14d`` or ``2w``."""
    match = _DURATION.match(text.strip())
    if not match:
        raise InputError(f"{text!r} is no span of time", where="--older-than", hint="for example 12h, 14d or 2w")
    return timedelta(**{_UNITS[match.group(2)]: int(match.group(1))})


def parse_size(text: str) -> int:
    """``500M``, ``20G``, in bytes; powers of 1024."""
    match = _SIZE.match(text.strip())
    if not match:
        raise InputError(f"{text!r} is no size", where="--max-size", hint="for example 500M or 20G")
    return int(float(match.group(1)) * 1024 ** _POWERS[match.group(2).upper()])


@task(
    help={
        "older-than": "Remove what was not used for so long: 12h, 14d, 2w.",
        "max-size": "Remove the least recently used until the store is at most so large: 500M, 20G.",
        "all": "Remove everything that no build is using.",
    }
)
def clean(_context: Context, older_than: str | None = None, max_size: str | None = None, all: bool = False) -> None:
    """Remove leftovers of killed and failed builds from the store; with options, artefacts as well."""
    from crosswheel.building.cleaning import clean as clean_store
    from crosswheel.building.sandbox import remove_images
    from crosswheel.building.store import Store

    if all and (older_than or max_size):
        raise InputError("--all leaves nothing for --older-than or --max-size to choose", hint="give one of them")
    store = Store(read_settings().store)
    age = parse_duration(older_than) if older_than else None
    cap = 0 if all else parse_size(max_size) if max_size else None
    removed = clean_store(store, age, cap, time.time())
    for item in removed:
        print(f"removed {item.name or item.path.name} ({item.bytes / 2**20:.1f} MiB)")
    print(f"{len(removed)} removed, {sum(item.bytes for item in removed) / 2**20:.1f} MiB freed in {store.root}")
    images = remove_images(store)
    if images:
        print(f"{images} images of roots that are no longer in the store removed from Docker")


@task(
    maybe="name",
    help={
        "action": "`lock`: resolve afresh and write sysroots/locks/*.json, so that later builds use these packages.",
        "name": "One lock, such as debian-12-arm64-development.",
        "target": "Instead of a name: every lock that builds for this target use.",
    },
)
def sysroot(_context: Context, action: str, name: str | None = None, target: str | None = None) -> None:
    """Renew the locks of packages: `./x sysroot lock --target rpi4`."""
    from crosswheel.cli.locking import renew_locks

    if action != "lock":
        raise InputError(f"`sysroot` has no action {action!r}", hint="./x sysroot lock --target rpi4")
    renew_locks(the_catalog(), read_settings(), name, target)


@task(
    help={
        "action": "`render`: write the toolchain's files.",
        "target": "The machine that the files are for.",
        "out": "The folder to write to; it must not exist, or be empty.",
        "python": "One of the target's Pythons (default: its first).",
        "sysroot": "Where the sysroot lies on the machine that will use the files (default: /sysroot).",
    }
)
def toolchain(
    _context: Context,
    action: str,
    target: str,
    out: str,
    python: str | None = None,
    sysroot: str = "/sysroot",
) -> None:
    """Write a target's wrappers and its CROSSTOOL, Starlark, CMake, Meson and sysconfig files to a folder."""
    from crosswheel.cli.rendering import render_toolchain

    if action != "render":
        raise InputError(f"`toolchain` has no action {action!r}", hint="./x toolchain render --target rpi4 --out DIR")
    written = render_toolchain(the_catalog(), target, Path(out), python, sysroot)
    print(f"{written} files in {out}; the compilers' wrappers are in {out}/bin")


@task(
    maybe="recipe",
    iterable=["source"],
    help={
        "action": "`check`: say which patches apply to which release. `refresh`: rewrite one from an edited tree.",
        "recipe": "One recipe (default: all).",
        "version": "One release (default: all that the series names).",
        "source": "check: NAME=FOLDER of a tree, or VERSION=PATH of upstream's own (archive, folder or REPO@COMMIT).",
        "record": "check: keep in patches/RECIPE/checked.toml on which of the given versions all patches apply.",
        "patch": "refresh: the patch's file name.",
        "pristine": "refresh: the tree as upstream has it (with the patches before this one).",
        "edited": "refresh: the same tree as it shall be.",
    },
)
def patches(
    _context: Context,
    action: str,
    recipe: str | None = None,
    version: str | None = None,
    source: Sequence[str] = (),
    record: bool = False,
    patch: str | None = None,
    pristine: str | None = None,
    edited: str | None = None,
) -> None:
    """Say which patches apply to which release (`check`), or rewrite one from an edited tree (`refresh`)."""
    from crosswheel.cli.patching import check_patches, refresh_patch

    catalog = the_catalog()
    if action == "check":
        if not check_patches(catalog, read_settings(), recipe, version, source, record):
            raise Exit(code=2)
    elif action == "refresh":
        if not (recipe and patch and pristine and edited):
            raise InputError(
                "`patches refresh` needs a recipe, a patch and two trees",
                hint="./x patches refresh dm-tree --patch NAME.patch --pristine DIR --edited DIR",
            )
        refresh_patch(catalog, recipe, patch, Path(pristine), Path(edited))
    else:
        raise InputError(f"`patches` has no action {action!r}", hint="./x patches check, or ./x patches refresh …")


@task(
    rest="proofs",
    help={
        "proofs": "Proofs to take into docs/proofs/ first (dist/*/*.proof.json).",
        "check": "Only say whether docs/status.md is what docs/proofs/ makes of it.",
    },
)
def status(_context: Context, proofs: Sequence[str] = (), check: bool = False) -> None:
    """Write docs/status.md from the proofs in docs/proofs/: what was really built and proved."""
    from crosswheel.publishing.report import adopt, status_page

    adopt([Path(proof) for proof in proofs], DATA / "docs" / "proofs")
    page = DATA / "docs" / "status.md"
    text = status_page(Catalog(DATA), DATA / "docs" / "proofs")
    if check:
        if not page.is_file() or page.read_text(encoding="utf-8") != text:
            raise InputError("docs/status.md is not what the proofs say", hint="./x status")
        return
    page.write_text(text, encoding="utf-8")
    print(f"wrote {page}")
