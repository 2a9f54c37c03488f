"""`lengths` and `mask` of a run: checked, and made one mask by time and sample."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from spyx.engine.masks import Mask


def asked(x: Any, axis: int, lengths: Any, mask: Any) -> Mask:
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
        return Mask(jnp.arange(steps)[:, None] < _lengths(lengths, batch, steps), True)
    mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"spyx.nn.run(mask=): expected bool; got {mask.dtype}. Write mask != 0.")
    expected = (steps, batch) if axis == 0 else (batch, steps)
    if mask.shape != expected:
        raise ValueError(
            f"spyx.nn.run(mask=): expected shape {expected}, samples and steps of x {shape} with time_axis={axis}; got "
            f"{mask.shape}. Give one bool per sample and step."
        )
    by_time = mask if axis == 0 else mask.T
    ends = not isinstance(mask, Tracer) and not bool((~by_time[:-1] & by_time[1:]).any())
    return Mask(jnp.asarray(by_time), ends)


def placed(alive: jax.Array, axis: int) -> jax.Array:
    """`alive` (time, batch) with time on the axis that x has it on, to be cut and turned as x is."""
    return alive if axis == 0 else alive.T.reshape(alive.shape[1], *(1,) * (axis - 1), alive.shape[0])


def without_rest(x: Any, axis: int, alive: jax.Array) -> Any:
    """`x` with zeros at the steps that do not count: NaN there would reach every gradient."""

    def one(a: jax.Array) -> jax.Array:
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        steps = placed(alive, axis)
        return jnp.where(steps.reshape(steps.shape + (1,) * (a.ndim - steps.ndim)), a, jnp.zeros((), a.dtype))

    return jax.tree.map(one, x)


def _lengths(lengths: Any, batch: int, steps: int) -> jax.Array:
    lengths = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"spyx.nn.run(lengths=): expected whole numbers; got {lengths.dtype}. Use astype(int).")
    if lengths.shape != (batch,):
        raise ValueError(
            f"spyx.nn.run(lengths=): expected one length for each of {batch} samples; got shape {lengths.shape}."
        )
    if not isinstance(lengths, Tracer) and ((lengths < 0) | (lengths > steps)).any():
        wrong = np.asarray(lengths)
        index = int(((wrong < 0) | (wrong > steps)).argmax())
        raise ValueError(
            f"spyx.nn.run(lengths=): expected 0 to {steps} steps; got {wrong[index]} for sample {index}. "
            "Lengths count steps of x; cut or pad them with it."
        )
    return jnp.asarray(lengths)
