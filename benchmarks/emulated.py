"""Cross against emulated compilation of dm-tree 0.1.5's C++ (``tree/tree.cc``, with abseil and pybind11) for rpi4.

Both sides do the same work: gcc 12's ``cc1plus`` and ``as`` with the arguments that our cross wrapper gives them
(``-###``), on the same source, headers and sysroot. Cross is the builder's compiler, which runs on this machine;
emulated is Debian's own arm64 compiler of the same version, from an arm64 root, under ``qemu-aarch64-static``. The
programs are called one by one, because without binfmt_misc the driver under qemu could not start them; the driver
itself does next to nothing. That the objects are the same, byte by byte, is looked at.

Both run in one container, one after the other, and are timed by the kernel's account of the child processes. CPU time
counts (user and system), because the load of the machine hardly touches it; wall-clock time stands beside it.
"""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.overhead import planned
from benchmarks.rows import Row, spread
from benchmarks.stored import inputs_of, made
from crosswheel.building.job import Container, Mount, Settings
from crosswheel.building.sandbox import sandbox_for
from crosswheel.cli.settings import DATA
from crosswheel.errors import StepError
from crosswheel.planning.roots import emulator_step, root_step
from crosswheel.planning.steps import RunStep
from crosswheel.planning.toolchains import TOOLCHAIN
from crosswheel.spec.catalog import Catalog

LEAST, EXPECTED = 7.0, "8–9"
"""How many times the cross compiler's CPU time the emulated one takes: what is wanted, and what is expected. On a busy
machine single pairs were seen between 7 and 8.5."""

_SOURCE, _EMULATOR, _NATIVE = "/source", "/emulator", "/arm64"
_COMPILERS = f"{_NATIVE}/usr/lib/gcc/aarch64-linux-gnu/12"

_FLAGS = (
    *("-U_FORTIFY_SOURCE", "-fno-stack-protector", "-Wall", "-fno-omit-frame-pointer", "-g0", "-O2"),
    *("-D_FORTIFY_SOURCE=1", "-DNDEBUG", "-ffunction-sections", "-fdata-sections", "-std=c++14", "-fPIC"),
    *("-fexceptions", "-fno-strict-aliasing", "-fno-ident"),
)
"""As Bazel compiles it (our CROSSTOOL's flags of the mode ``opt``, and those of dm-tree's BUILD), but for two: no stack
protector and no ``.ident``, in which Debian 12's two packages of gcc 12.2.0 differ. The native one
(12.2.0-14+deb12u1) has the mend of CVE-2023-4039, another place for the canary on aarch64; the cross one (12.2.0-14) is
older."""

_SCRIPT = """
import hashlib, json, os, pathlib, resource, shlex, subprocess, sys, time

asked = json.loads(sys.argv[1])
asked_for = subprocess.run([*asked["command"], "-###"], capture_output=True, text=True, check=True)
programs = [shlex.split(line) for line in asked_for.stderr.splitlines() if line.startswith(" ")]
if [os.path.basename(argv[0]) for argv in programs] != ["cc1plus", "as"]:
    sys.exit(f"the driver would not call cc1plus and as: {asked_for.stderr}")

def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

def compile(prefixes):
    cpu, began = used(), time.monotonic()
    for argv in programs:
        subprocess.run([*prefixes[os.path.basename(argv[0])], *argv[1:]], check=True)
    seconds, wall = used() - cpu, time.monotonic() - began
    digest = hashlib.sha256(pathlib.Path(asked["object"]).read_bytes()).hexdigest()
    return {"cpu": seconds, "wall": wall, "sha256": digest}

cross = {os.path.basename(argv[0]): [argv[0]] for argv in programs}
compile(cross)  # every file has been read once
for _ in range(asked["runs"]):
    print(json.dumps({"side": "cross", **compile(cross)}), flush=True)
    print(json.dumps({"side": "emulated", **compile(asked["emulated"])}), flush=True)
"""
"""Runs in the builder's container, by its own Python. Prints one object a line."""


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """One compilation: which ``side``, seconds of CPU and by the clock, and the object's hash."""

    side: str
    cpu: float
    wall: float
    sha256: str


def measure(settings: Settings, runs: int = 2) -> list[Row]:
    """``runs`` of each, alternating."""
    catalog = Catalog(DATA)
    plan = planned(catalog)
    step = plan.wheel.inputs["run"]
    assert isinstance(step, RunStep)
    sysroot = plan.resolution.sysroot
    compiler = root_step(catalog, sysroot, "aarch64", ("g++-12",), "native compiler aarch64", "benchmark-g++-12-arm64")
    emulator = emulator_step(catalog)
    roots = made((compiler, emulator), catalog, settings)
    lines = _run(step, inputs_of(step, catalog, settings), roots[compiler.key], roots[emulator.key], settings, runs)
    return rows([Compilation(**json.loads(line)) for line in lines if line.startswith("{")])


def rows(compilations: Sequence[Compilation]) -> list[Row]:
    """The table of what was measured. ``StepError`` where the sides did not do the same."""
    if len({compilation.sha256 for compilation in compilations}) != 1:
        raise StepError("The cross compiler and the emulated one did not do the same work: their objects differ.")
    cross = [compilation for compilation in compilations if compilation.side == "cross"]
    emulated = [compilation for compilation in compilations if compilation.side == "emulated"]
    cpu = [statistics.median(one.cpu for one in side) for side in (cross, emulated)]
    wall = [statistics.median(one.wall for one in side) for side in (cross, emulated)]
    return [
        Row(name="emulated: cross, CPU", value=cpu[0], unit="s", note=spread(one.cpu for one in cross)),
        Row(name="emulated: emulated, CPU", value=cpu[1], unit="s", note=spread(one.cpu for one in emulated)),
        Row(
            name="emulated: emulated against cross, CPU",
            value=cpu[1] / cpu[0],
            unit="×",
            target=f"> {LEAST:g} ×",
            ok=cpu[1] / cpu[0] > LEAST,
            note=f"expected: {EXPECTED}; the objects are the same, byte by byte",
        ),
        Row(name="emulated: emulated against cross, wall", value=wall[1] / wall[0], unit="×"),
    ]


def _run(
    step: RunStep, inputs: Mapping[str, Path], native: Path, emulator: Path, settings: Settings, runs: int
) -> list[str]:
    """The lines that the script printed."""
    # qemu's -L names where the arm64 loader and libraries are; all else is found where both sides see it.
    qemu = (f"{_EMULATOR}/usr/bin/qemu-aarch64-static", "-L", _NATIVE)
    asked = {
        "command": [f"{TOOLCHAIN}/bin/c++", *_FLAGS, *_includes(step), "-c", "tree/tree.cc", "-o", "/tmp/tree.o"],
        "object": "/tmp/tree.o",
        "emulated": {
            "cc1plus": [*qemu, f"{_COMPILERS}/cc1plus"],
            "as": [*qemu, f"{_NATIVE}/usr/bin/aarch64-linux-gnu-as"],
        },
        "runs": runs,
    }
    mounts = [Mount(source=inputs[role], target=target) for role, target in step.mounts.items()]
    container = Container(
        root=inputs["builder"],
        root_key=step.inputs["builder"].key,
        argv=("/usr/bin/python3", "-c", _SCRIPT, json.dumps(asked)),
        env={"LC_ALL": "C.UTF-8"},
        cwd=_SOURCE,
        mounts=(
            *mounts,
            Mount(source=inputs["source"], target=_SOURCE),
            Mount(source=emulator, target=_EMULATOR),
            Mount(source=native, target=_NATIVE),
        ),
        memory=settings.memory,
    )
    lines: list[str] = []
    sandbox = sandbox_for(replace(settings, sandbox="docker"))
    status = sandbox.run(container, log=lines.append, cancelled=threading.Event(), label_key="benchmark-emulated")
    if status != 0:
        raise StepError("The compilation that is measured failed.", why="\n".join(lines[-20:]))
    return lines


def _includes(step: RunStep) -> list[str]:
    """Where the headers are, as the build sees them."""
    absl, pybind11 = (step.mounts[f"external {name}"] for name in ("com_google_absl", "pybind11_archive"))
    python = f"{step.mounts['sysroot']}/usr/include/python3.11"
    return [f"-I{folder}" for folder in (_SOURCE, absl, f"{pybind11}/pybind11/include", python)]
