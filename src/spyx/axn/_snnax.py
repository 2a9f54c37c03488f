"""SNNAX's surrogates under its own names: they spike at exactly zero."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from spyx.axn._surrogate import heaviside_closed, surrogate

_snnax = functools.partial(surrogate, positive=True, forward=heaviside_closed)


@_snnax
def superspike_surrogate(x, beta=10.0):
    """SNNAX's superspike slope `1 / (beta |x| + 1)`, without the paper's square; a spike at exactly 0.

    Args:
        beta: steepness, above 0; default 10. The paper's squared form is `superspike(k=beta)`.

    Example:
        >>> round(float(superspike_surrogate().slope(0.1)), 3)
        0.5

    Reference:
        The SNNAX documentation; compare Zenke & Ganguli 2018, doi:10.1162/neco_a_01086.
    """
    return 1 / (beta * jnp.abs(x) + 1)


@_snnax
def piecewise_surrogate(x, beta=0.5):
    """SNNAX's window slope: 1 where `-beta <= x <= beta`, else 0; a spike at exactly 0.

    Args:
        beta: half-width of the window, above 0; default 0.5.

    Example:
        >>> float(piecewise_surrogate()(jnp.float32(0.0)))
        1.0

    Reference:
        The SNNAX documentation.
    """
    return jnp.where(jnp.abs(x) <= beta, 1.0, 0.0)


@_snnax
def sigmoid_surrogate(x, beta=1.0):
    """SNNAX's logistic slope, `beta s (1 - s)` with `s = sigmoid(beta x)`, for every `beta`; a spike at exactly 0.

    Equal to the documented `s (1 - beta s)` at `beta = 1`, the only value that formula is a derivative for.

    Args:
        beta: steepness, above 0; default 1.

    Example:
        >>> float(sigmoid_surrogate().slope(0.0))
        0.25

    Reference:
        Zenke & Vogels 2021, doi:10.1162/neco_a_01367.
    """
    s = jax.nn.sigmoid(beta * x)
    return beta * s * (1 - s)
