"""Errors that are sentences to a person, and the exit code that goes with each.

Exit codes of every command:

====  =====================================================================
0     it worked; for a build or ``verify``: the proof passed
1     a proof failed: the wheel would not run on its target
2     bad input: command line, written data, a wheel or a source tree
3     a source, a package or a mirror could not be had
4     a step of the build failed
5     this machine lacks something: Docker, a tool, disk space, a permission
130   interrupted
====  =====================================================================
"""

from __future__ import annotations


class CrosswheelError(Exception):
    """What went wrong, where, why, and what to do about it.

    ``what`` is a sentence. ``where`` is a file (with ``:line`` where known), a step or an option. ``why`` gives the
    evidence, and may have several lines. ``hint`` says what to do, where possible as a command to copy.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        parts = [head]
        if self.why:
            parts.append(self.why)
        if self.hint:
            parts.append(f"→ {self.hint}")
        return "\n".join(parts)


class InputError(CrosswheelError):
    """The user's request or a file of theirs cannot be used."""

    exit_code = 2


class DataError(InputError):
    """Written data (a TOML file, a template, a patch series) says something impossible."""


class ProofError(CrosswheelError):
    """A wheel was built, and its proof failed."""

    exit_code = 1


class FetchError(CrosswheelError):
    """A source, a package index or a mirror did not give what was asked for."""

    exit_code = 3


class StepError(CrosswheelError):
    """A step of a build failed."""

    exit_code = 4


class MachineError(CrosswheelError):
    """This machine lacks something: a tool, a daemon, a permission, disk space."""

    exit_code = 5
