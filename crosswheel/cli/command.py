"""What the user runs: ``./x`` in a checkout, ``crosswheel`` where that was installed from a wheel.

All texts say ``./x``, as the documents do; what is shown goes through :func:`as_typed`.
"""

from __future__ import annotations

import re

from crosswheel.cli.settings import CHECKOUT

COMMAND = "./x" if CHECKOUT else "crosswheel"
"""The command that runs the tasks."""

_WORD = re.compile(r"(?<![\w./])\./x(?![\w/])")


def as_typed(text: str, command: str = COMMAND) -> str:
    """A text with the user's command in the place of ``./x``."""
    return _WORD.sub(command, text)
