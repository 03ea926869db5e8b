"""The proof of TensorFlow 2.20's wheel for x86_64 (620 MB, 318 MB of machine code), by what can be read of it.

Each part is a process of its own, and what counts is the processor's time of it and of its children, because the clock
shows whatever else the machine does. The whole proof runs on one core, and once more on all; it is compared with
``objdump -d | grep``, which finds AVX in the same code and says nothing of who calls it. That would take minutes, so it
gets one file of the wheel, and its time is scaled by the bytes of code. The proof without machine code, which still
hashes and reads everything else, is compared with ``auditwheel show``, which asks for versions of symbols as the rule
``abi`` does. The wheel fails: it wants AVX everywhere, so that every function is told, which is the slowest case.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import ZipFile

from benchmarks.rows import Row, below, unmeasured
from benchmarks.stored import made
from crosswheel.building.job import Settings
from crosswheel.cli.settings import DATA
from crosswheel.digest import sha256_file
from crosswheel.errors import StepError
from crosswheel.planning.plan import verification
from crosswheel.planning.sources import LocalSource, fetch_step
from crosswheel.planning.steps import ProofStep
from crosswheel.proving.prove import RULES, prove
from crosswheel.spec.catalog import Catalog
from crosswheel.spec.policy import Policy
from crosswheel.spec.sources import Place, Source

WHEEL = Source(
    file="tensorflow-2.20.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="481499fd0f824583de8945be61d5e827898cdaa4f5ea1bc2cc28ca2ccff8229e",
    places=(Place(uri="pypi:tensorflow==2.20.0"),),
)
SAMPLE = "tensorflow/libtensorflow_framework.so.2"
"""The file that objdump reads."""

SECONDS = 15.0
"""The most that the whole proof may take of one core."""
MEGABYTES = 1000.0
"""The most memory that it may have at once."""
OBJDUMP = 1 / 4
AUDITWHEEL = 1 / 10
"""The most that it may take of the time of the others."""


@dataclass(frozen=True)
class Cost:
    """What a process and its children took: seconds by the clock and of processors, and the most memory (MB) of one."""

    wall: float
    cpu: float
    peak: float


def measure(settings: Settings) -> list[Row]:
    """Everything once: it takes minutes. ``StepError`` where a process fails."""
    catalog = Catalog(DATA)
    fetch = fetch_step(WHEEL)
    wheel = made([fetch], catalog, settings)[fetch.key] / WHEEL.file
    whole, both, floors = _proved(wheel, "one"), _proved(wheel, "all"), _proved(wheel, "floors")
    rows = [
        below("proof of TensorFlow 2.20: processor's time on one core", whole.cpu, "s", SECONDS),
        Row(name="proof: by the clock, one core", value=whole.wall, unit="s"),
        below("proof: by the clock, all cores against one", both.wall / whole.wall, "×", 1, note=f"{both.wall:.1f} s"),
        below("proof: memory", whole.peak, "MB", MEGABYTES, note="the largest at one time of one process"),
    ]
    with tempfile.TemporaryDirectory(prefix="crosswheel-bench-") as name:
        rows += [_against_objdump(wheel, whole, Path(name)), _against_auditwheel(wheel, floors, Path(name))]
    return [*rows, _again(wheel, catalog, settings)]


def _step(wheel: Path, catalog: Catalog) -> ProofStep:
    target, cpu = catalog.target("x86_64"), catalog.cpu("x86-64")
    system = next(system for system in target.systems if system.python == "3.11")
    local = LocalSource(path=str(wheel), sha256=sha256_file(wheel), folder=False)
    return verification(local, catalog, target, system, cpu, None, rules=RULES, listed=catalog.recipe("tensorflow"))


def _proved(wheel: Path, how: str) -> Cost:
    argv = (sys.executable, "-m", "benchmarks.proof", how, str(wheel))
    done = subprocess.run(argv, cwd=DATA, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError("The proof of the benchmark's wheel failed.", why=done.stderr.strip()[-2000:])
    return Cost(**json.loads(done.stdout))


def prove_here(how: str, wheel: Path) -> Cost:
    """The proof in this process: on ``one`` core, on ``all``, or on one without machine code (``floors``)."""
    if how != "all":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    policy = Policy.model_validate(_step(wheel, Catalog(DATA)).policy)
    if how == "floors":
        policy = policy.model_copy(update={"instructions": None})
    began, before = time.perf_counter(), _processors(resource.RUSAGE_SELF)
    proof = prove(wheel, policy, sonames=None, check=None, run=None)
    cpu = _processors(resource.RUSAGE_SELF) - before + _processors(resource.RUSAGE_CHILDREN)
    if proof.sha256 != WHEEL.sha256:
        raise StepError("The proof is of another wheel.")
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(wall=time.perf_counter() - began, cpu=cpu, peak=peak * 1024 / 1e6)


def _processors(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def _ran(argv: Sequence[str]) -> float:
    """The processor's seconds of a command and its children."""
    before = _processors(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StepError(f"`{argv[0]}` ended with status {done.returncode}.", why=done.stderr.strip()[-2000:])
    return _processors(resource.RUSAGE_CHILDREN) - before


def _against_objdump(wheel: Path, whole: Cost, folder: Path) -> Row:
    name = "proof: against objdump -d | grep"
    if shutil.which("objdump") is None:
        return unmeasured(name, "objdump is not installed (apt-get install binutils)")
    with ZipFile(wheel) as archive:
        sample = Path(archive.extract(SAMPLE, folder))
        sizes = {}
        for info in archive.infolist():
            with archive.open(info) as stream:
                sizes[info.filename] = _code(stream.read(4096))
    command = f"objdump -d --no-show-raw-insn {shlex.quote(str(sample))} | grep -cE '%[yz]mm|\\sv[a-z0-9]+ '"
    seconds = _ran(("sh", "-c", command))
    share = sizes[SAMPLE] / sum(sizes.values())
    note = f"{seconds:.1f} s for {share:.0%} of the code"
    return below(name, whole.cpu / (seconds / share), "×", OBJDUMP, note=note)


def _code(head: bytes) -> int:
    """How many bytes of machine code a 64-bit ELF file has, by the first kilobytes of it: what is to be loaded and
    run. 0 where it is no ELF file."""
    if head[:5] != b"\x7fELF\x02":
        return 0
    (place,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    rows = (struct.unpack_from("<II24xQ", head, place + number * size) for number in range(count))
    return sum(length for kind, flags, length in rows if kind == 1 and flags & 1)


def _against_auditwheel(wheel: Path, floors: Cost, folder: Path) -> Row:
    place = folder / "auditwheel"
    venv.create(place, with_pip=True)
    _ran((str(place / "bin" / "pip"), "install", "--quiet", "auditwheel"))
    seconds = _ran((str(place / "bin" / "auditwheel"), "show", str(wheel)))
    note = f"{floors.cpu:.1f} s for all rules but that about instructions, and {seconds:.1f} s"
    return below("proof: floors against auditwheel show", floors.cpu / seconds, "×", AUDITWHEEL, note=note)


def _again(wheel: Path, catalog: Catalog, settings: Settings) -> Row:
    """The same wheel once more, hashed and found in the store."""
    step = _step(wheel, catalog)
    made([step], catalog, settings)
    began = time.perf_counter()
    made([_step(wheel, catalog)], catalog, settings)
    return Row(name="proof: the same wheel again", value=time.perf_counter() - began, unit="s")


if __name__ == "__main__":
    print(json.dumps(asdict(prove_here(sys.argv[1], Path(sys.argv[2])))))
