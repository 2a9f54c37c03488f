"""Events or not: the measured rule, applied to the spikes of the moment."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine import compiler

SAMPLED_ROWS = 400
"""Rows, at least, whose entries are counted: they tell a fifth from a tenth, and a look at all would cost time."""

STRIDES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021)
"""From a sampled row to the next: primes, so that samples and time steps, which take turns, are all looked at."""

SMALLEST = 2**20
"""Multiplications of the dense product below which there is nothing to win."""


def worthwhile(multiplications: int) -> bool:
    """Is the dense product large enough, and is this one CPU with the extra `cpu`?"""
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    return one_cpu and multiplications >= SMALLEST and compiler.has_numba()


def choose(plain: Any, by_events: Any, most: float, *operands: jax.Array) -> jax.Array:
    """The kernel where at most the share `most` of the first operand is not zero. Mapped over an axis: always dense."""

    @jax.custom_batching.custom_vmap
    def product(*operands: jax.Array) -> jax.Array:
        return jax.lax.cond(density(operands[0]) <= most, by_events, plain, *operands)

    @product.def_vmap
    def _(size: int, mapped: Any, *operands: Any) -> tuple[jax.Array, bool]:
        return jax.vmap(plain, in_axes=tuple(0 if m else None for m in mapped))(*operands), True

    return product(*operands)


def density(x: jax.Array) -> jax.Array:
    """Share of the entries of x (rows, ...) that are not zero, from a sample of its rows."""
    stride = max((s for s in STRIDES if s * SAMPLED_ROWS <= x.shape[0]), default=1)
    sample = x[::stride]
    return jnp.count_nonzero(sample).astype(jnp.float32) / np.float32(sample.size)
