"""The import on the emulated target: what is run of a wheel from elsewhere where no recipe's check can be.

It proves little: that the wheel's files load, and that their initialisers keep to the processor. But it is there that a
wheel for a newer processor dies most often, and it needs nothing but the wheel.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from packaging.utils import canonicalize_name

from crosswheel.proving.emulate import (
    MOST_RESULT,
    NAME,
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

_BEGIN = """import json, sys, traceback
failed = {}
def wrong(name):
    failed[name] = traceback.format_exception_only(*sys.exc_info()[:2])[-1].strip()[:500]
"""
_MODULE = """try:
    import {name}
except BaseException:
    wrong({name!r})
"""
_END = """with open(sys.argv[1], "w") as out:
    json.dump(failed, out)
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


def smoke_run(policy: Policy, modules: tuple[str, ...], check: CheckSpec | None) -> EmulatedRun:
    """The run that imports ``modules``, from the unpacked wheel and the wheels of ``check``."""
    script = _BEGIN + "".join(_MODULE.format(name=name) for name in modules) + _END
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


def judge_smoke(
    wheel: str, policy: Policy, modules: tuple[str, ...], outcome: RunOutcome, *, script: str, why: str
) -> Iterator[Finding]:
    """The finding on a run that imported ``modules``, because of ``why`` no check could be run."""
    imported = f"`import {', '.join(modules)}`"
    bad = ended_badly(wheel, policy, replace(outcome, what=imported), SECONDS, script=script)
    if bad:
        yield replace(bad, hint=f"{bad.hint}\nOnly its import was tried, because {why}.")
        return
    failed = _failed(outcome.result, modules)
    if isinstance(failed, str):
        message, hint = f"{imported} ended well {under(policy)}, and {failed}", ""
    elif failed:
        message = f"{imported} did not work {under(policy)}: {some(failed.values(), 3)}"
        hint = "Where a module is not found, that is a requirement of the wheel, which is not installed here."
    else:
        message = f"{imported} works {under(policy)} ({outcome.seconds:.1f} s), and nothing else was run"
        hint = "What it does was not tried: name a recipe with a check."
    yield Finding(rule=NAME, severity=Severity.NOT_PROVEN, subject=wheel, message=f"{why}; {message}", hint=hint)


def _failed(result: bytes | None, modules: tuple[str, ...]) -> Mapping[str, str] | str:
    """The modules that could not be imported with the reason, or what is wrong with the result. The wheel's own code
    may have written it."""
    if result is None:
        return "it left no result"
    if len(result) > MOST_RESULT:
        return f"its result has {len(result):,} bytes"
    try:
        value = json.loads(result)
    except (ValueError, RecursionError):
        return "its result is no JSON"
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        return "its result does not say what could not be imported"
    return {name: f"{name}: {escaped(value[name])}" for name in modules if name in value}
