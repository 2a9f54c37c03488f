"""Convolutions of spikes: the map, the gradient of its input, that of its weights; each a derivative of the others.

The kernels know windows that move by one place. Everything else, and maps that are full of spikes, are matrix products
over patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from spyx.engine import convolution
from spyx.engine.events import maps
from spyx.engine.events.choice import choose, worthwhile

DENSITY = 0.5
"""Share of entries that are not zero up to which the kernels beat the products over patches."""

CACHED_WEIGHTS = 2**14
"""Up to so many weights the gradient of the input is faster by the kernel even where it is zero nowhere: they stay in
the first-level cache."""

Pads = tuple[tuple[int, int], ...]
Size = tuple[int, int]


def convolve(
    lhs: jax.Array, rhs: jax.Array, window_strides: Sequence[int], padding: Any, *args: Any, **options: Any
) -> jax.Array:
    """`spyx.engine.convolution.convolve`, by events where few entries of `lhs` are not zero.

    Arguments and result are those of `jax.lax.conv_general_dilated`.
    """
    pads = convolution.dense_pads(lhs, rhs, window_strides, padding, *args, **options)
    dilation: Any = options.get("rhs_dilation") or ()
    by_ones = all(n == 1 for n in (*window_strides, *dilation))
    rank, dtype = lhs.ndim - 2, lhs.dtype
    if (
        pads is None
        or args
        or not by_ones
        or rank not in (1, 2)
        or dtype != rhs.dtype
        or dtype not in (jnp.float32, jnp.float64)
        or min(map(min, pads)) < 0
        or options.get("precision") is not None
        or not worthwhile(lhs.size * rhs.size // rhs.shape[-2])
    ):
        return convolution.convolve(lhs, rhs, window_strides, padding, *args, **options)
    if rank == 2:
        return _map(pads, lhs, rhs)
    flat: jax.Array = _map(((0, 0), *pads), lhs[:, None], rhs[None])
    return flat[:, 0]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _map(pads: Pads, x: jax.Array, w: jax.Array) -> jax.Array:
    """`y[i, j] = sum x[i + k - p, j + l - p'] w[k, l]` over the window and the channels."""
    size = _moved(x.shape[1:3], pads, w.shape[:2], 1)

    def by_events(x: jax.Array, w: jax.Array) -> jax.Array:
        return maps.scatter(x, w[::-1, ::-1].transpose(0, 2, 1, 3), _offset(pads, w.shape), size)

    return choose(partial(_by_patches, pads), by_events, DENSITY, x, w)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _input_gradient(pads: Pads, g: jax.Array, w: jax.Array) -> jax.Array:
    """Its transpose in x."""
    size = _moved(g.shape[1:3], pads, w.shape[:2], -1)

    def by_events(g: jax.Array, w: jax.Array) -> jax.Array:
        return maps.scatter(g, w.transpose(0, 3, 1, 2), (pads[0][0], pads[1][0]), size)

    def by_patches(g: jax.Array, w: jax.Array) -> jax.Array:
        x = jnp.zeros((g.shape[0], *size, w.shape[2]), g.dtype)
        return jax.vjp(lambda x: _by_patches(pads, x, w), x)[1](g)[0]

    return choose(by_patches, by_events, 1.0 if w.size <= CACHED_WEIGHTS else DENSITY, g, w)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weight_gradient(pads: Pads, window: Size, x: jax.Array, g: jax.Array) -> jax.Array:
    """Its transpose in w."""

    def by_events(x: jax.Array, g: jax.Array) -> jax.Array:
        return maps.gather(x, g, _offset(pads, window), window).transpose(0, 2, 1, 3)[::-1, ::-1]

    def by_patches(x: jax.Array, g: jax.Array) -> jax.Array:
        w = jnp.zeros((*window, x.shape[-1], g.shape[-1]), g.dtype)
        return jax.vjp(lambda w: _by_patches(pads, x, w), w)[1](g)[0]

    return choose(by_patches, by_events, DENSITY, x, g)


def _by_patches(pads: Pads, x: jax.Array, w: jax.Array) -> jax.Array:
    return convolution.by_patches(x, w, (1, 1), pads, (1, 1), None)


def _offset(pads: Pads, window: Sequence[int]) -> Size:
    return window[0] - 1 - pads[0][0], window[1] - 1 - pads[1][0]


def _moved(size: Sequence[int], pads: Pads, window: Sequence[int], way: int) -> Size:
    """Size of the map for that of the input (way 1), or the other way round (-1)."""
    first, second = (n + way * (sum(p) + 1 - k) for n, p, k in zip(size, pads, window, strict=True))
    return first, second


_map.defvjp(
    lambda pads, x, w: (_map(pads, x, w), (x, w)),
    lambda pads, kept, g: (_input_gradient(pads, g, kept[1]), _weight_gradient(pads, kept[1].shape[:2], kept[0], g)),
)
_input_gradient.defvjp(
    lambda pads, g, w: (_input_gradient(pads, g, w), (g, w)),
    lambda pads, kept, c: (_map(pads, c, kept[1]), _weight_gradient(pads, kept[1].shape[:2], c, kept[0])),
)
_weight_gradient.defvjp(
    lambda pads, window, x, g: (_weight_gradient(pads, window, x, g), (x, g)),
    lambda pads, window, kept, c: (_input_gradient(pads, kept[1], c), _map(pads, kept[0], c)),
)
