"""The proof: the verdict of all rules on one wheel or bundle, as a value that can be written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from crosswheel.digest import sha256_json
from crosswheel.errors import DataError
from crosswheel.proving import abi, cuda, dependencies, emulate, isa, libraries, payload, record
from crosswheel.proving.emulate import (
    CheckSpec,
    Runner,
    RunOutcome,
    emulated_run,
    installing_run,
    judge_run,
    not_run,
    read_counts,
)
from crosswheel.proving.facts import WheelFacts, read_wheel
from crosswheel.proving.findings import Context, Finding, Rule, Severity, judged
from crosswheel.proving.offered import Offered
from crosswheel.proving.smoke import judge_smoke, libraries_of, modules_of, smoke_run, unmet
from crosswheel.spec.policy import Policy

SCHEMA = 1
"""Version of the proof's JSON."""

STATIC_RULES: tuple[Rule[WheelFacts], ...] = (
    *record.RULES,
    *payload.RULES,
    *abi.RULES,
    *libraries.RULES,
    *isa.RULES,
    *cuda.RULES,
    *dependencies.RULES,
)
"""The rules that read the wheel, in the order in which they speak."""

RULES: Mapping[str, int] = {**{rule.name: rule.version for rule in STATIC_RULES}, emulate.NAME: emulate.VERSION}
"""All rules and their versions: what the key of a proof depends on."""

_HOPELESS = (record.ARCHIVE, payload.MACHINE)
"""Where one of these fails, there is nothing to run: it must not be unpacked, or is for another machine."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What is known of the emulated run. ``qemu`` is the processor's model; ``tests`` are those that ran, None where
    the check did not say; ``used`` names what took part, with its version."""

    qemu: str
    seconds: float
    tests: int | None
    failures: int | None
    skipped: int | None
    used: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The verdict on one wheel or bundle (``kind``), the ``file``. ``rules`` are the versions of the rules that were
    asked, ``run`` is None where nothing was run. ``policy_sha256`` is that of the policy's canonical JSON: the same
    digest means the same question."""

    kind: Literal["wheel", "bundle"] = "wheel"
    file: str
    sha256: str
    size: int
    policy: Policy
    policy_sha256: str
    rules: Mapping[str, int]
    findings: tuple[Finding, ...]
    run: RunFacts | None

    @property
    def passed(self) -> bool:
        """Whether no finding is a failure. What was not proven does not fail a wheel; it is said."""
        return not self.of(Severity.FAIL)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    def asked(self, metadata: Mapping[str, tuple[str, ...]] | None, offered: Offered) -> Self:
        """The proof with what the rule ``dependencies`` says where the index was asked: ``offered`` is what there is of
        what the wheel, whose headers of METADATA are ``metadata``, requires."""
        said = dependencies.findings_of(self.file, metadata, self.policy, offered)
        place = next(
            (at for at, item in enumerate(self.findings) if item.rule == dependencies.NAME), len(self.findings)
        )
        before, after = self.findings[:place], self.findings[place:]
        rest = (item for item in after if item.rule != dependencies.NAME)
        return replace(self, findings=(*before, *said, *rest))

    def as_json(self) -> dict[str, Any]:
        """The proof as JSON has it."""
        return {
            "schema": SCHEMA,
            self.kind: self.file,
            "sha256": self.sha256,
            "size": self.size,
            "passed": self.passed,
            "policy": self.policy.model_dump(mode="json"),
            "policy_sha256": self.policy_sha256,
            "rules": dict(self.rules),
            "findings": [finding.as_json() for finding in self.findings],
            "run": None
            if self.run is None
            else {
                "qemu": self.run.qemu,
                "seconds": round(self.run.seconds, 3),
                "tests": self.run.tests,
                "failures": self.run.failures,
                "skipped": self.run.skipped,
                "used": dict(self.run.used),
            },
        }

    @classmethod
    def from_json(cls, value: Any, where: str = "") -> Self:
        """The proof of which ``value`` is the JSON. ``passed`` is not believed but follows from the findings.

        Raises ``DataError`` where ``value`` is no proof of this schema.
        """
        try:
            if value["schema"] != SCHEMA:
                raise ValueError(f"its schema is {value['schema']!r}, and this crosswheel reads schema {SCHEMA}")
            kind: Literal["wheel", "bundle"] = "bundle" if "bundle" in value else "wheel"
            return cls(
                kind=kind,
                file=str(value[kind]),
                sha256=str(value["sha256"]),
                size=int(value["size"]),
                policy=Policy.model_validate(value["policy"]),
                policy_sha256=str(value["policy_sha256"]),
                rules={str(name): int(version) for name, version in value["rules"].items()},
                findings=tuple(
                    Finding(
                        rule=str(item["rule"]),
                        severity=Severity(item["severity"]),
                        subject=str(item["subject"]),
                        message=str(item["message"]),
                        hint=str(item["hint"]),
                    )
                    for item in value["findings"]
                ),
                run=None if value["run"] is None else RunFacts(**value["run"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError("This is no proof that can be read.", where=where, why=str(error)) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """The proof in the file ``path``. Raises ``DataError``."""
        try:
            value = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise DataError("This proof cannot be read.", where=str(path), why=str(error)) from error
        return cls.from_json(value, str(path))

    def write(self, path: Path) -> None:
        """Writes it as JSON to ``path``."""
        path.write_text(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def prove(
    wheel: Path,
    policy: Policy,
    *,
    sonames: frozenset[str] | None,
    check: CheckSpec | None,
    run: Runner | None,
    built_here: bool = False,
    elsewhere: Mapping[str, str] | None = None,
    offered: Offered | None = None,
) -> Proof:
    """Judges ``wheel`` against ``policy``.

    ``sonames`` are the file names of the target's libraries, None where they are not known. ``check`` is the recipe's,
    None for a wheel that is no recipe's; ``run`` runs it, None where nothing can be run. ``built_here``,
    ``elsewhere`` and ``offered``: see :class:`~crosswheel.proving.findings.Context`. Raises ``InputError`` where
    ``wheel`` is none; what ``run`` raises goes through.
    """
    facts = read_wheel(wheel, isa.processor_of(policy))
    context = Context(policy=policy, sonames=sonames, built_here=built_here, elsewhere=elsewhere or {}, offered=offered)
    findings = [finding for rule in STATIC_RULES for finding in judged(rule, facts, context)]
    said, run_facts = _emulated(facts, context, check, run, findings)
    return Proof(
        file=facts.file,
        sha256=facts.sha256,
        size=facts.size,
        policy=policy,
        policy_sha256=sha256_json(policy.model_dump(mode="json")),
        rules=RULES,
        findings=(*findings, *said),
        run=run_facts,
    )


def _emulated(
    facts: WheelFacts, context: Context, check: CheckSpec | None, run: Runner | None, static: list[Finding]
) -> tuple[list[Finding], RunFacts | None]:
    """What the emulated run says, and what is known of it."""
    policy = context.policy
    if run is None:
        return [not_run(facts.file, "nothing was run: no emulator and no root of the target are at hand")], None
    hopeless = [item.rule for item in static if item.rule in _HOPELESS and item.severity is Severity.FAIL]
    if hopeless:
        return [not_run(facts.file, f"nothing was run, because the rule {hopeless[0]} failed")], None
    if check is None:
        return _imported(facts, policy, None, run, "no check is known for this wheel")
    if check.install and not context.built_here and installing_run(policy, check, facts.file) is None:
        return _imported(facts, policy, check, run, f"the recipe's check has no pip for Python {policy.python}")
    outcome = run(emulated_run(policy, check))
    lacks = unmet(facts, outcome) if check.install and not context.built_here and outcome.result is None else ""
    if lacks:
        return _imported(facts, policy, check, run, f"the recipe's check brings no {lacks}, which this wheel requires")
    return list(judge_run(facts.file, policy, check, outcome)), _run_facts(policy, outcome)


def _imported(
    facts: WheelFacts, policy: Policy, check: CheckSpec | None, run: Runner, why: str
) -> tuple[list[Finding], RunFacts | None]:
    """What is run of a wheel from elsewhere where, because of ``why``, no check can be: its import."""
    modules = modules_of(facts)
    if not modules or not facts.elfs:
        what = "machine code" if modules else "module at its top"
        hint = "Name the recipe that it was built from, or give a check."
        return [not_run(facts.file, f"{why}, and it has no {what}, so nothing of it was run", hint)], None
    wanted = smoke_run(policy, modules, libraries_of(facts), check)
    outcome = run(wanted)
    said = judge_smoke(facts.file, policy, modules, outcome, script=wanted.check, why=why)
    return list(said), _run_facts(policy, outcome)


def _run_facts(policy: Policy, outcome: RunOutcome) -> RunFacts:
    counts = read_counts(outcome.result)
    known = None if isinstance(counts, str) else counts
    return RunFacts(
        qemu=policy.qemu,
        seconds=outcome.seconds,
        tests=known.tests if known else None,
        failures=known.failures if known else None,
        skipped=known.skipped if known else None,
        used=outcome.used,
    )
