"""Convolution on a CPU: matrix products over patches, a cache-sized piece of the batch at a time.

XLA's own CPU convolution is slow for the few channels of a spiking network, its two gradients above all. As a product
of patches and weights all three directions are plain matrix products; a checkpoint per piece keeps patches out of
memory, since they are cheaper to cut out again than to keep. On an accelerator XLA's convolution is the fast one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

PATCH_ELEMENTS = 2**19
"""Patches worth 2 MB of float32 at a time: measured best where they still fit the second-level cache."""


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated` for channels-last input, by the fastest exact way on this device.

    Arguments and result are those of `jax.lax.conv_general_dilated`; groups, a dilated input and every layout but
    (batch, *spatial, channels) with a (*window, in, out) kernel go there unchanged.
    """
    rank = lhs.ndim - 2
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    spatial = tuple(range(1, rank + 1))
    channels_last = (
        numbers.lhs_spec == (0, rank + 1, *spatial)
        and numbers.out_spec == (0, rank + 1, *spatial)
        and numbers.rhs_spec == (rank + 1, rank, *range(rank))
    )
    dense = feature_group_count == batch_group_count == 1 and all(d == 1 for d in lhs_dilation or ())
    if jax.default_backend() != "cpu" or not (channels_last and dense) or lhs.size == 0 or lhs.dtype != rhs.dtype:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
            **options,
        )
    dilation = tuple(rhs_dilation or (1,) * rank)
    if isinstance(padding, str):
        reach = [(k - 1) * d + 1 for k, d in zip(rhs.shape[:rank], dilation, strict=True)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], reach, window_strides, padding)
    zero = jnp.zeros((), lhs.dtype)
    padded = lax.pad(lhs, zero, [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    return _by_patches(padded, rhs, tuple(window_strides), dilation, options.get("precision"))


def _by_patches(
    x: jax.Array, weight: jax.Array, strides: tuple[int, ...], dilation: tuple[int, ...], precision: Any
) -> jax.Array:
    window, (features_in, features_out) = weight.shape[:-2], weight.shape[-2:]
    sizes = [
        (n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[1:-1], window, dilation, strides, strict=True)
    ]
    matrix = weight.reshape(-1, features_out)

    def product(piece: jax.Array) -> jax.Array:
        shifted = []
        for offset in np.ndindex(*window):
            start = [o * d for o, d in zip(offset, dilation, strict=True)]
            stop = [a + (n - 1) * s + 1 for a, n, s in zip(start, sizes, strides, strict=True)]
            shifted.append(lax.slice(piece, [0, *start, 0], [len(piece), *stop, features_in], [1, *strides, 1]))
        patches = jnp.concatenate(shifted, axis=-1).reshape(-1, math.prod(window) * features_in)
        return jnp.matmul(patches, matrix, precision=precision).reshape(len(piece), *sizes, features_out)

    batch = x.shape[0]
    per_sample = math.prod(sizes) * math.prod(window) * features_in
    pieces = math.ceil(batch * per_sample / PATCH_ELEMENTS) or 1
    length = math.ceil(batch / min(pieces, batch))
    pieces = math.ceil(batch / length)
    if pieces == 1:
        return product(x)
    x = jnp.pad(x, [(0, pieces * length - batch)] + [(0, 0)] * (x.ndim - 1))
    body = jax.checkpoint(product, prevent_cse=False)  # a scan's body is not merged with anything outside it
    _, out = lax.scan(lambda _, piece: (None, body(piece)), None, x.reshape(pieces, length, *x.shape[1:]))
    return out.reshape(pieces * length, *sizes, features_out)[:batch]
