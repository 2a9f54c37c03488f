"""The EVT3 state machine as one compiled loop: for long recordings, where Numba is installed.

It decodes well-formed words only and gives up on anything else, so that `evt3` remains the one place that explains
what is wrong with a file.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache

import numpy as np

FEWEST_WORDS = 1 << 17  # below, loading the compiler takes longer than it saves


def decode_loop(
    words: np.ndarray, events_of: np.ndarray, count_falls: bool, afford: Callable[[int], None] = lambda events: None
) -> tuple[np.ndarray, ...] | None:
    """Times, columns, rows and polarities; None where the words are few, not well formed, or Numba is missing.

    Args:
        words: EVT3 words.
        events_of: how many events each of the 65,536 words carries; above 12 the word is not known.
        count_falls: True counts each fall of the low time bits as a lap.
        afford: refuses too many events, before memory is taken for them.
    """
    if len(words) < FEWEST_WORDS or importlib.util.find_spec("numba") is None:
        return None
    count, decode = _compiled()
    total = count(words, events_of)
    if total < 0:
        return None
    afford(total)
    t, x = np.empty(total, np.int64), np.empty(total, np.uint16)
    y, p = np.empty(total, np.uint16), np.empty(total, np.uint8)
    return (t, x, y, p) if decode(words, count_falls, t, x, y, p) else None


@lru_cache(maxsize=1)
def _compiled() -> tuple[Callable[..., int], Callable[..., bool]]:
    """`_count` and `_decode`."""
    import numba

    compile_with = numba.njit(cache=True, nogil=True)
    return compile_with(_count), compile_with(_decode)


def _count(words, events_of):  # pragma: no cover - runs compiled
    """Number of events, or -1 where a word is of an unknown kind."""
    total = most = 0
    for word in words:
        events = events_of[word]
        most = max(most, events)
        total += events
    return total if most <= 12 else -1


def _decode(words, count_falls, t, x, y, p):  # pragma: no cover - runs compiled
    """Fills the columns; False where an event comes before its time, row or base, or leaves the columns."""
    dated = placed = based = False
    laps, last_high, high, low, falls = 0, -1, 0, 0, 0
    now, row, column, sign = 0, 0, 0, 0
    at = 0
    for word in words:
        kind, value = word >> 12, np.int64(word & 0xFFF)
        if kind == 2:
            if not (dated and placed):
                return False
            t[at], x[at], y[at], p[at] = now, value & 0x7FF, row, value >> 11
            at += 1
        elif kind == 0:
            row, placed = value & 0x7FF, True
        elif kind == 3:
            column, sign, based = value & 0x7FF, value >> 11, True
        elif kind == 4 or kind == 5:
            bits = value if kind == 4 else value & 0xFF
            if not based or (bits and not (dated and placed)):
                return False
            step = column
            while bits:
                if bits & 1:
                    if step > 0x7FF:
                        return False
                    t[at], x[at], y[at], p[at] = now, step, row, sign
                    at += 1
                bits >>= 1
                step += 1
            column += 12 if kind == 4 else 8
        elif kind == 6:
            if count_falls and value < low:
                falls += 1
            low, dated = value, True
            now = ((high + falls) << 12) + low
        elif kind == 8:
            if last_high >= 0 and value - last_high < -2048:
                laps += 1
            if not count_falls and value != last_high:
                low = 0
            last_high, dated = value, True
            high = value + (laps << 12)
            now = ((high + falls) << 12) + low
    return True
