"""Numbers and texts that every JSON parser reads back: no NaN, no endless text, no half of a character."""

from __future__ import annotations

import math
from typing import SupportsFloat

import numpy as np

LONGEST = 10_000
"""Characters of a text; what is longer is cut, and says so."""


def number(value: SupportsFloat, digits: int = 5) -> float | str:
    """A number to so many significant digits; those that JSON has no word for as the texts of JavaScript.

    Example:
        >>> number(1 / 3), number(float("nan")), number(-float("inf"))
        (0.33333, 'NaN', '-Infinity')
    """
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.{digits}g}")


def text(value: object) -> str:
    """The value as text, cut where it is very long."""
    whole = value if isinstance(value, str) else str(value)
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]} ... ({len(whole)} characters)"


def plain(value: object) -> float | str | bool | None:
    """Whatever a setting or a result may be, as something that JSON holds: numbers, texts, true, false or nothing."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else text(value)
    if isinstance(value, (float, np.floating, np.integer)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return number(value, 9)
    if isinstance(value, (list, tuple)):
        return text(", ".join(str(plain(entry)) for entry in value[:1000]) + (", ..." if len(value) > 1000 else ""))
    return text(value)
