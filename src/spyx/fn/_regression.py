"""Regression: how far traces are from target traces, per step, and spike trains from target trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.fn._traces import LossFn, as_arrays, as_float, check_time_axis, check_traces
from spyx.fn._weighting import Given, at, check_start, check_start_of, only, weighted_mean

if TYPE_CHECKING:
    from jaxtyping import ArrayLike, Bool, Integer, Num, Real


def mse(time_axis: int = 1, *, start: int = 0) -> LossFn:
    """Mean squared error per step: `mean((x_t - y_t)**2)` over batch, time and units.

    Each step is compared with the target of the same step. With `mask`, `lengths` or `weights` it is the weighted mean
    over the steps of all samples, so that a longer sample counts more; `weights=1 / lengths` makes samples equal.

    Args:
        time_axis: axis of time in traces and targets. Default 1; time-major data needs 0.
        start: the first step that counts; what the network does before it is burn-in. Default 0.

    Shapes:
        traces (batch, time, units), any real dtype; targets as traces; loss (), float32. The call's keywords are
        those of `LossFn`, `weights` (batch,) or (batch, time).

    Raises:
        ValueError: at the call, on shapes that do not fit, no step left after `start`.
        TypeError: at the call, on what is not real.

    Example:
        >>> traces, targets = jnp.ones((2, 3, 1)), jnp.zeros((2, 3, 1)).at[1, 1:].set(jnp.nan)  # one has one step
        >>> float(mse()(traces, targets, lengths=jnp.array([3, 1])))
        1.0
    """
    return PairFunction("mse", time_axis, lambda x, y: (x - y) ** 2, per_step=True, start=start)


def mae(time_axis: int = 1, *, start: int = 0) -> LossFn:
    """Mean absolute error per step: `mean(|x_t - y_t|)` over batch, time and units; all else as `mse`.

    Args:
        time_axis: axis of time in traces and targets. Default 1; time-major data needs 0.
        start: the first step that counts. Default 0.

    Shapes:
        as `mse`.

    Raises:
        ValueError: as `mse`.
        TypeError: as `mse`.

    Example:
        >>> float(mae()(jnp.full((1, 4, 2), -3.0), jnp.zeros((1, 4, 2))))
        3.0
    """
    return PairFunction("mae", time_axis, _distance, per_step=True, start=start)


def _distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """The absolute difference, with slope 0 where there is none; that of `jnp.abs` is 1 at 0."""
    return (x - y) * jnp.sign(x - y)


def van_rossum(tau_steps: float = 10.0, time_axis: int = 1, *, start: int = 0) -> LossFn:
    """Squared van Rossum distance of spike trains: `mean(1 / tau * integral_0^inf (f(t) - g(t))**2 dt)`.

    f and g are the trains, each spike at `t_i` replaced by `exp(-(t - t_i) / tau)` from its step on. The integral is
    exact for spikes on the steps, also between steps and after the last: with `d_t = exp(-1 / tau) d_{t-1} + x_t - y_t`
    and `q = exp(-2 / tau)` it is `(1 - q) / 2 * sum_t d_t**2 + q / 2 * d_{T-1}**2`. A spike too many or too few costs
    1/2; one that is `n` steps away costs `1 - exp(-n / tau)`. The mean runs over batch and neurons; spikes at steps
    that do not count are left out of both trains.

    Args:
        tau_steps: time constant of the kernel in steps, > 0: small counts coincidences, large compares spike counts.
            Default 10.0.
        time_axis: axis of time in traces and targets. Default 1; time-major data needs 0.
        start: the first step that counts. Default 0.

    Shapes:
        traces (batch, time, neurons), spikes of any real dtype; targets as traces; loss (), float32. The call's
        keywords are those of `LossFn`, `weights` (batch,).

    Raises:
        ValueError: as `mse`; and on `tau_steps` that is not a positive finite number.
        TypeError: as `mse`.

    Example:
        >>> early, late = jnp.zeros((2, 1, 20, 1)).at[0, 0, 2].set(1.0).at[1, 0, 5].set(1.0)
        >>> round(float(van_rossum(tau_steps=3.0)(early, late)), 4)  # 1 - 1 / e
        0.6321

    Reference:
        van Rossum (2001), A novel spike distance, doi:10.1162/089976601300014321; the distance is D**2 there.
    """
    if not 0.0 < tau_steps < float("inf"):
        raise ValueError(f"van_rossum: tau_steps must be positive and finite; got {tau_steps}. Try 10.0.")

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        keep = jnp.exp(jnp.asarray(-1 / tau_steps, x.dtype))

        def step(d: jax.Array, difference: jax.Array) -> tuple[jax.Array, jax.Array]:
            d = keep * d + difference
            return d, d**2

        last, squares = jax.lax.scan(step, jnp.zeros_like(x[0]), x - y)
        share = -jnp.expm1(jnp.asarray(-2 / tau_steps, x.dtype))
        return (share * squares.sum(0) + (1 - share) * last**2) / 2

    return PairFunction("van_rossum", time_axis, distance, per_step=False, start=start)


class PairFunction:
    """A compiled loss of traces and target traces of one shape.

    Args:
        name: the public name that errors begin with.
        time_axis: the axis of time in both; negative counts from the end.
        body: `(x, y) -> loss`, both (time, *batch, units); loss (time, *batch, units) or, over time, (*batch, units).
        per_step: does the body leave time?
        start: the first step that counts.
    """

    def __init__(
        self,
        name: str,
        time_axis: int,
        body: Callable[[jax.Array, jax.Array], jax.Array],
        *,
        per_step: bool,
        start: int,
    ):
        self._name = name
        self.time_axis = check_time_axis(name, time_axis)
        self._body = body
        self._per_step = per_step
        self._start = check_start(name, start)
        self._compiled = jax.jit(self._run)

    def __call__(
        self,
        traces: Num[ArrayLike, "batch time classes"],
        targets: Num[ArrayLike, "batch ..."],
        *,
        mask: Bool[ArrayLike, "batch time"] | None = None,
        lengths: Integer[ArrayLike, " batch"] | None = None,
        weights: Real[ArrayLike, "batch ..."] | None = None,
    ) -> jax.Array:
        """Check dtypes and shapes, then compute."""
        traces, targets = as_arrays(self._name, traces, targets)
        axis = check_traces(self._name, traces.shape, self.time_axis)
        if targets.shape != traces.shape:
            raise ValueError(
                f"{self._name}: targets must have the traces' shape {traces.shape}; got {targets.shape}. "
                "Give a target for every step and unit."
            )
        check_start_of(self._name, self._start, traces.shape[axis])
        given = Given(mask, lengths, weights).checked(self._name, traces.shape, axis, per_step=self._per_step)
        return self._compiled(traces, targets, given)

    def lower(
        self,
        traces: Num[ArrayLike, "batch time classes"],
        targets: Num[ArrayLike, "batch ..."],
        **given: ArrayLike | None,
    ) -> jax.stages.Lowered:
        """The lowered computation for these arguments, as `jax.jit` functions offer it."""
        return jax.jit(self.__call__).lower(traces, targets, **given)

    def __repr__(self) -> str:
        return f"<{self._name}(traces, targets), time_axis={self.time_axis}>"

    def _run(self, traces: jax.Array, targets: jax.Array, given: Given) -> jax.Array:
        axis = self.time_axis % traces.ndim
        x, y = (as_float(jnp.moveaxis(a, axis, 0)) for a in (traces, targets))
        x, y = (a.astype(jnp.promote_types(x.dtype, y.dtype)) for a in (x, y))
        if given.nothing and not self._start:
            return self._body(x, y).mean()
        steps = given.steps(x.shape[:-1], axis, self._start)
        weights = jnp.broadcast_to(
            given.weigh(steps.shape, axis, x.dtype), steps.shape if self._per_step else x.shape[1:-1]
        )
        weights = only(steps if self._per_step else steps.any(0), weights)
        steps = steps & jnp.broadcast_to(weights != 0, steps.shape)
        return weighted_mean(self._body(at(steps, x), at(steps, y)).mean(-1), weights)
