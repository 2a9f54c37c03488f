"""Encoders: from values to spikes.

Each public function is a factory: settings in, encoder out. An encoder is pure (NumPy or JAX in, JAX out), may be
called inside `jit` and `vmap`, and takes a key where it draws. NaN is an error where values are known (a call outside
`jit`); where they are traced it makes no spike, unless the encoder says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.core import Tracer

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Key, Num

Encoder = Callable[[jax.typing.ArrayLike], jax.Array]
"""Type alias: `(data) -> spikes`."""

RandomEncoder = Callable[[jax.typing.ArrayLike, jax.Array], jax.Array]
"""Type alias: `(data, key) -> spikes`."""


def angle_code(neuron_count: int, min_val: float, max_val: float) -> Encoder:
    """One neuron per interval of values: `one_hot(clip(digitize(x, linspace(min, max, n)) - 1, 0, n - 1))`.

    n edges make n - 1 intervals, closed below: the last neuron fires only for values at or above `max_val`. Values
    below `min_val` fire the first neuron, NaN the last. For intervals of unequal width, apply a function to the values
    first.

    Args:
        neuron_count: neurons n per value, >= 1.
        min_val: lowest edge, in the unit of the data.
        max_val: highest edge, > `min_val`.

    Shapes:
        data (...), any real dtype; spikes (..., neuron_count), float32.

    Raises:
        ValueError: on a `neuron_count` below 1, or edges that are not finite and ascending.

    Example:
        >>> angle_code(3, 0.0, 1.0)(jnp.array([0.2, 0.7])).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    neuron_count = _check_count("angle_code", "neuron_count", neuron_count)
    if not -float("inf") < min_val < max_val < float("inf"):
        raise ValueError(
            f"angle_code: min_val must be below max_val, both finite; got {min_val} and {max_val}. "
            "Give the range of the data."
        )

    def encode(data: Num[ArrayLike, "batch ..."]) -> Num[Array, "batch time ..."]:
        edges = jnp.linspace(min_val, max_val, neuron_count, dtype=jnp.float32)
        index = jnp.digitize(_as_float32(data), edges).astype(jnp.int32) - 1
        return jax.nn.one_hot(jnp.clip(index, 0, neuron_count - 1), neuron_count, dtype=jnp.float32)

    return encode


def rate_code(num_steps: int, max_r: float = 0.75) -> RandomEncoder:
    """Independent coin flips at every step: `P(spike at t) = x * max_r`, drawn in float32.

    Values are expected in [0, 1]; a probability above 1 fires at every step, one below 0 never.

    Args:
        num_steps: time steps, >= 1.
        max_r: probability of a spike per step at value 1, in [0, 1]. Default 0.75.

    Shapes:
        data (batch, ...) becomes (batch, num_steps, ...); data (batch, 1, ...) of three or more axes, whose axis 1 is
        a time axis already, is unrolled along it to the same (batch, num_steps, ...). uint8. For one sample alone give
        `data[None]`.

    Raises:
        ValueError: on an argument outside its range; at the call, on data without a batch axis, or NaN.

    Example:
        >>> rate_code(5, max_r=1.0)(jnp.array([[0.0, 1.0]]), jax.random.key(0))[0].T.tolist()
        [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    """
    num_steps = _check_count("rate_code", "num_steps", num_steps)
    if not 0.0 <= max_r <= 1.0:
        raise ValueError(f"rate_code: max_r must be a probability in [0, 1]; got {max_r}. The default is 0.75.")

    def encode(data: Num[ArrayLike, "batch ..."], key: Key[Array, ""]) -> Num[Array, "batch time ..."]:
        x = _known("rate_code", data)
        if x.ndim < 1:
            raise ValueError("rate_code: data must have a batch axis; got shape (). Give data[None].")
        if not (x.ndim >= 3 and x.shape[1] == 1):
            x = x[:, None]
        return jax.random.bernoulli(key, jnp.repeat(x * max_r, num_steps, axis=1)).astype(jnp.uint8)

    return encode


def latency_code(num_steps: int, threshold: float = 0.01, *, time_axis: int = 1) -> Encoder:
    """One spike per value, the earlier the larger: at step `round((1 - clip(x, 0, 1)) * (num_steps - 1))`.

    Halves round to even. Value 1 fires at step 0; a value at or below `threshold`, once clipped, never fires.

    Args:
        num_steps: time steps, >= 1.
        threshold: values up to here stay silent, < 1; a negative number silences nothing. Default 0.01.
        time_axis: where the new axis of time goes. Default 1; Spyx 1.0 put it at 0.

    Shapes:
        data (batch, ...), any real dtype; spikes (batch, num_steps, ...), uint8. One sample alone: `time_axis=0`.

    Raises:
        ValueError: on an argument outside its range; at the call, on a `time_axis` that the data lacks, or NaN.

    Example:
        >>> latency_code(4)(jnp.array([[1.0, 0.3, 0.0]]))[0].T.tolist()
        [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]

    Reference:
        Time-to-first-spike coding, Thorpe, Delorme & Van Rullen (2001), doi:10.1016/S0893-6080(01)00083-1.
    """
    num_steps = _check_count("latency_code", "num_steps", num_steps)
    if not -float("inf") < threshold < 1.0:
        raise ValueError(f"latency_code: threshold must be finite and below 1; got {threshold}. The default is 0.01.")

    def encode(data: Num[ArrayLike, "batch ..."]) -> Num[Array, "batch time ..."]:
        x = jnp.clip(_known("latency_code", data), 0.0, 1.0)
        axis = _check_axis("latency_code", x.shape, time_axis, added=True)
        when = jnp.round((1.0 - x) * (num_steps - 1)).astype(jnp.int32)
        when = jnp.where(x > threshold, when, -1)  # no step has index -1, so the row stays empty
        return jax.nn.one_hot(when, num_steps, dtype=jnp.uint8, axis=axis)

    return encode


def phase_code(num_steps: int, num_phases: int = 8, *, time_axis: int = 1) -> Encoder:
    """The binary digits of a value, most significant first: step t carries the weight `2**-(1 + t % num_phases)`.

    Values are clipped to [0, 1] and rounded (halves to even) to a whole number up to `2**num_phases - 1`, whose digits
    are the spikes; the pattern repeats every `num_phases` steps. With 8 phases a pixel p / 255 becomes the bits of p.

    Args:
        num_steps: time steps, a multiple of `num_phases`.
        num_phases: binary digits per value, 1 to 16. Default 8.
        time_axis: where the new axis of time goes. Default 1.

    Shapes:
        data (batch, ...), any real dtype; spikes (batch, num_steps, ...), uint8. One sample alone: `time_axis=0`.

    Raises:
        ValueError: on an argument outside its range; at the call, on a `time_axis` that the data lacks, or NaN.

    Example:
        >>> phase_code(4, num_phases=4)(jnp.array([5 / 15])).tolist()
        [[0, 1, 0, 1]]

    Reference:
        Kim, Kim, Huh, Lee & Choi (2018), doi:10.1016/j.neucom.2018.05.087.
    """
    num_steps = _check_count("phase_code", "num_steps", num_steps)
    num_phases = _check_count("phase_code", "num_phases", num_phases)
    if num_phases > 16:
        raise ValueError(f"phase_code: num_phases must be 1 to 16; got {num_phases}. Choose fewer binary digits.")
    if num_steps % num_phases:
        raise ValueError(
            f"phase_code: num_steps must be a multiple of num_phases ({num_phases}); got {num_steps}. "
            "A part of a period would cut digits off."
        )

    def encode(data: Num[ArrayLike, "batch ..."]) -> Num[Array, "batch time ..."]:
        x = jnp.nan_to_num(jnp.clip(_known("phase_code", data), 0.0, 1.0), nan=0.0)
        axis = _check_axis("phase_code", x.shape, time_axis, added=True)
        digits = jnp.round(x * (2**num_phases - 1)).astype(jnp.int32)
        period = jnp.stack([(digits >> shift) & 1 for shift in reversed(range(num_phases))], axis=axis)
        return jnp.take(period.astype(jnp.uint8), jnp.arange(num_steps) % num_phases, axis=axis)

    return encode


def direct_code(num_steps: int, *, time_axis: int = 1) -> Encoder:
    """The value itself as a constant current: `out[t] = x` at every step; the first spiking layer makes the spikes.

    Args:
        num_steps: time steps, >= 1.
        time_axis: where the new axis of time goes. Default 1.

    Shapes:
        data (batch, ...), any real dtype; current (batch, num_steps, ...), in the dtype of the data if that is
        floating, else float32. One sample alone: `time_axis=0`. Where values are traced, NaN passes through.

    Raises:
        ValueError: on a `num_steps` below 1; at the call, on a `time_axis` that the data lacks, or NaN.

    Example:
        >>> direct_code(3)(jnp.array([[0.5, 2.0]])).tolist()
        [[[0.5, 2.0], [0.5, 2.0], [0.5, 2.0]]]

    Reference:
        Rueckauer et al. (2017), doi:10.3389/fnins.2017.00682.
    """
    num_steps = _check_count("direct_code", "num_steps", num_steps)

    def encode(data: Num[ArrayLike, "batch ..."]) -> Num[Array, "batch time ..."]:
        x = _known("direct_code", data, keep_floats=True)
        axis = _check_axis("direct_code", x.shape, time_axis, added=True)
        return jnp.repeat(jnp.expand_dims(x, axis), num_steps, axis=axis)

    return encode


def delta_code(threshold: float, *, time_axis: int = 1) -> Encoder:
    """Spikes where a signal has moved: up when `x_t > base + threshold`, down when `x_t < base - threshold`.

    The base starts at the first sample, so step 0 is silent, and each spike moves it one `threshold` towards the
    signal. As long as the signal moves by no more than `threshold` per step, the running sum of up minus down, times
    `threshold`, stays within `threshold` of it; a step emits one spike at most, so a faster signal is followed late.
    Where values are traced, a NaN at step 0 silences its whole row, a later one its own step.

    Args:
        threshold: change that makes a spike, > 0, in the unit of the data.
        time_axis: axis of time in the data. Default 1.

    Shapes:
        data (batch, time, ...), any real dtype; spikes (batch, time, ..., 2), uint8, the last axis (up, down).
        One sample alone: `time_axis=0`.

    Raises:
        ValueError: on a `threshold` that is not positive and finite; at the call, on a `time_axis` that the data
            lacks, no time steps, or NaN.

    Example:
        >>> delta_code(1.0, time_axis=0)(jnp.array([0.0, 1.5, 1.5, -0.5])).tolist()
        [[0, 0], [1, 0], [0, 0], [0, 1]]

    Reference:
        Step-forward encoding, in Petro, Kasabov & Kiss (2020), doi:10.1109/TNNLS.2019.2906158.
    """
    if not 0.0 < threshold < float("inf"):
        raise ValueError(
            f"delta_code: threshold must be positive and finite; got {threshold}. Try a tenth of the signal's range."
        )

    def step(base: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        up, down = x > base + threshold, x < base - threshold
        base = base + threshold * (up.astype(x.dtype) - down.astype(x.dtype))
        return base, jnp.stack([up, down], axis=-1).astype(jnp.uint8)

    def encode(data: Num[ArrayLike, "batch ..."]) -> Num[Array, "batch time ..."]:
        x = _known("delta_code", data)
        axis = _check_axis("delta_code", x.shape, time_axis, added=False)
        if x.shape[axis] == 0:
            raise ValueError(f"delta_code: data must have at least one time step; got shape {x.shape}. Check the axis.")
        x = jnp.moveaxis(x, axis, 0)
        _, spikes = jax.lax.scan(step, x[0], x)
        return jnp.moveaxis(spikes, 0, axis)

    return encode


def _as_float32(data: ArrayLike) -> Array:
    return jnp.asarray(data).astype(jnp.float32)


def _known(name: str, data: ArrayLike, *, keep_floats: bool = False) -> jax.Array:
    """The data as floats; raise on NaN if the values can be known here."""
    x = jnp.asarray(data)
    if not (keep_floats and jnp.issubdtype(x.dtype, jnp.floating)):
        x = x.astype(jnp.float32)
    if not isinstance(x, Tracer) and bool(jnp.isnan(x).any()):
        raise ValueError(f"{name}: data must hold numbers; got NaN. Drop or fill the missing values first.")
    return x


def _check_count(name: str, argument: str, value: int) -> int:
    """A Python int, which does not wrap around as a NumPy integer of few bits does."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}: {argument} must be a whole number, 1 or more; got {value!r}. Give at least 1.")
    return int(value)


def _check_axis(name: str, shape: tuple[int, ...], time_axis: int, *, added: bool) -> int:
    """The axis counted from the front, in the data or (`added`) in the result, which has one axis more."""
    ndim = len(shape) + added
    if not -ndim <= time_axis < ndim:
        raise ValueError(
            f"{name}: time_axis {time_axis} is out of range for data of shape {shape}. "
            "Batches are (batch, ...); one sample alone needs time_axis=0 or a batch axis, data[None]."
        )
    return time_axis % ndim
