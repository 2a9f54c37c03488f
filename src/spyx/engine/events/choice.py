"""Events or not: the measured rule, applied to the spikes of the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine import device
from spyx.engine.kernels import product_kernels, xla_call

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

SAMPLED_ROWS = 400
"""Rows, at least, whose entries are counted: they tell a fifth from a tenth, and a look at all would cost time."""

STRIDES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021)
"""From a sampled row to the next: primes, so that samples and time steps, which take turns, are all looked at."""

SMALLEST = 2**20
"""Multiplications of the dense product below which there is nothing to win."""


def by_events(multiplications: int) -> bool:
    """May this product skip zeros: it is large enough, on one CPU with the extra `cpu`?"""
    return multiplications >= SMALLEST and device.one_cpu() and device.has_compiler() and xla_call.obstacle() is None


def choose(plain: Callable[..., Array], events: Callable[..., Array], most: float, *operands: Array) -> Array:
    """The kernel where at most the share `most` of the first operand is not zero. Mapped over an axis: always dense."""

    @jax.custom_batching.custom_vmap
    def product(*operands: Array) -> Array:
        return jax.lax.cond(density(operands[0]) <= most, events, plain, *operands)

    @product.def_vmap
    def _(size: int, mapped: Sequence[bool], *operands: Array) -> tuple[Array, bool]:
        return jax.vmap(plain, in_axes=tuple(0 if m else None for m in mapped))(*operands), True

    return product(*operands)


def density(x: Shaped[Array, "rows ..."]) -> Float[Array, ""]:
    """Share of the entries of x (rows, ...) that are not zero, from a sample of its rows."""
    stride = max((s for s in STRIDES if s * SAMPLED_ROWS <= x.shape[0]), default=1)
    size = x.size // x.shape[0] * -(-x.shape[0] // stride)
    return product_kernels.count_nonzero(x, stride).astype(jnp.float32) / np.float32(size)
