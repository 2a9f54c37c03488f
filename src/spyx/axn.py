"""Surrogate-gradient activations: a spike forward, a slope backward.

Every factory returns a `Surrogate`: a frozen dataclass, equal by value, hashable and picklable, so a network whose
layers were given two equal surrogates is traced once. The input is the membrane with its threshold already
subtracted. A new surrogate is its slope and nothing else:

    @surrogate
    def fast_sigmoid(x, k=10.0):
        return 1 / (1 + k * jnp.abs(x)) ** 2
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "Activation",
    "Surrogate",
    "arctan",
    "boxcar",
    "custom",
    "heaviside",
    "heaviside_closed",
    "piecewise",
    "piecewise_surrogate",
    "sigmoid",
    "sigmoid_surrogate",
    "straight_through",
    "superspike",
    "superspike_surrogate",
    "surrogate",
    "tanh",
    "triangular",
]

Activation = Callable[[jax.Array], jax.Array]
"""Type alias: membrane minus threshold in, spikes of the same shape and dtype out."""


def heaviside(x: jax.Array) -> jax.Array:
    """The step function, open at zero: `1 if x > 0 else 0`, in the dtype of `x`.

    Args:
        x: any shape, any real or integer dtype. 0, -0.0 and NaN give 0; +inf gives 1.

    Example:
        >>> heaviside(jnp.array([-1.0, 0.0, 2.0])).tolist()
        [0.0, 0.0, 1.0]
    """
    x = jnp.asarray(x)
    return (x > 0).astype(x.dtype)


def heaviside_closed(x: jax.Array) -> jax.Array:
    """The step function, closed at zero: `1 if x >= 0 else 0`, in the dtype of `x`; NaN stays NaN (SNNAX's convention).

    Args:
        x: any shape, any real or integer dtype.

    Example:
        >>> heaviside_closed(jnp.array([-1.0, 0.0, 2.0])).tolist()
        [0.0, 1.0, 1.0]
    """
    x = jnp.asarray(x)
    spikes = (x >= 0).astype(x.dtype)
    return jnp.where(jnp.isnan(x), x, spikes) if jnp.issubdtype(x.dtype, jnp.floating) else spikes


@dataclass(frozen=True, repr=False)
class Surrogate:
    """A spike function with a replaced derivative: `y = forward(x)`, `dy/dx := slope(x)`.

    Works under `jit`, `vmap`, forward mode, reverse mode and at every order of differentiation. An eager call runs
    one compiled function, cached by the surrogate's value.

    Args:
        slope_fn: the slope, `(x, **options) -> array` of the shape and dtype of `x`.
        options: the slope's parameters as `((name, value), ...)`.
        forward: the spike function; `heaviside` by default.
        factory: what made it; only used to pickle it by name.

    Example:
        >>> spike = superspike(k=25)
        >>> spike == superspike(25), float(spike(jnp.float32(0.3))), float(jax.grad(spike)(jnp.float32(0.0)))
        (True, 1.0, 1.0)
    """

    slope_fn: Callable[..., jax.Array]
    options: tuple[tuple[str, Any], ...] = ()
    forward: Callable[[jax.Array], jax.Array] = heaviside
    factory: Callable[..., Surrogate] | None = field(default=None, compare=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        return _compiled(self, jnp.asarray(x))

    def slope(self, x: jax.Array) -> jax.Array:
        """The surrogate derivative at `x`, in the shape and dtype of `x`: what is drawn in a neuron's docs."""
        x = jnp.asarray(x)
        slope = jnp.asarray(self.slope_fn(x, **dict(self.options)))
        if slope.shape != x.shape:
            raise ValueError(f"{self!r}: expected a slope of shape {x.shape}; got {slope.shape}. Keep the shape of x.")
        return slope.astype(x.dtype)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.factory is None:
            return Surrogate, (self.slope_fn, self.options, self.forward)
        return _rebuild, (self.factory, self.options)

    def __repr__(self) -> str:
        name = getattr(self.slope_fn, "__name__", repr(self.slope_fn)).lstrip("_")
        return f"{name}({', '.join(f'{k}={v!r}' for k, v in self.options)})"


def _rebuild(factory: Callable[..., Surrogate], options: tuple[tuple[str, Any], ...]) -> Surrogate:
    return factory(**dict(options))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spike(s: Surrogate, x: jax.Array) -> jax.Array:
    return s.forward(x)


@_spike.defjvp
def _spike_jvp(s: Surrogate, primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    # The primal goes through _spike again, so that a second derivative meets the surrogate and not the bare step.
    return _spike(s, primals[0]), s.slope(primals[0]) * tangents[0]


_compiled = jax.jit(_spike, static_argnums=0, inline=True)


def surrogate(
    slope: Callable[..., jax.Array] | None = None,
    *,
    forward: Callable[[jax.Array], jax.Array] = heaviside,
    positive: bool = False,
) -> Any:
    """Turn a slope function `(x, **options)` into a factory `(**options) -> Surrogate`.

    Use it bare (`@surrogate`) or with arguments (`@surrogate(forward=...)`).

    Args:
        slope: the derivative to use instead of the step's, elementwise.
        forward: the spike function.
        positive: require every option to be a number above zero.

    Raises:
        TypeError: an option of the factory is not a number.
        ValueError: an option is not finite, or not above zero where `positive` asks for it.

    Example:
        >>> @surrogate
        ... def gaussian(x, sigma=0.5):
        ...     return jnp.exp(-((x / sigma) ** 2))
        >>> gaussian(sigma=1.0)
        gaussian(sigma=1.0)
    """
    if slope is None:
        return functools.partial(surrogate, forward=forward, positive=positive)
    signature = inspect.signature(slope)
    options = list(signature.parameters.values())[1:]
    signature = signature.replace(parameters=options, return_annotation=Surrogate)

    @functools.wraps(slope)
    def make(*args: Any, **kwargs: Any) -> Surrogate:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        checked = (
            (name, _number(f"spyx.axn.{slope.__name__}({name}=)", value, positive))
            for name, value in bound.arguments.items()
        )
        return Surrogate(slope, tuple(checked), forward, make)

    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


def _number(where: str, value: Any, positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{where}: expected a number; got {type(value).__name__}. Surrogates are compared by value: pass a float."
        )
    number = float(value)
    if not math.isfinite(number) or (positive and number <= 0):
        kind = "a finite number above 0" if positive else "a finite number"
        raise ValueError(f"{where}: expected {kind}; got {number}. Choose another value.")
    return number


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
