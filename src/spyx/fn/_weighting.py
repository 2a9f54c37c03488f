"""What counts in a loss or a metric: steps by mask, lengths and burn-in, samples and steps by weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Bool, DTypeLike, Integer, Real


class Given(NamedTuple):
    """The keywords of one call, each an array or None."""

    mask: Bool[ArrayLike, "batch time"] | None
    lengths: Integer[ArrayLike, " batch"] | None
    weights: Real[ArrayLike, "batch ..."] | None

    @property
    def nothing(self) -> bool:
        """Is none of them given?"""
        return all(value is None for value in self)

    def checked(self, name: str, traces: tuple[int, ...], axis: int, *, per_step: bool) -> Given:
        """As arrays; raises where a shape, a dtype, or a value that is known does not fit traces of that shape."""
        if self.mask is not None and self.lengths is not None:
            raise ValueError(
                f"{name}: expected mask or lengths; got both. Combine them into one mask: "
                "mask & (jnp.arange(time) < lengths[:, None])."
            )
        batch = (*traces[:axis], *traces[axis + 1 : -1])
        mask, lengths, weights = (None if a is None else _array(a) for a in self)
        if mask is not None:
            _kind(name, "mask", mask, mask.dtype == np.bool_, "booleans", "Write mask != 0.")
            _shape(name, "mask", mask, [traces[:-1]], "the traces' shape without the classes")
        if lengths is not None:
            whole = jnp.issubdtype(lengths.dtype, jnp.integer)
            _kind(name, "lengths", lengths, whole, "whole numbers", "A boolean array is a mask.")
            _shape(name, "lengths", lengths, [batch], "one number of steps per sample")
            _values(name, "lengths", lengths, lambda a: (a >= 0) & (a <= traces[axis]), f"in 0..{traces[axis]}")
        if weights is not None:
            real = weights.dtype == np.bool_ or jnp.issubdtype(weights.dtype, jnp.number)
            real = real and not jnp.iscomplexobj(weights)
            _kind(name, "weights", weights, real, "real numbers", "Convert them first.")
            meaning = "one weight per sample, or per step where targets are per step"
            _shape(name, "weights", weights, [batch, traces[:-1]] if per_step else [batch], meaning)
            _values(name, "weights", weights, lambda a: (a >= 0) & (a < np.inf), "finite, 0 or more")
        return Given(mask, lengths, weights)

    def steps(self, shape: tuple[int, ...], axis: int, start: int) -> jax.Array:
        """Which steps count, (time, *batch), for traces of that shape and time on that axis."""
        at = _clock(shape)
        steps = jnp.broadcast_to(at >= start, shape)
        if self.mask is not None:
            steps = steps & jnp.moveaxis(jnp.asarray(self.mask), axis, 0)
        return steps if self.lengths is None else steps & (at < jnp.asarray(self.lengths).astype(jnp.int32)[None])

    def weigh(self, shape: tuple[int, ...], axis: int, dtype: DTypeLike) -> jax.Array:
        """The weights, (time, *batch) or (*batch,); NaN where a weight or a length is out of its range."""
        weights = jnp.ones(shape[1:], dtype)
        if self.weights is not None:
            given = jnp.asarray(self.weights).astype(dtype)
            weights = jnp.moveaxis(given, axis, 0) if given.ndim == len(shape) else given
            weights = jnp.where((weights >= 0) & (weights < jnp.inf), weights, jnp.nan)
        if self.lengths is not None:
            lengths = jnp.asarray(self.lengths).astype(jnp.int32)
            inside = jnp.broadcast_to((lengths >= 0) & (lengths <= shape[0]), weights.shape)
            weights = jnp.where(inside, weights, jnp.nan)
        return weights


def weighted_mean(scores: jax.Array, weights: jax.Array) -> jax.Array:
    """`sum(w * score) / sum(w)`; 0, with gradient 0, where no weight is left; a score of weight 0 may be NaN."""
    total = weights.sum()
    return jnp.where(weights == 0, 0, weights * scores).sum() / jnp.where(total == 0, 1, total)


def only(counts: jax.Array, weights: jax.Array) -> jax.Array:
    """The weights of what counts, 0 elsewhere; NaN stays, because it marks a wrong weight or length."""
    return jnp.where(counts | jnp.isnan(weights), weights, 0)


def at(steps: jax.Array, x: jax.Array) -> jax.Array:
    """The values of x, (*steps, classes), at steps that count, 0 elsewhere; the rest has no gradient."""
    return jnp.where(steps[..., None], x, 0)


def average(x: jax.Array, steps: jax.Array | None) -> jax.Array:
    """Mean over time of x, (time, *batch, classes), over the steps that count, at the others of which it is 0."""
    return x.mean(0) if steps is None else x.sum(0) / count(steps).astype(x.dtype)[..., None]


def highest(x: jax.Array, steps: jax.Array | None) -> jax.Array:
    """Highest over time among the steps that count, 0 where there is none."""
    if steps is None:
        return x.max(0)
    found = jnp.where(steps[..., None], x, -jnp.inf).max(0)
    return at(steps.any(0), found)


def count(steps: jax.Array) -> jax.Array:
    """How many steps of each sample count, at least 1 so that it can divide."""
    return jnp.maximum(steps.sum(0, dtype=jnp.int32), 1)


def check_start(name: str, start: int) -> int:
    """Raise unless it is a number of steps."""
    if not isinstance(start, Integral) or isinstance(start, bool) or start < 0:
        raise ValueError(f"{name}: start must be a whole number of steps, 0 or more; got {start!r}. 0 leaves none out.")
    return int(start)


def check_start_of(name: str, start: int, steps: int) -> None:
    """Raise unless a step is left after the burn-in."""
    if start >= steps:
        raise ValueError(
            f"{name}: start must be less than the {steps} time steps of the traces; got {start}. "
            "Nothing would be left to score."
        )


def check_class_weights(name: str, class_weights: Sequence[float] | ArrayLike | None) -> np.ndarray | None:
    """As a float array, or raise unless there is one finite weight >= 0 per class, and one above 0."""
    if class_weights is None:
        return None
    weights = np.asarray(class_weights)
    if weights.dtype.kind not in "biuf" or weights.ndim != 1:
        raise TypeError(
            f"{name}: class_weights must be one number per class; got dtype {weights.dtype} and shape {weights.shape}. "
            "Give a list of numbers."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and (weights > 0).any()):
        raise ValueError(
            f"{name}: class_weights must be finite, 0 or more, and not all 0; got {weights.tolist()}. "
            "Try samples / (classes * samples_of_each_class)."
        )
    return weights.astype(np.float64)


def _clock(shape: tuple[int, ...]) -> jax.Array:
    return jnp.arange(shape[0], dtype=jnp.int32).reshape(-1, *[1] * (len(shape) - 1))


def _array(x: ArrayLike) -> Array | np.ndarray:
    return x if isinstance(x, jax.Array | np.ndarray) else np.asarray(x)


def _kind(name: str, argument: str, value: Array | np.ndarray, right: bool, what: str, hint: str) -> None:
    if not right:
        raise TypeError(f"{name}: {argument} must be {what}; got dtype {value.dtype}. {hint}")


def _shape(name: str, argument: str, value: Array | np.ndarray, accepted: list[tuple[int, ...]], meaning: str) -> None:
    if value.shape not in accepted:
        shapes = " or ".join(map(str, accepted))
        raise ValueError(f"{name}: {argument} must have shape {shapes}; got {value.shape}. Give {meaning}.")


def _values(
    name: str, argument: str, value: Array | np.ndarray, inside: Callable[[np.ndarray], np.ndarray], what: str
) -> None:
    if isinstance(value, Tracer):
        return  # `weigh` makes the result NaN
    array = np.asarray(value)
    wrong = ~inside(array)
    if wrong.any():
        first = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), array.shape))
        raise ValueError(
            f"{name}: {argument} must be {what}; got {array[first].item()} at index {list(first)}. "
            "Look at how the batch was made."
        )
