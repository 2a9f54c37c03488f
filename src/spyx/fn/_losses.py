"""Losses: what a network is trained to make small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import jax
import jax.numpy as jnp

from spyx.fn._traces import LossFn, TraceFunction, check_fraction
from spyx.fn._weighting import at, average, count, highest, weighted_mean

if TYPE_CHECKING:
    from jaxtyping import ArrayLike, Float

Logits = Literal["count", "rate", "step"]


def integral_crossentropy(
    smoothing: float = 0.3,
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> LossFn:
    """Cross-entropy of the membrane integrated over time: `mean(-sum(q * log_softmax(sum_t v_t)))`.

    q is the smoothed label, `q = (1 - smoothing) * one_hot + smoothing / classes`, which keeps the other neurons of the
    readout from being silenced. Every time step weighs the same; the usual readout is a leaky integrator.

    Args:
        smoothing: share of the label spread over all classes, in [0, 1]. Default 0.3.
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: a label that does not count, for instance -1 for unlabelled steps. Default None: every label counts.
        class_weights: a weight for each class, 0 or more, with which a sample of that class counts. Default: all 1.
        start: the first step that counts; what the network does before it is burn-in. Default 0.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,) or, to score each step alone, (batch, time),
        whole numbers; loss (), float32. `mask=`, `lengths=` and `weights=` at the call as `LossFn` has them.

    Raises:
        ValueError: on `smoothing` outside [0, 1], a negative `start` or class weight; at the call, on shapes that do
            not fit, no step left after `start`. With time-major data whose number of steps equals the batch size, no
            check can tell the axes apart.
        TypeError: on `ignore` that is not a whole number, class weights that are not numbers.

    Note:
        A compiled loss cannot refuse a value. A label outside [0, classes) has no true class: only its smoothing
        share remains, which pulls every class alike. `check_labels` finds such labels, and `spyx.optimize.fit` and
        `compile_fit` stop and name them.

    Example:
        >>> traces = jnp.zeros((2, 4, 3)).at[:, :, 1].set(2.0)
        >>> round(float(integral_crossentropy(smoothing=0.0)(traces, jnp.array([1, 1]))), 4)
        0.0007
    """
    check_fraction("integral_crossentropy", "smoothing", smoothing)
    return Loss(
        "integral_crossentropy",
        time_axis,
        lambda x, truth, steps: _crossentropy(x.sum(0), _smooth(truth, smoothing)),
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def rate_crossentropy(
    smoothing: float = 0.0,
    time_axis: int = 1,
    *,
    logits: Logits = "count",
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> LossFn:
    """Cross-entropy of how often each output neuron fires: `mean(-sum(q * log_softmax(sum_t s_t)))`.

    With the default logits this is `integral_crossentropy` of spikes instead of membranes, without smoothing. Every
    time step weighs the same.

    Args:
        smoothing: share of the label spread over all classes, in [0, 1]. Default 0.0.
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        logits: "count", spikes summed over time (default); "rate", their mean over time, softer, and bounded below by
            `log(1 + (classes - 1) / e)` for binary spikes; "step", one cross-entropy per time step, averaged.
        ignore: as `integral_crossentropy`.
        class_weights: as `integral_crossentropy`.
        start: as `integral_crossentropy`.

    Shapes:
        traces (batch, time, classes), spikes of any real dtype; targets (batch,) or, to score each step alone,
        (batch, time), whole numbers; loss (), float32. The call's keywords are those of `LossFn`.

    Raises:
        ValueError: as `integral_crossentropy`; and on an unknown `logits`.

    Example:
        >>> spikes = jnp.zeros((1, 10, 2), jnp.uint8).at[:, :, 1].set(1)
        >>> round(float(rate_crossentropy()(spikes, jnp.array([1]))), 6)
        4.5e-05

    Reference:
        "step" is the temporally efficient loss of Deng et al. (2022), arXiv:2202.11946, without its
        mean-squared term.
    """
    check_fraction("rate_crossentropy", "smoothing", smoothing)
    if logits not in get_args(Logits):
        raise ValueError(
            f"rate_crossentropy: logits must be one of {', '.join(get_args(Logits))}; got {logits!r}. Try count."
        )

    def loss(x: jax.Array, truth: jax.Array, steps: jax.Array | None) -> jax.Array:
        labels = _smooth(truth, smoothing)
        if logits == "step":
            scores = _crossentropy(x, jnp.broadcast_to(labels, x.shape))
            return scores if steps is None else jnp.where(steps, scores, 0).sum(0) / count(steps).astype(x.dtype)
        return _crossentropy(x.sum(0) if logits == "count" else average(x, steps), labels)

    return Loss("rate_crossentropy", time_axis, loss, ignore=ignore, class_weights=class_weights, start=start)


def max_crossentropy(
    smoothing: float = 0.0,
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> LossFn:
    """Cross-entropy of each neuron's highest membrane: `mean(-sum(q * log_softmax(max_t v_t)))`.

    Only the step at which a neuron peaks receives gradient (steps that tie share it), so the network may decide
    whenever it is ready. Meant for a readout that does not spike.

    Args:
        smoothing: share of the label spread over all classes, in [0, 1]. Default 0.0.
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: as `integral_crossentropy`.
        class_weights: as `integral_crossentropy`.
        start: as `integral_crossentropy`.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,), whole numbers; loss (), float32. The call's
        keywords are those of `LossFn`.

    Raises:
        ValueError: as `integral_crossentropy`; and on targets per step, of which the highest is no choice.

    Example:
        >>> traces = jnp.zeros((1, 5, 2)).at[0, 3, 1].set(10.0)
        >>> round(float(max_crossentropy()(traces, jnp.array([1]))), 6)
        4.5e-05

    Reference:
        The max-over-time loss of Cramer et al. (2022), doi:10.1109/TNNLS.2020.3044364.
    """
    check_fraction("max_crossentropy", "smoothing", smoothing)
    return Loss(
        "max_crossentropy",
        time_axis,
        lambda x, truth, steps: _crossentropy(highest(x, steps), _smooth(truth, smoothing)),
        instead="integral_crossentropy",
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def mse_spikerate(
    sparsity: float = 0.25,
    smoothing: float = 0.0,
    time_axis: int = 1,
    *,
    scale_by_time: bool = True,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> LossFn:
    """Mean squared error of the mean spike rate: `mean((mean_t s_t - q * sparsity * T)**2)` over batch and classes.

    **With the default `scale_by_time=True` the target is `sparsity * T`, a spike count, while the traces are averaged
    to a rate: once it exceeds 1, binary spikes cannot reach it.** That is the documented formula, which published
    numbers use. `scale_by_time=False` drops the factor T: without smoothing the loss is then 0 if and only if
    the neuron of the right class fires in a share `sparsity` of the steps and the others never fire.

    Args:
        sparsity: share of the time steps in which the right neuron should fire, in [0, 1]. Default 0.25.
        smoothing: share of the label spread over all classes, in [0, 1]. Default 0.0.
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        scale_by_time: multiply the target by the number of time steps T, those of the sample that count. Default True.
        ignore: as `integral_crossentropy`.
        class_weights: as `integral_crossentropy`.
        start: as `integral_crossentropy`.

    Shapes:
        traces (batch, time, classes), any real dtype; targets (batch,), whole numbers; loss (), float32. The call's
        keywords are those of `LossFn`.

    Raises:
        ValueError: as `integral_crossentropy`; on `sparsity` outside [0, 1]; on targets per step, which have no rate.

    Example:
        >>> spikes = jnp.zeros((1, 4, 2)).at[0, 2, 1].set(1.0)  # class 1 fires in a quarter of the steps
        >>> float(mse_spikerate(scale_by_time=False)(spikes, jnp.array([1])))
        0.0
        >>> float(mse_spikerate()(spikes, jnp.array([1])))  # the target is 0.25 * 4 = 1
        0.28125
    """
    check_fraction("mse_spikerate", "sparsity", sparsity, "It is a fraction of the time: divide a percentage by 100.")
    check_fraction("mse_spikerate", "smoothing", smoothing)

    def loss(x: jax.Array, truth: jax.Array, steps: jax.Array | None) -> jax.Array:
        if steps is None:
            scale = sparsity * x.shape[0] if scale_by_time else sparsity
            return (x.mean(0) - _smooth(truth, smoothing) * scale) ** 2
        scale = sparsity * count(steps).astype(x.dtype)[..., None] if scale_by_time else sparsity
        return jnp.mean((average(x, steps) - _smooth(truth, smoothing) * scale) ** 2, axis=-1)

    return Loss(
        "mse_spikerate",
        time_axis,
        loss,
        instead="mse, or integral_crossentropy,",
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def first_spike_loss(
    tau_steps: float = 5.0,
    time_axis: int = 1,
    *,
    ignore: int | None = None,
    class_weights: Sequence[float] | Float[ArrayLike, " classes"] | None = None,
    start: int = 0,
) -> LossFn:
    """Cross-entropy of who fires first: `mean(log(sum_c exp((t_y - t_c) / tau_steps)))`.

    t_c is the first spike time of class c, the number of steps before it, written so that it can be differentiated
    through the surrogate of the spikes: `t_c = sum_t prod_{u <= t} (1 - s_u)`. A neuron that never fires has
    `t_c = T`, so loss and gradient stay finite, and the gradient of a silent neuron pulls on every step, the earliest
    most. Spikes after a neuron's first get no gradient. Time and T count the steps that count alone.

    Args:
        tau_steps: how many time steps of lead count as clear, > 0. Default 5.0.
        time_axis: axis of time in the traces. Default 1; time-major data needs 0.
        ignore: as `integral_crossentropy`.
        class_weights: as `integral_crossentropy`.
        start: as `integral_crossentropy`.

    Shapes:
        traces (batch, time, classes), spikes in [0, 1] of any real dtype; targets (batch,), whole numbers;
        loss (), float32. A value outside [0, 1], a membrane for instance, makes the loss NaN. The call's keywords are
        those of `LossFn`.

    Raises:
        ValueError: as `integral_crossentropy`; on `tau_steps` that is not a positive finite number; on targets per
            step, which have no first spike.

    Example:
        >>> spikes = jnp.zeros((1, 20, 2)).at[0, 2, 1].set(1.0)  # class 1 fires at step 2, class 0 never
        >>> round(float(first_spike_loss()(spikes, jnp.array([1]))), 4)
        0.027

    Reference:
        The first term of the loss of Göltz et al. (2021), doi:10.1038/s42256-021-00388-x, and the temporal
        cross-entropy of Mostafa (2018), doi:10.1109/TNNLS.2017.2726060. We depart from both: time is in steps and
        differentiated through surrogate spikes, where they solve for exact spike times.
    """
    if not 0.0 < tau_steps < float("inf"):
        raise ValueError(f"first_spike_loss: tau_steps must be positive and finite; got {tau_steps}. Try 5.0.")
    return Loss(
        "first_spike_loss",
        time_axis,
        lambda x, truth, steps: _crossentropy(first_spike_steps(x, steps) / -tau_steps, truth),
        instead="integral_crossentropy",
        ignore=ignore,
        class_weights=class_weights,
        start=start,
    )


def first_spike_steps(x: jax.Array, steps: jax.Array | None) -> jax.Array:
    """Steps before each neuron's first spike, all that count when it never fires; x is (time, *batch, classes)."""
    silent = jnp.where((x >= 0) & (x <= 1), 1 - x, jnp.nan)
    yet_silent = jnp.cumprod(silent, axis=0)
    return (yet_silent if steps is None else at(steps, yet_silent)).sum(0)


class Loss(TraceFunction[jax.Array]):
    """A loss per sample, `body(x, truth, steps)`, and its mean.

    x is (time, *batch, classes), truth (*batch, classes), steps (time, *batch), or None where all steps count. x is 0
    at steps that do not. With None, the body may leave more axes than those of the batch: the mean runs over all.
    """

    def _plain(self, x: jax.Array, truth: jax.Array) -> jax.Array:
        return jnp.mean(self._body(x, truth, None))

    def _weighed(self, x: jax.Array, truth: jax.Array, steps: jax.Array, weights: jax.Array) -> jax.Array:
        steps = steps & (weights != 0)[None]
        return weighted_mean(self._body(at(steps, x), truth, steps), weights)


def _smooth(truth: jax.Array, smoothing: float) -> jax.Array:
    return truth * (1 - smoothing) + smoothing / truth.shape[-1]


def _crossentropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1)
