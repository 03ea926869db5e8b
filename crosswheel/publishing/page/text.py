"""Text of wheels, logs and histories, which may be anything, as a page can show it; and numbers as people read them."""

from __future__ import annotations

import re
from hashlib import sha256

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\|$)"  # OSC: titles and links, to BEL or ST
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours and moves of the cursor
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\|$)"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"
)
"""What a terminal obeys and does not show. Source: ECMA-48, 5.3 to 5.6."""

_UNSAFE = re.compile(r"[^A-Za-z0-9.]+")
_MOST_NAME = 80


def plain(text: object) -> str:
    """One line without what a terminal obeys, without control characters, marks that turn the direction of text round
    and halves of characters: those are written out (``\\x00``)."""
    written = str(text)
    if written.isprintable():  # an escape is not
        return written
    without = _ESCAPES.sub("", written)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in without)


def block(text: object) -> str:
    """As :func:`plain`, with its lines; a tab becomes blanks. A line that was overwritten (``\\r``) shows its end."""
    lines = _ESCAPES.sub("", str(text)).replace("\r\n", "\n").split("\n")
    return "\n".join(plain(line.rstrip("\r").rpartition("\r")[2].expandtabs(8)) for line in lines)


def shortened(text: str, most: int) -> str:
    """``text``, or its beginning and how much is left out."""
    return text if len(text) <= most else f"{text[:most]} … (and {len(text) - most:,} more characters)"


def file_stem(text: str) -> str:
    """A name for a file that belongs to ``text`` alone: letters, digits, points and dashes, whatever the text is."""
    readable = _UNSAFE.sub("-", text)[:_MOST_NAME].strip("-.") or "cell"
    return f"{readable}-{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".replace("..", "-")


def anchor(text: str) -> str:
    """A part of an id or of an address behind ``#``: ``text`` itself where that can be one."""
    return text if re.fullmatch(r"[A-Za-z0-9._-]+", text) else file_stem(text)


def size_words(size: int) -> str:
    """``41.2 MB``: powers of 1000, as pip says it."""
    if size < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95 or unit == "GB":
            break
    return f"{value:,.1f} {unit}"


def time_words(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def night_words(night: str) -> str:
    """``2026-11-21 23:00`` of a night's name that is a moment; other names as they are."""
    found = re.fullmatch(r"(\d{4}-\d{2}-\d{2})T(\d{2})-(\d{2})-\d{2}Z", night)
    return f"{found[1]} {found[2]}:{found[3]}" if found else plain(night)


def counted(count: int, one: str, many: str = "") -> str:
    """``1 wheel``, ``2 wheels``, ``1,200 wheels``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short_title(title: str) -> str:
    """A board's name out of its title: what stands before the chip in brackets, before the system behind a colon, and
    before what a comma adds with a number in it (``, Debian 11``)."""
    return plain(re.split(r" \(|: |, (?=[^,(:]*\d)", title, maxsplit=1)[0])
