"""`Surrogate`: a spike forward, a slope backward; and `surrogate`, which makes one from a slope."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Concatenate, ParamSpec, overload

import jax
import jax.numpy as jnp

from spyx.engine.derivative import Changes, Rule, Tangents, call

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num

    from spyx.engine.derivative import Arguments

Options = ParamSpec("Options")

Activation = Callable[[jax.Array], jax.Array]
"""Type alias: membrane minus threshold in, spikes of the same shape and dtype out."""


def heaviside(x: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
    """The step function, open at zero: `1 if x > 0 else 0`, in the dtype of `x`.

    Args:
        x: any shape, any real or integer dtype. 0, -0.0 and NaN give 0; +inf gives 1.

    Example:
        >>> heaviside(jnp.array([-1.0, 0.0, 2.0])).tolist()
        [0.0, 0.0, 1.0]
    """
    x = jnp.asarray(x)
    return (x > 0).astype(x.dtype)


def heaviside_closed(x: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
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
        >>> from spyx.axn import superspike
        >>> spike = superspike(k=25)
        >>> spike == superspike(25), float(spike(jnp.float32(0.3))), float(jax.grad(spike)(jnp.float32(0.0)))
        (True, 1.0, 1.0)
    """

    slope_fn: Callable[..., jax.Array]
    options: tuple[tuple[str, float], ...] = ()
    forward: Callable[[jax.Array], jax.Array] = heaviside
    factory: Callable[..., Surrogate] | None = field(default=None, compare=False)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return call(_Spike(self), jnp.asarray(x))

    def slope(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The surrogate derivative at `x`, in the shape and dtype of `x`: what is drawn in a neuron's docs."""
        x = jnp.asarray(x)
        slope = jnp.asarray(self.slope_fn(x, **dict(self.options)))
        if slope.shape != x.shape:
            raise ValueError(f"{self!r}: expected a slope of shape {x.shape}; got {slope.shape}. Keep the shape of x.")
        return slope.astype(x.dtype)

    def __reduce__(self) -> tuple[Callable[..., Surrogate], tuple[object, ...]]:
        if self.factory is None:
            return Surrogate, (self.slope_fn, self.options, self.forward)
        return _rebuild, (self.factory, self.options)

    def __repr__(self) -> str:
        name = getattr(self.slope_fn, "__name__", repr(self.slope_fn)).lstrip("_")
        return f"{name}({', '.join(f'{k}={v!r}' for k, v in self.options)})"


def _rebuild(factory: Callable[..., Surrogate], options: tuple[tuple[str, float], ...]) -> Surrogate:
    return factory(**dict(options))


@dataclass(frozen=True)
class _Spike(Rule):
    """A surrogate as a primitive: `lax.scan` would forget a `custom_jvp` before a second derivative is taken."""

    surrogate: Surrogate

    def forward(self, x: jax.Array) -> jax.Array:
        return self.surrogate.forward(x)

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[jax.Array, Changes]:
        (x,), ((t,),) = args, tangents
        return call(self, x), [self.surrogate.slope(x) * t]  # type: ignore[operator]


@overload
def surrogate(
    slope: Callable[Concatenate[jax.Array, Options], jax.Array],
    *,
    forward: Activation = heaviside,
    positive: bool = False,
) -> Callable[Options, Surrogate]: ...


@overload
def surrogate(
    slope: None = None, *, forward: Activation = heaviside, positive: bool = False
) -> Callable[[Callable[Concatenate[jax.Array, Options], jax.Array]], Callable[Options, Surrogate]]: ...


def surrogate(
    slope: Callable[..., jax.Array] | None = None,
    *,
    forward: Activation = heaviside,
    positive: bool = False,
) -> Callable[..., object]:
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
    def make(*args: float, **kwargs: float) -> Surrogate:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        checked = (
            (name, _number(f"spyx.axn.{slope.__name__}({name}=)", value, positive))
            for name, value in bound.arguments.items()
        )
        return Surrogate(slope, tuple(checked), forward, make)

    make.__signature__ = signature  # type: ignore[attr-defined]
    return make


def _number(where: str, value: float, positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{where}: expected a number; got {type(value).__name__}. Surrogates are compared by value: pass a float."
        )
    number = float(value)
    if not math.isfinite(number) or (positive and number <= 0):
        kind = "a finite number above 0" if positive else "a finite number"
        raise ValueError(f"{where}: expected {kind}; got {number}. Choose another value.")
    return number
