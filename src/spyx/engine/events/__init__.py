"""Event-driven products for CPUs: the same numbers as the dense product, without the arithmetic on zeros.

How many entries are not zero is measured when the product runs, and the cheaper of the two is taken then: a trace
knows shapes, not spikes. Sums are added in another order, so results agree up to rounding; a zero times a weight that
is not finite counts as zero here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine import compiler
from spyx.engine.events import dense

__all__ = ["affine", "outer", "worthwhile"]

DENSITY = 0.2
"""Share of entries that are not zero up to which both kernels beat the dense product, as long as the weights fit the
second-level cache. Measured by `python -m benchmarks.event_products`."""

LARGE, DENSITY_OF_LARGE = 2**19, 0.07
"""From so many weights on `affine` fetches its rows from farther away, and wins only below this density."""

SAMPLED_ROWS = 400
"""Rows, at least, whose entries are counted: they tell a fifth from a tenth, and a look at all would cost time."""

STRIDES = (1, 2, 3, 7, 13, 31, 61, 127, 251, 509, 1021)
"""From a sampled row to the next: primes, so that samples and time steps, which take turns, are all looked at."""

SMALLEST = 2**20
"""Multiplications of the dense product below which there is nothing to win."""


def worthwhile(rows: int, inputs: int, outputs: int) -> bool:
    """Is the product large enough, and is this one CPU with the extra `cpu`?"""
    one_cpu = jax.default_backend() == "cpu" and jax.device_count() == 1
    return one_cpu and rows * inputs * outputs >= SMALLEST and compiler.has_numba()


@jax.custom_vjp
def affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """`x @ w + b`, by events where few entries of x are not zero.

    Args:
        x: (rows, inputs), floating, uint8 or bool.
        w: (inputs, outputs).
        b: (outputs), of the dtype of w.

    Returns:
        (rows, outputs).
    """
    most = DENSITY if w.size < LARGE else DENSITY_OF_LARGE
    return _choose(_dense_affine, dense.affine, most, x, w, b)


@jax.custom_vjp
def outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """`x.T @ g`, by events where few entries of x are not zero.

    Args:
        x: (rows, inputs), floating, uint8 or bool.
        g: (rows, outputs).

    Returns:
        (inputs, outputs).
    """
    return _choose(_dense_outer, dense.outer, DENSITY, x, g)


def _dense_affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    return x.astype(w.dtype) @ w + b[None]


def _dense_outer(x: jax.Array, g: jax.Array) -> jax.Array:
    return x.astype(g.dtype).T @ g


def _choose(plain: Any, by_events: Any, most: float, *operands: jax.Array) -> jax.Array:
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


def _affine_forward(x: jax.Array, w: jax.Array, b: jax.Array) -> tuple[jax.Array, Any]:
    return affine(x, w, b), (x, w)


def _affine_backward(kept: Any, g: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    x, w = kept
    return _input_gradient(x, partial(jnp.matmul, g, w.T)), outer(x, g), g.sum(0)


def _outer_forward(x: jax.Array, g: jax.Array) -> tuple[jax.Array, Any]:
    return outer(x, g), (x, g)


def _outer_backward(kept: Any, c: jax.Array) -> tuple[Any, jax.Array]:
    x, g = kept
    return _input_gradient(x, partial(jnp.matmul, g, c.T)), affine(x, c, jnp.zeros(c.shape[1:], c.dtype))


def _input_gradient(x: jax.Array, product: Any) -> Any:
    """Spikes that travel as integers have no gradient."""
    return product() if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)


affine.defvjp(_affine_forward, _affine_backward)
outer.defvjp(_outer_forward, _outer_backward)
