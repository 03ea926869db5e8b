"""The tasks `index build` and `index yank`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.settings import the_catalog

if TYPE_CHECKING:
    from crosswheel.publishing.index import Built


@task(
    name="build",
    help={
        "folder": "The index: an empty folder, or one that this made.",
        "from": "Where builds left the wheels and their proofs (default: dist).",
        "forget": "Take wheels off the list whose files somebody removed.",
        "variants": "Also make variant wheels of those by instruction set: an experiment.",
        "json": "Print one JSON object on stdout.",
    },
)
def build_task(
    _context: Context,
    folder: str,
    from_: str = "dist",
    forget: bool = False,
    variants: bool = False,
    json: bool = False,
) -> None:
    """Bring proved wheels into a static index, from which pip and uv install by --index-url.

    A wheel in it never changes: the same again is nothing new, another one of its name is refused.
    """
    from crosswheel.publishing.index import build_index

    done = build_index(Path(folder), Path(from_), the_catalog(), forget=forget)
    if variants:
        from crosswheel.publishing.variants import build_variants

        done = replace(done, written=(*done.written, *build_variants(Path(folder), the_catalog())))
    _tell(Path(folder), done, as_json=json)


@task(
    name="yank",
    help={
        "folder": "The index.",
        "what": "NAME==VERSION, a wheel's file name, or TARGET/FILE.",
        "reason": "Why nobody should install it any more: one line.",
        "undo": "Take it back.",
        "json": "Print one JSON object on stdout.",
    },
)
def yank_task(
    _context: Context, folder: str, what: str, reason: str = "", undo: bool = False, json: bool = False
) -> None:
    """Mark wheels of an index as yanked: pip takes them only where their very version is asked for."""
    from crosswheel.publishing.index import rewrite_index
    from crosswheel.publishing.ledger import read_ledger
    from crosswheel.publishing.yanks import read_yanks, unyank, yank

    index = Path(folder)
    old = read_yanks(index)
    new = unyank(old, what) if undo else yank(old, read_ledger(index), what, reason)
    _tell(index, rewrite_index(index, the_catalog(), new), as_json=json)


def _tell(folder: Path, done: Built, *, as_json: bool) -> None:
    """What was done, and how pip is told of it."""
    if as_json:
        from crosswheel.cli.build import print_json

        print_json(_described(folder, done))
        return
    from crosswheel.cli.console import show_table

    rows = [
        (f"{folder / listing.folder / 'simple'}", str(len(listing.wheels)), str(len(listing.projects)))
        for listing in done.listings
    ]
    show_table(f"index in {folder}", ("--index-url", "wheels", "packages"), rows)
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    new = f"{len(done.added)} new wheels, {len(done.written)} files written" if done.written else "nothing changed"
    print(f"{new}.")


def _described(folder: Path, done: Built) -> dict[str, object]:
    return {
        "index": str(folder),
        "added": list(done.added),
        "written": list(done.written),
        "notes": list(done.notes),
        "indexes": [
            {
                "simple": (Path(listing.folder) / "simple").as_posix(),
                "wheels": len(listing.wheels),
                "packages": list(listing.projects),
                "apart": {file: list(folders) for file, folders in listing.apart.items()},
            }
            for listing in done.listings
        ],
    }


tasks = Collection("index", build_task, yank_task)
"""`index build` and `index yank`."""
