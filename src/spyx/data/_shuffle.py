"""Shuffling: a whole data set on the device, cut into batches in a new order."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from spyx.engine.types import Data


class State(NamedTuple):
    """A batch, or many: observations and their labels.

    Args:
        obs: samples, shape (batch, ...) or (batches, batch, ...).
        labels: one per sample, shape (batch, ...) or (batches, batch, ...).

    Example:
        >>> obs, labels = State(obs=jnp.zeros((2, 3)), labels=jnp.array([0, 1]))
        >>> obs.shape, labels.shape
        ((2, 3), (2,))
    """

    obs: jax.Array
    labels: jax.Array


def shuffler(dataset: tuple[Data, Data], batch_size: int) -> Callable[[tuple[Data, Data], jax.Array], State]:
    """A function that shuffles a data set and cuts it into batches: `x[permutation(key)]`, reshaped.

    Samples and labels stay paired. **What does not fill the last batch is left out**: `samples % batch_size` of them,
    others in each epoch.

    Args:
        dataset: `(samples, labels)`, for its number of samples.
        batch_size: samples per batch, 1 to the number of samples.

    Shapes:
        the returned `shuffle(dataset, key)` takes ((samples, ...), (samples, ...)) and gives
        `State(obs (batches, batch_size, ...), labels (batches, batch_size, ...))`, in the dtypes of the data.

    Raises:
        ValueError: if the pair disagrees on the number of samples, or `batch_size` is outside its range; at the call,
            if that data set has another number of samples.
        TypeError: if `dataset` is not a pair of arrays.

    Example:
        >>> data = (jnp.arange(5) * 10, jnp.arange(5))
        >>> obs, labels = shuffler(data, batch_size=2)(data, jax.random.key(0))
        >>> obs.shape, bool((obs == labels * 10).all())
        ((2, 2), True)
    """
    samples = _count(dataset)
    if not isinstance(batch_size, Integral) or not 1 <= batch_size <= samples:
        raise ValueError(
            f"shuffler: batch_size must be 1 to the number of samples, {samples}; got {batch_size!r}. "
            "Choose a smaller batch, or check that the data set is not empty."
        )
    batch_size = int(batch_size)
    batches = samples // batch_size

    def shuffle(dataset: tuple[Data, Data], key: jax.Array) -> State:
        found = _count(dataset)
        if found != samples:
            raise ValueError(
                f"shuffler: expected the {samples} samples it was made for; got {found}. Make another one."
            )
        chosen = jax.random.permutation(key, samples)[: batches * batch_size].reshape(batches, batch_size)
        return State(*(jnp.asarray(part)[chosen] for part in dataset))

    return shuffle


def _count(dataset: tuple[Data, Data]) -> int:
    if not isinstance(dataset, tuple | list) or len(dataset) != 2:
        raise TypeError(
            f"shuffler: dataset must be a pair (samples, labels); got {type(dataset).__name__}. Put both in one tuple."
        )
    shapes = [jnp.shape(part) for part in dataset]
    if not all(shapes) or shapes[0][0] != shapes[1][0]:
        raise ValueError(
            f"shuffler: samples and labels must be as many as each other; got shapes {shapes[0]} and {shapes[1]}. "
            "Axis 0 counts samples in both."
        )
    return shapes[0][0]
