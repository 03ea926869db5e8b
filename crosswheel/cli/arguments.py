"""Arguments that Invoke does not know by itself: optional positional ones, and any number of them.

Invoke's parser gives a positional argument exactly one word, and takes every further word for the name of a task. A
task made with :func:`task` and ``rest="wheels"`` takes all further words into the list ``wheels``; with
``maybe="recipe"`` one further word, if there is one, into ``recipe``.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.parser.parser import ParseMachine
from invoke.tasks import Task as InvokeTask

from crosswheel.errors import CrosswheelError


class RestArgument(Argument):
    """Takes words that are no flags: one if its kind is text, any number if it is a list."""

    def takes_more(self) -> bool:
        return self.kind is list or self.raw_value is None


class Task(InvokeTask[Callable[..., Any]]):
    """A task with at most one argument that takes further words."""

    rest: str | None = None
    maybe: str | None = None
    numbers: Mapping[str, type[float]] = MappingProxyType({})

    def arg_opts(self, name: str, default: Any, taken_names: set[str]) -> dict[str, Any]:
        # Invoke takes the type of a default for the kind of the argument, even where `iterable` says that it is a list.
        told: Any = None if name in self.iterable else default
        options: dict[str, Any] = super().arg_opts(name, told, taken_names)
        return options | ({"kind": self.numbers[name]} if name in self.numbers else {})

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        texts = dict(self.help)
        arguments: list[Argument] = super().get_arguments(ignore_unknown_help=ignore_unknown_help)
        self.help = texts  # Invoke takes each text out when it has used it, and has none the second time
        for argument in arguments:
            if (argument.attr_name or argument.name) in (self.rest, self.maybe):
                argument.__class__ = RestArgument
        return arguments


def task(
    *,
    rest: str | None = None,
    maybe: str | None = None,
    numbers: Mapping[str, type[float]] | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Task]:
    """Like ``invoke.task``, with ``rest`` or ``maybe`` naming the argument that takes further words, and ``numbers``
    saying which are numbers (``int`` or ``float``) where the default, None, does not."""
    if rest:
        options["iterable"] = [*options.get("iterable", []), rest]
    options.setdefault("auto_shortflags", False)

    def decorate(function: Callable[..., Any]) -> Task:
        made = Task(_telling_errors(function), **options)
        made.rest = rest
        made.maybe = maybe
        made.numbers = numbers or {}
        return made

    return decorate


def _telling_errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Tells our errors as sentences, and ends with their exit code; 130 when interrupted."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except CrosswheelError as error:
            from crosswheel.cli.console import show_error

            show_error(error, as_json=bool(kwargs.get("json")))
            raise Exit(code=error.exit_code) from error
        except KeyboardInterrupt:
            raise Exit(message="interrupted", code=130) from None
        except BrokenPipeError:
            # Who read our output has ended (`./x log KEY | head`). Python must not try to write the rest at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=141) from None

    return guarded


def _rest_of(machine: ParseMachine) -> RestArgument | None:
    if machine.context is None:
        return None
    for argument in machine.context.args.values():
        if isinstance(argument, RestArgument) and argument.takes_more():
            return argument
    return None


def _is_unknown_flag(machine: ParseMachine, token: str) -> bool:
    known = {*machine.context.flags, *machine.context.inverse_flags, *machine.initial.flags}
    return token.startswith("--") and token not in known and not machine.waiting_for_flag_value


_HELP = ("--help", "-h")


def teach_parser() -> None:
    """Lets Invoke's parser give further words to a task that takes them. Doing it twice changes nothing."""
    handle = ParseMachine.handle
    if handle.__name__ == "handle_rest":
        return

    def handle_rest(machine: ParseMachine, token: str) -> None:
        context = machine.context
        if context is not None and token in _HELP and not machine.waiting_for_flag_value:
            context.positional_args.clear()  # else `--help` would be eaten as the first of them
        if context is not None and context.missing_positional_args and _is_unknown_flag(machine, token):
            raise ParseError(f"No idea what {token!r} is!", context)  # else it would be eaten as an argument
        plain = (
            machine.current_state != "unknown"
            and context is not None
            and not token.startswith("-")
            and not machine.waiting_for_flag_value
            and not context.missing_positional_args
        )
        argument = _rest_of(machine) if plain else None
        if argument is not None:
            argument.value = token
            return
        try:
            handle(machine, token)
        except ValueError:
            flag: Any = machine.flag
            raise ParseError(f"--{flag.name} takes a number, and {token!r} is none", context) from None

    type.__setattr__(ParseMachine, "handle", handle_rest)
