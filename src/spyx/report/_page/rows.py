"""Activity of one sample as small JSON: spikes as bits, graded values as bytes, readouts as lines."""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING

import numpy as np

from spyx.report._page.jsonable import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Num

    from spyx.data._json import Object
    from spyx.report.types import Sample

MOST_UNITS, MOST_STEPS, MOST_CELLS, MOST_LINES, MOST_POINTS = 256, 1000, 1 << 18, 12, 400
"""Largest size of what is shown of one layer; more is thinned, and the page says so."""


def row_of(name: str, values: Sample, *, last: bool, marked: tuple[int, ...] = (), cells: int = MOST_CELLS) -> Object:
    """One layer of one sample, (time, *features).

    Args:
        name: of the layer.
        values: its outputs.
        last: it is the readout: lines rather than a picture where it does not spike.
        marked: classes that must be among the lines.
        cells: how many bits a picture may have.
    """
    values = np.asarray(values, np.float32).reshape(len(values), -1)
    steps, units = values.shape
    about: Object = {"name": name, "steps": steps, "units": units}
    if bool(np.isin(values, (0, 1)).all()):
        return about | _spikes(values, min(cells, MOST_CELLS))
    return about | (_lines(values, marked) if last else _picture(values, min(cells, MOST_CELLS) // 8))


def _spikes(values: Float[np.ndarray, "time units"], cells: int) -> Object:
    fired = values != 0
    wide, tall = _bins(len(values), MOST_STEPS), math.ceil(values.shape[1] / MOST_UNITS)
    shown = _pooled(fired[:, ::tall], wide, np.any)
    tall *= (more := math.ceil(shown.size / cells))
    shown = shown[:, ::more]
    bits = np.packbits(np.ascontiguousarray(shown.T), axis=None)
    return {
        "kind": "spikes",
        "count": int(fired.sum()),
        "share": number(fired.mean()),
        "bin": wide,
        "stride": tall,
        "shape": [shown.shape[0], shown.shape[1]],
        "data": base64.b64encode(bits.tobytes()).decode(),
    }


def _picture(values: Float[np.ndarray, "time units"], cells: int) -> Object:
    wide, tall = _bins(len(values), MOST_POINTS), math.ceil(values.shape[1] / (MOST_UNITS // 2))
    shown = _pooled(values[:, ::tall], wide, np.mean)
    tall *= (more := math.ceil(shown.size / cells))
    shown = shown[:, ::more]
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    scaled = np.nan_to_num((shown - low) / (high - low or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
    levels = np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
    return {
        "kind": "picture",
        "low": number(low),
        "high": number(high),
        "bin": wide,
        "stride": tall,
        "shape": [shown.shape[0], shown.shape[1]],
        "data": base64.b64encode(np.ascontiguousarray(levels.T).tobytes()).decode(),
    }


def _lines(values: Float[np.ndarray, "time classes"], marked: tuple[int, ...]) -> Object:
    wide = _bins(len(values), MOST_POINTS)
    strongest = np.argsort(-np.nan_to_num(values.sum(0)), kind="stable")
    inside = [unit for unit in marked if 0 <= unit < values.shape[1]]
    chosen = list(dict.fromkeys([*inside, *map(int, strongest)]))[:MOST_LINES]
    shown = _pooled(values[:, chosen], wide, np.mean)
    lines = [[number(v) for v in line] for line in shown.T]
    return {"kind": "lines", "bin": wide, "classes": chosen, "lines": lines}


def _bins(steps: int, most: int) -> int:
    return max(1, math.ceil(steps / most))


def _pooled(
    values: Num[np.ndarray, "time units"] | Bool[np.ndarray, "time units"], width: int, how: Callable[..., np.ndarray]
) -> Num[np.ndarray, "bins units"]:
    """`how` over every `width` steps; the last bin may be shorter."""
    if width == 1:
        return values
    return np.stack([how(values[first : first + width], axis=0) for first in range(0, len(values), width)])
