"""Samples of unequal length: which are batched together, and how they are padded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from spyx.data._split import Split

if TYPE_CHECKING:
    from spyx.engine.types import Data


def is_list_of_samples(x: object) -> bool:
    """A list or tuple of arrays, one for each sample, and not one array of all."""
    return isinstance(x, (list, tuple)) and all(getattr(sample, "ndim", 0) >= 1 for sample in x)


def lengths_of(split: Split) -> np.ndarray | None:
    """How many steps each sample has, or None where all have the same number.

    Raises:
        ValueError: on a length below 1 or above what `x` holds; samples that differ in their features or dtype; labels
            per step that do not fit the lengths.
        TypeError: on lengths that are not whole numbers.
    """
    if is_list_of_samples(split.x):
        if split.lengths is not None:
            raise ValueError(
                "Loader: expected lengths for samples in one array; got a list of arrays, each of which has its own. "
                "Leave Split(lengths=) out."
            )
        kinds = {(sample.shape[1:], np.dtype(sample.dtype)) for sample in split.x}
        if len(kinds) > 1:
            raise ValueError(
                f"Loader: expected samples that differ in their number of steps alone; got {len(kinds)} kinds of "
                f"features and dtype, such as {sorted(map(str, kinds))[:2]}. Convert them to one."
            )
        lengths, most = np.array([len(sample) for sample in split.x]), None
    elif split.lengths is None:
        if is_list_of_samples(split.y):
            raise ValueError("Loader: expected labels in one array, as the samples; got a list. Stack them.")
        return None
    else:
        lengths, most = np.asarray(split.lengths), _steps(split.x)
        if most is None:
            raise ValueError(
                "Loader: expected x (samples, time, ...) for lengths; got one number each. Leave them out."
            )
        if lengths.dtype.kind not in "iu":
            raise TypeError(f"Loader: expected lengths to be whole numbers; got dtype {lengths.dtype}. Count steps.")
    wrong = (lengths < 1) | (lengths > (most or lengths.max(initial=1)))
    if wrong.any():
        raise ValueError(
            f"Loader: expected lengths of 1 step or more{f', at most the {most} of x' if most else ''}; got "
            f"{lengths[wrong][0]} for sample {int(wrong.argmax())}. Leave samples without a step out."
        )
    if is_list_of_samples(split.y):
        unlike = [i for i, (label, length) in enumerate(zip(split.y, lengths, strict=True)) if len(label) != length]
        if unlike:
            raise ValueError(
                f"Loader: expected one label for each of the {lengths[unlike[0]]} steps of sample {unlike[0]}; got "
                f"{len(split.y[unlike[0]])}. Look at how x and y were cut."
            )
    return lengths.astype(np.int32)


def buckets_of(lengths: np.ndarray, batch: int, count: int) -> list[np.ndarray]:
    """Samples of similar length, in at most `count` groups of whole batches; only the longest may leave one unfilled.

    Whole batches, so that grouping makes no batch more: an epoch has as many as without.
    """
    by_length = np.argsort(lengths, kind="stable")
    batches = -(-len(lengths) // batch)
    count = min(count, batches)
    ends = [min(batches * (i + 1) // count * batch, len(lengths)) for i in range(count)]
    return [np.sort(rows) for rows in np.split(by_length, ends[:-1])]


def padded(values: np.ndarray, rows: np.ndarray, lengths: np.ndarray, steps: int) -> np.ndarray:
    """The samples `rows`, (len(rows), steps, ...), with zeros from each one's length on.

    Args:
        values: a list of arrays (time, ...), or an array (samples, time, ...) of at least that many steps.
        rows: which samples.
        lengths: their lengths.
        steps: number of steps, no less than any of the lengths.
    """
    if is_list_of_samples(values):
        first = np.asarray(values[0])
        found = np.zeros((len(rows), steps, *first.shape[1:]), first.dtype)
        for to, row in zip(found, rows, strict=True):
            to[: len(values[row])] = values[row]
        return found
    found = np.array(values[rows][:, :steps])
    found[np.arange(steps) >= lengths[:, None]] = 0
    return found


def has_time(y: Data, x: Data) -> bool:
    """Are there labels for every step?"""
    return is_list_of_samples(y) or (np.ndim(y) > 1 and y.shape[1] == _steps(x))


def _steps(x: Data) -> int | None:
    return x.shape[1] if len(getattr(x, "shape", ())) > 1 else None
