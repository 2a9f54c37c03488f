"""Flax's `Linear` and `Conv` over all of time, by the product that is fastest for their input: dense, or by events."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes

from spyx.engine import events
from spyx.engine.convolution import convolve
from spyx.nn.convolution import Conv

WHY = "zeros are skipped where few entries of the input are not zero"


def by_events(layer: Any, x: jax.Array) -> jax.Array | None:
    """What `layer(x)` answers for x (rows, ..., features), or None if it has no event-driven form or x is too small."""
    if type(layer) is nnx.Linear:
        return _linear(layer, x)
    return _conv(layer, x) if type(layer) in (nnx.Conv, Conv) else None


def _linear(layer: nnx.Linear, x: jax.Array) -> jax.Array | None:
    if not (
        layer.dot_general is jax.lax.dot_general
        and _plain_numbers(layer, x)
        and events.worthwhile(math.prod(x.shape[:-1]) * layer.kernel.size)
    ):
        return None
    kernel = layer.kernel[...]
    bias = jnp.zeros(layer.out_features, kernel.dtype) if layer.bias is None else layer.bias[...].astype(kernel.dtype)
    rows = events.affine(x.reshape(-1, layer.in_features), kernel, bias)
    return rows.reshape(*x.shape[:-1], layer.out_features)


def _conv(layer: nnx.Conv, x: jax.Array) -> jax.Array | None:
    moves = (layer.strides, layer.kernel_dilation, layer.input_dilation, layer.feature_group_count)
    if not (
        layer.conv_general_dilated in (jax.lax.conv_general_dilated, convolve)
        and _plain_numbers(layer, x)
        and all(n in (None, 1) for n in jax.tree.leaves(moves))
        and len(layer.kernel_shape) in (3, 4)
        and events.worthwhile(x.size * layer.kernel.size // layer.in_features)
    ):
        return None
    same = nnx.merge(*nnx.split(layer))
    same.conv_general_dilated = events.convolve
    return same(x.astype(layer.kernel.dtype))


def _plain_numbers(layer: Any, x: jax.Array) -> bool:
    """One floating dtype throughout, or spikes as integers, and nothing that the user asked of the product."""
    dtype = layer.kernel.dtype
    return (
        layer.precision is None
        and layer.preferred_element_type is None
        and layer.promote_dtype is dtypes.promote_dtype
        and layer.dtype in (None, dtype)
        and dtype in (jnp.float32, jnp.float64)
        and x.dtype in (dtype, jnp.uint8, jnp.bool_)
    )
