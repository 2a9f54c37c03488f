"""Matrix products of spikes: `affine` and its weight's gradient `outer`. Each is the other's derivative."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.events import rows
from spyx.engine.events.choice import choose, worthwhile

DENSITY = 0.2
"""Share of entries that are not zero up to which both kernels beat the dense product. It and every number like it here
were measured by `python -m benchmarks.event_products`."""

LARGE, DENSITY_OF_LARGE = 2**19, 0.07
"""From so many weights on `affine` fetches its rows from beyond the second-level cache, and wins only up to here."""


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
    if not worthwhile(x.size * w.shape[1]):
        return _dense_affine(x, w, b)
    most = DENSITY if w.size < LARGE else DENSITY_OF_LARGE
    return choose(_dense_affine, rows.affine, most, x, w, b)


@jax.custom_vjp
def outer(x: jax.Array, g: jax.Array) -> jax.Array:
    """`x.T @ g`, by events where few entries of x are not zero.

    Args:
        x: (rows, inputs), floating, uint8 or bool.
        g: (rows, outputs).

    Returns:
        (inputs, outputs).
    """
    if not worthwhile(x.size * g.shape[1]):
        return _dense_outer(x, g)
    return choose(_dense_outer, rows.outer, DENSITY, x, g)


def _dense_affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    return x.astype(w.dtype) @ w + b[None]


def _dense_outer(x: jax.Array, g: jax.Array) -> jax.Array:
    return x.astype(g.dtype).T @ g


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
