"""The import on the emulated target: what is run of a wheel from elsewhere where no recipe's check can be.

It proves little: that the wheel's files load, and that their initialisers keep to the processor. But it is there that a
wheel for a newer processor dies most often, and it needs nothing but the wheel.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from packaging.utils import canonicalize_name

from crosswheel.proving.emulate import (
    MOST_RESULT,
    NAME,
    SITE,
    CheckSpec,
    EmulatedRun,
    RunOutcome,
    emulated_run,
    ended_badly,
    under,
)
from crosswheel.proving.facts import WheelFacts
from crosswheel.proving.faults import escaped
from crosswheel.proving.findings import Finding, Severity, some
from crosswheel.spec.policy import Policy

SECONDS = 600
"""How long the import of a wheel may take, on an emulated processor."""

MOST_MODULES = 8
_ENDING = re.compile(r"\.(?:py|(?:[\w-]+\.)?so)$")
_UNMET = re.compile(r"No matching distribution found for ([A-Za-z0-9][\w.-]*)")

MOST_LIBRARIES = 100

_SIGILL = 4
"""What the processor lacks is the wheel's fault. Another end may be the emulator's, under which /proc and /sys tell of
the builder's processor: ONNX Runtime 1.31 for aarch64 crashes there in a static initialiser."""

_PERHAPS = "It may be the emulator's doing (/proc and /sys are not those of the board): try it there."

_BEGIN = """import json, sys, traceback
failed = {}
def wrong(name):
    failed[name] = traceback.format_exception_only(*sys.exc_info()[:2])[-1].strip()[:500]
def tell(loading, loaded):
    with open(sys.argv[1], "w") as out:
        json.dump({"failed": failed, "loading": loading, "loaded": loaded}, out)
"""
_MODULE = """try:
    import {name}
except BaseException:
    wrong({name!r})
"""
_END = """loaded = 0
if failed:
    import ctypes
    tell(True, 0)
    for library in %s:
        try:
            ctypes.CDLL(library)
            loaded += 1
        except OSError:
            pass
tell(False, loaded)
"""


def modules_of(facts: WheelFacts) -> tuple[str, ...]:
    """The modules and packages at the top of a wheel in which its machine code lies, sorted; all others where none of
    these can be imported by its name. At most :data:`MOST_MODULES`."""
    found = {name for member in facts.members if (name := _module(facts.installed_name(member.name)))}
    machine = {facts.installed_name(elf.name).partition("/")[0] for elf in facts.elfs}
    holding = found & {_ENDING.sub("", head) for head in machine}
    return tuple(sorted(holding or found)[:MOST_MODULES])


def _module(place: str) -> str:
    """The module at the top of site-packages that a file belongs to; empty for one that is of none."""
    head, _, rest = place.partition("/")
    whole = not rest or rest.startswith("__init__.") or "/__init__." in rest
    name = head if rest else _ENDING.sub("", head)
    return name if whole and name.isascii() and name.isidentifier() and not keyword.iskeyword(name) else ""


def libraries_of(facts: WheelFacts) -> tuple[str, ...]:
    """The paths on the target of a wheel's libraries and extension modules, sorted; at most :data:`MOST_LIBRARIES`."""
    found = sorted(facts.installed_name(elf.name) for elf in facts.native() if elf.kind == "shared" and elf.dynamic)
    return tuple(f"{SITE}/{name}" for name in found if name.isascii() and name.isprintable())[:MOST_LIBRARIES]


def smoke_run(
    policy: Policy, modules: tuple[str, ...], libraries: tuple[str, ...], check: CheckSpec | None
) -> EmulatedRun:
    """The run that imports ``modules``, from the unpacked wheel and the wheels of ``check``. Where one of them cannot
    be imported (it may require what is not there), ``libraries`` are loaded one by one: so their initialisers run."""
    modules_tried = "".join(_MODULE.format(name=name) for name in modules)
    script = _BEGIN + modules_tried + _END % json.dumps(libraries)
    wheels = check.wheels if check else ()
    return emulated_run(policy, CheckSpec(script=script, tests=0, timeout=SECONDS, wheels=wheels, source=False))


def unmet(facts: WheelFacts, outcome: RunOutcome) -> str:
    """What the target's pip did not find among the wheels of a check, when it was to install the wheel: a requirement
    of another release than those that the recipe's list was made for. Empty where it found all."""
    for line in outcome.lines:
        found = _UNMET.search(line)
        if found and canonicalize_name(found[1]) != facts.distribution:
            return found[1]
    return ""


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a run says of itself: why modules could not be imported, whether it was ``loading`` libraries when it wrote
    this, and how many were ``loaded``."""

    failed: Mapping[str, str]
    loading: bool
    loaded: int


def judge_smoke(
    wheel: str, policy: Policy, modules: tuple[str, ...], outcome: RunOutcome, *, script: str, why: str
) -> Iterator[Finding]:
    """The finding on a run that imported ``modules``, because of ``why`` no check could be run."""
    imported, said = f"`import {', '.join(modules)}`", _said(outcome.result, modules)
    loading = isinstance(said, _Said) and said.loading
    what = "loading its libraries, one by one," if loading else imported
    bad = ended_badly(wheel, policy, replace(outcome, what=what), SECONDS, script=script)
    if bad and outcome.began == _SIGILL and not (outcome.fault and outcome.fault.trap):
        yield replace(bad, hint=f"{bad.hint}\nOnly its import was tried, because {why}.")
        return
    message, hint = _told(imported, said, bad, policy, outcome)
    yield Finding(rule=NAME, severity=Severity.NOT_PROVEN, subject=wheel, message=f"{why}; {message}", hint=hint)


def _told(
    imported: str, said: _Said | str, bad: Finding | None, policy: Policy, outcome: RunOutcome
) -> tuple[str, str]:
    """What is said of a run in which nothing was found, and what to do."""
    if bad and not (isinstance(said, _Said) and said.failed):
        return bad.message, f"{_PERHAPS}\n{bad.hint}"
    if isinstance(said, str):
        return f"{imported} ended well {under(policy)}, and {said}", ""
    if not said.failed:
        told = f"{imported} works {under(policy)} ({outcome.seconds:.1f} s), and nothing else was run"
        return told, "What it does was not tried: name a recipe with a check."
    told = f"{imported} did not work {under(policy)}: {some(said.failed.values(), 3)}"
    hint = "Where a module is not found, that is a requirement of the wheel, which is not installed here."
    if bad:
        return f"{told}; and {bad.message}", f"{hint} Libraries that do not go together end so. {_PERHAPS}"
    return f"{told}; libraries of it that could be loaded by themselves: {said.loaded}", hint


def _said(result: bytes | None, modules: tuple[str, ...]) -> _Said | str:
    """What is in a result, or what is wrong with it. The wheel's own code may have written it."""
    if result is None:
        return "it left no result"
    if len(result) > MOST_RESULT:
        return f"its result has {len(result):,} bytes"
    try:
        value = json.loads(result)
        failed = {name: f"{name}: {escaped(str(value['failed'][name]))}" for name in modules if name in value["failed"]}
        return _Said(failed=failed, loading=value["loading"] is True, loaded=int(value["loaded"]))
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError, OverflowError):
        return "its result does not say what could not be imported"
