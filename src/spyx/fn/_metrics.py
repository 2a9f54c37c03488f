"""Metrics: which class a network predicts, and how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.fn._losses import first_spike_steps
from spyx.fn._traces import MetricFn, TraceFunction
from spyx.fn._weighting import at, highest, weighted_mean

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float

    from spyx.fn._traces import Body


def integral_accuracy(
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> MetricFn:
    """Accuracy of the class with the largest integral: `preds = argmax_c(sum_t v_t)`, `score = mean(preds == targets)`.

    Meant for a leaky-integrator readout. Every time step weighs the same. A tie goes to the lowest class, NaN to the
    first class that is NaN.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: a label that does not count, for instance -1 for unlabelled steps. Default None: every label counts.
        class_weights: a weight for each class, 0 or more, with which a sample of that class counts; one over the
            number of its samples makes the score the balanced accuracy. Default: all 1.
        start: the first step that counts. Default 0.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,) or, to score each step alone, (batch, time),
        whole numbers; returns (score (), float32; preds, as targets, int32). `mask=`, `lengths=` and `weights=` at
        the call as `MetricFn` has them.

    Raises:
        ValueError: on a negative `start` or class weight; at the call, on shapes that do not fit. A label outside
            [0, classes) counts as a wrong prediction.
        TypeError: on `ignore` that is not a whole number, class weights that are not numbers.

    Example:
        >>> traces = jnp.zeros((2, 4, 3)).at[:, :, 1].set(2.0)
        >>> score, preds = integral_accuracy()(traces, jnp.array([1, 0]))
        >>> float(score), preds.tolist()
        (0.5, [1, 1])
    """
    return Accuracy(
        "integral_accuracy",
        time_axis,
        lambda x, steps: x.sum(0),
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def rate_accuracy(
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> MetricFn:
    """Accuracy of the neuron that fires most: `preds = argmax_c(sum_t s_t)`, `score = mean(preds == targets)`.

    The same sum as `integral_accuracy`, named for a readout that spikes. Counts tie often: a tie goes to the lowest
    class, and so does a sample for which no output neuron fires.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: as `integral_accuracy`.
        class_weights: as `integral_accuracy`.
        start: as `integral_accuracy`.

    Shapes:
        traces (batch, time, classes), spikes of any real dtype; targets (batch,) or (batch, time), whole numbers;
        returns (score (), float32; preds, as targets, int32). The call's keywords are those of `MetricFn`.

    Raises:
        ValueError: as `integral_accuracy`.

    Example:
        >>> spikes = jnp.zeros((1, 4, 3), jnp.uint8).at[0, 1:3, 2].set(1)
        >>> score, preds = rate_accuracy()(spikes, jnp.array([2]))
        >>> float(score), preds.tolist()
        (1.0, [2])
    """
    return Accuracy(
        "rate_accuracy",
        time_axis,
        lambda x, steps: x.sum(0),
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def max_accuracy(
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> MetricFn:
    """Accuracy of the neuron with the highest membrane: `preds = argmax_c(max_t v_t)`; goes with `max_crossentropy`.

    A tie goes to the lowest class.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: as `integral_accuracy`.
        class_weights: as `integral_accuracy`.
        start: as `integral_accuracy`.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,), whole numbers;
        returns (score (), float32; preds (batch,), int32). The call's keywords are those of `MetricFn`.

    Raises:
        ValueError: as `integral_accuracy`; and on targets per step.

    Example:
        >>> traces = jnp.full((1, 5, 2), 0.5).at[0, 3, 1].set(1.0)
        >>> max_accuracy()(traces, jnp.array([1]))[1].tolist()
        [1]
    """
    return Accuracy(
        "max_accuracy",
        time_axis,
        highest,
        instead="integral_accuracy",
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def first_spike_accuracy(
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> MetricFn:
    """Accuracy of the neuron that fires first: `preds = argmin_c(t_c)`; goes with `first_spike_loss`.

    A neuron that never fires counts as firing after the last step. A tie goes to the lowest class.

    Args:
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: as `integral_accuracy`.
        class_weights: as `integral_accuracy`.
        start: as `integral_accuracy`.

    Shapes:
        traces (batch, time, classes), spikes in [0, 1] of any real dtype; targets (batch,), whole numbers;
        returns (score (), float32; preds (batch,), int32). A value outside [0, 1] makes the score NaN.
        The call's keywords are those of `MetricFn`.

    Raises:
        ValueError: as `integral_accuracy`; and on targets per step.

    Example:
        >>> spikes = jnp.zeros((1, 6, 2)).at[0, 1, 1].set(1.0).at[0, 2:, 0].set(1.0)
        >>> first_spike_accuracy()(spikes, jnp.array([1]))[1].tolist()
        [1]
    """

    def readout(x: jax.Array, steps: jax.Array | None) -> jax.Array:
        return -first_spike_steps(x, steps)

    return Accuracy(
        "first_spike_accuracy",
        time_axis,
        readout,
        nan_is_wrong_input=True,
        instead="rate_accuracy",
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


class Accuracy(TraceFunction[tuple[jax.Array, jax.Array]]):
    """The class with the most evidence, `argmax_c(body(x, steps))`, and how often it is the true one.

    x is (time, *batch, classes), 0 at steps that do not count; steps is (time, *batch), or None where all count.
    """

    def __init__(
        self,
        name: str,
        time_axis: int,
        body: Body,
        *,
        instead: str | None = None,
        ignore: int | None = None,
        class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
        start: int = 0,
        nan_is_wrong_input: bool = False,
    ):
        super().__init__(
            name, time_axis, body, instead=instead, ignore=ignore, class_weights=class_weights, start=start
        )
        self._nan_is_wrong_input = nan_is_wrong_input

    def _plain(self, x: jax.Array, truth: jax.Array) -> tuple[jax.Array, jax.Array]:
        evidence = self._body(x, None)
        preds, right = _answer(evidence, truth)
        return self._checked(right.mean(), evidence), preds

    def _weighed(
        self, x: jax.Array, truth: jax.Array, steps: jax.Array, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        evidence = self._body(at(steps, x), steps)
        preds, right = _answer(evidence, truth)
        score = self._checked(weighted_mean(right, weights), at(weights != 0, evidence))
        return score, jnp.where(steps.any(0), preds, -1)

    def _checked(self, score: jax.Array, evidence: jax.Array) -> jax.Array:
        if self._nan_is_wrong_input:
            score = jnp.where(jnp.isnan(evidence).any(), jnp.nan, score)
        return score.astype(jnp.float32)

    def _in_order(self, result: tuple[Array, Array], axis: int) -> tuple[Array, Array]:
        return result[0], jnp.moveaxis(result[1], 0, axis) if axis else result[1]


def _answer(evidence: jax.Array, truth: jax.Array) -> tuple[jax.Array, jax.Array]:
    preds = jnp.argmax(evidence, axis=-1).astype(jnp.int32)
    # Reading the prediction off the one-hot truth carries the NaN of a label that is no class into the score.
    return preds, jnp.take_along_axis(truth, preds[..., None], axis=-1)[..., 0]
