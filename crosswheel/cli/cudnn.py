"""The task `cudnn`."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from crosswheel.cli.arguments import task
from crosswheel.cli.command import as_typed
from crosswheel.errors import InputError


@task(
    help={
        "action": "`fetch`: copy a board's cuDNN over ssh.",
        "from": "The board, as ssh takes it: USER@BOARD.",
        "to": "The folder to write to; it must not exist, or be empty.",
    }
)
def cudnn(_context: Context, action: str, from_: str | None = None, to: str | None = None) -> None:
    """Copy the cuDNN of a board to a folder, for `build --source cudnn=DIR`."""
    from crosswheel.building.boards import copy_cudnn

    example = "./x cudnn fetch --from nvidia@tx1 --to DIR"
    if action != "fetch":
        raise InputError(f"`cudnn` has no action {action!r}", hint=example)
    if not (from_ and to):
        raise InputError("`cudnn fetch` needs a board and a folder", hint=example)
    copied = copy_cudnn(from_, Path(to).expanduser().absolute(), print)
    print(f"cuDNN {copied.version or 'of an unknown version'} in {copied.folder}; {copied.record.name} says what came")
    print(as_typed(f"→ ./x build PACKAGE --target TARGET --cuda --source cudnn={copied.folder}#sha256={copied.sha256}"))
