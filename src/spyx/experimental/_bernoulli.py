"""Stochastic activations: a spike is a coin whose odds the membrane sets."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.experimental._keys import checked_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float, PRNGKeyArray

    Pair = tuple[Float[Array, "..."], Float[Array, "..."]]
    """The membrane and the noise, or their tangents."""

GRADIENTS = ("probability", "derivative")


@dataclass(frozen=True)
class Bernoulli:
    """A stochastic activation `act(x, key)`: 1 with probability `p(x)`, else 0; frozen and equal by value.

    Args:
        probability_fn: the odds, `(x, **options) -> p` in [0, 1], elementwise.
        options: its parameters as `((name, value), ...)`.
        grad: what stands for the derivative of the draw: "probability" is `p(x)`, "derivative" is `dp/dx`.

    Example:
        >>> act = sigmoid_bernoulli()
        >>> act == sigmoid_bernoulli(k=10), round(float(act.probability(jnp.float32(1.0))), 3)
        (True, 0.4)
    """

    probability_fn: Callable[..., jax.Array]
    options: tuple[tuple[str, float], ...] = ()
    grad: str = "probability"

    def __call__(self, x: Float[Array, "..."], key: PRNGKeyArray) -> Float[Array, "..."]:
        """Spikes of the shape and dtype of `x`, all from one key."""
        x = jnp.asarray(x)
        who = f"spyx.experimental.{self.probability_fn.__name__.lstrip('_')}"
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{who}: expected a floating membrane; got {x.dtype}. The order is act(x, key).")
        return self.fire(x, jax.random.uniform(checked_key(who, key), x.shape, x.dtype))

    def probability(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The odds of a spike."""
        return self.probability_fn(x, **dict(self.options))

    def fire(self, x: Float[Array, "..."], noise: Float[Array, "..."]) -> Float[Array, "..."]:
        """The spikes that `noise`, uniform on [0, 1), decides: what `act(x, key)` does with its draw."""
        return _fire(self, x, noise)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fire(act: Bernoulli, x: jax.Array, noise: jax.Array) -> jax.Array:
    return (noise < act.probability(x)).astype(x.dtype)


@_fire.defjvp
def _fire_jvp(act: Bernoulli, primals: Pair, tangents: Pair) -> Pair:
    x, noise = primals
    if act.grad == "derivative":
        return _fire(act, x, noise), jax.jvp(act.probability, (x,), (tangents[0],))[1]
    return _fire(act, x, noise), act.probability(x) * tangents[0]


def sigmoid_bernoulli(
    k: float = 10, threshold: float = 1.0, max_prob: float = 0.8, *, grad: str = "probability"
) -> Bernoulli:
    """A coin with odds `p = max_prob sigmoid(k (x - threshold))`.

    At the threshold the odds are `max_prob / 2`, not one half.

    Args:
        k: steepness of the odds; default 10.
        threshold: membrane at which the odds are half of `max_prob`; default 1.
        max_prob: the largest odds, in [0, 1]; default 0.8. Below 1 no unit ever fires at every step.
        grad: what the backward pass multiplies with. "probability" (default, Spyx's) is `p` itself: never small far
            above the threshold. "derivative" is `dp/dx`, the derivative of the expected spike.

    Returns:
        `act(x, key) -> spikes`, of the shape and dtype of `x`.

    Raises:
        TypeError: an argument that is not a number.
        ValueError: `max_prob` outside [0, 1]; an unknown `grad`.

    Example:
        >>> act = sigmoid_bernoulli(k=10)
        >>> float(act(jnp.full(1000, 9.0), jax.random.key(0)).mean())
        0.8...

    Reference:
        Yarga & Wood 2023, arXiv:2306.12666, for the coin; the numbers are Spyx's.
    """
    options = _numbers("sigmoid_bernoulli", k=k, threshold=threshold, max_prob=max_prob)
    if not 0 <= max_prob <= 1:
        raise ValueError(
            f"spyx.experimental.sigmoid_bernoulli(max_prob=): expected a probability in [0, 1]; got {max_prob}. "
            "The default is 0.8."
        )
    return Bernoulli(_sigmoid_bernoulli, options, _gradient("sigmoid_bernoulli", grad))


def refractory_sigmoid_bernoulli(k: float = 50, threshold: float = 1, *, grad: str = "probability") -> Bernoulli:
    """A coin with odds `p = max(cos(2 pi threshold u) sigmoid(k u), 0)`, `u = x - threshold`.

    The cosine makes a membrane that overshoots less likely to fire, which stands in for a refractory time.

    Args:
        k: steepness of the odds; default 50.
        threshold: membrane at which the odds are one half; default 1.
        grad: "probability" (default, Spyx's) or "derivative", as in `sigmoid_bernoulli`.

    Returns:
        `act(x, key) -> spikes`, of the shape and dtype of `x`.

    Raises:
        TypeError: an argument that is not a number.
        ValueError: an unknown `grad`.

    Example:
        >>> act = refractory_sigmoid_bernoulli()
        >>> act.probability(jnp.array([0.5, 1.0, 1.25])).round(3).tolist()
        [0.0, 0.5, 0.0]

    Reference:
        Spyx 0.1.
    """
    options = _numbers("refractory_sigmoid_bernoulli", k=k, threshold=threshold)
    return Bernoulli(_refractory_sigmoid_bernoulli, options, _gradient("refractory_sigmoid_bernoulli", grad))


def _sigmoid_bernoulli(x: jax.Array, k: float, threshold: float, max_prob: float) -> jax.Array:
    return jax.nn.sigmoid(k * (x - threshold)) * max_prob


def _refractory_sigmoid_bernoulli(x: jax.Array, k: float, threshold: float) -> jax.Array:
    u = x - threshold
    return jnp.maximum(jnp.cos(2 * math.pi * threshold * u) * jax.nn.sigmoid(k * u), 0)


def _numbers(name: str, **options: float) -> tuple[tuple[str, float], ...]:
    for option, value in options.items():
        where = f"spyx.experimental.{name}({option}=)"
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{where}: expected a number; got {type(value).__name__}. Pass a float.")
        if not math.isfinite(value):
            raise ValueError(f"{where}: expected a finite number; got {value}. Choose another value.")
    return tuple((option, float(value)) for option, value in options.items())


def _gradient(name: str, grad: str) -> str:
    if grad not in GRADIENTS:
        raise ValueError(f"spyx.experimental.{name}(grad=): expected one of {GRADIENTS}; got {grad!r}. See its docs.")
    return grad
