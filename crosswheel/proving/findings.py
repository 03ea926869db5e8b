"""What a rule says: findings. What a rule is, and what it may look at besides the wheel or the bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from crosswheel.proving.facts import Facts
    from crosswheel.proving.offered import Offered
    from crosswheel.spec.policy import Policy

F = TypeVar("F", bound="Facts")
F_contra = TypeVar("F_contra", bound="Facts", contravariant=True)


class Severity(StrEnum):
    """How bad it is.

    ``FAIL``: the wheel would not be installed, load or run on its target, or is not what it says it is. ``WARN``: it
    runs, and something is not as it should be. ``NOT_PROVEN``: nothing was found, and not everything could be looked
    at. ``PASS``: all was looked at, and nothing was found.
    """

    FAIL = "fail"
    WARN = "warn"
    NOT_PROVEN = "not_proven"
    PASS = "pass"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence of a rule about a file of the wheel, or about the wheel (``subject`` is its file name).

    ``message`` gives the evidence; ``hint`` says what to do about it, and is empty where nothing is to be done.
    """

    rule: str
    severity: Severity
    subject: str
    message: str
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        """The finding as the proof's JSON has it."""
        return {
            "rule": self.rule,
            "severity": self.severity.value,
            "subject": self.subject,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a wheel is judged against.

    ``sonames`` are the file names of the target's libraries; None where no root of the target is at hand.
    ``built_here`` says that crosswheel built the wheel: then the habits of others' wheels that do no harm on the
    target (a build path in an assertion) are failures too, because the build can and must do without them.
    ``elsewhere`` are libraries that whoever installs the wheel brings: pattern of the SONAME → how it is had.
    ``offered`` is what there is of the projects that the wheel requires; None where nobody was asked.
    """

    policy: Policy
    sonames: frozenset[str] | None
    built_here: bool
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    offered: Offered | None = None

    def brought(self, soname: str) -> str | None:
        """How a library is had that neither the wheel nor the target has, where that is known."""
        return next((how for pattern, how in self.elsewhere.items() if fnmatchcase(soname, pattern)), None)

    @property
    def blame(self) -> Severity:
        """The severity of what does no harm on the target but has no place in a wheel of ours."""
        return Severity.FAIL if self.built_here else Severity.WARN


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[F_contra]):
    """One question that is put to a wheel, to a bundle, or to both: ``F_contra`` are the facts that it wants.

    ``version`` goes up by one when the rule's answers change: it is in the key of the proof. ``about`` is what the
    rule asks, for people. ``judge`` gives what it found; :func:`judged` adds the sentence that nothing was found.
    """

    name: str
    version: int
    about: str
    judge: Callable[[F_contra, Context], Iterable[Finding]]
    looked: Callable[[F_contra, Context], str]


def judged(rule: Rule[F], facts: F, context: Context) -> list[Finding]:
    """The rule's findings; one that says what was looked at (``rule.looked``) where it found nothing."""
    findings = list(rule.judge(facts, context))
    if not findings:
        findings.append(
            Finding(rule=rule.name, severity=Severity.PASS, subject=facts.file, message=rule.looked(facts, context))
        )
    return findings


def shown(text: str) -> str:
    """``text`` without control characters, marks that turn the direction of text round, and halves of characters: a
    wheel's names may have them, and a terminal would obey."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def some(items: Iterable[str], most: int = 4) -> str:
    """``a, b, c and 5 more``: the first ``most`` of ``items``, in their order, for a sentence."""
    listed = list(items)
    shown = ", ".join(listed[:most])
    return f"{shown} and {len(listed) - most} more" if len(listed) > most else shown
