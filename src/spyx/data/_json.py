"""What JSON can hold, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | float | bool | None"
"""An object, a list, a text, a number, true, false or null; a tuple is written as a list."""

Object: TypeAlias = "dict[str, JSON]"
"""A JSON object, by the names of its entries."""
