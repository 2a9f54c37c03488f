"""What every data set looks like: three splits, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import ArrayLike, PyTree, Shaped


@dataclass(frozen=True)
class Split:
    """Samples and their labels, in one order.

    Args:
        x: the samples: an array of shape (samples, ...), a `Packed` cache, a `Recordings` sequence of events, or, for
            samples of unequal length, a list of arrays (time, ...).
        y: integer labels of shape (samples,), or (samples, time) where every step has a label; a list of arrays
            (time,) where `x` is one.
        lengths: how many steps of each sample in an array `x` (samples, time, ...) are its own, (samples,); the others
            are padding. Default None: all.

    Raises:
        ValueError: if `x`, `y` and `lengths` differ in length.

    Example:
        >>> split = Split(np.zeros((3, 4), np.float32), np.array([0, 1, 0], np.int32))
        >>> len(split), split.take([2, 1]).y.tolist()
        (3, [0, 1])
    """

    x: PyTree[Shaped[ArrayLike, "samples ..."]]
    y: PyTree[Shaped[ArrayLike, "samples ..."]]
    lengths: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.lengths is not None and len(self.lengths) != len(self.x):
            raise ValueError(
                f"Split: expected one length for each sample; got {len(self.x)} samples and {len(self.lengths)} "
                "lengths. Build both from the same list."
            )
        if len(self.x) != len(self.y):
            raise ValueError(
                f"Split: expected one label for each sample; got {len(self.x)} samples and {len(self.y)} labels. "
                "Build both from the same list."
            )

    def __len__(self) -> int:
        return len(self.y)

    def take(self, indices: Sequence[int] | np.ndarray) -> Split:
        """Returns the samples at `indices`, in that order."""
        index = np.asarray(indices, dtype=np.int64)
        x, y = ([a[i] for i in index] if isinstance(a, (list, tuple)) else a[index] for a in (self.x, self.y))
        return Split(x, y, None if self.lengths is None else np.asarray(self.lengths)[index])


@dataclass(frozen=True)
class Dataset:
    """A named data set with an honest split: fit on `train`, choose on `validation`, report on `test` once.

    Args:
        name: the name that `load` knows it by.
        train: what `fit` sees.
        validation: what choices (epochs, learning rate) are made on.
        test: what is reported, and never chosen on.
        num_classes: number of classes.
        citation: the paper or person to cite.
        licence: the licence of the data in one line.
        split_note: how the three parts were made.
        sensor_size: (width, height) of the event camera or (units,) of a spike recording, where there is one.

    Example:
        >>> part = Split(np.zeros((3, 4), np.float32), np.array([0, 1, 0], np.int32))
        >>> mine = Dataset("mine", part, part, part, 2, citation="me", licence="CC0", split_note="all the same")
        >>> mine.map(lambda name, split: split.take([0])).test.y.tolist()
        [0]
    """

    name: str
    train: Split
    validation: Split
    test: Split
    num_classes: int
    citation: str
    licence: str
    split_note: str
    sensor_size: tuple[int, ...] | None = None

    def map(self, function: Callable[[str, Split], Split]) -> Dataset:
        """Returns the data set with `function(part, split)` applied to each part, `part` being its field name."""
        return replace(self, **{part: function(part, getattr(self, part)) for part in ("train", "validation", "test")})


def stratified(
    y: np.ndarray, fractions: Sequence[float], seed: int, *, groups: np.ndarray | None = None
) -> list[np.ndarray]:
    """Cuts samples into parts that keep the class proportions.

    Args:
        y: labels, shape (samples,).
        fractions: size of each part but the last, each in (0, 1); the last part takes the rest.
        seed: same seed, same parts.
        groups: strata to use instead of the labels, shape (samples,).

    Returns:
        One sorted index array for each part (one more than `fractions`); together they hold each sample once.

    Raises:
        ValueError: if the fractions do not leave room for the last part.

    Example:
        >>> a, b = stratified(np.repeat([0, 1], 10), [0.2], seed=0)
        >>> len(a), len(b)
        (4, 16)
    """
    if any(f <= 0 for f in fractions) or sum(fractions) >= 1:
        raise ValueError(
            f"stratified: expected positive fractions that sum to less than 1; got {list(fractions)}. "
            "The last part takes what is left."
        )
    rng = np.random.default_rng(seed)
    strata = np.asarray(y if groups is None else groups)
    parts: list[list[np.ndarray]] = [[] for _ in range(len(fractions) + 1)]
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        cuts = np.round(np.cumsum(fractions) * len(members)).astype(int)
        for part, piece in zip(parts, np.split(members, cuts), strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]
