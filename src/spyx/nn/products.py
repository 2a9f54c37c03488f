"""Flax's `Linear` over all of time, by the product that is fastest for its input: dense, or event by event."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from spyx.engine import events

WHY = f"zeros are skipped where at most {events.DENSITY:.0%} of the input is not zero"


def skips_zeros(layer: Any, x: Any) -> bool:
    """Is this a `Linear` as Flax makes it, large enough, with an input (rows, ..., features) that may be spikes?"""
    if type(layer) is not nnx.Linear or getattr(x, "ndim", 0) < 2:
        return False
    as_made = layer.dot_general is jax.lax.dot_general and layer.promote_dtype is dtypes.promote_dtype
    own_precision = layer.precision is not None or layer.preferred_element_type is not None
    dtype = layer.kernel.dtype
    same_dtype = layer.dtype in (None, dtype) and x.dtype in (dtype, jnp.uint8, jnp.bool_)
    return (
        as_made
        and not own_precision
        and same_dtype
        and dtype in (jnp.float32, jnp.float64)
        and events.worthwhile(math.prod(x.shape[:-1]), layer.in_features, layer.out_features)
    )


def linear(layer: nnx.Linear, x: jax.Array) -> jax.Array:
    """What `layer(x)` answers."""
    kernel = layer.kernel[...]
    bias = jnp.zeros(layer.out_features, kernel.dtype) if layer.bias is None else layer.bias[...].astype(kernel.dtype)
    rows = events.affine(x.reshape(-1, layer.in_features), kernel, bias)
    return rows.reshape(*x.shape[:-1], layer.out_features)
