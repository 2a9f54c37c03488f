"""Convolutions of spikes: the map, the gradient of its input, that of its weights; each a derivative of the others.

The kernels know windows that move by one place. Everything else, and maps that are full of spikes, are matrix products
over patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from spyx.engine import convolution
from spyx.engine.derivative import Bilinear, Changes, call
from spyx.engine.events.choice import by_events, choose
from spyx.engine.kernels import convolution_kernels

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

    from spyx.engine.derivative import Arguments
    from spyx.engine.types import Tree

DENSITY = 0.5
"""Share of entries that are not zero up to which the kernels beat the products over patches."""

CACHED_WEIGHTS = 2**14
"""Up to so many weights the gradient of the input is faster by the kernel even where it is zero nowhere: they stay in
the first-level cache."""

Pads = tuple[tuple[int, int], ...]
Size = tuple[int, int]


def convolve(
    lhs: Shaped[Array, "batch *spatial features"],
    rhs: Shaped[Array, "*window features features_out"],
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    *args: Any,
    **options: Any,
) -> Shaped[Array, "batch *spatial_out features_out"]:
    """`spyx.engine.convolution.convolve`, by events where few entries of `lhs` are not zero.

    Arguments and result are those of `jax.lax.conv_general_dilated`.
    """
    pads = convolution.dense_pads(lhs, rhs, window_strides, padding, *args, **options)
    dilation: Sequence[int] = options.get("rhs_dilation") or ()
    by_ones = all(n == 1 for n in (*window_strides, *dilation))
    rank, dtype = lhs.ndim - 2, lhs.dtype
    if (
        pads is None
        or args
        or options.get("feature_group_count", 1) != 1
        or not by_ones
        or rank not in (1, 2)
        or dtype != rhs.dtype
        or dtype not in (jnp.float32, jnp.float64)
        or min(map(min, pads)) < 0
        or options.get("precision") is not None
        or not by_events(lhs.size * rhs.size // rhs.shape[-2])
    ):
        return convolution.convolve(lhs, rhs, window_strides, padding, *args, **options)
    if rank == 2:
        return call(_Map(pads), lhs, rhs)
    flat: Array = call(_Map(((0, 0), *pads)), lhs[:, None], rhs[None])
    return flat[:, 0]


@dataclass(frozen=True)
class _Map(Bilinear):
    """`y[i, j] = sum x[i + k - p, j + l - p'] w[k, l]` over the window and the channels."""

    pads: Pads

    def forward(self, x: Array, w: Array) -> Array:
        size = _moved(x.shape[1:3], self.pads, w.shape[:2], 1)

        def events(x: Array, w: Array) -> Array:
            return convolution_kernels.scatter(
                x, w[::-1, ::-1].transpose(0, 2, 1, 3), _offset(self.pads, w.shape), size
            )

        return choose(partial(_by_patches, self.pads), events, DENSITY, x, w)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        (x, w), (g,) = args, cotangents
        return [call(_InputGradient(self.pads), g, w)], [call(_WeightGradient(self.pads, w.shape[:2]), x, g)]


@dataclass(frozen=True)
class _InputGradient(Bilinear):
    """The transpose of `_Map` in x."""

    pads: Pads

    def forward(self, g: Array, w: Array) -> Array:
        size = _moved(g.shape[1:3], self.pads, w.shape[:2], -1)

        def events(g: Array, w: Array) -> Array:
            return convolution_kernels.scatter(g, w.transpose(0, 3, 1, 2), (self.pads[0][0], self.pads[1][0]), size)

        def by_patches(g: Array, w: Array) -> Array:
            x = jnp.zeros((g.shape[0], *size, w.shape[2]), g.dtype)
            return jax.vjp(lambda x: _by_patches(self.pads, x, w), x)[1](g)[0]

        return choose(by_patches, events, 1.0 if w.size <= CACHED_WEIGHTS else DENSITY, g, w)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        (g, w), (c,) = args, cotangents
        return [call(_Map(self.pads), c, w)], [call(_WeightGradient(self.pads, w.shape[:2]), c, g)]


@dataclass(frozen=True)
class _WeightGradient(Bilinear):
    """The transpose of `_Map` in w."""

    pads: Pads
    window: Size

    def forward(self, x: Array, g: Array) -> Array:
        def events(x: Array, g: Array) -> Array:
            found = convolution_kernels.gather(x, g, _offset(self.pads, self.window), self.window)
            return found.transpose(0, 2, 1, 3)[::-1, ::-1]

        def by_patches(x: Array, g: Array) -> Array:
            w = jnp.zeros((*self.window, x.shape[-1], g.shape[-1]), g.dtype)
            return jax.vjp(lambda w: _by_patches(self.pads, x, w), w)[1](g)[0]

        return choose(by_patches, events, DENSITY, x, g)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        (x, g), (c,) = args, cotangents
        return [call(_InputGradient(self.pads), g, c)], [call(_Map(self.pads), x, c)]


def _by_patches(pads: Pads, x: Array, w: Array) -> Array:
    return convolution.by_patches(x, w, (1, 1), pads, (1, 1), None)


def _offset(pads: Pads, window: Sequence[int]) -> Size:
    return window[0] - 1 - pads[0][0], window[1] - 1 - pads[1][0]


def _moved(size: Sequence[int], pads: Pads, window: Sequence[int], way: int) -> Size:
    """Size of the map for that of the input (way 1), or the other way round (-1)."""
    first, second = (n + way * (sum(p) + 1 - k) for n, p, k in zip(size, pads, window, strict=True))
    return first, second
