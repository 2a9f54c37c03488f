"""EVT3 as its format description reads: one loop over words, one state."""

from __future__ import annotations

import numpy as np


def decode_words(words: np.ndarray) -> np.ndarray:
    """Events as rows of t, x, y, p."""
    out = []
    high = low = y = x = p = 0
    laps, last_high = 0, None
    for word in words.tolist():
        kind, value = word >> 12, word & 0xFFF
        if kind == 0:
            y = value & 0x7FF
        elif kind == 2:
            out.append(((high << 12) + low, value & 0x7FF, y, value >> 11))
        elif kind == 3:
            x, p = value & 0x7FF, value >> 11
        elif kind in (4, 5):
            width = 12 if kind == 4 else 8
            out += [((high << 12) + low, x + i, y, p) for i in range(width) if value >> i & 1]
            x += width
        elif kind == 6:
            low = value
        elif kind == 8:
            if last_high is not None and value < last_high - 2048:
                laps += 1
            if value != last_high:
                low = 0
            last_high = value
            high = value + (laps << 12)
    return np.array(out, np.int64).reshape(-1, 4)
