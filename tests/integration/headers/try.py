"""Imports the extension and compares what the headers said with what this Python is; runs in the target's root."""

import sys
import time

import probe

facts = probe.facts()
info = sys.long_info if sys.version_info[0] == 2 else sys.int_info
expected = {
    "hexversion": None,
    "pointer": 8 if sys.maxsize == 2**63 - 1 else 4,
    "long": 8,
    "size_t": 8,
    "wchar_t": 4,
    "bits_per_digit": info.bits_per_digit,
    "hash_width": sys.hash_info.width if sys.version_info[0] > 2 else 64,
    "tzset": int(hasattr(time, "tzset")),
    "pymalloc": 1,
}
if sys.version_info[0] == 2:
    expected["unicode"] = 4 if sys.maxunicode == 0x10FFFF else 2
assert facts.pop("hexversion") >> 16 == sys.hexversion >> 16
del expected["hexversion"]
assert facts == expected, (facts, expected)
text = u"\U0001f40d \xe9"
answer = probe.work(text, 2**62, 0.5, b"\0bytes\0")
assert answer == (text + text, 2**62 + 1, 0.25, 7), answer
try:
    probe.work(1)
except TypeError as error:
    print("refused: %s" % error)
print("works with CPython %d.%d.%d" % sys.version_info[:3])
