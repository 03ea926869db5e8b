"""What the compilers' wrappers cost: a call of one around ``/bin/true`` against ``/bin/true`` itself.

Both get the same arguments, which are as many as TensorFlow's: a source that is compiled, a link with all arguments on
the command line, one whose arguments lie in a response file, and one from which an RPATH is dropped. The two alternate,
hundreds of times each. What counts is the difference of the processor's time: a wrapper waits for nothing, so on a free
core that is what it takes, and wall-clock times of milliseconds are those of whatever else the machine does. The
difference of the medians by the clock stands beside it. The awk is this machine's own: the builders have gawk, which
starts slower than mawk.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.rows import Row, below
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.errors import StepError
from crosswheel.planning.render import Renderer
from crosswheel.planning.toolchains import Paths, values_of
from crosswheel.planning.wrappers import target_wrapper
from crosswheel.spec.catalog import Catalog

MILLISECONDS = 15.0
"""The most that a wrapper may add to a call."""

DRIVER = "/bin/true"
OUTPUT = "bazel-out/aarch64-opt/bin/tensorflow/python/_pywrap.so"
OBJECTS = 3000
"""As many objects go into ``_pywrap_tensorflow_internal.so`` of TensorFlow 1.5.0, about."""


@dataclass(frozen=True)
class Cost:
    """Milliseconds of one call: median by the clock, mean of the processor's."""

    wall: float
    cpu: float

    def above(self, other: Cost) -> Cost:
        """What is more than another one's."""
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def measure(settings: Settings, runs: int = 300) -> list[Row]:
    """``runs`` calls of each kind. ``StepError`` where a wrapper fails."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="crosswheel-benchmark-") as name:
        folder = Path(name)
        wrapper = _wrapper(folder)
        for kind, arguments in _calls(folder).items():
            cost = _cost(folder, (str(wrapper), *arguments), (DRIVER, *arguments), runs)
            note = f"{cost.wall:.2f} ms by the clock; {len(arguments)} arguments"
            rows.append(below(f"wrappers: {kind}", cost.cpu, "ms", MILLISECONDS, note=note))
    return rows


def _wrapper(folder: Path) -> Path:
    """The target's compiler of rpi4, with a driver that does nothing."""
    catalog = Catalog(DATA)
    target = catalog.target("rpi4")
    system = target.systems[0]
    chain, cpu = catalog.toolchain(system.toolchain), catalog.cpu(target.cpu)
    values = values_of(system, chain, cpu, target.arch, Paths())
    program = folder / "arguments.awk"
    wrapper = replace(target_wrapper(values, "cc", DRIVER), arguments=str(program))
    renderer = Renderer(catalog)
    program.write_text(renderer.render("wrappers/arguments.awk.j2", {}))
    place = folder / "cc"
    place.write_text(renderer.render("wrappers/compiler.sh.j2", {"wrapper": wrapper}))
    place.chmod(0o755)
    return place


def _calls(folder: Path) -> Mapping[str, Sequence[str]]:
    (folder / OUTPUT).parent.mkdir(parents=True)
    response = folder / "link.params"
    objects = [f"bazel-out/aarch64-opt/bin/tensorflow/core/_objs/kernels/kernel_{n}.pic.o" for n in range(OBJECTS)]
    response.write_text("\n".join(objects) + "\n")
    folders = [word for n in range(100) for word in ("-iquote", f"external/repository_{n}")]
    rpath = "-Wl,-rpath,$ORIGIN/,-rpath,$ORIGIN/.."
    return {
        "compile": ("-O2", *folders, "-c", "tensorflow/core/kernels/a.cc", "-o", "bazel-out/aarch64-opt/bin/a.o"),
        "link, all on the command line": ("-shared", "-o", OUTPUT, rpath, *objects[:200], "-lm"),
        f"link, {OBJECTS} objects in a response file": ("-shared", "-o", OUTPUT, rpath, f"@{response}", "-lm"),
        "the same, an RPATH dropped": ("-shared", "-o", OUTPUT, "-Wl,-rpath,/build/x", f"@{response}", "-lm"),
    }


def _cost(folder: Path, wrapped: Sequence[str], bare: Sequence[str], runs: int) -> Cost:
    """What the first command costs above the second."""
    costs: dict[str, list[Cost]] = {"wrapped": [], "bare": []}
    with contextlib.chdir(folder):
        for _ in range(runs):
            for name, argv in (("wrapped", wrapped), ("bare", bare)):
                costs[name].append(_call(argv))
    wrapped_cost, bare_cost = (
        Cost(statistics.median(c.wall for c in costs[name]), statistics.fmean(c.cpu for c in costs[name]))
        for name in ("wrapped", "bare")
    )
    return wrapped_cost.above(bare_cost)


def _call(argv: Sequence[str]) -> Cost:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    child = os.posix_spawn(argv[0], list(argv), {"PATH": "/usr/bin:/bin"})
    _, status = os.waitpid(child, 0)
    wall = time.perf_counter() - began
    if status:
        raise StepError("A compiler's wrapper failed.", why=f"exit status {os.waitstatus_to_exitcode(status)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall * 1000, cpu * 1000)
