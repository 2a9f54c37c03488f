"""Counting spikes: per class (`PopulationCode`) and per neuron over time (`ActivityRegularization`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax.numpy as jnp

from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._layer import Layer
from spyx.nn._parameters import Shape, hidden_shape_of

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Num


@dataclass(frozen=True)
class PopulationCode:
    """A readout where each class is voted for by a contiguous block of neurons: `out[k] = sum of block k`.

    For rate-coded networks with too few time steps for a good spike count per neuron. No state.

    Args:
        num_classes: number of blocks; divides the number of neurons.

    Shapes:
        (..., neurons) -> (..., num_classes).

    Raises:
        ValueError: `num_classes` below 1, or neurons that do not divide into `num_classes` blocks.

    Example:
        >>> PopulationCode(2)(jnp.array([[1.0, 0.0, 1.0, 1.0]])).tolist()
        [[1.0, 2.0]]

    Reference:
        The block layout of snnTorch's population coding. Spyx 1.0 folded the batch into the classes.
    """

    num_classes: int

    def __post_init__(self) -> None:
        classes = self.num_classes
        if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
            raise ValueError(f"spyx.nn.PopulationCode: expected at least 1 class; got {classes!r}. Pass an int.")

    def __call__(self, x: Num[Array, "... neurons"]) -> Num[Array, "... classes"]:
        x = jnp.asarray(x)
        if x.ndim < 1 or x.shape[-1] % self.num_classes:
            raise ValueError(
                f"spyx.nn.PopulationCode: expected neurons on the last axis, a multiple of {self.num_classes}; "
                f"got shape {x.shape}. Change the layer before it."
            )
        dtype = jnp.float32 if x.dtype in (jnp.bool_, jnp.uint8) else x.dtype
        return x.reshape(*x.shape[:-1], self.num_classes, x.shape[-1] // self.num_classes).sum(-1, dtype=dtype)


class ActivityRegularization(Layer):
    """Counts the spikes that pass through it: `out = x`, `count' = count + x`.

    Put it behind a spiking layer; `spyx.fn.spike_counts(model, final_state)` collects the counts for the regularisers.
    The count is a sum over time, per sample and neuron.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        batch_size: unused, accepted for Spyx 1.0's signature.
        dtype: dtype of the count; default float32.
        name: stored, for your own use.

    Shapes:
        x, count: (batch, *hidden_shape) -> x, count'.

    Raises:
        ValueError: an input of another shape.

    Example:
        >>> layer = ActivityRegularization(2)
        >>> out, count = layer(jnp.array([[1.0, 0.0]]), layer.initial_state(1))
        >>> layer(out, count)[1].tolist()
        [[2.0, 0.0]]
    """

    counts_spikes = True

    def __init__(
        self, hidden_shape: Shape, batch_size: int = 1, dtype: DTypeLike = jnp.float32, *, name: str | None = None
    ) -> None:
        self.hidden_shape = hidden_shape_of("spyx.nn.ActivityRegularization", hidden_shape)
        self.dtype = jnp.dtype(dtype)
        self.name = name

    def initial_state(self, batch_size: int) -> Num[Array, "batch *hidden"]:
        """Zero counts for `batch_size` samples."""
        return jnp.zeros((batch_size, *self.hidden_shape), self.dtype)

    def __call__(
        self, spikes: Num[Array, "batch *hidden"], count: Num[Array, "batch *hidden"]
    ) -> tuple[Num[Array, "batch *hidden"], Num[Array, "batch *hidden"]]:
        """One time step: `(spikes, count) -> (spikes, count + spikes)`."""
        self._check(spikes.shape)
        return spikes, count + spikes.astype(self.dtype)

    @takes_masks
    def sequence(  # type: ignore[override]
        self, xs: Num[Array, "time batch *hidden"], count: Num[Array, "batch *hidden"], how: Execution = AUTO
    ) -> tuple[Num[Array, "time batch *hidden"], Num[Array, "batch *hidden"]]:
        """All of time at once: `xs` is (time, batch, *hidden_shape)."""
        self._check(xs.shape[1:])
        if how.watched(self) is not None:
            return super().sequence(xs, count, how)
        how.note(self, xs, "layer", "a sum over time")
        xs = how.alive(xs)
        return xs, count + xs.sum(0, dtype=self.dtype)

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[1:] != self.hidden_shape:
            raise ValueError(
                f"spyx.nn.ActivityRegularization: expected spikes of shape (batch, "
                f"{', '.join(map(str, self.hidden_shape))}); got {shape}. Give it the hidden_shape of the layer before."
            )
