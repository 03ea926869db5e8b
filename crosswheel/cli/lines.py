"""Text for a terminal: what a build prints is not to be trusted with it."""

from __future__ import annotations

import re
from typing import TextIO

_ESCAPES = re.compile(
    r"\x1b[\[\x9b][0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor movements
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\x9c|$)"  # OSC and other strings: window titles, the clipboard, links
    r"|\x9b[0-?]*[ -/]*[@-~]?"
    r"|[\x90\x98\x9d-\x9f].*?(?:\x07|\x1b\\|\x9c|$)"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
# C0 and C1, delete; the marks that turn the direction of text round, and what is invisible between letters.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")


def plain(text: str) -> str:
    """One line without escape sequences and control characters; of a line that was drawn over, the last state."""
    text = _ESCAPES.sub("", text).expandtabs(4)
    pieces = [piece for piece in re.split(r"[\r\n]", text) if piece.strip()]
    return _CONTROLS.sub("", pieces[-1] if pieces else "").rstrip()


def plain_block(text: str) -> str:
    """Several lines, each made plain."""
    return "\n".join(plain(line) for line in text.split("\n"))


def encodable(text: str, stream: TextIO) -> str:
    """``text`` with ``?`` in place of what ``stream`` cannot write."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def duration(seconds: float) -> str:
    """``0.4 s``, ``42 s``, ``3:07``, ``1:02:03``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
