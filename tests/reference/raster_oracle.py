"""Rasterising with exact fractions and one loop over events."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


def bins_by_number(t: list[int], num_bins: int, start: int, stop: int) -> list[int]:
    """Bin of each event when [start, stop) is cut into `num_bins` equal parts; -1 outside."""
    width = Fraction(stop - start, num_bins)
    return [int((time - start) / width) if start <= time < stop else -1 for time in t]


def bins_by_width(t: list[int], width_us: int, start: int) -> list[int]:
    return [(time - start) // width_us if time >= start else -1 for time in t]


def frames(bins: list[int], addresses: list[tuple[int, ...]], count: int, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros((count, *shape), np.int64)
    for k, address in zip(bins, addresses, strict=True):
        if 0 <= k < count:
            out[(k, *address)] += 1
    return out
