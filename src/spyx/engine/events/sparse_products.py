"""Matrix products of spikes: `affine` and its weight's gradient `outer`. Each is the other's derivative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.engine.derivative import Changes, Rule, call, filled
from spyx.engine.events.choice import by_events, choose
from spyx.engine.kernels import product_kernels

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.types import Tree

DENSITY = 0.2
"""Share of entries that are not zero up to which both kernels beat the dense product. It and every number like it here
were measured by `python -m benchmarks.event_products`."""

LARGE, DENSITY_OF_LARGE = 2**19, 0.07
"""From so many weights on `affine` fetches its rows from beyond the second-level cache, and wins only up to here."""


def affine(
    x: Shaped[Array, "rows inputs"], w: Float[Array, "inputs outputs"], b: Float[Array, " outputs"]
) -> Float[Array, "rows outputs"]:
    """`x @ w + b`, by events where few entries of x are not zero.

    Args:
        x: (rows, inputs), floating, uint8 or bool.
        w: (inputs, outputs).
        b: (outputs), of the dtype of w.

    Returns:
        (rows, outputs).
    """
    if not by_events(x.size * w.shape[1]):
        return x.astype(w.dtype) @ w + b[None]
    return call(_Affine(DENSITY if w.size < LARGE else DENSITY_OF_LARGE), x, w, b)


def outer(x: Shaped[Array, "rows inputs"], g: Float[Array, "rows outputs"]) -> Float[Array, "inputs outputs"]:
    """`x.T @ g`, by events where few entries of x are not zero.

    Args:
        x: (rows, inputs), floating, uint8 or bool.
        g: (rows, outputs).

    Returns:
        (inputs, outputs).
    """
    if not by_events(x.size * g.shape[1]):
        return x.astype(g.dtype).T @ g
    return call(_Outer(), x, g)


@dataclass(frozen=True)
class _Affine(Rule):
    """The kernel up to a share of entries that are not zero, and the dense product above it."""

    most: float

    def forward(self, x: Array, w: Array, b: Array) -> Array:
        return choose(lambda x, w, b: x.astype(w.dtype) @ w + b[None], product_kernels.affine, self.most, x, w, b)

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        x, w, b = args
        (d_w,), (d_b,) = filled(tangents[1], [w]), filled(tangents[2], [b])
        d_x = [t for t in tangents[0] if t is not None]  # spikes that travel as integers have none
        return [affine(x, d_w, d_b) + (d_x[0] @ w if d_x else jnp.zeros((), w.dtype))]

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        x, w, _ = args
        (g,) = cotangents
        return [g @ w.T] if _floating(x) else [], [outer(x, g)], [g.sum(0)]


@dataclass(frozen=True)
class _Outer(Rule):
    """Likewise."""

    def forward(self, x: Array, g: Array) -> Array:
        return choose(lambda x, g: x.astype(g.dtype).T @ g, product_kernels.outer, DENSITY, x, g)

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        x, g = args
        (d_g,) = filled(tangents[1], [g])
        d_x = [t for t in tangents[0] if t is not None]
        return [outer(x, d_g) + (d_x[0].T @ g if d_x else jnp.zeros((), g.dtype))]

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        x, g = args
        (c,) = cotangents
        return [g @ c.T] if _floating(x) else [], [affine(x, c, jnp.zeros(c.shape[1:], c.dtype))]


def _floating(x: Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
