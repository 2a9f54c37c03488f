"""One setting: a value of the right type and inside its limits, or a message that names the setting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, TypeGuard

from spyx.cli.errors import UserError, suggestion
from spyx.cli.text import is_plain

MOST_LAYERS = 256

Setting: TypeAlias = str | float | tuple[int, ...]
"""A setting that was checked: a text, a number (true and false too), or sizes."""

Limits: TypeAlias = tuple[float, float] | tuple[str, ...]
"""Least and largest value of a number, or the words to choose from."""


def check(name: str, value: object, default: Setting, limits: Limits | None) -> Setting:
    """`value` as the type of `default` and inside `limits`.

    Args:
        name: how messages name the setting.
        value: from a file or the command line.
        default: a setting of the same type.
        limits: least and largest value of a number; the words to choose from; None for any text.

    Raises:
        UserError: the type is another, or the value out of its limits.
    """
    if isinstance(default, tuple):
        empty = value in ((), [], "none") or (value == "" and not default)
        return () if empty else _sizes(name, value)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"{name}: expected true or false; got {value!r}.")
        return value
    if isinstance(default, str):
        if not isinstance(value, str):
            raise UserError(f"{name}: expected a name; got {value!r}.")
        if not is_plain(value):
            raise UserError(f"{name}: expected a text without control characters; got {value!r}.")
        if limits is not None and value not in limits:
            words = [str(word) for word in limits]
            raise UserError(f"{name}: expected one of {', '.join(words)}; got {value!r}.{suggestion(value, words)}")
        return value
    kind = type(default)
    wanted = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and not _whole(value)):
        raise UserError(f"{name}: expected {wanted}; got {value!r}.")
    low, high = map(float, limits or ())
    if not low <= value <= high:
        raise UserError(f"{name}: expected {wanted} from {low:g} to {high:g}; got {value}.")
    return kind(value)


def _whole(value: object) -> TypeGuard[float]:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _sizes(name: str, value: object) -> tuple[int, ...]:
    """`256`, `"256,128"` and `[256, 128]` as a tuple of sizes."""
    written = value.replace("x", ",").split(",") if isinstance(value, str) else value
    written = [written] if isinstance(written, int) else written
    parts = list(written) if isinstance(written, Iterable) else []
    try:
        sizes = tuple(int(part) for part in parts if isinstance(part, str) or _whole(part))
    except ValueError:
        sizes = ()
    if (
        not sizes
        or len(sizes) < len(parts)
        or len(sizes) > MOST_LAYERS
        or not all(1 <= size <= 65_536 for size in sizes)
    ):
        raise UserError(
            f"{name}: expected one size from 1 to 65536 per hidden layer, such as 256,128, or none; got {value!r}."
        )
    return sizes
