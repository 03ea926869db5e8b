"""What Invoke says of wrong command lines and on ``--help``, said as the rest of crosswheel says things.

By itself Invoke ends a wrong command line with exit status 1, which here means that a proof failed, and offers no
nearest name; its help shows neither which words a task takes nor what an option's value is. A task of a collection it
calls ``matrix.plan``, which here is written and shown as two words: ``./x matrix plan``.
"""

from __future__ import annotations

import difflib
import inspect
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.context import ParserContext
from invoke.program import Program

from crosswheel.cli.arguments import RestArgument
from crosswheel.cli.command import COMMAND, as_typed
from crosswheel.errors import InputError

_UNKNOWN = re.compile(r"^No idea what ['\"](?P<word>.*)['\"] is!$", re.DOTALL)
_NO_VALUE = re.compile(r"^Flag <\w+: (?P<name>[\w-]+).* needed value")
_VALUES = {int: "N", float: "NUMBER"}


def teach_program() -> None:
    """Makes Invoke's program tell wrong command lines and help as above. Doing it twice changes nothing."""
    if Program.print_task_help is _print_task_help:
        return
    type.__setattr__(Program, "parse_tasks", _joining(Program.parse_tasks))
    for name in ("parse_tasks", "parse_cleanup"):
        setattr(Program, name, _telling(getattr(Program, name)))
    type.__setattr__(Program, "print_task_help", _print_task_help)
    type.__setattr__(Program, "_make_pairs", _in_words(Program._make_pairs))


def _joining(parse: Callable[[Program], None]) -> Callable[[Program], None]:
    """Gives Invoke the two words of a collection's task as the one that it knows, also behind ``--help``."""

    def joining(program: Program) -> None:
        words, halp = program.core.unparsed, program.args.help
        names = program.collection.task_names
        if words and isinstance(halp.value, str) and f"{halp.value}.{words[0]}" in names:
            halp.value = f"{halp.value}.{words.pop(0)}"
        elif len(words) > 1 and f"{words[0]}.{words[1]}" in names:
            words[:2] = [f"{words[0]}.{words[1]}"]
        parse(program)

    return joining


def _in_words(make: Callable[..., list[tuple[str, str | None]]]) -> Callable[..., list[tuple[str, str | None]]]:
    """The list of tasks with their names as they are written."""

    def in_words(*args: Any, **kwargs: Any) -> list[tuple[str, str | None]]:
        return [(name.replace(".", " "), text and as_typed(text)) for name, text in make(*args, **kwargs)]

    return in_words


def _telling(parse: Callable[[Program], None]) -> Callable[[Program], None]:
    def telling(program: Program) -> None:
        try:
            parse(program)
        except ParseError as error:
            from crosswheel.cli.console import show_error

            told = _explained(error, list(program.collection.task_names), program.core.unparsed)
            show_error(told, as_json="--json" in program.core.unparsed)
            raise Exit(code=told.exit_code) from error

    return telling


def _explained(error: ParseError, tasks: Iterable[str], typed: Sequence[str]) -> InputError:
    text = str(error)
    context: ParserContext | None = error.context
    task = context.name.replace(".", " ") if context and context.name else None
    hint = f"`./x --help {task}` shows what it takes" if task else "`./x --list` shows what there is"
    if match := _UNKNOWN.match(text):
        word = match["word"]
        if context is None or task is None:
            return _no_command(word, [name.replace(".", " ") for name in tasks], typed)
        if word.startswith("-"):
            option = word.partition("=")[0]
            return InputError(f"`{task}` has no option {option}", why=_near(option, context.flag_names()), hint=hint)
        return InputError(f"`{task}` takes no further word, and {shlex.quote(word)} is one", hint=hint)
    if match := _NO_VALUE.match(text):
        return InputError(f"`{task}` wants a value for --{match['name'].replace('_', '-')}", hint=hint)
    if context is not None and context.missing_positional_args:
        missing = " and ".join(_word(argument) for argument in context.missing_positional_args)
        return InputError(f"`{task}` wants {missing}", hint=hint)
    return InputError(text, hint=hint)


def _no_command(word: str, tasks: Sequence[str], typed: Sequence[str]) -> InputError:
    hint = "`./x --list` shows what there is"
    if of := [task.partition(" ")[2] for task in tasks if task.startswith(f"{word} ")]:
        further = next((other for other in typed if other != word and not other.startswith("-")), None)
        what = f"`{word}` wants one more word" if further is None else f"`{word}` has no {shlex.quote(further)}"
        return InputError(what, why=f"it has: {', '.join(sorted(of))}", hint=f"`./x --help {word} {min(of)}`, say")
    return InputError(f"there is no command {shlex.quote(word)}", why=_near(word, tasks), hint=hint)


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else ""


# --- help ------------------------------------------------------------------------------------------------------------


def _print_task_help(program: Program, name: str) -> None:
    context: ParserContext = program.parser.contexts[name]
    arguments = list(dict.fromkeys(context.args.values()))
    words = [argument for argument in arguments if argument.positional or isinstance(argument, RestArgument)]
    options = [argument for argument in arguments if argument not in words]
    usage = [COMMAND, name.replace(".", " "), *map(_shown_word, words), *(["[options]"] if options else [])]
    print(f"Usage: {' '.join(usage)}\n")
    print(f"{as_typed(inspect.getdoc(program.collection[name]) or '')}\n")
    if words:
        program.print_columns([(_word(argument), as_typed(argument.help or "")) for argument in words])
    if options:
        print("Options:")
        program.print_columns([(_option(argument), as_typed(argument.help or "")) for argument in options])


def _word(argument: Argument) -> str:
    return _name(argument).upper()


def _shown_word(argument: Argument) -> str:
    if not isinstance(argument, RestArgument):
        return _word(argument)
    return f"[{_word(argument)}…]" if argument.kind is list else f"[{_word(argument)}]"


def _option(argument: Argument) -> str:
    name = _name(argument)
    if not argument.takes_value:
        return f"--{name}"
    return f"--{name} {_VALUES.get(argument.kind, name.upper())}"


def _name(argument: Any) -> str:
    return str(argument.name).strip("_").replace("_", "-")
