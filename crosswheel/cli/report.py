"""The task `report build`."""

from __future__ import annotations

import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.settings import the_catalog
from crosswheel.errors import InputError


@task(
    name="build",
    help={
        "folder": "Where to write the page; what others put there stays.",
        "from": "The wheels and their proofs: an index, or where builds left them (default: dist).",
        "history": "The folder of the nights (default: history).",
        "index-url": "Where pip finds the index: the page's lines name it.",
        "json": "Print one JSON object on stdout.",
    },
)
def build_task(
    _context: Context,
    folder: str,
    from_: str | None = None,
    history: str | None = None,
    index_url: str = "",
    json: bool = False,
) -> None:
    """Write the page: what was built, failed, was refused and was never tried, and what to install on which board."""
    from crosswheel.publishing.page.build import build_page

    wheels = Path(from_ or "dist")
    if from_ and not wheels.is_dir():
        raise InputError(
            "there is no such folder of wheels", where="--from", hint="name dist or the folder of an index"
        )
    nights = Path(history or "history")
    if history and nights.exists() and not nights.is_dir():
        raise InputError("this is no folder of nights", where="--history", why=history)
    done = build_page(Path(folder), the_catalog(), wheels=wheels, history=nights, index_url=index_url)
    if json:
        from crosswheel.cli.build import print_json

        print_json(done.as_json(folder))
        return
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{Path(folder) / 'index.html'}: {done.words}")


tasks = Collection("report", build_task)
"""`report build`."""
