"""What a decoder reads and returns, and the one error that all of them raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from spyx.data._budget import budget

LONGEST_HEADER = 1 << 16


class EventFileError(ValueError):
    """A file that is not what it says it is.

    Args:
        path: the file, or `archive!member`.
        offset: byte where the trouble starts.
        expected: what should have been there.
        found: what was there.
        action: what the reader can do.

    Example:
        >>> EventFileError("a.bin", 5, "a whole record of 5 bytes", "3 bytes", "Export it again.").offset
        5
    """

    def __init__(self, path: str, offset: int, expected: str, found: str, action: str) -> None:
        self.path, self.offset, self.expected, self.found = path, offset, expected, found
        super().__init__(f"read_events: expected {expected}; got {found} at byte {offset} of {path}. {action}")


class Columns(NamedTuple):
    """Decoded events before validation; `offset_of(i)` is the byte where event `i` was read."""

    t: np.ndarray
    addresses: dict[str, np.ndarray]
    offset_of: Callable[[int], int]
    sensor_size: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Source:
    """The bytes of one file, the name to blame, and how much the file may unpack to (None: see `budget`)."""

    name: str
    data: np.ndarray
    max_bytes: int | None = None

    def __len__(self) -> int:
        return len(self.data)

    def error(
        self, offset: int, expected: str, found: str, action: str = "The file is damaged: fetch or export it again."
    ) -> EventFileError:
        """Builds the error for a fault at `offset`."""
        return EventFileError(self.name, int(offset), expected, found, action)

    def afford(self, offset: int, size: int, what: str) -> None:
        """Refuses what would unpack to more than the budget of this file; call it before memory is taken."""
        most = budget(len(self.data), self.max_bytes)
        if size > most:
            raise self.error(
                offset, f"{what} of at most {most} bytes", f"{size}", "Pass max_bytes= if you trust the file."
            )

    def records(self, start: int, dtype: np.dtype | str) -> np.ndarray:
        """Views everything from `start` as records of `dtype`; a file that ends inside a record is truncated."""
        kind = np.dtype(dtype)
        rest = len(self.data) - start
        if rest % kind.itemsize:
            whole = start + rest // kind.itemsize * kind.itemsize
            raise self.error(
                whole, f"a whole record of {kind.itemsize} bytes", f"{rest % kind.itemsize} bytes before the end"
            )
        return np.frombuffer(self.data, kind, offset=start) if rest else np.empty(0, kind)

    def text_header(self, mark: bytes, last: str | None = None) -> tuple[list[str], int]:
        """Reads leading lines that start with `mark`, up to the line `last`: (lines, byte after them)."""
        head = self.data[:LONGEST_HEADER].tobytes()
        lines, at = [], 0
        while head[at : at + 1] == mark and (last is None or last not in lines[-1:]):
            end = head.find(b"\n", at)
            if end < 0:
                raise self.error(at, "a header line that ends", f"no line end in {len(head) - at} bytes")
            lines.append(head[at:end].decode("latin-1").rstrip("\r"))
            at = end + 1
        return lines, at


def unwrap(t: np.ndarray, period: int) -> np.ndarray:
    """Undoes the wrap-around of a clock of `period` ticks: a jump back by more than half a period is one more lap."""
    if len(t) == 0:
        return t
    laps = np.diff(t) < -(period // 2)
    if not laps.any():
        return t
    return t + period * np.concatenate([[0], np.cumsum(laps)])
