"""Delayed coincidence: how much later does the second of two inputs spike? Only the delay between them tells."""

from __future__ import annotations

import numpy as np

from spyx import data

CLASSES, STEPS, LATEST = 8, 40, 8


def load(seed: int = 0) -> data.Dataset:
    """2,048 pairs of spikes to train on, 512 to validate and 1,024 to test.

    The first input spikes once, in step 0 to 7 of 40, the second 2, 4, ... or 16 steps later, which is the class.

    Args:
        seed: same seed, same pairs. Default 0.
    """
    rng = np.random.default_rng(seed)
    train, validation, test = (_pairs(rng, count) for count in (2048, 512, 1024))
    return data.Dataset(
        name="coincidence",
        train=train,
        validation=validation,
        test=test,
        num_classes=CLASSES,
        citation="none: a made task",
        licence="generated",
        split_note=f"three independent draws, seed {seed}",
        sensor_size=(2,),
    )


def _pairs(rng: np.random.Generator, count: int) -> data.Split:
    label = rng.integers(0, CLASSES, count).astype(np.int32)
    first = rng.integers(0, LATEST, count)
    times = np.stack([first, first + 2 * label + 2], -1)
    return data.Split((np.arange(STEPS)[None, :, None] == times[:, None]).astype(np.uint8), label)
