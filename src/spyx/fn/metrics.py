"""Metrics: which class a network answered, and how often it was right."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from spyx.fn.losses import first_spike_steps
from spyx.fn.traces import MetricFn, TraceFunction


def integral_accuracy(time_axis: int = 1) -> MetricFn:
    """Accuracy of the class with the largest integral: `preds = argmax_c(sum_t v_t)`, `score = mean(preds == targets)`.

    Meant for a leaky-integrator readout. Every time step weighs the same. A tie goes to the lowest class, NaN to the
    first class that is NaN.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,), whole numbers;
        returns (score (), float32; preds (batch,), int32).

    Raises:
        ValueError: at the call, on shapes that do not fit. A label outside [0, classes) counts as answered wrongly.

    Example:
        >>> traces = jnp.zeros((2, 4, 3)).at[:, :, 1].set(2.0)
        >>> score, preds = integral_accuracy()(traces, jnp.array([1, 0]))
        >>> float(score), preds.tolist()
        (0.5, [1, 1])
    """
    return _accuracy("integral_accuracy", time_axis, lambda x: x.sum(0))


def rate_accuracy(time_axis: int = 1) -> MetricFn:
    """Accuracy of the neuron that fires most: `preds = argmax_c(sum_t s_t)`, `score = mean(preds == targets)`.

    The same sum as `integral_accuracy`, named for a readout that spikes. Counts tie often: a tie goes to the lowest
    class, and so does a sample for which no output neuron fires.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.

    Shapes:
        traces (batch, time, classes), spikes of any real dtype; targets (batch,), whole numbers;
        returns (score (), float32; preds (batch,), int32).

    Raises:
        ValueError: as `integral_accuracy`.

    Example:
        >>> spikes = jnp.zeros((1, 4, 3), jnp.uint8).at[0, 1:3, 2].set(1)
        >>> score, preds = rate_accuracy()(spikes, jnp.array([2]))
        >>> float(score), preds.tolist()
        (1.0, [2])
    """
    return _accuracy("rate_accuracy", time_axis, lambda x: x.sum(0))


def max_accuracy(time_axis: int = 1) -> MetricFn:
    """Accuracy of the neuron with the highest membrane: `preds = argmax_c(max_t v_t)`; goes with `max_crossentropy`.

    A tie goes to the lowest class.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,), whole numbers;
        returns (score (), float32; preds (batch,), int32).

    Raises:
        ValueError: as `integral_accuracy`.

    Example:
        >>> traces = jnp.full((1, 5, 2), 0.5).at[0, 3, 1].set(1.0)
        >>> max_accuracy()(traces, jnp.array([1]))[1].tolist()
        [1]
    """
    return _accuracy("max_accuracy", time_axis, lambda x: x.max(0))


def first_spike_accuracy(time_axis: int = 1) -> MetricFn:
    """Accuracy of the neuron that fires first: `preds = argmin_c(t_c)`; goes with `first_spike_loss`.

    A neuron that never fires counts as firing after the last step. A tie goes to the lowest class.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.

    Shapes:
        traces (batch, time, classes), spikes in [0, 1] of any real dtype; targets (batch,), whole numbers;
        returns (score (), float32; preds (batch,), int32). A value outside [0, 1] makes the score NaN.

    Raises:
        ValueError: as `integral_accuracy`.

    Example:
        >>> spikes = jnp.zeros((1, 6, 2)).at[0, 1, 1].set(1.0).at[0, 2:, 0].set(1.0)
        >>> first_spike_accuracy()(spikes, jnp.array([1]))[1].tolist()
        [1]
    """

    def readout(x: jax.Array) -> jax.Array:
        return -first_spike_steps(x)

    return _accuracy("first_spike_accuracy", time_axis, readout, nan_is_wrong_input=True)


def _accuracy(name: str, time_axis: int, readout, *, nan_is_wrong_input: bool = False) -> MetricFn:
    def metric(x: jax.Array, truth: jax.Array) -> tuple[jax.Array, jax.Array]:
        evidence = readout(x)
        preds = jnp.argmax(evidence, axis=-1).astype(jnp.int32)
        # Reading the prediction off the one-hot truth carries the NaN of a label that is no class into the score.
        score = jnp.take_along_axis(truth, preds[..., None], axis=-1).mean()
        if nan_is_wrong_input:
            score = jnp.where(jnp.isnan(evidence).any(), jnp.nan, score)
        return score.astype(jnp.float32), preds

    return TraceFunction(name, time_axis, metric)
