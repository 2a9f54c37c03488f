"""The slopes of the literature, one function each, and `custom` for your own."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from spyx.axn._surrogate import Surrogate, heaviside, surrogate

_builtin = functools.partial(surrogate, positive=True)


@_builtin
def superspike(x, k=25.0):
    """SuperSpike slope `1 / (1 + k |x|)^2`: peak 1 at the threshold, long tails.

    Args:
        k: steepness, above 0; default 25. Larger is narrower.

    Example:
        >>> round(float(superspike(k=25).slope(0.04)), 3)
        0.25

    Reference:
        Zenke & Ganguli 2018, doi:10.1162/neco_a_01086.
    """
    return 1 / (1 + k * jnp.abs(x)) ** 2


@_builtin
def arctan(x, k=2.0):
    """Arctangent slope `1 / (pi (1 + (pi k x)^2))`: peak `1/pi` whatever `k`.

    Args:
        k: steepness, above 0; default 2. Not snnTorch's ATan scaling, which is `(k/2) / (1 + (pi k x / 2)^2)`.

    Example:
        >>> round(float(arctan().slope(0.0)), 4)
        0.3183

    Reference:
        Fang et al. 2021, doi:10.1109/ICCV48922.2021.00266.
    """
    return 1 / (math.pi * (1 + (k * math.pi * x) ** 2))


@_builtin
def tanh(x, k=1.0):
    """Hyperbolic slope `4 / (exp(-k x) + exp(k x))^2 = sech^2(k x)`: the derivative of tanh at `k x`, peak 1.

    Args:
        k: steepness, above 0; default 1.

    Example:
        >>> float(tanh().slope(0.0))
        1.0

    Reference:
        Neftci, Mostafa & Zenke 2019, doi:10.1109/MSP.2019.2931595.
    """
    # exp(-|kx|) cannot overflow, so that a far membrane has slope 0 and not NaN.
    decay = jnp.exp(-2 * jnp.abs(k * x))
    return 4 * decay / (1 + decay) ** 2


@_builtin
def boxcar(x, width=2.0, height=0.5):
    """Rectangular slope: `height` where `|x| <= width / 2`, else 0. The edge belongs to the window.

    Args:
        width: total width of the window, above 0; default 2.
        height: slope inside, above 0; default 0.5.

    Example:
        >>> boxcar().slope(jnp.array([0.0, 1.0, 1.1])).tolist()
        [0.5, 0.5, 0.0]

    Reference:
        Kaiser, Mostafa & Neftci 2020 (DECOLLE), doi:10.3389/fnins.2020.00424.
    """
    return jnp.where(jnp.abs(x) <= width / 2, height, 0.0)


@_builtin
def triangular(x, k=2.0):
    """Triangular slope `max(0, 1 - |k x|)`: peak 1, zero from `|x| = 1/k` on.

    Args:
        k: steepness, above 0; default 2.

    Example:
        >>> triangular().slope(jnp.array([0.0, 0.25, 0.5])).tolist()
        [1.0, 0.5, 0.0]

    Reference:
        Esser et al. 2016, arXiv:1603.08270.
    """
    return jnp.maximum(0, 1 - jnp.abs(k * x))


@_builtin
def sigmoid(x, k=4.0):
    """Logistic slope `k s (1 - s)`, `s = sigmoid(k x)`: the derivative of a sigmoid of steepness `k`, peak `k/4`.

    Args:
        k: steepness, above 0; default 4, which peaks at 1.

    Example:
        >>> float(sigmoid().slope(0.0))
        1.0

    Reference:
        Zenke & Vogels 2021, doi:10.1162/neco_a_01367.
    """
    s = jax.nn.sigmoid(k * x)
    return k * s * (1 - s)


@_builtin
def exponential(x, k=5.0, height=1.0):
    """Exponential slope `height exp(-k |x|)`.

    Args:
        k: steepness, above 0; default 5.
        height: slope at the threshold, above 0; default 1. The paper on adLIF writes it `c k / 2`, with c = 0.4.

    Example:
        >>> round(float(exponential().slope(0.2)), 4)
        0.3679

    Reference:
        Shrestha & Orchard 2018 (SLAYER), arXiv:1810.08646.
    """
    return height * jnp.exp(-k * jnp.abs(x))


@_builtin
def double_gaussian(x, p=0.15, sigma=0.5, scale=6.0, gamma=0.5):
    """Difference of two Gaussians, `gamma ((1 + p) N(x; sigma) - 2 p N(x; scale sigma))`: below 0 far from 0.

    N(x; sigma) is the density of a normal distribution of mean 0. At the defaults the slope is 0.439 at the threshold
    and crosses 0 at `|x| = 1.27`.

    Args:
        p: share of the wide Gaussian, above 0; default 0.15.
        sigma: standard deviation of the narrow Gaussian, above 0; default 0.5.
        scale: how many times wider the other one is, above 0; default 6.
        gamma: factor, above 0; default 0.5.

    Example:
        >>> [round(float(slope), 4) for slope in double_gaussian().slope(jnp.array([0.0, 3.0]))]
        [0.4388, -0.0121]

    Reference:
        Higuchi et al. 2024, arXiv:2402.14603, after Yin, Corradi & Bohté 2021, doi:10.1038/s42256-021-00397-w.
    """

    def normal(deviation):
        return jnp.exp(-(x**2) / (2 * deviation**2)) / (deviation * math.sqrt(2 * math.pi))

    return gamma * ((1 + p) * normal(sigma) - 2 * p * normal(scale * sigma))


@_builtin
def piecewise(x, beta=0.5):
    """Window slope: 1 where `|x| <= beta`, else 0. The edge belongs to the window.

    Args:
        beta: half-width of the window, above 0; default 0.5.

    Example:
        >>> piecewise().slope(jnp.array([0.5, 0.6])).tolist()
        [1.0, 0.0]

    Reference:
        Bengio, Léonard & Courville 2013, arXiv:1308.3432 (the unclipped form).
    """
    return jnp.where(jnp.abs(x) <= beta, 1.0, 0.0)


@_builtin
def straight_through(x):
    """Straight-through slope: 1 everywhere.

    Example:
        >>> float(jax.grad(straight_through())(jnp.float32(-3.0)))
        1.0

    Reference:
        Bengio, Léonard & Courville 2013, arXiv:1308.3432.
    """
    return jnp.ones_like(x)


def custom(
    bwd: Callable[[jax.Array], jax.Array] | None = None,
    fwd: Callable[[jax.Array], jax.Array] = heaviside,
) -> Surrogate:
    """Your own slope and, if wanted, your own spike function: `y = fwd(x)`, `dy/dx := bwd(x)`.

    Without arguments it is the straight-through estimator (slope 1).

    Args:
        bwd: the slope, elementwise; must keep the shape of `x`. None means 1 everywhere.
        fwd: the forward function; `heaviside` by default, a sigmoid for a relaxation.

    Raises:
        TypeError: `bwd` or `fwd` is not callable.

    Example:
        >>> relaxed = custom(fwd=jax.nn.sigmoid, bwd=lambda x: jax.nn.sigmoid(x) * jax.nn.sigmoid(-x))
        >>> float(relaxed(jnp.float32(0.0)))
        0.5
    """
    for name, value in (("bwd", bwd), ("fwd", fwd)):
        if not callable(value) and not (name == "bwd" and value is None):
            raise TypeError(
                f"spyx.axn.custom({name}=): expected a function of x; got {type(value).__name__}. "
                "Pass the function itself."
            )
    if bwd is None and fwd is heaviside:
        return straight_through()
    return Surrogate(jnp.ones_like if bwd is None else bwd, (), fwd)
