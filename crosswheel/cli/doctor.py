"""The task `doctor`, and what the tasks that build ask of the machine before they begin."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from crosswheel.cli.arguments import task
from crosswheel.cli.command import as_typed
from crosswheel.cli.settings import read_settings

if TYPE_CHECKING:
    from crosswheel.building.job import Settings
    from crosswheel.building.machine import Finding, Need

EVERYTHING = frozenset({"fetch", "lock", "root", "image", "tree", "files", "run", "wheel", "bundle", "proof"})
"""The kinds of step that need something of the machine, or may."""


@task(
    help={
        "fix": "Install and start what is missing (root, on Debian or Ubuntu).",
        "json": "Print one JSON object on stdout.",
    }
)
def doctor(_context: Context, fix: bool = False, json: bool = False) -> None:
    """Show what this machine has and lacks for a build, with the command that brings it. Exit code 5 if it lacks any.

    Builds bring their own compilers and their own qemu; the machine gives Docker, apt and git.
    """
    from crosswheel.building.machine import Machine, look, needs
    from crosswheel.building.machine.provide import consent_for, lack_error, provide

    machine = Machine.here(read_settings().store, os.environ)
    findings = look(machine, needs.ALL, versions=True)
    lacking = [finding for finding in findings if finding.status == "missing"]
    ours = [finding for finding in lacking if finding.fix in ("install", "start")]
    if fix and ours:
        if consent_for(machine, task="doctor", terminal=False, fix=True) != "yes":
            raise lack_error(machine, lacking)
        provide(machine, ours, say=tell)
        findings = look(machine, needs.ALL, versions=True)
        lacking = [finding for finding in findings if finding.status == "missing"]
    if json:
        from json import dumps

        print(dumps({"system": machine.system.title, "needs": [finding.described() for finding in findings]}, indent=2))
    else:
        _show(machine.system.title, findings, lacking, fixable=machine.may_install and bool(ours) and not fix)
    if lacking:
        raise Exit(code=5)


def _show(title: str, findings: Collection[Finding], lacking: Collection[Finding], *, fixable: bool) -> None:
    from crosswheel.cli.console import show_table

    rows = [
        (
            finding.need.name,
            finding.status,
            finding.version,
            finding.need.why if finding.status == "ok" else finding.detail,
        )
        for finding in findings
    ]
    show_table(f"This machine: {title}", ("what", "state", "version", ""), rows)
    told = [finding for finding in findings if finding.command and finding.status in ("missing", "low")]
    for finding in told:
        print(f"{finding.need.name}: {finding.command}")
    optional = [finding for finding in findings if finding.command and finding.status == "optional"]
    for finding in optional:
        print(f"{finding.need.name} (optional): {finding.command}")
    if not lacking:
        print("Nothing is missing: this machine can build.")
    elif fixable:
        print(as_typed("→ ./x doctor --fix installs and starts it."))


def prepare_for_build(settings: Settings, kinds: Collection[str] = EVERYTHING) -> None:
    """Sees to it that steps of these kinds can run on this machine; costs some milliseconds where nothing is missing.

    What is missing is installed and started, where this is root on Debian or Ubuntu and CROSSWHEEL_YES=1 is set or
    the person at the terminal says yes; else MachineError names it with the commands.
    """
    _prepare(settings, kinds, task="build")


def prepare_for_tests(settings: Settings) -> None:
    """Like :func:`prepare_for_build` for everything that the tests need, without asking."""
    from crosswheel.building.machine.needs import FOR_TESTS

    _prepare(settings, EVERYTHING, task="test", more=FOR_TESTS)


def prepare_for_benchmarks(settings: Settings) -> None:
    """Like :func:`prepare_for_build` for everything that the benchmarks need, without asking."""
    from crosswheel.building.machine.needs import FOR_BENCHMARKS

    _prepare(settings, EVERYTHING, task="test", more=FOR_BENCHMARKS)


def prepare_for_publishing(settings: Settings, *programs: str) -> None:
    """Like :func:`prepare_for_build` for the programs that carry an index: ``rclone``, ``rsync``, ``ssh``."""
    from crosswheel.building.machine.needs import FOR_PUBLISHING

    _prepare(settings, (), task="publish", more=[FOR_PUBLISHING[name] for name in programs])


def _prepare(settings: Settings, kinds: Collection[str], *, task: str, more: Sequence[Need] = ()) -> None:
    from crosswheel.building.machine import Machine
    from crosswheel.building.machine.needs import needs_of
    from crosswheel.building.machine.provide import consent_for, ensure

    machine = Machine.here(settings.store, os.environ)
    consent = consent_for(machine, task=task, terminal=sys.stdin.isatty() and sys.stderr.isatty())
    ensure(
        machine,
        (*needs_of(kinds, sandbox=settings.sandbox, system=machine.system), *more),
        consent=consent,
        ask=ask,
        say=tell,
    )


def tell(text: str) -> None:
    """A line about the machine's set-up, on stderr."""
    print(f"crosswheel: {text}", file=sys.stderr, flush=True)


def ask(question: str) -> bool:
    """Puts a question that is answered with y or n; no answer is no."""
    print(f"crosswheel: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
