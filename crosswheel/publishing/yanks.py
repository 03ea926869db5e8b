"""Yanked wheels (PEP 592): ``yanked.toml`` of an index. pip takes such a wheel only where its very version is asked."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import StringConstraints

from crosswheel.errors import DataError, InputError
from crosswheel.publishing.ledger import Ledger, Listed
from crosswheel.spec.base import Model
from crosswheel.spec.toml import load

FILE = "yanked.toml"

_HEAD = """\
# Wheels of this index that nobody should install any more, and why (`./x index yank`). `what` is NAME==VERSION, a file
# name, or TARGET/FILE.
"""


class Yank(Model):
    """``what`` is ``NAME==VERSION``, a wheel's file name, or that behind the folder of its target."""

    what: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!=/-]*$")]
    reason: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f\u2028\u2029]+$", strip_whitespace=True)]

    def means(self, wheel: Listed) -> bool:
        """Whether it yanks ``wheel``."""
        if "==" not in self.what:
            return self.what in (wheel.file, wheel.place)
        name, _, version = self.what.partition("==")
        try:
            return canonicalize_name(name) == wheel.project and Version(version) == wheel.version
        except InvalidVersion:
            return False


class Yanks(Model):
    """The content of ``yanked.toml``."""

    yanked: tuple[Yank, ...] = ()

    def text(self) -> bytes:
        """As TOML; what JSON calls a text, TOML does as well, where no control character is in it."""
        tables = [
            f"\n[[yanked]]\nwhat = {_quoted(yank.what)}\nreason = {_quoted(yank.reason)}\n" for yank in self.yanked
        ]
        return "".join([_HEAD, *tables]).encode()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def read_yanks(folder: Path) -> Yanks:
    """What is yanked in the index in ``folder``. Raises ``DataError``."""
    path = folder / FILE
    return load(Yanks, path) if path.is_file() else Yanks()


def reasons(yanks: Yanks, ledger: Ledger, where: Path) -> Mapping[str, str]:
    """Why a wheel is yanked, by its place. ``DataError`` for a yank that means no wheel."""
    lost = [yank.what for yank in yanks.yanked if not any(yank.means(wheel) for wheel in ledger.wheels)]
    if lost:
        raise DataError(
            f"{lost[0]!r} is yanked, and is no wheel of this index",
            where=str(where / FILE),
            why=_like(lost[0], ledger.wheels),
            hint="correct the line, or take it out",
        )
    return {wheel.place: yank.reason for wheel in ledger.wheels for yank in yanks.yanked if yank.means(wheel)}


def yank(yanks: Yanks, ledger: Ledger, what: str, reason: str) -> Yanks:
    """The yanks with one more, or with another reason for it. ``InputError`` for what cannot be one."""
    from pydantic import ValidationError

    if not reason.strip():
        raise InputError("a yank has a reason, which people read", where="--reason", hint="--reason 'wrong NumPy ABI'")
    try:
        new = Yank(what=what, reason=reason)
    except ValidationError as error:
        field = str(error.errors()[0]["loc"][0])
        why = "it is one line of text" if field == "reason" else "it is NAME==VERSION, a file name, or TARGET/FILE"
        raise InputError(
            f"this can be no {field} of a yank", where=ascii(reason if field == "reason" else what), why=why
        ) from error
    if not any(new.means(wheel) for wheel in ledger.wheels):
        raise InputError("there is no such wheel in this index", where=what, why=_like(what, ledger.wheels))
    return Yanks(yanked=(*(old for old in yanks.yanked if old.what != what), new))


def unyank(yanks: Yanks, what: str) -> Yanks:
    """The yanks without one. ``InputError`` where it is none."""
    if all(old.what != what for old in yanks.yanked):
        names = ", ".join(old.what for old in yanks.yanked) or "nothing"
        raise InputError("this is not yanked", where=what, why=f"yanked is: {names}")
    return Yanks(yanked=tuple(old for old in yanks.yanked if old.what != what))


def _like(what: str, wheels: Iterable[Listed]) -> str:
    names = {name for wheel in wheels for name in (f"{wheel.project}=={wheel.version}", wheel.file, wheel.place)}
    near = difflib.get_close_matches(what, sorted(names), n=3, cutoff=0.5)
    return f"near to it: {', '.join(near)}" if near else "nothing in it has a name like that"
