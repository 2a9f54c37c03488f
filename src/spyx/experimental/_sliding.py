"""`SlidingPSN` and `ChannelPSN`: a few weights over the last inputs, so that sequences may have any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, overload

import jax.numpy as jnp
from flax import nnx

from spyx.axn import Activation
from spyx.engine.masks import last_of_each
from spyx.experimental._psn import TimeWeighted
from spyx.experimental._sequences import batch_major, check_start, time_major
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._parameters import Shape, parameter

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Float, Num

    from spyx.engine.types import Units
    from spyx.experimental._sequences import PerStep, Sequences, TimeMajor
    from spyx.nn._parameters import ParameterLike

    Last: TypeAlias = Float[Array, "batch order-1 *hidden"]
    """The inputs that the next step still sees."""


class SlidingPSN(TimeWeighted):
    """Sliding parallel spiking neuron: `h_t = sum_i w_i x_{t - order + 1 + i}`, `z = H(h - threshold)`.

    The same `order` weights at every step and for every unit, so sequences may have any length and come in chunks. No
    latency: the spike of step t uses the inputs from `t - order + 1` to t; inputs before the first are 0.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        order: number of steps it sees, itself included; 1 or more.
        threshold: firing threshold: a number (default 1) is one trainable value for the layer, an array is broadcast
            to the units, `Fixed(value)` is not trained.
        activation: surrogate; None is `superspike()`.
        name: stored, for your own use.

    Shapes:
        over time: x (batch, time, *hidden_shape) -> spikes of that shape.
        one step: x (batch, *hidden_shape), state (batch, order - 1, *hidden_shape), the last inputs -> spikes, state.

    Raises:
        TypeError: `order` is not an int; an activation that is not callable.
        ValueError: `order` below 1; an input or a state of another shape.

    Example:
        >>> layer = SlidingPSN(1, order=2)
        >>> layer(jnp.array([[[0.8], [0.8], [0.0]]])).ravel().tolist()
        [0.0, 1.0, 0.0]

    Reference:
        Fang et al. 2023, arXiv:2304.12760; weights start at `2^(i - order + 1)`, as there.
    """

    def __init__(
        self,
        hidden_shape: Shape,
        order: int,
        threshold: ParameterLike = 1.0,
        activation: Activation | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(hidden_shape, activation, name)
        self.order = self.count("order", order)
        self.weight = nnx.Param(self._initial_weight())
        self.threshold = parameter(self.owner, "threshold", threshold, self.hidden_shape)

    def _initial_weight(self) -> Float[Array, "order ..."]:
        return 2.0 ** jnp.arange(1 - self.order, 1, dtype=jnp.float32)

    def initial_state(self, batch_size: int, dtype: DTypeLike = jnp.float32) -> Last:
        """The last `order - 1` inputs: zeros."""
        return jnp.zeros((batch_size, self.order - 1, *self.hidden_shape), dtype)

    @overload
    def __call__(self, x: Num[Array, "batch *hidden"], state: Last) -> tuple[Units, Last]: ...

    @overload
    def __call__(
        self, x: Sequences, state: None = None, *, start: Last | None = None, return_state: Literal[False] = False
    ) -> PerStep: ...

    @overload
    def __call__(
        self, x: Sequences, state: None = None, *, start: Last | None = None, return_state: Literal[True]
    ) -> tuple[PerStep, Last]: ...

    def __call__(
        self, x: Sequences, state: Last | None = None, *, start: Last | None = None, return_state: bool = False
    ) -> PerStep | tuple[PerStep, Last]:
        """All of time, `spikes`; with a `state`, one time step, `(spikes, state)`.

        Args:
            x: (batch, time, *hidden_shape); with a `state` (batch, *hidden_shape).
            state: the state before this one step.
            start: over time, the state before the first step; None is rest.
            return_state: over time, return `(spikes, state)`, to go on with the next chunk from `start=state`.
        """
        if state is not None:
            spikes, state = self.sequence(x[None], state)  # type: ignore[arg-type]
            return spikes[0], state
        xs = time_major(self.owner, x, self.hidden_shape)
        rest = self.initial_state(xs.shape[1], xs.dtype)
        spikes, end = self.sequence(xs, rest if start is None else check_start(self.owner, start, rest))
        return (batch_major(spikes), end) if return_state else batch_major(spikes)

    @takes_masks
    def sequence(
        self, xs: Num[Array, "time batch *hidden"], state: Last, how: Execution = AUTO
    ) -> tuple[TimeMajor, Last]:
        """All of time: `xs` (time, batch, *hidden_shape) -> (spikes, the last inputs)."""
        expected = (xs.shape[1], self.order - 1, *self.hidden_shape)
        if xs.shape[2:] != self.hidden_shape or state.shape != expected:
            raise ValueError(
                f"{self.owner}: expected steps of shape (batch, {', '.join(map(str, self.hidden_shape))}) and a state "
                f"of shape {expected}; got {xs.shape[1:]} and {state.shape}. Make it with initial_state(batch_size)."
            )
        if how.watched(self) is not None or (how.mask is not None and not how.mask.ends):
            return super().sequence(xs, state, how)
        how.note(self, xs, "parallel", "a weighted sum of shifted inputs over all of time", granted=True)
        steps, dtype = xs.shape[0], state.dtype
        seen = jnp.concatenate([jnp.moveaxis(state, 1, 0), xs.astype(dtype)])
        weight = self.weight[...].astype(dtype)
        weight = weight.reshape(self.order, *(1,) * (seen.ndim + 1 - weight.ndim), *weight.shape[1:])
        h = sum((weight[i] * seen[i : i + steps] for i in range(1, self.order)), weight[0] * seen[:steps])
        threshold = self.threshold[...].astype(dtype)
        spikes = self.activation(h - threshold.reshape((1,) * (h.ndim - threshold.ndim) + threshold.shape))
        out = spikes.astype(xs.dtype) if jnp.issubdtype(xs.dtype, jnp.floating) else spikes
        return how.alive(out), last_of_each(seen, self.order - 1, how.mask)


class ChannelPSN(SlidingPSN):
    """Channel-wise parallel spiking neuron: `SlidingPSN` with weights of its own for every unit.

    `h_t = sum_i w_i x_{t - order + 1 + i}` with `w_i` of the hidden shape, `z = H(h - threshold)`. Sequences may have
    any length and come in chunks. No latency: the spike of step t uses the inputs from `t - order + 1` to t; inputs
    before the first are 0.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        order: number of steps it sees, itself included; 1 or more.
        threshold: firing threshold: a number (default 1) is one trainable value for the layer, an array is broadcast
            to the units, `Fixed(value)` is not trained.
        activation: surrogate; None is `superspike()`.
        name: stored, for your own use.

    Shapes:
        over time: x (batch, time, *hidden_shape) -> spikes of that shape; `weight` is (order, *hidden_shape).
        one step: x (batch, *hidden_shape), state (batch, order - 1, *hidden_shape), the last inputs -> spikes, state.

    Raises:
        TypeError: `order` is not an int; an activation that is not callable.
        ValueError: `order` below 1; an input or a state of another shape.

    Example:
        >>> layer = ChannelPSN(2, order=2)
        >>> layer.weight[...].tolist()
        [[0.5, 0.5], [1.0, 1.0]]

    Reference:
        The channel-wise PSN of arXiv:2501.14490 with real weights; the paper's rounding of weights to powers of two,
        which spares the multiplications, is not done. Weights start as those of `SlidingPSN`.
    """

    def _initial_weight(self) -> Float[Array, "order ..."]:
        same = super()._initial_weight().reshape(self.order, *(1,) * len(self.hidden_shape))
        return jnp.broadcast_to(same, (self.order, *self.hidden_shape))
