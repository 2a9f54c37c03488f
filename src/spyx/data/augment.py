"""Augmentation: the same sample, seen a little differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Key, Num

Augment = Callable[[Any, jax.Array], jax.Array]
"""Type alias: `(data, key) -> data`."""


def shift_augment(max_shift: int = 10, axes: int | Sequence[int] = (-1,), *, per_sample: bool = False) -> Augment:
    """Roll the data by a random amount along each axis: `roll(x, d)`, d uniform on -max_shift, ..., max_shift.

    Both ends are included, and what leaves at one side enters at the other. One call draws one shift per axis for the
    whole array, `per_sample=True` one per axis and sample.

    Args:
        max_shift: largest shift, in elements, >= 0. Default 10.
        axes: axis or axes of the data to roll, each with its own shift. Default the last.
        per_sample: draw for each entry of axis 0 on its own. Default False.

    Shapes:
        data (batch, ...), any dtype; the result has the same shape and dtype.

    Raises:
        ValueError: on a negative `max_shift` or no axes; at the call, on axes that the data lacks, name twice, or, with
            `per_sample`, that name the batch.

    Example:
        >>> x = jnp.arange(4)[None]
        >>> sorted({shift_augment(1)(x, key)[0, 0].item() for key in jax.random.split(jax.random.key(0), 20)})
        [0, 1, 3]
    """
    axes = (int(axes),) if isinstance(axes, (int, Integral)) else tuple(int(axis) for axis in axes)
    if not isinstance(max_shift, Integral) or max_shift < 0:
        raise ValueError(
            f"shift_augment: max_shift must be a whole number, 0 or more; got {max_shift!r}. The default is 10."
        )
    largest = int(max_shift)
    if not axes:
        raise ValueError("shift_augment: axes must name at least one axis; got none. The default is (-1,).")

    def augment(data: Num[ArrayLike, "..."], key: Key[Array, ""]) -> Num[Array, "..."]:
        x = jnp.asarray(data)
        where = _resolve(axes, x.shape, per_sample)
        count = (x.shape[0], len(where)) if per_sample else (len(where),)
        shifts = jax.random.randint(key, count, -largest, largest + 1)
        if per_sample:
            return jax.vmap(lambda sample, shift: _roll(sample, shift, [axis - 1 for axis in where]))(x, shifts)
        return _roll(x, shifts, where)

    return augment


def _roll(x: jax.Array, shifts: jax.Array, axes: Sequence[int]) -> jax.Array:
    for shift, axis in zip(shifts, axes, strict=True):
        x = jnp.roll(x, shift, axis)
    return x


def _resolve(axes: tuple[int, ...], shape: tuple[int, ...], per_sample: bool) -> list[int]:
    ndim = len(shape)
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(f"shift_augment: axes {axes} are out of range for data of shape {shape}. Name axes it has.")
    resolved = [axis % ndim for axis in axes]
    if len(set(resolved)) < len(resolved):
        raise ValueError(f"shift_augment: axes must differ; got {axes} for data of shape {shape}. Name each once.")
    if per_sample and 0 in resolved:
        raise ValueError(
            f"shift_augment: with per_sample, axis 0 holds the samples and cannot be rolled; got axes {axes} for data "
            f"of shape {shape}. Name another axis, or leave per_sample off."
        )
    return resolved
