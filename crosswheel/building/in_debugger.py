"""Runs inside gdb: writes down the stack of the process whose core file is loaded, as JSON, to :data:`STACK`.

It is a program of its own (``gdb -x in_debugger.py PROGRAM CORE``, and ``CORE`` in the environment), started by
:mod:`crosswheel.building.tracing`; it imports nothing of crosswheel, and judges nothing: what the frames mean,
:mod:`crosswheel.proving.faults` says. Sources: GDB manual, "Frames In Python", "Registers In Python", "Inferiors In
Python", and for the commands "Files", "Auxiliary Vector".
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import gdb

STACK = "/trace/stack.json"

MOST_FRAMES = 300
"""A stack that overflowed has a hundred thousand."""

_LONGEST = 3000
_CODE_BYTES = 16
_STRING_BYTES = 300
_PRINTABLE = re.compile(rb"[\x21-\x7e]{2,}")
_LEADS = ("dlopen", "_dl_open", "PyImport_", "_PyImport_")
"""Functions whose arguments are looked for: which file is loaded, which module is imported. Without debug information
they stand in registers that a called function must leave alone, which the debugger knows of every frame."""

_SAVED = {
    "x86_64": ("rbx", "rbp", "r12", "r13", "r14", "r15"),
    "aarch64": tuple(f"x{number}" for number in range(19, 29)),
}


def memory(address: int, size: int) -> bytes:
    """What is at an address; nothing where the core file has nothing of it."""
    try:
        return bytes(gdb.selected_inferior().read_memory(address, size))
    except (gdb.error, OverflowError):
        return b""


def strings(frame: Any) -> list[str]:
    """The texts to which the saved registers of a frame point."""
    arch = "aarch64" if "aarch64" in frame.architecture().name() else "x86_64"
    found = []
    for register in _SAVED[arch]:
        try:
            address = int(frame.read_register(register)) & (2**64 - 1)
        except (gdb.error, ValueError):
            continue
        page = min(_STRING_BYTES, 4096 - address % 4096)
        text = _PRINTABLE.match(memory(address, page))
        if text and text.end() < page and memory(address + text.end(), 1) == b"\0":
            found.append(text.group().decode("ascii"))
    return found


def name_of(frame: Any) -> str:
    """The demangled name of a frame's function; empty where no table of symbols has it."""
    try:
        return str(frame.name() or "")
    except gdb.error:
        return ""


def keyed(name: str) -> str:
    """The demangled name of the function after which a file's static initialiser is called."""
    mangled = re.match(r"_GLOBAL__(?:sub_)?I_(_Z\w+)", name)
    if mangled is None:
        return ""
    try:
        return str(gdb.execute(f"demangle -- {mangled[1]}", to_string=True)).strip()
    except gdb.error:
        return mangled[1]


def described(frame: Any, called: str, program: list[tuple[int, int]]) -> dict[str, Any]:
    """One frame. ``called`` is the name of the function that it calls, ``program`` where the program itself lies."""
    name = name_of(frame)
    pc = frame.pc()
    asked = name.startswith(_LEADS) or called.startswith(_LEADS)
    inside = any(first <= pc < last for first, last in program)
    return {
        "file": str(gdb.current_progspace().filename if inside else gdb.solib_name(pc) or "")[:_LONGEST],
        "symbol": name[:_LONGEST],
        "keyed": keyed(name)[:_LONGEST],
        "signal": frame.type() == gdb.SIGTRAMP_FRAME,
        "code": memory(pc, _CODE_BYTES).hex(),
        "strings": strings(frame) if asked else [],
    }


def program_areas() -> list[tuple[int, int]]:
    """Where the sections of the program itself lie: what is told of it stands behind what is told of the core file, and
    behind the sections of libraries stands whose they are."""
    lines = str(gdb.execute("info files", to_string=True)).rpartition("Local exec file:")[2].splitlines()
    found = (re.match(r"\s*(0x[0-9a-f]+) - (0x[0-9a-f]+) is \S+$", line) for line in lines)
    return [(int(area[1], 16), int(area[2], 16)) for area in found if area]


def place_program() -> None:
    """Tells gdb where the program lies, if it does not know. It compares the program's headers with those in the core
    file; qemu leaves out a page with headers that can be executed (``vma_dump_size`` in its ``linux-user/elfload.c``),
    so that a position-independent program of an older linker, or of aarch64, is taken for one at address 0, and its
    libraries are not found. Where it began is in the auxiliary vector."""
    files = str(gdb.execute("info files", to_string=True)).rpartition("Local exec file:")[2]
    begun = re.search(r"AT_ENTRY .*(0x[0-9a-f]+)", str(gdb.execute("info auxv", to_string=True)))
    written = re.search(r"Entry point: (0x[0-9a-f]+)", files)
    moved = int(begun[1], 16) - int(written[1], 16) if begun and written else 0
    if moved <= 0:
        return
    gdb.execute(f'symbol-file -o {moved:#x} "{gdb.current_progspace().filename}"')
    for first, name in re.findall(r"(0x[0-9a-f]+) - 0x[0-9a-f]+ is (\S+)$", files, re.MULTILINE):
        gdb.execute(f"section {name} {int(first, 16) + moved:#x}")
    gdb.execute(f"core-file {os.environ['CORE']}")


def main() -> None:
    """Writes what can be read; a stack that ends in an error ends there."""
    try:
        place_program()
    except gdb.error as error:
        print(f"where the program lies is not known: {error}")
    frames: list[dict[str, Any]] = []
    try:
        frame, called, program = gdb.newest_frame(), "", program_areas()
        while frame is not None and len(frames) < MOST_FRAMES:
            frames.append(described(frame, called, program))
            called = frames[-1]["symbol"]
            frame = frame.older()
    except (gdb.error, gdb.MemoryError) as error:
        print(f"the stack ends here: {error}")
    Path(STACK).write_text(json.dumps({"frames": frames}))


main()
