"""``python -m benchmarks [--json] [NAME…]``: measures, and prints a table, or one JSON object.

Exit codes: 0 where every target is met, 1 where one is missed, 2 for an unknown name; else that of the error for which
something could not be measured (5 where this machine lacks something).
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rows import Row, exit_code, unmeasured
from crosswheel.building.job import Settings
from crosswheel.cli.console import show_error, show_table
from crosswheel.cli.settings import read_settings
from crosswheel.errors import CrosswheelError, InputError

MEASUREMENTS = {
    "noop": "a build with nothing to do",
    "plan": "plans of everything that resolves",
    "matrix": "plans of 200 to 10,000 cells, and a night with nothing new",
    "margins": "a second Python and a second target, against the first",
    "fetches": "externals, fetched at once against one by one",
    "sysroot": "a sysroot, cold against mmdebstrap and from the store",
    "headers": "headers of CPython's own source, of four versions",
    "jetpack": "a JetPack-shaped sysroot, cold, from a stand-in of the archives",
    "sbsa": "a sysroot with CUDA and cuDNN for aarch64 servers, cold",
    "overhead": "a build of dm-tree against the bare Bazel command",
    "remote": "a build from a remote cache, against cold",
    "wrappers": "what a call of a compiler's wrapper costs",
    "emulated": "cross against emulated compilation",
    "page": "the page of 2,000 cells and 30 nights, written and loaded",
    "proof": "the proof of a large wheel, against objdump and auditwheel",
    "index": "an index of 1,000 wheels: made, again, published",
}
"""What can be measured, in this order. Each is the module of its name."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """On what was measured. ``load`` is the load average of one minute, before and after."""

    cpus: int
    memory_gib: float
    load: tuple[float, float]

    def __str__(self) -> str:
        return (
            f"{self.cpus} cores, {self.memory_gib:.0f} GiB; load average {self.load[0]:.1f} before, "
            f"{self.load[1]:.1f} after"
        )


def chosen(names: Sequence[str]) -> list[str]:
    """The measurements of these names, in the table's order; all if none is named. ``InputError`` names every one
    that does not exist."""
    wrong = [name for name in names if name not in MEASUREMENTS]
    if wrong:
        near = [difflib.get_close_matches(name, MEASUREMENTS, n=1, cutoff=0.5) for name in wrong]
        meant = sorted({match for matches in near for match in matches})
        raise InputError(
            f"there is no benchmark {' or '.join(map(repr, wrong))}",
            why=f"did you mean {' or '.join(meant)}?" if meant else "",
            hint=f"there are: {', '.join(MEASUREMENTS)}",
        )
    return [name for name in MEASUREMENTS if name in names or not names]


def measure(names: Sequence[str], settings: Settings) -> tuple[list[Row], int]:
    """The rows of these measurements, and the exit code of the first that could not be taken (0 if there is none)."""
    rows: list[Row] = []
    status = 0
    for name in names:
        print(f"crosswheel: measuring {MEASUREMENTS[name]} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        try:
            rows += importlib.import_module(f"benchmarks.{name}").measure(settings)
        except CrosswheelError as error:
            show_error(error)
            rows.append(unmeasured(f"{name}: {MEASUREMENTS[name]}", f"{error.what} {error.hint}".strip()))
            status = status or error.exit_code
        print(f"crosswheel: … {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows, status


def show(rows: Sequence[Row], machine: Machine) -> None:
    """The table, on stdout."""
    lines = [(row.name, row.shown, row.target, row.verdict, row.note) for row in rows]
    show_table(f"Measured on {machine}", ("what", "value", "target", "", ""), lines)


def described(rows: Sequence[Row], machine: Machine, status: int) -> dict[str, object]:
    """The table as an object of JSON."""
    where = {"cpus": machine.cpus, "memory_gib": round(machine.memory_gib, 1), "load": list(machine.load)}
    return {"machine": where, "rows": [row.as_json() for row in rows], "exit_code": status}


def main(argv: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(
        prog="benchmarks",
        description="Measures crosswheel against its targets.",
        epilog="; ".join(f"{name}: {what}" for name, what in MEASUREMENTS.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="one or more of them (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    asked = parser.parse_args(argv)
    try:
        names = chosen(asked.names)
        settings = read_settings()
    except CrosswheelError as error:
        show_error(error, as_json=asked.json)
        return error.exit_code
    before = os.getloadavg()[0]
    rows, failed = measure(names, settings)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = Machine(cpus=os.cpu_count() or 1, memory_gib=memory, load=(before, os.getloadavg()[0]))
    status = exit_code(rows, error=failed)
    if asked.json:
        print(json.dumps(described(rows, machine, status), indent=2))
    else:
        show(rows, machine)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
