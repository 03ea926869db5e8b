"""What a fault on the emulated target was: which instruction, in which function of which file, and what led to it.

A debugger reads the stack of the process that died and writes it down as JSON (the caller's affair). Here that text is
read and put into words. The wheel's own code may have had a hand in every name of it: they are bounded and escaped.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from crosswheel.spec.base import Arch

MOST_TEXT = 1 << 20
"""What the debugger wrote is read up to this size (bytes)."""

_MOST_FRAMES = 400
_LONGEST_NAME = 160
_LONGEST_RAW = 4000
_SHOWN = 8

_LOADER = re.compile(r"^ld(-linux[a-z0-9-]*|-\d[\d.]*)\.so")
_INITIALISERS = ("_GLOBAL__sub_I_", "_GLOBAL__I_", "global constructors keyed to ")
_UNNAMED = "?"
_SOURCE = re.compile(r"^[\w.+-]+\.(c|cc|cp|cpp|cxx|c\+\+|C|cu|m|mm)$")
_MODULE = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
_IMPORTS = "PyImport_ExecCodeModule"
_TRAPS = frozenset({"ud0", "ud1", "ud2", "udf", "brk"})
"""Instructions that are no processor's: compilers write them where a program is to stop."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A function on the stack. ``file`` is the name of a member of what is judged (``own``), or else a path on the
    target, empty for code that lies in no file (a program may write it); ``symbol`` is demangled and shortened, empty
    where nobody knows the name; ``initialiser`` says what is initialised: a source file, a function's name, or the file
    itself; empty for a function that is no initialiser."""

    file: str
    symbol: str
    own: bool
    initialiser: str = ""

    def told(self, before: Frame | None = None) -> str:
        """It in words; its file is not told where that is the one of the frame ``before``."""
        if not self.file:
            return "code that lies in no file"
        where = "" if before and before.file == self.file else f" of {self.file}"
        if self.initialiser == self.file:
            return f"{self.symbol}{where}, which the loader called" if self.symbol else f"a static initialiser{where}"
        if self.initialiser:
            return f"the static initialiser of {self.initialiser}{where}"
        return f"{self.symbol or 'a function without a name'}{where}"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why a process died. ``instruction`` is the mnemonic at which it did, empty where that cannot be read, and
    ``features`` what a processor must have for it. ``frames`` are what matters of the stack, the fault first, then what
    called it, up to the static initialiser that led to it, or to the last function of what is judged. ``loads`` is the
    file that was being loaded, ``imports`` the module whose import had it loaded; both may be empty."""

    instruction: str
    features: tuple[str, ...]
    frames: tuple[Frame, ...]
    loads: str = ""
    imports: str = ""

    @property
    def file(self) -> str:
        """The file with the instruction."""
        return self.frames[0].file

    @property
    def symbol(self) -> str:
        """The function with the instruction."""
        return self.frames[0].symbol

    @property
    def own(self) -> Frame | None:
        """The first function on the stack that is of what is judged."""
        return next((frame for frame in self.frames if frame.own), None)

    @property
    def trap(self) -> bool:
        """Whether the program stopped itself by an instruction that no processor has."""
        return self.instruction in _TRAPS

    def told(self, statement: str, *, raised: bool = False) -> str:
        """It in words. ``statement`` is what Python was doing, empty where it is not known; with ``raised`` the process
        sent itself the signal, and its last instruction says nothing."""
        first, own = self.frames[0], self.own
        needed = f" ({' and '.join(self.features)})" if self.features and not self.trap else ""
        where = f"in {first.told()}"
        words = where if raised or not self.instruction else f"{self.instruction}{needed} {where}"
        if own is not None and own is not first:
            words += f", called by {own.told()}"
        last = self.frames[-1]
        if last.initialiser and last not in (first, own):
            words += f", reached from {last.told(first)}"
        return words + self._while(statement)

    def _while(self, statement: str) -> str:
        doing = statement or (f"`import {self.imports}`" if self.imports else "")
        if not self.loads:
            return f", during {doing}" if doing else ""
        loaded = "it" if self.loads == self.file else self.loads
        return f", while {doing} loaded {loaded}" if doing else f", while {loaded} was being loaded"

    def stack(self) -> list[str]:
        """The frames, one in a line; nothing where there is but one."""
        if len(self.frames) < 2:
            return []
        shown = self.frames if len(self.frames) <= _SHOWN else (*self.frames[: _SHOWN - 1], self.frames[-1])
        return [frame.told(before) for before, frame in zip((None, *shown), shown, strict=False)]


Place = Callable[[str], str | None]
"""Gives the name of a member of what is judged that lies at a path of the target, None where another file does."""


def read_fault(text: bytes, arch: Arch, place: Place) -> Fault | str:
    """The fault that the debugger wrote down, or why it cannot be told."""
    try:
        rows = _read(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "the debugger wrote no stack that can be read"
    if not rows:
        return "the debugger found no stack"
    callers: list[_Row | None] = [*rows[1:], None]
    matters = _what_matters([_frame(row, caller, place) for row, caller in zip(rows, callers, strict=True)])
    instruction, features = _decoded(rows[0].code, arch)
    return Fault(
        instruction=instruction,
        features=features,
        frames=tuple(matters),
        loads=escaped(_loaded(rows, place)),
        imports=escaped(_imported(rows[len(matters) :])),
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A frame as the debugger wrote it: the path of its file, the demangled name of its function, that of the function
    after which a static initialiser is called, whether it is what a signal made, the bytes of its next instruction, and
    the texts to which its registers point."""

    file: str
    symbol: str
    keyed: str
    signal: bool
    code: bytes
    strings: tuple[str, ...]

    @property
    def loader(self) -> bool:
        """Whether it is of the target's loader."""
        return _LOADER.match(posixpath.basename(self.file)) is not None


def _read(text: bytes) -> list[_Row]:
    """The stack from the fault on. Where a handler of the program caught the signal and raised it again, or crashed in
    turn, the fault is behind the handler. Raises ``ValueError``, ``KeyError``, ``TypeError``, ``RecursionError``."""
    if len(text) > MOST_TEXT:
        raise ValueError
    rows = [
        _Row(
            file=posixpath.normpath(_text(frame["file"])) if frame["file"] else "",
            symbol=_text(frame["symbol"]),
            keyed=_text(frame["keyed"]),
            signal=frame["signal"] is True,
            code=bytes.fromhex(frame["code"]),
            strings=tuple(_text(word) for word in frame["strings"]),
        )
        for frame in json.loads(text)["frames"][:_MOST_FRAMES]
    ]
    handled = [number for number, row in enumerate(rows) if row.signal]
    return rows[handled[-1] + 1 :] if handled else rows


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value[:_LONGEST_RAW]


def _frame(row: _Row, caller: _Row | None, place: Place) -> Frame:
    member = place(row.file) if row.file else None
    file = escaped(member or row.file)
    source = _initialised(row)
    if source == _UNNAMED or (source is None and member is not None and caller is not None and caller.loader):
        source = file
    return Frame(file=file, symbol=shortened(row.symbol), own=member is not None, initialiser=source or "")


def _initialised(row: _Row) -> str | None:
    """What a static initialiser initialises, by its name: gcc calls it after the source file or after a function in it,
    and after a number where the source gives it a priority. None for another function."""
    prefix = next((prefix for prefix in _INITIALISERS if row.symbol.startswith(prefix)), None)
    if prefix is None:
        return None
    name = row.symbol.removeprefix(prefix)
    if _SOURCE.match(name):
        return escaped(name)
    keyed = shortened(row.keyed or name)
    return f"the source file of {keyed}" if re.search(r"[A-Za-z]", keyed) else _UNNAMED


def _what_matters(frames: list[Frame]) -> list[Frame]:
    """From the fault to the first static initialiser; without one, to the last function in a row of those that are of
    what is judged; without those, the fault alone."""
    for number, frame in enumerate(frames):
        if frame.initialiser:
            return frames[: number + 1]
    first = next((number for number, frame in enumerate(frames) if frame.own), None)
    if first is None:
        return frames[:1]
    last = next((number for number in range(first, len(frames)) if not frames[number].own), len(frames))
    return frames[:last]


def _loaded(rows: Sequence[_Row], place: Place) -> str:
    """The file that the loader was asked for: a path in a register of ``dlopen``, or of a function that called it; else
    the first file on the stack that is of what is judged, if the loader is on it, too."""
    asked = next((number for number, row in enumerate(rows) if row.symbol.startswith("dlopen")), len(rows))
    words = (posixpath.normpath(word) for row in rows[asked : asked + 3] for word in row.strings)
    path = next((word for word in words if word.startswith("/") and ".so" in posixpath.basename(word)), None)
    if path is not None:
        return place(path) or path
    below = next((number for number, row in enumerate(rows) if row.loader), 0)
    return next((member for row in rows[:below] if (member := place(row.file))), "")


def _imported(rows: Sequence[_Row]) -> str:
    """The module that Python 2 was importing: the outermost whose code runs. (Python 3 says it by itself.)"""
    for row in reversed(rows):
        names = {word for word in row.strings if _MODULE.match(word)}
        if row.symbol.startswith(_IMPORTS) and len(names) == 1:
            return names.pop()
    return ""


def _decoded(code: bytes, arch: Arch) -> tuple[str, tuple[str, ...]]:
    """The mnemonic of an instruction and the features that it needs, by the names of CPUID (x86_64) or LLVM."""
    if arch == "aarch64":
        from capstone import CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN, Cs

        capstone = Cs(CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN)
        capstone.detail = True
        for word in capstone.disasm(code[:4], 0, 1):
            groups = (capstone.group_name(group) or "" for group in word.groups)
            needed = (group.removeprefix("Has") for group in groups if group.startswith("Has"))
            return word.mnemonic, tuple(feature.replace("_or_Has", "or") for feature in needed)
        return "", ()
    from iced_x86 import Code, CpuidFeature, Decoder, Formatter, FormatterSyntax

    decoded = Decoder(64, code).decode()
    if decoded.code == Code.INVALID:
        return "", ()
    names = {number: name for name, number in vars(CpuidFeature).items() if isinstance(number, int)}
    mnemonic = Formatter(FormatterSyntax.INTEL).format_mnemonic(decoded)
    return mnemonic, tuple(names[number] for number in decoded.cpuid_features())


# --- names -----------------------------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """``text`` as it can be shown: ASCII, without control characters, and bounded."""
    shown = "".join(
        char if char.isascii() and char.isprintable() else ascii(char)[1:-1] for char in text[:_LONGEST_RAW]
    )
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[: _LONGEST_NAME - 1]}…"


_OPERATOR = re.compile(r"\boperator *(<=>|<<=|>>=|<<|>>|<=|>=|->\*|->|<|>|\(\))|->")
_CLONE = r"\.(isra|part|constprop|cold|lto_priv|llvm|localalias)(\.\d+)*"
_TRAILER = re.compile(rf" *(\bconst|\bvolatile|&&|&|\[clone [^\]]*\]|\(({_CLONE})+\)|{_CLONE})$")
_HIDDEN = {"<": "\ue000", ">": "\ue001", "(": "\ue002", ")": "\ue003"}


def shortened(symbol: str) -> str:
    """A demangled C++ name without its template arguments, parameters and result, escaped and bounded:
    ``std::_Hashtable<…>::_M_insert<…>``. What is no such name stays as it is."""
    hidden = _OPERATOR.sub(lambda found: "".join(_HIDDEN.get(char, char) for char in found.group()), symbol)
    flat = _without_arguments(hidden)
    if flat is None:
        return escaped(symbol)
    name = _without_result(_without_parameters(flat))
    for plain, stand_in in _HIDDEN.items():
        name = name.replace(stand_in, plain)
    marked = name.replace("<…>", "<\x01>")
    return escaped(marked).replace("<\\x01>", "<…>")


def _without_arguments(text: str) -> str | None:
    """``…`` for what is between angle brackets; None where they do not match."""
    pieces, depth = [], 0
    for char in text:
        if char == "<":
            pieces += ["<…>"] if depth == 0 else []
            depth += 1
        elif char == ">":
            depth -= 1
            if depth < 0:
                return None
        elif depth == 0:
            pieces.append(char)
    return "".join(pieces) if depth == 0 else None


def _without_parameters(text: str) -> str:
    while trailer := _TRAILER.search(text):
        text = text[: trailer.start()]
    if not text.endswith(")") or text.endswith("(anonymous namespace)"):
        return text
    depth = 0
    for place in range(len(text) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(text[place], 0)
        if depth == 0:
            return text[:place] or text
    return text


def _without_result(text: str) -> str:
    """What is behind the last space that is in no brackets; the name of an operator may have spaces in it."""
    named = re.search(r"(?<![\w])operator\b", text)
    depth, start = 0, 0
    for place, char in enumerate(text[: named.start()] if named else text):
        depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(char, 0)
        if char == " " and depth == 0:
            start = place + 1
    return text[start:]
