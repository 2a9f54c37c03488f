"""Randman: each class is a random smooth manifold of spike times, one spike a unit, so that only timing tells."""

from __future__ import annotations

import numpy as np

from spyx.data._split import Dataset, Split, stratified

CITATION = (
    "F. Zenke and T. P. Vogels (2021). The Remarkable Robustness of Surrogate Gradient Learning for Instilling Complex "
    "Function in Spiking Neural Networks. Neural Computation 33(4). doi:10.1162/neco_a_01367"
)


def load(
    *,
    num_classes: int = 10,
    num_units: int = 20,
    num_steps: int = 50,
    dimension: int = 1,
    smoothness: float = 1.0,
    samples_per_class: int = 1000,
    cutoff: int = 1000,
    seed: int = 0,
) -> Dataset:
    """Draws spike-timing manifolds and points on them.

    Unit i of class c fires once, at step floor(T m_ci(z)), with z uniform in [0, 1]^dimension. m_ci is a product of one
    random series sum_k a_k sin(2 pi (k z + b_k)) k^-smoothness per dimension, scaled to [0, 1) over the drawn points.

    Args:
        num_classes: manifolds, >= 2. Default 10.
        num_units: spiking units, each fires exactly once, >= 1. Default 20.
        num_steps: time steps, >= 2. Default 50.
        dimension: dimensions of each manifold, >= 1. Default 1.
        smoothness: exponent that makes high frequencies weaker; larger is smoother and easier. Default 1.
        samples_per_class: points on each manifold. Default 1,000.
        cutoff: number of frequencies, >= 1. Default 1,000.
        seed: same seed, same manifolds and points. Default 0.

    Returns:
        Splits (80 / 10 / 10 %, stratified) with `x` of shape (samples, time, units), uint8, and `y` int32.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> data = load(num_classes=2, samples_per_class=10, cutoff=10)
        >>> data.train.x.shape, int(data.train.x.sum(axis=1).max())
        ((16, 50, 20), 1)
    """
    for name, value, low in (
        ("num_classes", num_classes, 2),
        ("num_units", num_units, 1),
        ("num_steps", num_steps, 2),
        ("dimension", dimension, 1),
        ("samples_per_class", samples_per_class, 10),
        ("cutoff", cutoff, 1),
    ):
        if value < low:
            raise ValueError(f"randman: expected {name} >= {low}; got {value}.")
    rng = np.random.default_rng(seed)
    times = np.concatenate(
        [
            _manifold(rng, num_units, dimension, smoothness, cutoff, rng.uniform(size=(samples_per_class, dimension)))
            for _ in range(num_classes)
        ]
    )
    steps = np.minimum((times * num_steps).astype(np.int64), num_steps - 1)
    y = np.repeat(np.arange(num_classes, dtype=np.int32), samples_per_class)
    x = np.zeros((len(y), num_steps, num_units), np.uint8)
    np.put_along_axis(x, steps[:, None, :], 1, axis=1)
    whole = Split(x, y)
    test, validation, train = stratified(y, [0.1, 0.1], seed)
    return Dataset(
        name="randman",
        train=whole.take(train),
        validation=whole.take(validation),
        test=whole.take(test),
        num_classes=num_classes,
        citation=CITATION,
        licence="generated",
        split_note=f"points on the same manifolds, 80 / 10 / 10 % stratified with seed {seed}",
        sensor_size=(num_units,),
    )


def _manifold(
    rng: np.random.Generator, units: int, dimension: int, smoothness: float, cutoff: int, points: np.ndarray
) -> np.ndarray:
    """Spike times in [0, 1), shape (samples, units); each unit uses the whole range."""
    frequency = np.arange(1, cutoff + 1)
    amplitude = rng.uniform(size=(dimension, units, cutoff)) * frequency**-smoothness
    phase = rng.uniform(size=(dimension, units, cutoff))

    def heights(z: np.ndarray) -> np.ndarray:
        value = np.ones((len(z), units))
        for axis in range(dimension):
            angle = 2 * np.pi * z[:, axis, None] * frequency  # (samples, cutoff)
            # sin(a + b) splits into two matrix products, so no (samples, units, cutoff) array is ever made
            turn = 2 * np.pi * phase[axis]
            value *= (
                np.sin(angle) @ (amplitude[axis] * np.cos(turn)).T + np.cos(angle) @ (amplitude[axis] * np.sin(turn)).T
            )
        return value

    value = heights(points)
    low, high = value.min(axis=0), value.max(axis=0)
    return (value - low) / np.maximum(high - low, np.finfo(float).tiny) * (1 - 1e-9)
