"""Machine code that compilers and linkers write, judged by the rule about instructions, and never run."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_faults import make

from crosswheel.building.store import Store
from crosswheel.planning.roots import builder_step
from crosswheel.planning.steps import FilesStep, RenderedFile, RunStep
from crosswheel.proving.archive import Entry
from crosswheel.proving.code import CodeFacts, read_code
from crosswheel.proving.members import Gathered
from crosswheel.proving.processor import MACHINES, Processor
from crosswheel.spec.base import Arch
from crosswheel.spec.catalog import Catalog

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SUM = """
template <typename T> __attribute__((noinline)) T sum(const T* of, int count) {
  T total{};
  for (int at = 0; at < count; ++at) total = total * of[at] + of[at];
  return total;
}
"""
PLAIN = '#include "sum.h"\nextern "C" float plain(const float* of, int n) { return sum<float>(of, n); }\n'
NEWER = '#include "sum.h"\nextern "C" float newer(const float* of, int n) { return sum<float>(of, n) + 1; }\n'
QUIET = '#include "sum.h"\nfloat (*quiet)(const float*, int) = sum<float>;\n'
COUNT = 'extern "C" int leading(unsigned long of) { return of ? __builtin_clzl(of) : 64; }\n'
FIRST = """
volatile float scale = 1.5f, bias = 2;
struct Entry { __attribute__((always_inline)) Entry() { scale = scale * bias + 1; } } entry;
extern "C" void announce() __attribute__((constructor));
extern "C" void announce() { bias = bias * scale; }
"""
HIDDEN = """
extern "C" __attribute__((visibility("hidden"), noinline)) float hidden_sum(float of) { return of * of + 1; }
extern "C" __attribute__((target("no-avx"))) int run(int of) { return static_cast<int>(hidden_sum(3)) + of; }
"""
CHOOSER = """
extern "C" { static int here() { return 1; }
volatile float seen = 1;
static int (*choose())() { seen = seen * 2 + 1; return here; }
int chosen() __attribute__((ifunc("choose"))); }
"""
ATOMIC = """
#include <atomic>
std::atomic<long> count;
extern "C" long add(long what) { return count.fetch_add(what); }
"""
FILES = {
    "sum.h": SUM,
    "plain.cc": PLAIN,
    "newer.cc": NEWER,
    "quiet.cc": QUIET,
    "count.cc": COUNT,
    "first.cc": FIRST,
    "hidden.cc": HIDDEN,
    "chooser.cc": CHOOSER,
    "atomic.cc": ATOMIC,
}
FLAGS = ("-O2", "-g0", "-fPIC")
SHARED = (*FLAGS, "-shared")


def compile_all(arch: Arch, commands: tuple[tuple[str, ...], ...], catalog: Catalog, store: Store) -> Path:
    tools = f"{arch}-linux-gnu"
    step = RunStep(
        name=f"compile for processors of {arch}",
        inputs={
            "builder": builder_step(catalog, "gcc-12", arch),
            "source": FilesStep(name="small sources", files={n: RenderedFile(text=text) for n, text in FILES.items()}),
        },
        commands=tuple((f"{tools}-{command[0]}", *command[1:]) for command in commands),
        env={"PATH": "/usr/bin:/bin"},
        cwd="/build/src",
        mounts={},
        copies={"source": "/build/src"},
        outputs=("*",),
    )
    return make(step, catalog, store)


@pytest.fixture(scope="module")
def x86(catalog: Catalog, user_store: Store) -> Path:
    out, compiler = "/build/out", "g++-12"
    commands = (
        (compiler, *FLAGS, "-c", "plain.cc", "-o", "plain.o"),
        (compiler, *FLAGS, "-mavx2", "-c", "newer.cc", "-o", "newer.o"),
        (compiler, *FLAGS, "-mavx2", "-c", "quiet.cc", "-o", "quiet.o"),
        *(
            (compiler, "-shared", f"{one}.o", f"{two}.o", "-o", f"{out}/{one}-{two}.so")
            for one, two in (("plain", "newer"), ("newer", "plain"), ("plain", "quiet"), ("quiet", "plain"))
        ),
        (compiler, *SHARED, "-mlzcnt", "count.cc", "-o", f"{out}/count.so"),
        (compiler, *SHARED, "-mavx", "first.cc", "-o", f"{out}/first.so"),
        (compiler, *SHARED, "-mavx", "-s", "first.cc", "-o", f"{out}/first-stripped.so"),
        (compiler, *SHARED, "-mavx", "chooser.cc", "-o", f"{out}/chooser.so"),
        (compiler, *SHARED, "-mavx", "-s", "newer.cc", "-o", f"{out}/stripped.so"),
        (compiler, *SHARED, "-mavx", "hidden.cc", "-o", f"{out}/hidden.so"),
        (compiler, *SHARED, "-mavx", "-s", "hidden.cc", "-o", f"{out}/hidden-stripped.so"),
    )
    return compile_all("x86_64", commands, catalog, user_store)


@pytest.fixture(scope="module")
def arm(catalog: Catalog, user_store: Store) -> Path:
    out, compiler = "/build/out", "g++-12"
    commands = (
        (compiler, *SHARED, "-march=armv8.2-a+lse", "atomic.cc", "-o", f"{out}/newer.so"),
        (compiler, *SHARED, "-march=armv8-a", "-moutline-atomics", "atomic.cc", "-o", f"{out}/asks.so"),
        (compiler, *SHARED, "-march=armv8-a", "-mno-outline-atomics", "atomic.cc", "-o", f"{out}/older.so"),
        (compiler, *FLAGS, "-march=armv8.2-a", "-c", "atomic.cc", "-o", f"{out}/newer.o"),
        (compiler, *FLAGS, "-march=armv8-a", "-mno-outline-atomics", "-c", "atomic.cc", "-o", f"{out}/older.o"),
        ("ar", "rcs", f"{out}/libboth.a", f"{out}/older.o", f"{out}/newer.o"),
        ("ar", "rcsT", f"{out}/libthin.a", f"{out}/newer.o"),
    )
    return compile_all("aarch64", commands, catalog, user_store)


def read(path: Path, catalog: Catalog, target: str, cpu: str) -> CodeFacts:
    aim = catalog.target(target)
    has = catalog.instruction_set(aim, catalog.cpu(cpu))
    processor = Processor(
        machine=MACHINES[aim.arch],
        features=frozenset(has.features),
        usual=frozenset(has.usual),
        harmless=frozenset(has.harmless),
    )
    facts = read_code(memoryview(path.read_bytes()), processor, 1)
    assert facts is not None
    assert facts.trouble == ""
    return facts


def told(facts: CodeFacts) -> dict[str, tuple[bool, bool, tuple[str, ...]]]:
    return {"/".join(each.names): (each.weak, each.first, each.features) for each in facts.above}


SHARED_SUM = "_Z3sumIfET_PKS0_i"
WEAK, NAMED, FIRST_OF_ALL = (True, False, ("AVX",)), (False, False, ("AVX",)), (False, True, ("AVX",))


def of_x86(folder: Path, name: str, catalog: Catalog, cpu: str = "x86-64") -> dict[str, tuple[bool, bool, object]]:
    return told(read(folder / name, catalog, "x86_64", cpu))


def test_a_weak_function_of_two_files_in_both_orders(x86: Path, catalog: Catalog) -> None:
    """Of ``sum<float>``, compiled with and without AVX, the linker keeps the first. Where that is the one with AVX, all
    callers die on an older processor; where it is not, ``newer`` remains of that file, which nobody may call."""
    assert of_x86(x86, "newer-plain.so", catalog) == {SHARED_SUM: WEAK, "newer": NAMED}
    assert of_x86(x86, "plain-newer.so", catalog) == {"newer": NAMED}


def test_a_weak_function_alone(x86: Path, catalog: Catalog) -> None:
    """Where the file with AVX had nothing else, the harmless order leaves nothing of it, and nothing is told."""
    assert of_x86(x86, "quiet-plain.so", catalog) == {SHARED_SUM: WEAK}
    assert of_x86(x86, "plain-quiet.so", catalog) == {}


def test_on_a_processor_that_has_it(x86: Path, catalog: Catalog) -> None:
    assert of_x86(x86, "newer-plain.so", catalog, "sandybridge") == {}


def test_lzcnt_which_runs_everywhere_and_counts_otherwise(x86: Path, catalog: Catalog) -> None:
    for cpu in ("x86-64", "core2", "goldmont", "sandybridge"):
        assert of_x86(x86, "count.so", catalog, cpu) == {"leading": (False, False, ("LZCNT",))}
    assert of_x86(x86, "count.so", catalog, "x86-64-v3") == {}


def test_what_the_loader_calls(x86: Path, catalog: Catalog) -> None:
    """A static initialiser, a constructor that others may replace (the loader finds it by its symbol), and what chooses
    an implementation."""
    assert of_x86(x86, "first.so", catalog) == {"announce": FIRST_OF_ALL, "_GLOBAL__sub_I_first.cc": FIRST_OF_ALL}
    assert of_x86(x86, "first-stripped.so", catalog) == {"announce": FIRST_OF_ALL, "": FIRST_OF_ALL}
    assert of_x86(x86, "chooser.so", catalog) == {"choose/chosen": FIRST_OF_ALL}


def test_a_stripped_library_names_what_it_exports(x86: Path, catalog: Catalog) -> None:
    assert of_x86(x86, "stripped.so", catalog) == {SHARED_SUM: WEAK, "newer": NAMED}
    assert of_x86(x86, "hidden.so", catalog) == {"hidden_sum": NAMED}
    assert of_x86(x86, "hidden-stripped.so", catalog) == {"": NAMED}


def test_atomics_of_aarch64(arm: Path, catalog: Catalog) -> None:
    def of(name: str, cpu: str) -> dict[str, tuple[bool, bool, object]]:
        return told(read(arm / name, catalog, "jetson-tx1", cpu))

    assert of("newer.so", "cortex-a57") == {"add": (False, False, ("LSE",))}
    assert of("newer.so", "armv8.2-a") == {}
    assert of("asks.so", "cortex-a57") == of("older.so", "cortex-a57") == {}


def test_an_object_and_static_libraries(arm: Path, catalog: Catalog) -> None:
    aim = catalog.target("jetson-tx1")
    has = catalog.instruction_set(aim, catalog.cpu("cortex-a57"))
    gathered = Gathered({}, Processor(machine=MACHINES["aarch64"], features=frozenset(has.features)))
    for name in ("newer.o", "older.o", "libboth.a", "libthin.a"):
        data = (arm / name).read_bytes()
        entry = Entry(name=name, size=len(data), packed=len(data), mode=0o644, is_link=False)
        gathered.add(entry, iter([data]))
    lacks = {"add": (False, False, ("LSE",))}
    assert {name: told(code) for name, code in gathered.code.items()} == {
        "newer.o": lacks,
        "older.o": {},
        "libboth.a(older.o)": {},
        "libboth.a(newer.o)": lacks,
    }
    assert gathered.unread == {"libthin.a": "it is a thin archive: its members are not in it"}
    assert not gathered.garbled
