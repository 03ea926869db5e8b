"""What there is for the requirements of a wheel: others find it out, and the rule `dependencies` judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["index", "ours", "package", "source", "nothing", "address", "unasked"]
"""What serves a requirement: a wheel of the package index; a wheel that crosswheel built, which lies beside the wheel,
in ``dist/`` or in the store; a package of the target's distribution; a source archive alone; nothing; what an address
gives that the requirement names; or nobody knows."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What there is for one project that is required.

    ``asked`` are the requirements, with who has them where it is not the wheel itself: ``bleach==1.5.0 (of
    tensorboard)``. ``file`` is the wheel, the source archive or the package; a wheel of ours lies in ``folder``.
    ``newer`` is a source archive that pip takes instead of the wheel, because it is newer. ``build`` is the command
    that builds what serves, where a recipe does; ``recipe`` is the recipe's name, also where none of its releases
    serves. ``fits`` is the newest version with a wheel for the target, where none in the range has one. ``why`` says
    why there is nothing, or nobody knows.
    """

    asked: tuple[str, ...]
    kind: Kind
    direct: bool = True
    version: str = ""
    file: str = ""
    folder: str = ""
    newer: str = ""
    build: str = ""
    recipe: str = ""
    fits: str = ""
    why: str = ""

    @property
    def there(self) -> bool:
        """Whether pip installs it on the target without building it."""
        return self.kind in ("index", "ours", "package") and not self.newer


@dataclass(frozen=True, kw_only=True)
class Offered:
    """What was found for all that a wheel requires, by the project's normalised name; what these require in turn as
    far as it could be read (``unread`` projects could not). ``trouble`` says why nothing could be asked. ``python`` is
    the full version of the target's Python for which it was asked, where that is known."""

    found: Mapping[str, Found] = field(default_factory=dict)
    unread: int = 0
    trouble: str = ""
    python: str | None = None
