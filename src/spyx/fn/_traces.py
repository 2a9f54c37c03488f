"""What a loss or a metric accepts: traces with time and class axes, whole-number targets, and the checks of both."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from spyx.fn._labels import labels_are_strict, note
from spyx.fn._weighting import Given, check_class_weights, check_start, check_start_of, only

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Bool, DTypeLike, Float, Integer, Num, Real

R = TypeVar("R")

Body = Callable[..., jax.Array]
"""Type alias: what a loss or a metric computes of each sample, over time."""


class LossFn(Protocol):
    """A loss of `spyx.fn`: `sum_i(w_i * loss_i) / sum_i(w_i)` over samples, or over steps where targets are per step.

    A batch of samples of unequal length, padded, has the loss and the gradients of the samples alone; what lies in
    the padding, NaN too, has no influence. Where nothing counts at all, loss and gradients are 0.

    Example:
        >>> from spyx import fn
        >>> traces = jnp.zeros((2, 4, 3)).at[:, :, 1].set(2.0).at[1, 2:].set(jnp.nan)  # the second has 2 steps
        >>> loss: LossFn = fn.integral_crossentropy(smoothing=0.0)
        >>> round(float(loss(traces, jnp.array([1, 1]), lengths=jnp.array([4, 2]))), 4)
        0.0183
    """

    def __call__(
        self,
        traces: Num[ArrayLike, "batch time classes"],
        targets: Num[ArrayLike, "batch ..."],
        *,
        mask: Bool[ArrayLike, "batch time"] | None = None,
        lengths: Integer[ArrayLike, " batch"] | None = None,
        weights: Real[ArrayLike, "batch ..."] | None = None,
    ) -> jax.Array:
        """The loss of a batch.

        Args:
            traces: outputs of a network, (batch, time, classes).
            targets: one per sequence, (batch,), or one per step, (batch, time): then each step is scored alone.
            mask: which steps count, (batch, time), bool, in the traces' order of axes. Default: all.
            lengths: how many steps of each sample count, (batch,), whole numbers in 0..time; instead of `mask`.
            weights: w, 0 or more: (batch,), or (batch, time) where targets are per step. Default: 1 everywhere.

        Shapes:
            returns (), float32. Sums over time run over the steps that count, means are divided by their number in each
            sample; a sample without one has weight 0. A weight or length out of its range is an error where its value
            is known, and makes the result NaN where it is traced by `jax.jit`.

        Raises:
            ValueError: on shapes that do not fit, on `mask` and `lengths` together, on a value out of its range.
            TypeError: on a mask that is not bool, lengths that are not whole numbers, weights that are not real.
        """
        ...


class MetricFn(Protocol):
    """A metric of `spyx.fn`: `(traces, targets) -> (score, predictions)`, with the keywords of `LossFn`.

    Predictions have the shape of the targets, and are -1 where no step counts by `mask`, `lengths` or `start`. The
    score is the share of right ones, weighted as a loss is, and 0 where nothing counts.

    Example:
        >>> from spyx import fn
        >>> traces = jnp.zeros((1, 3, 2)).at[0, 1:, 1].set(1.0)
        >>> metric: MetricFn = fn.integral_accuracy(ignore=-1)
        >>> score, preds = metric(traces, jnp.array([[0, -1, 0]]))  # a label per step, one unknown
        >>> float(score), preds.tolist()
        (0.5, [[0, 1, 1]])
    """

    def __call__(
        self,
        traces: Num[ArrayLike, "batch time classes"],
        targets: Num[ArrayLike, "batch ..."],
        *,
        mask: Bool[ArrayLike, "batch time"] | None = None,
        lengths: Integer[ArrayLike, " batch"] | None = None,
        weights: Real[ArrayLike, "batch ..."] | None = None,
    ) -> tuple[jax.Array, jax.Array]: ...


class TraceFunction(ABC, Generic[R]):
    """A compiled function of traces and targets that checks both, and what counts, before it computes an `R`.

    Shapes are checked whenever it is traced. Labels are values, which a compiled function cannot refuse: one outside
    [0, classes) has an all-zero row, so it has no true class. Inside `strict_labels` its row is NaN, so that a training
    loop notices it. With `class_weights` it has no weight, and the result is NaN always. A label that does not count
    may be anything.

    Args:
        name: the public name that errors begin with.
        time_axis: the axis of time in the traces; negative counts from the end.
        body: what is computed of each sample.
        instead: what scores targets per step, where this reads whole sequences only.
        ignore: a label that does not count.
        class_weights: a weight for each class.
        start: the first step that counts.
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
    ):
        if ignore is not None and (isinstance(ignore, bool) or not isinstance(ignore, Integral)):
            raise TypeError(f"{name}: ignore must be one whole number or None; got {ignore!r}. Try ignore=-1.")
        self._name = name
        self.time_axis = check_time_axis(name, time_axis)
        self._body = body
        self._instead = instead
        self._ignore = ignore
        self._class_weights = check_class_weights(name, class_weights)
        self._start = check_start(name, start)
        self._compiled = jax.jit(self._run, static_argnums=3)

    def __call__(
        self,
        traces: Num[ArrayLike, "batch time classes"],
        targets: Num[ArrayLike, "batch ..."],
        *,
        mask: Bool[ArrayLike, "batch time"] | None = None,
        lengths: Integer[ArrayLike, " batch"] | None = None,
        weights: Real[ArrayLike, "batch ..."] | None = None,
    ) -> R:
        """Check dtypes and shapes, then compute."""
        traces, targets = as_arrays(self._name, traces, targets)
        axis = check_traces(self._name, traces.shape, self.time_axis)
        self._check_targets(traces.shape, targets.shape, axis)
        if self._class_weights is not None and len(self._class_weights) != traces.shape[-1]:
            raise ValueError(
                f"{self._name}: class_weights must be {traces.shape[-1]} numbers, one per class of the traces; got "
                f"{len(self._class_weights)}. Give one for each."
            )
        check_start_of(self._name, self._start, traces.shape[axis])
        per_step = targets.ndim == traces.ndim - 1
        given = Given(mask, lengths, weights).checked(self._name, traces.shape, axis, per_step=per_step)
        note(targets, traces.shape[-1], lambda: self._labels_that_count(traces.shape, targets, given))
        return self._compiled(traces, targets, given, labels_are_strict())

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

    def _check_targets(self, traces: tuple[int, ...], targets: tuple[int, ...], axis: int) -> None:
        batch = (*traces[:axis], *traces[axis + 1 : -1])
        if targets == traces[:-1] and self._instead is not None:
            raise ValueError(
                f"{self._name}: expected one target per sequence, shape {batch}; got one per step, shape {targets}. "
                f"It reads a whole sequence: {self._instead} scores each step alone."
            )
        if targets not in (batch, traces[:-1]):
            steps = "" if self._instead else f", or one per step, shape {traces[:-1]}"
            hint = " Is this time-major data? use time_axis=0." if targets == traces[1:-1] and axis == 1 else ""
            raise ValueError(
                f"{self._name}: targets shape {targets} does not match the batch axes {batch} of traces of shape "
                f"{traces} with time_axis={self.time_axis}. Give one whole number per sample{steps}.{hint}"
            )

    def _run(self, traces: jax.Array, targets: jax.Array, given: Given, strict: bool) -> R:
        axis = self.time_axis % traces.ndim
        x = as_float(jnp.moveaxis(traces, axis, 0))
        shape, classes = x.shape[:-1], x.shape[-1]
        per_step = targets.ndim == len(shape)
        labels = jnp.moveaxis(targets, axis, 0) if per_step else targets
        otherwise = jnp.nan if strict else 0
        if self._all_counts(given):
            result = self._plain(x[None] if per_step else x, one_hot(labels, classes, x.dtype, otherwise))
            return self._in_order(result, axis if per_step else 0)
        steps = given.steps(shape, axis, self._start)
        weights = self._weights(given, steps, labels, axis, x.dtype)
        if self._class_weights is not None:
            of_class = jnp.asarray(self._class_weights, x.dtype)
            own = jnp.dot(one_hot(labels, classes, x.dtype, jnp.nan), of_class, precision="highest")
            weights = jnp.where(weights == 0, 0, weights * own)
        if per_step:  # a step that is scored alone is a sequence of one step
            x, steps = x[None], steps[None]
        result = self._weighed(x, one_hot(labels, classes, x.dtype, otherwise), steps, weights)
        return self._in_order(result, axis if per_step else 0)

    def _all_counts(self, given: Given) -> bool:
        return given.nothing and self._ignore is None and self._class_weights is None and not self._start

    def _weights(self, given: Given, steps: jax.Array, labels: jax.Array, axis: int, dtype: DTypeLike) -> jax.Array:
        """The weight of each label, 0 where it does not count; classes left aside."""
        weights = jnp.broadcast_to(given.weigh(steps.shape, axis, dtype), labels.shape)
        counts = steps if labels.ndim == steps.ndim else steps.any(0)
        if self._ignore is not None:
            counts = counts & ~_is(labels, self._ignore)
        return only(counts, weights)

    def _labels_that_count(
        self, traces: tuple[int, ...], targets: Num[Array, "batch ..."] | np.ndarray, given: Given
    ) -> Bool[Array, "batch ..."] | np.ndarray:
        """Which targets count, in their order of axes, for who looks for wrong ones."""
        if self._all_counts(given):
            return np.ones(targets.shape, bool)
        axis = self.time_axis % len(traces)
        steps = given.steps((traces[axis], *traces[:axis], *traces[axis + 1 : -1]), axis, self._start)
        per_step = targets.ndim == steps.ndim
        labels = jnp.moveaxis(jnp.asarray(targets), axis, 0) if per_step else jnp.asarray(targets)
        counts = self._weights(given, steps, labels, axis, jnp.float32) != 0
        return jnp.moveaxis(counts, 0, axis) if per_step else counts

    def _in_order(self, result: R, axis: int) -> R:
        """The result in the traces' order of axes, where it has time, first of its axes."""
        return result

    @abstractmethod
    def _plain(self, x: jax.Array, truth: jax.Array) -> R:
        """The result where everything counts the same."""

    @abstractmethod
    def _weighed(self, x: jax.Array, truth: jax.Array, steps: jax.Array, weights: jax.Array) -> R:
        """The result where not; x is as given at steps that do not count."""


def as_float(x: jax.Array) -> jax.Array:
    """Spikes and half precision become float32, in which a count stays exact up to 2**24; float64 stays."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)


def one_hot(labels: jax.Array, classes: int, dtype: DTypeLike, otherwise: float) -> jax.Array:
    """One-hot rows; a label that is no class (out of range, or not a whole number) gives a row of `otherwise`."""
    whole = labels.astype(jnp.int32)
    valid = (whole >= 0) & (whole < classes) & _is(labels, whole)
    return jnp.where(valid[..., None], jax.nn.one_hot(whole, classes, dtype=dtype), otherwise)


def _is(labels: jax.Array, whole: ArrayLike) -> jax.Array:
    """Is a label of any dtype this whole number?"""
    whole = jnp.asarray(whole, jnp.int32)
    return (labels.astype(jnp.int32) == whole) & (whole.astype(jnp.float32) == labels.astype(jnp.float32))


def as_arrays(name: str, traces: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    """Both as arrays of real numbers, or a TypeError."""
    if isinstance(traces, tuple):
        raise TypeError(
            f"{name}: traces must be one array; got a tuple of {len(traces)}. "
            "run returns (outputs, final_state): pass the outputs."
        )
    traces, targets = (x if isinstance(x, jax.Array | np.ndarray) else np.asarray(x) for x in (traces, targets))
    for argument, value in (("traces", traces), ("targets", targets)):
        if not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == jnp.bool_) or jnp.iscomplexobj(value):
            raise TypeError(f"{name}: {argument} must be real numbers; got dtype {value.dtype}. Convert them first.")
    return traces, targets  # type: ignore[return-value]


def check_fraction(name: str, argument: str, value: float, hint: str = "Give a number between 0 and 1.") -> None:
    """Raise unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: {argument} must be in [0, 1]; got {value}. {hint}")


def check_time_axis(name: str, time_axis: int) -> int:
    """As an int, or a TypeError."""
    try:
        return operator.index(time_axis)
    except TypeError:
        raise TypeError(f"{name}: time_axis must be an int; got {time_axis!r}. Name one axis.") from None


def check_traces(name: str, traces: tuple[int, ...], time_axis: int) -> int:
    """The axis of time, counted from the front, or a ValueError."""
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
    if axis == ndim - 1:
        raise ValueError(
            f"{name}: time_axis must not be the class axis, which is the last; got time_axis={time_axis} for traces of "
            f"shape {traces}. One unbatched sample (time, classes) needs time_axis=0."
        )
    if 0 in traces:
        raise ValueError(
            f"{name}: traces must not be empty; got shape {traces}. Check the data set and the batch size."
        )
    return axis
