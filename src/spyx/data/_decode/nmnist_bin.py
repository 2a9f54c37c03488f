"""N-MNIST and N-Caltech101 `.bin`: 5 bytes an event.

Byte 0 is x, byte 1 is y, then one bit of polarity and 23 bits of microseconds, most significant first. An event with
y = 240 is no event but says that the clock advanced by another 2**13 microseconds (Orchard et al. 2015).
"""

from __future__ import annotations

import numpy as np

from spyx.data._decode.source import Columns, Source

RECORD = np.dtype("(5,)u1")
OVERFLOW_ROW = 240
OVERFLOW_US = 2**13


def decode(source: Source) -> Columns:
    """Decodes one recording."""
    raw = source.records(0, RECORD)
    x, y = raw[:, 0], raw[:, 1]
    high = raw[:, 2]
    t = (high & 127).astype(np.int64)
    t <<= 8
    t |= raw[:, 3]
    t <<= 8
    t |= raw[:, 4]
    p = high >> 7
    overflow = y == OVERFLOW_ROW
    if not overflow.any():
        return Columns(t, {"x": x.astype(np.uint16), "y": y.astype(np.uint16), "p": p}, lambda i: 5 * i)
    events = np.flatnonzero(~overflow)
    t = (t + OVERFLOW_US * np.cumsum(overflow))[events]
    addresses = {"x": x[events].astype(np.uint16), "y": y[events].astype(np.uint16), "p": p[events]}
    return Columns(t, addresses, lambda i: 5 * int(events[i]))
