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
from typing import Any

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
    target; ``symbol`` is demangled and shortened, empty where nobody knows the name; ``initialiser`` says what is
    initialised: a source file, a function's name, or the file itself; empty for a function that is no initialiser."""

    file: str
    symbol: str
    own: bool
    initialiser: str = ""

    def told(self, before: Frame | None = None) -> str:
        """It in words; its file is not told where that is the one of the frame ``before``."""
        where = "" if before and before.file == self.file else f" of {self.file}"
        if self.initialiser == self.file:
            return f"a static initialiser{where}"
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

    def told(self, statement: str) -> str:
        """It in words. ``statement`` is what Python was doing; empty where it is not known."""
        first, own = self.frames[0], self.own
        needed = f" ({' and '.join(self.features)})" if self.features and not self.trap else ""
        words = f"{self.instruction}{needed} in {first.told()}" if self.instruction else f"in {first.told()}"
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


def read_fault(text: bytes, arch: Arch, place: Callable[[str], str | None]) -> Fault | str:
    """The fault that the debugger wrote down, or why it cannot be told. ``place`` gives the name of a member of what is
    judged that lies at a path of the target, None where another file does."""
    try:
        frames, code = _read(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "the debugger wrote no stack that can be read"
    if not frames:
        return "the debugger found no stack"
    told = [_frame(frames, number, place) for number in range(len(frames))]
    matters = _what_matters(told)
    called = frames[len(matters) :]
    instruction, features = _decoded(code, arch)
    return Fault(
        instruction=instruction,
        features=features,
        frames=tuple(matters),
        loads=_loads(frames, [frame["file"] for frame in frames], place),
        imports=_imported(called),
    )


def _read(text: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The frames from the fault on, and the bytes of its instruction. Where a handler of the program caught the signal
    and raised it again, the fault is behind the handler."""
    if len(text) > MOST_TEXT:
        raise ValueError
    value = json.loads(text)
    frames = [
        {
            "file": str(frame["file"])[:_LONGEST_RAW],
            "symbol": str(frame["symbol"])[:_LONGEST_RAW],
            "keyed": str(frame["keyed"])[:_LONGEST_RAW],
            "signal": frame["signal"] is True,
            "strings": [str(word)[:_LONGEST_RAW] for word in frame["strings"]],
        }
        for frame in value["frames"][:_MOST_FRAMES]
    ]
    codes = [bytes.fromhex(frame["code"]) for frame in value["frames"][:_MOST_FRAMES]]
    handled = next((number for number, frame in enumerate(frames) if frame["signal"]), -1)
    return frames[handled + 1 :], codes[handled + 1] if handled + 1 < len(codes) else b""


def _frame(frames: Sequence[dict[str, Any]], number: int, place: Callable[[str], str | None]) -> Frame:
    frame = frames[number]
    path = posixpath.normpath(frame["file"]) if frame["file"] else ""
    member = place(path) if path else None
    file = escaped(member or path or "no file")
    by_loader = number + 1 < len(frames) and _LOADER.match(posixpath.basename(frames[number + 1]["file"]))
    source = _initialised(frame) or (file if by_loader and member is not None else "")
    if source == _UNNAMED:
        source = file
    return Frame(file=file, symbol=shortened(frame["symbol"]), own=member is not None, initialiser=source)


def _initialised(frame: dict[str, Any]) -> str:
    """What a static initialiser initialises, by its name: gcc calls it after the source file or after a function in it,
    and after a number where the source gives it a priority. Empty for another function."""
    for prefix in _INITIALISERS:
        name = frame["symbol"].removeprefix(prefix)
        if name == frame["symbol"]:
            continue
        if _SOURCE.match(name):
            return escaped(name)
        keyed = shortened(frame["keyed"] or name)
        return f"the file that has {keyed}" if re.search(r"[A-Za-z]", keyed) else _UNNAMED
    return ""


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


def _loads(frames: Sequence[dict[str, Any]], files: Sequence[str], place: Callable[[str], str | None]) -> str:
    """The file that the loader was asked for: a path in a register of ``dlopen``, or of the function that called it."""
    for number, frame in enumerate(frames):
        if frame["symbol"].startswith("dlopen"):
            near = frames[number : number + 3]
            paths = [word for each in near for word in each["strings"] if word.startswith("/")]
            if paths:
                path = posixpath.normpath(paths[0])
                return escaped(place(path) or path)
            break
    asked = any(_LOADER.match(posixpath.basename(file)) for file in files[1:])
    loaded = next((path for path in map(posixpath.normpath, files) if place(path)), None) if asked else None
    return escaped(place(loaded) or loaded) if loaded else ""


def _imported(frames: Sequence[dict[str, Any]]) -> str:
    """The module that Python 2 was importing: the outermost whose code runs. (Python 3 says it by itself.)"""
    for frame in reversed(frames):
        if frame["symbol"].startswith(_IMPORTS):
            names = {word for word in frame["strings"] if _MODULE.match(word)}
            if len(names) == 1:
                return escaped(names.pop())
    return ""


def _decoded(code: bytes, arch: Arch) -> tuple[str, tuple[str, ...]]:
    """The mnemonic of an instruction and the features that it needs, by the names of CPUID (x86_64) or LLVM."""
    if arch == "aarch64":
        from capstone import CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN, Cs

        capstone = Cs(CS_ARCH_AARCH64, CS_MODE_LITTLE_ENDIAN)
        capstone.detail = True
        for word in capstone.disasm(code[:4], 0, 1):
            groups = (capstone.group_name(group) or "" for group in word.groups)
            return word.mnemonic, tuple(group.removeprefix("Has") for group in groups if group.startswith("Has"))
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
