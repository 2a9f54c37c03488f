"""Yin-Yang: is a point in the yin, in the yang, or in a dot? Small, generated, and beyond a linear readout."""

from __future__ import annotations

import numpy as np

from spyx.data._split import Dataset, Split

CITATION = (
    "L. Kriener, J. Goeltz and M. A. Petrovici (2022). The Yin-Yang dataset. "
    "Neuro-Inspired Computational Elements Conference. doi:10.1145/3517343.3517380"
)
YIN, YANG, DOT = range(3)
SMALL, BIG = 0.1, 0.5


def load(*, num_samples: int = 7000, seed: int = 0) -> Dataset:
    """Draws points in the disc of the yin-yang symbol, each class equally often.

    Args:
        num_samples: points in all three splits together (5/7, 1/7 and 1/7 of them), >= 21. Default 7,000.
        seed: same seed, same points. Default 0.

    Returns:
        Splits with `x` of shape (samples, 4), float32 in [0, 1]: the point (x, y) and its mirror image
        (1 - x, 1 - y), and `y` int32: 0 for yin, 1 for yang, 2 for a dot.

    Raises:
        ValueError: if `num_samples` is too small to split.

    Example:
        >>> load(num_samples=70).train.x.shape
        (50, 4)
    """
    if num_samples < 21:
        raise ValueError(f"yinyang: expected num_samples >= 21; got {num_samples}. Ask for more.")
    rng = np.random.default_rng(seed)
    part = num_samples // 7
    return Dataset(
        name="yinyang",
        train=_draw(rng, num_samples - 2 * part),
        validation=_draw(rng, part),
        test=_draw(rng, part),
        num_classes=3,
        citation=CITATION,
        licence="generated",
        split_note=f"three independent draws with seed {seed}",
    )


def _draw(rng: np.random.Generator, size: int) -> Split:
    wanted = rng.permutation(np.arange(size) % 3)
    points = np.empty((size, 2))
    missing = np.ones(size, bool)
    while missing.any():
        trial = rng.uniform(0, 2 * BIG, (int(missing.sum()), 2))
        fits = which_class(trial) == wanted[missing]
        points[np.flatnonzero(missing)[fits]] = trial[fits]
        missing[np.flatnonzero(missing)[fits]] = False
    x = np.concatenate([points, 1 - points], axis=1).astype(np.float32)
    return Split(x, wanted.astype(np.int32))


def which_class(points: np.ndarray) -> np.ndarray:
    """Class of points of shape (samples, 2); -1 outside the disc."""
    right = np.hypot(points[:, 0] - 1.5 * BIG, points[:, 1] - BIG)
    left = np.hypot(points[:, 0] - 0.5 * BIG, points[:, 1] - BIG)
    yin = (right <= SMALL) | ((left > SMALL) & (left <= BIG / 2)) | ((points[:, 1] > BIG) & (right > BIG / 2))
    label = np.where(yin, YIN, YANG)
    label[(left < SMALL) | (right < SMALL)] = DOT
    label[np.hypot(points[:, 0] - BIG, points[:, 1] - BIG) > BIG] = -1
    return label
