"""Classes and functions of the user's own, named `module:name` on the command line and never in a file alone."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

from spyx.cli.errors import UserError, suggestion

T = TypeVar("T")


def is_own(text: str) -> bool:
    """Whether a setting names code, `module:name`."""
    return ":" in text


def imported(option: str, text: str, form: str, fits: Callable[[object], TypeGuard[T]], what: str) -> T:
    """What `module:name` names, the module imported as from the current directory.

    Args:
        option: as it is written, `--neuron`.
        text: its value.
        form: what is expected, with an example.
        fits: whether something in the module can be meant.
        what: such things in words: `("class of neurons", "subclass of spyx.nn.Neuron")` joined by a bar.

    Raises:
        UserError: there is no such module or name, or importing fails.
    """
    module_name, _, name = text.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), name]):
        raise UserError(f"{option}: expected {form}; got {text!r}.")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UserError(f"{option}: importing {module_name} fails: {error}.") from error
        raise UserError(
            f"{option}: there is no module {error.name} in {here}, nor installed. Start spyx in its folder."
        ) from error
    except Exception as error:  # a module may fail in any way
        raise UserError(f"{option}: importing {module_name} fails: {type(error).__name__}: {error}") from error
    kinds = {key: value for key, value in vars(module).items() if fits(value)}
    if name not in kinds:
        one, many = what.split("|")
        own = [key for key, value in kinds.items() if getattr(value, "__module__", None) == module.__name__]
        state = f"is no {one}" if hasattr(module, name) else "is not there"
        has = f"It has: {', '.join(own)}." if own else f"It has no {many}."
        raise UserError(f"{option}: {name} {state} in the module {module_name}.{suggestion(name, own)} {has}")
    return kinds[name]


def function(option: str, text: str, example: str) -> Callable[..., Any]:
    """A function that `module:name` names."""

    def fits(value: object) -> TypeGuard[Callable[..., Any]]:
        return callable(value) and not isinstance(value, type)

    return imported(option, text, f"MODULE:FUNCTION, such as {example}", fits, "function|function")
