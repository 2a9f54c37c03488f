"""An affine recurrence, one step and one unit at a time, in float64; spyx is not imported."""

from __future__ import annotations

import numpy as np


def states(blocks, offset, start, *, reverse=False):
    """`s_t = A_t s_{t-1} + b_t`: A (time, units, k, k), b (time, units, k), start (units, k) -> (time, units, k)."""
    blocks, offset, s = (np.asarray(a, np.float64) for a in (blocks, offset, start))
    order = range(len(offset))
    found = np.zeros_like(offset)
    for t in reversed(order) if reverse else order:
        s = np.stack([blocks[t, unit] @ s[unit] + offset[t, unit] for unit in range(len(s))])
        found[t] = s
    return found
