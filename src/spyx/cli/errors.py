"""A mistake of the user: one line on standard error and exit code 2, no traceback."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, runtime_checkable

import typer
from typer.core import TyperGroup

from spyx.cli.interrupt import EXIT_CODE
from spyx.cli.text import plain

if TYPE_CHECKING:
    from jaxtyping import Shaped
    from numpy.typing import ArrayLike


class UserError(Exception):
    """Something the user can put right; its text is the whole message."""


class Interrupted(UserError):
    """A signal, at a place where there is something to say about it; `code` is the exit code."""

    code = EXIT_CODE


class OneLineErrors(TyperGroup):
    """A group of commands whose errors are one line each."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command and leave with its exit code."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except Exception as error:
            message = _message(error)
            if message is None:
                raise
            print(f"spyx: {plain(' '.join(message.split()))}", file=sys.stderr)
            sys.exit(EXIT_CODE if isinstance(error, typer.Abort) else getattr(error, "code", 2))
        if code == EXIT_CODE:  # Typer makes this of a KeyboardInterrupt, without a word
            print("spyx: interrupted.", file=sys.stderr)
        sys.exit(code if isinstance(code, int) else 0)


@runtime_checkable
class _Refusal(Protocol):
    """What the parser of options raises."""

    def format_message(self) -> str: ...


def _message(error: Exception) -> str | None:
    """The line for an error that a user, a file or the machine can cause; None for a mistake of this program."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, typer.Abort):
        return "interrupted."
    if isinstance(error, _Refusal):
        return _usage(error)
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        return f"the file system refuses{where}: {error.strerror or error}."
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "not enough memory. Use a smaller network, fewer --steps or a smaller --batch-size."
    if isinstance(error, RecursionError):
        return "the input is nested too deeply."
    return None


def _usage(error: _Refusal) -> str:
    message = error.format_message()
    context = getattr(error, "ctx", None)
    given = getattr(error, "option_name", None)
    if context is None:
        return message
    if given is not None:
        options = sorted({name for parameter in context.command.params for name in parameter.opts if name[:2] == "--"})
        return f"unknown option {given}.{suggestion(given, options)} The options are: {', '.join(options)}."
    commands = getattr(context.command, "commands", None)
    if commands and "command" in message.lower():
        wrong = next(iter(getattr(context, "protected_args", None) or context.args), "")
        wrong = message.split("'")[1] if "'" in message else wrong
        return f"unknown command {wrong!r}.{suggestion(wrong, commands)} The commands are: {', '.join(commands)}."
    return f"{message} See {context.command_path} --help."


def suggestion(given: str, choices: Iterable[str]) -> str:
    """` Did you mean X?`, or nothing where nothing comes close."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1)
    return f" Did you mean {by_lower[close[0]]}?" if close else ""


def refuse_nan(array: str, values: Shaped[ArrayLike, "..."], *, infinite: bool = True) -> None:
    """A line that names the array and counts its NaN, where it holds any, and infinities unless those are allowed."""
    import numpy as np

    values = np.asarray(values)
    if not np.issubdtype(values.dtype, np.inexact):
        return
    found = (("NaN", np.isnan(values)), *([] if infinite else [("infinity", np.isinf(values))]))
    for what, wrong in found:
        if count := int(wrong.sum()):
            raise UserError(f"{array}: expected numbers; got {what} in {count} of {values.size} values.")


def pick(what: str, given: str, choices: Iterable[str]) -> str:
    """The choice that `given` names, upper and lower case alike; otherwise an error that lists them all."""
    choices = list(choices)
    for choice in choices:
        if choice.lower() == str(given).lower():
            return choice
    raise UserError(f"unknown {what} {given!r}.{suggestion(str(given), choices)} Choose from: {', '.join(choices)}.")
