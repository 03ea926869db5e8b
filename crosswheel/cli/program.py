"""The program: the command ``crosswheel``, and the option ``--data`` that stands before or behind every task."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from invoke.parser.argument import Argument
from invoke.program import Program

DATA_OPTION = "--data"

_HELP = "A folder of your own recipes, targets and patches over the shipped ones; `CROSSWHEEL_DATA` names one, too."


def teach_data() -> None:
    """Lets Invoke's program take ``--data DIR`` wherever it stands. Doing it twice changes nothing."""
    if Program.core_args.__name__ == "with_data":
        return
    type.__setattr__(Program, "core_args", _with_data(Program.core_args))
    type.__setattr__(Program, "parse_tasks", _taking_data(Program.parse_tasks))


def _with_data(core_args: Callable[[Program], list[Argument]]) -> Callable[[Program], list[Argument]]:
    def with_data(program: Program) -> list[Argument]:
        return [*core_args(program), Argument(names=(DATA_OPTION.strip("-"),), help=_HELP)]

    return with_data


def _taking_data(parse: Callable[[Program], None]) -> Callable[[Program], None]:
    """Takes the option out of the words before the tasks are parsed: a program that loads its tasks from a folder has
    by then parsed its own options, and has not known this one."""

    def taking_data(program: Program) -> None:
        from crosswheel.cli.settings import use_data

        before = program.core[0].args.get("data")
        given, words = split_data(program.core.unparsed)
        program.core.unparsed[:] = words
        folder = given or (before.value if before else None)
        if folder:
            use_data(folder)
        parse(program)

    return taking_data


def split_data(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of ``--data`` among words, the last one's if it stands there several times, and the other words. One
    without a value stays, and the parser tells of it."""
    found, rest = None, []
    left = list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.partition("=")
        if name == DATA_OPTION and (equals or left):
            found = value if equals else left.pop(0)
        else:
            rest.append(word)
    return found, rest


def main() -> None:
    """The command ``crosswheel``."""
    from importlib.metadata import version

    from crosswheel.cli import ns

    # Invoke would otherwise keep Python from caching our modules.
    words = sys.argv[1:] or ["--list"]
    program = Program(name="crosswheel", binary="crosswheel", namespace=ns, version=version("crosswheel"))
    try:
        program.run(["crosswheel", "--write-pyc", *words])
    except BrokenPipeError:  # who read our help has ended; Python must not try to write the rest at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
