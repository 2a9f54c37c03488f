"""What is known of a format: how a sound file is made, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Format:
    """`make(path)` writes a sound file; `read(path)` returns what it holds, as arrays, texts and containers of them."""

    name: str
    file: str
    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    checksum: bool = False
    lenient: bool = False
    """Damage leaves parts out: of a live table, the rows that are not whole."""
