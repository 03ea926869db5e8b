"""The rule about instructions: a function must use none that the target's processor lacks, unless it is one that is
called only where a processor has them.

How many such functions a file has proves nothing: OpenBLAS, which chooses its kernels at run time, has them in 40 % of
its functions and runs on every processor, and TensorFlow 1.6, which was compiled with AVX throughout, in 22 %. So every
one must be accounted for, by the recipe's list of what is chosen at run time. A list does not excuse a function that
the loader calls before anything can be chosen. Nor does it excuse a weak one, unless it is listed as that: of the
copies that several files have of it, the linker keeps one, for all callers, and which one depends on their order.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate

from crosswheel.proving.code import Above, CodeFacts
from crosswheel.proving.demangle import demangled
from crosswheel.proving.facts import Facts
from crosswheel.proving.findings import Context, Finding, Rule, Severity
from crosswheel.proving.processor import MACHINES, Processor
from crosswheel.spec.isa import Dispatched
from crosswheel.spec.policy import Policy

NAME = "instructions"

_SHOWN = 3
"""As many functions are named in a message."""


def processor_of(policy: Policy) -> Processor | None:
    """What machine code is judged by; None where the policy does not say what the processor has."""
    has = policy.instructions
    if has is None:
        return None
    return Processor(
        machine=MACHINES[policy.arch],
        features=frozenset(has.features),
        usual=frozenset(has.usual),
        harmless=frozenset(has.harmless),
    )


@dataclass(frozen=True, eq=False)
class _Judgement:
    """Why functions are no good, how bad it is, and what to do. ``{functions}`` stands for how many there are."""

    severity: Severity
    why: str
    hint: str


_COMPILE = "Compile the file that it comes from for the target's processor ({flags})"

_FIRST = _Judgement(
    Severity.FAIL,
    "which the loader calls when the file is loaded, before anything can be chosen",
    f"{_COMPILE}: nobody can choose not to run it.",
)
_WEAK = _Judgement(
    Severity.FAIL,
    "of which the linker keeps one copy for all files that have it, so that any of them may call it",
    f"{_COMPILE}, or give it another name or internal linkage there. If all who call it ask first what the processor "
    "has, list it in the recipe's [[dispatched]] with `weak = true`.",
)
_NAMED = _Judgement(
    Severity.FAIL,
    "and no list says that they are called only where a processor has that",
    f"{_COMPILE}. If they are chosen at run time, list them in the recipe's [[dispatched]] with the reason; of a wheel "
    "from elsewhere, `--recipe NAME` believes the list of that recipe.",
)
_UNNAMED = _Judgement(
    Severity.NOT_PROVEN,
    "and nothing names them, because the file was stripped or they are no functions: whether they are called only "
    "where a processor has that cannot be read",
    "Judge the file before it is stripped, and run its check on the emulated processor.",
)

_USUAL = _Judgement(
    Severity.WARN,
    "and that nearly every processor has which is in use",
    "Compile for {cpu} to run on all of them, or judge by the processor that you have (--cpu).",
)


def judge(facts: Facts, context: Context) -> Iterator[Finding]:
    """What is wrong with the instructions of the files."""
    if context.policy.instructions is None:
        return
    usual: list[Above] = []
    for name, code in facts.code.items():
        if code.trouble:
            yield Finding(
                rule=NAME,
                severity=Severity.FAIL,
                subject=name,
                message=f"its machine code cannot be read: {code.trouble}",
                hint="Link it again: its tables contradict themselves.",
            )
        yield from _of_file(name, code, context, usual)
    if usual:
        yield _finding(facts.file, usual, _USUAL, context)


def _of_file(name: str, code: CodeFacts, context: Context, usual: list[Above]) -> Iterator[Finding]:
    """What is wrong in one file. Functions that want no more than what nearly every processor has go to ``usual``."""
    has = context.policy.instructions
    assert has is not None
    lists = _Lists([item for item in has.dispatched if item.serves(name)])
    groups: dict[_Judgement, list[Above]] = {}
    mild = frozenset(has.usual)
    for function in code.above:
        judgement = _judgement(function, lists)
        if judgement and judgement.severity is Severity.FAIL and mild.issuperset(function.features):
            usual.append(function)
        elif judgement:
            groups.setdefault(judgement, []).append(function)
    for judgement in (_FIRST, _WEAK, _NAMED, _UNNAMED):
        if judgement in groups:
            yield _finding(name, groups[judgement], judgement, context)


class _Lists:
    """The entries of lists that are about one file, ready to be asked often."""

    def __init__(self, items: Sequence[Dispatched]) -> None:
        self._all = _pattern(items)
        self._weak = _pattern([item for item in items if item.weak])

    def has(self, function: Above) -> bool:
        """Whether a list names the function, as a weak one if it is."""
        named = self._weak if function.weak else self._all
        return any(map(named, function.names))


def _pattern(items: Sequence[Dispatched]) -> Callable[[str], object]:
    """What says whether a symbol is one of those that the entries name."""
    patterns = [translate(pattern) for item in items for pattern in item.symbols]
    return re.compile("|".join(patterns)).match if patterns else lambda _: None


def _judgement(function: Above, lists: _Lists) -> _Judgement | None:
    """What is wrong with a function; None where it is listed."""
    if function.first:
        return _FIRST
    if not function.names:
        return _UNNAMED
    if lists.has(function):
        return None
    return _WEAK if function.weak else _NAMED


def _finding(name: str, functions: list[Above], judgement: _Judgement, context: Context) -> Finding:
    policy = context.policy
    return Finding(
        rule=NAME,
        severity=judgement.severity,
        subject=name,
        message=f"{_count(functions)} instructions that {policy.cpu} lacks ({_features(functions)}), {judgement.why}: "
        f"{_examples(functions)}",
        hint=judgement.hint.format(flags=_flags(functions, policy), cpu=policy.cpu),
    )


def _count(functions: Sequence[Above]) -> str:
    return "1 function has" if len(functions) == 1 else f"{len(functions):,} functions have"


def _features(functions: Iterable[Above]) -> str:
    counted = Counter(feature for function in functions for feature in function.features)
    shown = [f"{feature} in {count:,}" for feature, count in counted.most_common(4)]
    return ", ".join(shown) + (f" and {len(counted) - 4} more features" if len(counted) > 4 else "")


def _examples(functions: Sequence[Above]) -> str:
    shown = "; ".join(f"{function.instruction} in {_called(function)}" for function in functions[:_SHOWN])
    return f"{shown}; and {len(functions) - _SHOWN:,} more" if len(functions) > _SHOWN else shown


def _called(function: Above) -> str:
    if function.names:
        return demangled(function.names[0])
    return f"a function at {function.address:#x}" if function.known else f"what lies at {function.address:#x}"


def _flags(functions: Iterable[Above], policy: Policy) -> str:
    """How a compiler is told of the target's processor."""
    if policy.arch == "aarch64":
        return f"-mcpu or -march for {policy.cpu}"
    if any(feature.startswith(("AVX", "FMA", "F16C")) for function in functions for feature in function.features):
        return f"-march for {policy.cpu}, and neither -mavx nor -march=native"
    return f"-march for {policy.cpu}"


def looked(facts: Facts, context: Context) -> str:
    """What was read of the files' machine code."""
    if context.policy.instructions is None:
        return "the policy does not say what the processor has"
    if not facts.code:
        return "no file has machine code for the target's processor"
    functions = sum(code.functions for code in facts.code.values())
    size = sum(code.size for code in facts.code.values())
    above = sum(len(code.above) for code in facts.code.values())
    chosen = f"; {above:,} functions that have more are chosen at run time, as the lists say" if above else ""
    return (
        f"{len(facts.code)} files with {functions:,} functions ({size / 1e6:,.1f} MB) were read: all instructions are "
        f"such as {context.policy.cpu} has{chosen}"
    )


RULES: tuple[Rule[Facts], ...] = (
    Rule(
        name=NAME,
        version=2,
        about="does every function keep to what the target's processor has, or is it chosen at run time?",
        judge=judge,
        looked=looked,
    ),
)
