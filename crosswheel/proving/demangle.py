"""Symbols for people: what C++ writes as ``_ZNSt6vector…`` is shown as it stands in the source."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache

MOST_SHOWN = 160
"""Characters of a name that are shown. Those of templates can have thousands."""

_LONGEST = 1024
"""Longer ones are not given to the demangler: a wheel is hostile input, and it is written in C."""

_AGAIN = re.compile(r"[ST][0-9A-Z]*_")
_MOST_AGAIN = 32
"""Nor are those that refer so often to a part of themselves (``S_``, ``S1_``, ``T_``): each may double what the name
becomes, and 44 of them in 240 letters make 100 MB."""


def demangled(symbol: str) -> str:
    """A symbol in the source's words, shortened to :data:`MOST_SHOWN`; as it is, where it is no C++ or cannot be
    told."""
    told = symbol
    if symbol.startswith(("_Z", "_GLOBAL__")) and len(symbol) <= _LONGEST and symbol.isascii():
        again = len(_AGAIN.findall(symbol))
        told = _initialiser(symbol) or (_demangler()(symbol) if again <= _MOST_AGAIN else "") or symbol
    shown = "".join(letter if letter.isprintable() else "?" for letter in told[: MOST_SHOWN + 1])
    return shown if len(shown) <= MOST_SHOWN else f"{shown[: MOST_SHOWN - 1]}…"


def _initialiser(symbol: str) -> str:
    """gcc's name for what a source file does when it is loaded: ``_GLOBAL__sub_I_tensor.cc``."""
    for prefix in ("_GLOBAL__sub_I_", "_GLOBAL__I_"):
        if symbol.startswith(prefix) and not symbol.startswith("_GLOBAL__", len(prefix)):
            return f"the static initialiser of {demangled(symbol.removeprefix(prefix))}"
    return ""


@cache
def _demangler() -> Callable[[str], str]:
    """libstdc++'s ``__cxa_demangle`` (Itanium C++ ABI, 3.3), where this machine has it."""
    try:
        library, libc = ctypes.CDLL("libstdc++.so.6"), ctypes.CDLL("libc.so.6")
        demangle = library.__cxa_demangle
    except (OSError, AttributeError):
        return lambda symbol: ""
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)]
    libc.free.argtypes = [ctypes.c_void_p]

    def ask(symbol: str) -> str:
        found = demangle(symbol.encode("ascii"), None, None, ctypes.byref(ctypes.c_int()))
        if not found:
            return ""
        try:
            return ctypes.string_at(found).decode("utf-8", "replace")
        finally:
            libc.free(found)

    return ask
