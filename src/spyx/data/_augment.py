"""Augmentation: the same sample, seen a little differently. Every function returns `f(x, key)`, safe in jit and vmap.

`shift_augment` rolls any array; all others act on frames of shape (batch, time, ...), or on events, and draw for each
sample by itself. Compose them with `chain`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from spyx.data._events import Events

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Key, Num

Augment = Callable[[jax.Array, jax.Array], jax.Array]
"""Type alias: `(data, key) -> data`."""


def drop_spikes(probability: float) -> Augment:
    """Removes each spike (or each count, as a whole) with a probability.

    Args:
        probability: in [0, 1].

    Returns:
        `f(x, key)`, shapes unchanged.

    Raises:
        ValueError: if the probability is outside [0, 1].

    Example:
        >>> x = jnp.ones((2, 100, 8))
        >>> bool(abs(drop_spikes(0.25)(x, jax.random.key(0)).mean() - 0.75) < 0.05)
        True
    """
    _check("drop_spikes", "probability", probability, 0, 1)

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(key, float(probability), x.shape), jnp.zeros((), x.dtype), x)

    return augment


def jitter_time(max_steps: int) -> Augment:
    """Moves every spike by its own random number of steps; spikes that would leave the window stay at its edge.

    Spikes that meet add up, so the number of spikes stays the same.

    Args:
        max_steps: the largest move, both ways and both ends included, >= 0.

    Returns:
        `f(x, key)`, shapes unchanged. Where x holds counts, all spikes of one place and step move together.

    Raises:
        ValueError: if `max_steps` is no whole number >= 0.

    Example:
        >>> x = jnp.zeros((1, 9, 1)).at[0, 4, 0].set(1)
        >>> moved = jitter_time(2)(x, jax.random.key(1))
        >>> float(moved.sum()), bool(moved[0, 2:7].sum() == 1)
        (1.0, True)
    """
    max_steps = _whole("jitter_time", "max_steps", max_steps)

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        steps = x.shape[1]
        shift = jax.random.randint(key, x.shape, -max_steps, max_steps + 1)
        now = jnp.arange(steps).reshape((1, steps) + (1,) * (x.ndim - 2))
        target = jnp.clip(now + shift, 0, steps - 1)

        def one_column(column: jax.Array, place: jax.Array) -> jax.Array:
            return jnp.zeros_like(column).at[place].add(column)

        columns, places = (jnp.moveaxis(a, 1, -1).reshape(-1, steps) for a in (x, target))
        moved = jax.vmap(one_column)(columns, places)
        return jnp.moveaxis(moved.reshape(*(x.shape[:1] + x.shape[2:]), steps), -1, 1)

    return augment


def shift_space(max_pixels: int, axes: int | Sequence[int] = (2, 3)) -> Augment:
    """Moves each sample as a whole by a random number of pixels or units; what leaves is lost, zeros come in.

    Args:
        max_pixels: the largest move along each axis, both ends included, >= 0.
        axes: axis or axes to move along, none of them the batch. Default (2, 3), height and width of (batch, time,
            height, width, ...); use 2 for units, as the frequency of a cochlea, and 1 for time.

    Returns:
        `f(x, key)`, shapes unchanged.

    Raises:
        ValueError: if `max_pixels` is no whole number >= 0 or an axis is the batch.

    Example:
        >>> x = jnp.ones((1, 2, 5))
        >>> sorted({float(shift_space(1, axes=(2,))(x, jax.random.key(i)).sum()) for i in range(9)})
        [8.0, 10.0]
    """
    max_pixels = _whole("shift_space", "max_pixels", max_pixels)
    axes = (int(axes),) if isinstance(axes, (int, Integral)) else tuple(int(axis) for axis in axes)
    if any(axis < 1 for axis in axes):
        raise ValueError(f"shift_space: expected axes >= 1, not the batch; got {axes}. Count from the front.")

    def one(x: jax.Array, shift: jax.Array) -> jax.Array:
        for axis, by in zip(axes, shift, strict=True):
            size = x.shape[axis - 1]
            place = jnp.arange(size) - by
            inside = ((place >= 0) & (place < size)).reshape([-1 if a == axis - 1 else 1 for a in range(x.ndim)])
            x = jnp.where(inside, jnp.take(x, place, axis=axis - 1, mode="clip"), jnp.zeros((), x.dtype))
        return x

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        shift = jax.random.randint(key, (x.shape[0], len(axes)), -max_pixels, max_pixels + 1)
        return jax.vmap(one)(x, shift)

    return augment


def stretch(most: float, axis: int = 1) -> Augment:
    """Stretches or squeezes each sample by a random factor along one axis: `x'[i] = x[floor(i / factor)]`.

    The factor is log-uniform in [1 / (1 + most), 1 + most]. What leaves at the end is lost, zeros come in; a spike may
    be doubled or dropped. Along time it is the speed of speech, along the channels of a cochlea, whose frequencies are
    spaced geometrically above its lowest ones, the length of a vocal tract.

    Args:
        most: the largest relative change, >= 0; 0.25 is from 0.8 to 1.25.
        axis: the axis, not the batch. Default 1, time.

    Returns:
        `f(x, key)`, shapes unchanged.

    Raises:
        ValueError: if `most` is negative or the axis is the batch.

    Example:
        >>> x = jnp.ones((1, 10, 1))
        >>> sums = [float(stretch(0.5)(x, jax.random.key(i)).sum()) for i in range(9)]
        >>> 6.0 <= min(sums) < 10.0 == max(sums)
        True
    """
    _check("stretch", "most", most, 0, None)
    if axis == 0:
        raise ValueError("stretch: expected an axis of the sample; got 0, the batch. Time is axis 1.")

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        size, limit = x.shape[axis], np.log1p(np.float32(most))
        factor = jnp.exp(jax.random.uniform(key, (x.shape[0], 1), jnp.float32, -limit, limit))
        place = jnp.floor(jnp.arange(size, dtype=jnp.float32)[None] / factor).astype(jnp.int32)
        place = place.reshape([x.shape[0]] + [size if a == axis % x.ndim else 1 for a in range(1, x.ndim)])
        taken = jnp.take_along_axis(x, jnp.minimum(place, size - 1), axis=axis)
        return jnp.where(place < size, taken, jnp.zeros((), x.dtype))

    return augment


def flip(axis: int, probability: float = 0.5) -> Augment:
    """Mirrors each sample along one axis with a probability.

    Args:
        axis: the axis, not the batch; 3 is left-right of (batch, time, height, width, ...), -1 swaps polarities.
        probability: in [0, 1]. Default 0.5.

    Returns:
        `f(x, key)`, shapes unchanged.

    Raises:
        ValueError: if the probability is outside [0, 1] or the axis is the batch.

    Example:
        >>> x = jnp.arange(3.0).reshape(1, 1, 3)
        >>> flip(2, probability=1)(x, jax.random.key(0)).ravel().tolist()
        [2.0, 1.0, 0.0]
    """
    _check("flip", "probability", probability, 0, 1)
    if axis == 0:
        raise ValueError("flip: expected an axis of the sample; got 0, the batch. Time is axis 1.")

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        chosen = jax.random.bernoulli(key, float(probability), (x.shape[0],) + (1,) * (x.ndim - 1))
        return jnp.where(chosen, jnp.flip(x, axis), x)

    return augment


def mask_axis(max_width: int, axis: int = 1) -> Augment:
    """Silences one stretch of each sample, of random width and place: in time, or in units.

    Args:
        max_width: the largest width, included, >= 0; 0 is drawn as often as any other.
        axis: 1 for time (the default), 2 for units or rows.

    Returns:
        `f(x, key)`, shapes unchanged.

    Raises:
        ValueError: if `max_width` is no whole number >= 0 or the axis is the batch.

    Example:
        >>> x = jnp.ones((1, 10, 1))
        >>> bool(7 <= mask_axis(3)(x, jax.random.key(0)).sum() <= 10)
        True
    """
    max_width = _whole("mask_axis", "max_width", max_width)
    if axis == 0:
        raise ValueError("mask_axis: expected an axis of the sample; got 0, the batch. Time is axis 1.")

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        size = x.shape[axis]
        for_width, for_start = jax.random.split(key)
        width = jax.random.randint(for_width, (x.shape[0], 1), 0, min(max_width, size) + 1)
        start = jax.random.randint(for_start, (x.shape[0], 1), 0, size - width + 1)
        place = jnp.arange(size)[None, :]
        silent = (place >= start) & (place < start + width)
        shape = [x.shape[0]] + [size if a == axis % x.ndim else 1 for a in range(1, x.ndim)]
        return jnp.where(silent.reshape(shape), jnp.zeros((), x.dtype), x)

    return augment


def mixup(x: jax.Array, y: jax.Array, key: jax.Array, *, num_classes: int, alpha: float = 0.2):
    """Mixes each sample with another of the batch: each place takes its spike train from one of the two.

    lambda ~ Beta(alpha, alpha); y = lambda onehot(y_i) + (1 - lambda) onehot(y_j). Trains stay binary: nothing is
    averaged, each unit's train comes from sample i with probability lambda.

    Args:
        x: shape (batch, time, ...).
        y: labels, integers of shape (batch,).
        key: the key.
        num_classes: number of classes.
        alpha: > 0; small values mostly keep one of the two. Default 0.2.

    Returns:
        (x, y) with y float32 of shape (batch, classes).

    Raises:
        ValueError: if `alpha` is not positive.

    Example:
        >>> x, y = mixup(jnp.ones((4, 5, 2)), jnp.arange(4), jax.random.key(0), num_classes=4)
        >>> x.shape, y.shape, bool(jnp.allclose(y.sum(1), 1))
        ((4, 5, 2), (4, 4), True)

    Reference:
        H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz (2018). mixup: Beyond Empirical Risk Minimization.
        arXiv:1710.09412. We choose trains rather than average values, so that the input stays spikes.
    """
    if alpha <= 0:
        raise ValueError(f"mixup: expected alpha > 0; got {alpha}.")
    for_order, for_part, for_place = jax.random.split(key, 3)
    order = jax.random.permutation(for_order, x.shape[0])
    part = jax.random.beta(for_part, alpha, alpha, (x.shape[0],))
    places = (x.shape[0], 1, *x.shape[2:])
    own = jax.random.uniform(for_place, places) < part.reshape((-1,) + (1,) * (x.ndim - 1))
    label = jax.nn.one_hot(y, num_classes, dtype=jnp.float32)
    mixed = part[:, None] * label + (1 - part[:, None]) * label[order]
    return jnp.where(own, x, x[order]), mixed


def chain(*steps: Augment) -> Augment:
    """Applies augmentations one after the other, each with its own key.

    Args:
        *steps: functions `f(x, key)`.

    Returns:
        `f(x, key)`.

    Example:
        >>> f = chain(drop_spikes(0.1), mask_axis(2))
        >>> f(jnp.ones((2, 5, 3)), jax.random.key(0)).shape
        (2, 5, 3)
    """

    def augment(x: jax.Array, key: jax.Array) -> jax.Array:
        for number, step in enumerate(steps):
            x = step(x, jax.random.fold_in(key, number))
        return x

    return augment


def jitter_events(events: Events, seed: int, *, time_us: int = 0, pixels: int = 0, drop: float = 0.0) -> Events:
    """Moves each event by a little in time and space and drops some: augmentation before the raster.

    Args:
        events: a recording with a sensor size.
        seed: same seed, same result.
        time_us: standard deviation of the move in time, microseconds, >= 0. Times stay >= 0. Default 0.
        pixels: largest move along each spatial axis, >= 0; events that would leave the sensor are dropped. Default 0.
        drop: probability that an event is dropped, in [0, 1). At least one event stays. Default 0.

    Returns:
        A sorted recording.

    Raises:
        ValueError: if a number is out of its range or the sensor size is not known.

    Example:
        >>> events = Events(t=[10, 20, 30], unit=[0, 1, 2], sensor_size=(3,))
        >>> len(jitter_events(events, seed=0, time_us=100)), len(jitter_events(events, seed=0, drop=0.9)) < 3
        (3, True)
    """
    for name, value, high in (("time_us", time_us, None), ("pixels", pixels, None), ("drop", drop, 1)):
        _check("jitter_events", name, value, 0, high)
    if events.sensor_size is None:
        raise ValueError("jitter_events: expected events with a sensor size; got None. Give Events a sensor_size.")
    rng = np.random.default_rng(seed)
    remain = rng.random(len(events)) >= drop
    columns = {name: getattr(events, name).astype(np.int64) for name in ("t", *events.addresses)}
    if time_us:
        columns["t"] = np.maximum(columns["t"] + np.round(rng.normal(0, time_us, len(events))).astype(np.int64), 0)
    if pixels:
        for name, side in zip(events.addresses, events.sensor_size, strict=False):
            columns[name] = columns[name] + rng.integers(-pixels, pixels + 1, len(events))
            remain &= (columns[name] >= 0) & (columns[name] < side)
    if not remain.any():
        remain[:1] = True
        columns = {name: getattr(events, name) for name in columns}
    order = np.flatnonzero(remain)[np.argsort(columns["t"][remain], kind="stable")]
    return Events(**{name: column[order] for name, column in columns.items()}, sensor_size=events.sensor_size)


def _check(function: str, name: str, value: float, low: float, high: float | None) -> None:
    if value < low or (high is not None and value > high):
        span = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{function}: expected {name} {span}; got {value}.")


def _whole(function: str, name: str, value: int) -> int:
    """A Python int, which does not wrap around as a NumPy integer of few bits does."""
    _check(function, name, value, 0, None)
    if not isinstance(value, Integral):
        raise ValueError(f"{function}: expected {name} to be a whole number; got {value}.")
    return int(value)


def shift_augment(max_shift: int = 10, axes: int | Sequence[int] = (-1,), *, per_sample: bool = False) -> Augment:
    """Roll the data by a random amount along each axis: `roll(x, d)`, d uniform on -max_shift, ..., max_shift.

    Both ends are included, and what leaves at one side enters at the other. One call draws one shift per axis for the
    whole array, `per_sample=True` one per axis and sample.

    Args:
        max_shift: largest shift, in elements, >= 0. Default 10.
        axes: axis or axes of the data to roll, each with its own shift. Default the last.
        per_sample: draw for each entry of axis 0 on its own. Default False.

    Shapes:
        data (batch, ...), any dtype; the result has the same shape and dtype.

    Raises:
        ValueError: on a negative `max_shift` or no axes; at the call, on axes that the data lacks, name twice, or, with
            `per_sample`, that name the batch.

    Example:
        >>> x = jnp.arange(4)[None]
        >>> sorted({shift_augment(1)(x, key)[0, 0].item() for key in jax.random.split(jax.random.key(0), 20)})
        [0, 1, 3]
    """
    axes = (int(axes),) if isinstance(axes, (int, Integral)) else tuple(int(axis) for axis in axes)
    if not isinstance(max_shift, Integral) or max_shift < 0:
        raise ValueError(
            f"shift_augment: max_shift must be a whole number, 0 or more; got {max_shift!r}. The default is 10."
        )
    largest = int(max_shift)
    if not axes:
        raise ValueError("shift_augment: axes must name at least one axis; got none. The default is (-1,).")

    def augment(data: Num[ArrayLike, "..."], key: Key[Array, ""]) -> Num[Array, "..."]:
        x = jnp.asarray(data)
        where = _resolve(axes, x.shape, per_sample)
        count = (x.shape[0], len(where)) if per_sample else (len(where),)
        shifts = jax.random.randint(key, count, -largest, largest + 1)
        if per_sample:
            return jax.vmap(lambda sample, shift: _roll(sample, shift, [axis - 1 for axis in where]))(x, shifts)
        return _roll(x, shifts, where)

    return augment


def _roll(x: jax.Array, shifts: jax.Array, axes: Sequence[int]) -> jax.Array:
    for shift, axis in zip(shifts, axes, strict=True):
        x = jnp.roll(x, shift, axis)
    return x


def _resolve(axes: tuple[int, ...], shape: tuple[int, ...], per_sample: bool) -> list[int]:
    ndim = len(shape)
    if any(not -ndim <= axis < ndim for axis in axes):
        raise ValueError(f"shift_augment: axes {axes} are out of range for data of shape {shape}. Name axes it has.")
    resolved = [axis % ndim for axis in axes]
    if len(set(resolved)) < len(resolved):
        raise ValueError(f"shift_augment: axes must differ; got {axes} for data of shape {shape}. Name each once.")
    if per_sample and 0 in resolved:
        raise ValueError(
            f"shift_augment: with per_sample, axis 0 holds the samples and cannot be rolled; got axes {axes} for data "
            f"of shape {shape}. Name another axis, or leave per_sample off."
        )
    return resolved
