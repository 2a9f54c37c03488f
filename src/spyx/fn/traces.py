"""What a loss or a metric accepts: traces with time and class axes, whole-number targets, and the checks of both."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from spyx.fn.labels import labels_are_strict, note

LossFn = Callable[[jax.Array, jax.Array], jax.Array]
"""Type alias: `(traces, targets) -> loss`."""

MetricFn = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""Type alias: `(traces, targets) -> (score, predictions)`."""


class TraceFunction:
    """A compiled function of `(traces, targets)` that checks both before it computes.

    Shapes are checked whenever it is traced. Labels are values, which a compiled function cannot refuse: one outside
    [0, classes) has an all-zero row, so it has no true class. Inside `strict_labels` its row is NaN, so that a training
    loop notices it.

    Args:
        name: the public name that errors begin with.
        time_axis: the axis of time in the traces; negative counts from the end.
        body: `(x, truth) -> result`, with x float of shape (time, *batch, classes), and truth one-hot of shape
            (*batch, classes), a row of zeros, or of NaN, where the label is no class.
    """

    def __init__(self, name: str, time_axis: int, body: Callable[[jax.Array, jax.Array], Any]):
        try:
            self._time_axis = operator.index(time_axis)
        except TypeError:
            raise TypeError(f"{name}: time_axis must be an int; got {time_axis!r}. Name one axis.") from None
        self._name = name
        self._body = body
        self._compiled = jax.jit(self._run, static_argnums=2)

    def __call__(self, traces: jax.Array, targets: jax.Array) -> Any:
        """Check dtypes and shapes, then compute."""
        if isinstance(traces, tuple):
            raise TypeError(
                f"{self._name}: traces must be one array; got a tuple of {len(traces)}. "
                "run returns (outputs, final_state): pass the outputs."
            )
        traces, targets = _array(traces), _array(targets)
        _check_dtypes(self._name, traces, targets)
        _check_shapes(self._name, traces.shape, targets.shape, self._time_axis)
        note(targets, traces.shape[-1])
        return self._compiled(traces, targets, labels_are_strict())

    def lower(self, traces: Any, targets: Any) -> Any:
        """The lowered computation for these arguments, as `jax.jit` functions offer it."""
        return jax.jit(self.__call__).lower(traces, targets)

    def _run(self, traces: jax.Array, targets: jax.Array, strict: bool) -> Any:
        x = as_float(jnp.moveaxis(traces, self._time_axis, 0))
        return self._body(x, _one_hot(targets, x.shape[-1], x.dtype, jnp.nan if strict else 0))

    def __repr__(self) -> str:
        return f"<{self._name}(traces, targets), time_axis={self._time_axis}>"


def as_float(x: jax.Array) -> jax.Array:
    """Spikes and half precision become float32, in which a count stays exact up to 2**24; float64 stays."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def check_fraction(name: str, argument: str, value: float, hint: str = "Give a number between 0 and 1.") -> None:
    """Raise unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: {argument} must be in [0, 1]; got {value}. {hint}")


def _array(x: Any) -> Any:
    return x if isinstance(x, jax.Array | np.ndarray) else np.asarray(x)


def _one_hot(targets: jax.Array, classes: int, dtype: Any, otherwise: float) -> jax.Array:
    """One-hot rows; a label that is no class (out of range, or not a whole number) gives a row of `otherwise`."""
    whole = targets.astype(jnp.int32)
    valid = (whole >= 0) & (whole < classes) & (whole.astype(jnp.float32) == targets.astype(jnp.float32))
    return jnp.where(valid[..., None], jax.nn.one_hot(whole, classes, dtype=dtype), otherwise)


def _check_dtypes(name: str, traces: Any, targets: Any) -> None:
    for argument, value in (("traces", traces), ("targets", targets)):
        if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == jnp.bool_) or jnp.iscomplexobj(value):
            raise TypeError(f"{name}: {argument} must be real numbers; got dtype {value.dtype}. Convert them first.")


def _check_shapes(name: str, traces: tuple[int, ...], targets: tuple[int, ...], time_axis: int) -> None:
    ndim = len(traces)
    if ndim < 2:
        raise ValueError(
            f"{name}: traces must have at least 2 dimensions (time and classes); got shape {traces}. "
            "Pass the outputs of the whole sequence, not of one step."
        )
    if not -ndim <= time_axis < ndim:
        raise ValueError(
            f"{name}: time_axis {time_axis} is out of range for traces of shape {traces}. "
            "Choose an axis before the last."
        )
    axis = time_axis % ndim
    batch = (traces[:axis] + traces[axis + 1 :])[:-1]
    if targets != batch:
        hint = " Is this time-major data? use time_axis=0." if targets == traces[1:-1] and axis == 1 else ""
        raise ValueError(
            f"{name}: targets shape {targets} does not match the batch axes {batch} of traces of shape {traces} "
            f"with time_axis={time_axis}. Give one whole number per sample.{hint}"
        )
    if axis == ndim - 1:
        raise ValueError(
            f"{name}: time_axis must not be the class axis, which is the last; got time_axis={time_axis} for traces of "
            f"shape {traces}. One unbatched sample (time, classes) needs time_axis=0."
        )
    if 0 in traces:
        raise ValueError(
            f"{name}: traces must not be empty; got shape {traces}. Check the data set and the batch size."
        )
