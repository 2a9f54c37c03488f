"""`lengths` and `mask` of a run: checked, and made one mask by time and sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from spyx.engine.masks import Mask, before_end, where

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Bool, Int

    from spyx.engine.types import Alive, Inputs, Tree


Lengths = jax.Array | np.ndarray | Sequence[int]
"""How many steps of each sample count."""


def asked(x: Tree, axis: int, lengths: Lengths | None, mask: ArrayLike | None) -> Mask:
    """The mask of a run on `x`, whose time is on `axis`.

    Raises:
        ValueError: both, or another shape than the samples of `x` have; lengths below 0 or above the number of steps,
            where their values are known.
        TypeError: lengths that are not whole numbers, a mask that is not bool.
    """
    if lengths is not None and mask is not None:
        raise ValueError("spyx.nn.run: expected lengths or a mask; got both. Give the mask alone.")
    shape = jax.tree.leaves(x)[0].shape
    batch, steps = shape[0 if axis else 1], shape[axis]
    if mask is None:
        return Mask(before_end(_lengths(lengths, batch, steps), steps).T, True)  # type: ignore[arg-type]
    mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"spyx.nn.run(mask=): expected bool; got {mask.dtype}. Write mask != 0.")
    expected = (steps, batch) if axis == 0 else (batch, steps)
    if mask.shape != expected:
        raise ValueError(
            f"spyx.nn.run(mask=): expected shape {expected}, samples and steps of x {shape} with time_axis={axis}; got "
            f"{mask.shape}. Give one bool per sample and step."
        )
    known = mask if isinstance(mask, Tracer) else np.asarray(mask)  # inside jit, JAX would trace a step of it
    by_time = known if axis == 0 else known.T
    return Mask(jnp.asarray(by_time), not isinstance(by_time, Tracer) and _ends(np.asarray(by_time)))


def placed(alive: Alive, axis: int) -> Bool[Array, "..."]:
    """`alive` (time, batch) with time on the axis that x has it on, to be cut and turned as x is."""
    return alive if axis == 0 else alive.T.reshape(alive.shape[1], *(1,) * (axis - 1), alive.shape[0])


def without_rest(xs: Inputs, mask: Mask | None) -> Inputs:
    """`xs` (time, batch, ...) with zeros at the steps that do not count: NaN there would reach every gradient.

    A number that is no NaN has no part in them, so integers stay as they are.
    """
    if mask is None:
        return xs
    return jax.tree.map(lambda a: where(mask.alive, a) if jnp.issubdtype(a.dtype, jnp.inexact) else a, xs)


def _ends(by_time: np.ndarray) -> bool:
    return not (~by_time[:-1] & by_time[1:]).any()


def _lengths(lengths: Lengths, batch: int, steps: int) -> Int[Array, " batch"]:
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"spyx.nn.run(lengths=): expected whole numbers; got {lengths.dtype}. Use astype(int).")
    if lengths.shape != (batch,):
        raise ValueError(
            f"spyx.nn.run(lengths=): expected one length for each of {batch} samples; got shape {lengths.shape}. "
            "Lengths belong to the batch axis of x."
        )
    known = np.zeros(batch, int) if isinstance(lengths, Tracer) else np.asarray(lengths)
    if (outside := (known < 0) | (known > steps)).any():
        index = int(outside.argmax())
        raise ValueError(
            f"spyx.nn.run(lengths=): expected 0 to {steps} steps; got {known[index]} for sample {index}. "
            "Lengths count steps of x; cut or pad them with it."
        )
    return jnp.asarray(lengths)
