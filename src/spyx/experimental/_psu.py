"""`PSU_LIF`: a leaky neuron whose refractoriness is a second leaky trace, so that it needs no time loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, overload

import jax
from flax import nnx

from spyx import engine
from spyx.axn import arctan
from spyx.engine.masks import Mask, gated
from spyx.experimental._sequences import batch_major, check_start, time_major
from spyx.nn import Neuron, constant, decay
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._neuron import like
from spyx.nn._parameters import Shape

if TYPE_CHECKING:
    from jaxtyping import Array, Num

    from spyx.engine.params import Params
    from spyx.engine.types import State, Units
    from spyx.experimental._sequences import PerStep, Sequences, TimeMajor
    from spyx.nn._parameters import ParameterLike


def leak(p: Params, x: Units, v: Units) -> tuple[Units, Units]:
    """`v' = beta v + x`; the output is `v'`."""
    v = p.beta * v + x
    return v, v


class PSU_LIF(Neuron):
    """Leaky neuron with a refractory trace in place of a reset.

    `v' = beta v + x`, `r' = beta r + sigmoid(v')`, `z = H(v' - r' - threshold)`. No latency: the spike answers
    this step's input. `r` grows while the membrane is high and holds the spikes back.

    `layer(x)` is the documented call over all of time, in parallel. As a layer of spyx it takes one step,
    `layer(x, state)`, and runs through `spyx.nn.run` and containers. The two leaks are affine one after the other (not
    together), so `mode="parallel"` runs two associative scans.

    Args:
        hidden_shape: shape of one sample's units; int, list or tuple.
        threshold: firing threshold; a number or a per-unit array. Default 1.
        k: steepness of the arctan surrogate; default 2.
        spike: False returns the activation's input `v - r - threshold` where the spikes would be.
        name: stored, for your own use.
        beta: decay per step in [0, 1] of both traces; None, number, array or `Fixed`, as in `spyx.nn.LIF`.
        rngs: needed when `beta` is None.

    Shapes:
        over time: x (batch, time, *hidden_shape) -> (spikes, v), both of that shape.
        one step: x (batch, *hidden_shape), state `PSU_LIF.State(v, r)` -> spikes, state.

    Raises:
        TypeError: an input that is no array.
        ValueError: no `rngs` where a value is drawn; an input or a state of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> layer = PSU_LIF(1, threshold=0.5, beta=0.5)
        >>> spikes, v = layer(jnp.full((1, 4, 1), 2.0))
        >>> spikes.ravel().tolist(), v.ravel().tolist()
        ([1.0, 1.0, 1.0, 1.0], [2.0, 3.0, 3.5, 3.75])

    Reference:
        Spyx 0.1's `PSU_LIF`; parallel spiking units: Li et al. 2024, arXiv:2402.00449. Spyx 1.0's class of this name is
        `AssociativeLIF`.
    """

    state = dict(v=0.0, r=0.0)
    beta = decay()
    threshold = constant(1.0)

    def __init__(
        self,
        hidden_shape: Shape,
        threshold: ParameterLike = 1,
        k: float = 2,
        spike: bool = True,
        name: str = "PSULIF",
        *,
        beta: ParameterLike = None,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        super().__init__(hidden_shape, arctan(k), beta=beta, threshold=threshold, rngs=rngs, name=name)
        self.spiking = bool(spike)

    @staticmethod
    def step(p: Params, x: Units, s: State) -> tuple[Units, State]:
        v, _ = leak(p, x, s.v)
        r, _ = leak(p, jax.nn.sigmoid(v), s.r)
        return _fire(p, v, r), s._replace(v=v, r=r)

    @overload
    def __call__(self, x: Num[Array, "batch *hidden"], state: State) -> tuple[Units, State]: ...

    @overload
    def __call__(
        self, x: Sequences, state: None = None, *, start: State | None = None, return_state: Literal[False] = False
    ) -> tuple[PerStep, PerStep]: ...

    @overload
    def __call__(
        self, x: Sequences, state: None = None, *, start: State | None = None, return_state: Literal[True]
    ) -> tuple[PerStep, PerStep, State]: ...

    def __call__(
        self, x: Sequences, state: State | None = None, *, start: State | None = None, return_state: bool = False
    ) -> tuple[Units, State] | tuple[PerStep, PerStep] | tuple[PerStep, PerStep, State]:
        """All of time, `(spikes, v)`; with a `state`, one time step, `(spikes, state)`.

        Args:
            x: (batch, time, *hidden_shape); with a `state` (batch, *hidden_shape).
            state: the state before this one step.
            start: over time, the state before the first step; None is rest.
            return_state: over time, return `(spikes, v, state)`, to go on with the next chunk from `start=state`.
        """
        if state is not None:
            return super().__call__(x, state)  # type: ignore[arg-type]
        who = "spyx.experimental.PSU_LIF"
        xs = time_major(who, x, self.hidden_shape)
        rest = self.initial_state(xs.shape[1])
        spikes, v, end = self._at_once(xs, rest if start is None else check_start(who, start, rest))
        return (*batch_major((spikes, v)), end) if return_state else batch_major((spikes, v))

    @takes_masks
    def sequence(
        self, xs: Num[Array, "time batch *hidden"], state: State, how: Execution = AUTO
    ) -> tuple[TimeMajor, State]:
        """All of time, `xs` (time, batch, *hidden_shape), as every layer: `(spikes, state)`."""
        if how.mode != "parallel" or 0 in xs.shape or how.watched(self) is not None:
            return super().sequence(xs, state, how)
        self._check(xs.shape[1:], state)
        how.note(self, xs, "parallel", "asked for: two associative scans, membrane then refractory trace")
        spikes, _, state = self._at_once(xs, state, how.mask)
        return how.alive(like(spikes, xs)), state

    def _at_once(
        self, xs: Num[Array, "time batch *hidden"], start: State, mask: Mask | None = None
    ) -> tuple[TimeMajor, TimeMajor, State]:
        p = self.params().astype(start.v.dtype)
        solve = engine.layer if 0 in xs.shape else engine.parallel
        if mask is not None:
            solve = partial(gated, solve, alive=mask.alive)
        v, v_end = solve(leak, p, xs.astype(start.v.dtype), start.v)
        r, r_end = solve(leak, p, jax.nn.sigmoid(v), start.r)
        return jax.vmap(_fire, (None, 0, 0))(p, v, r), v, self.State(v_end, r_end)


def _fire(p: Params, v: Units, r: Units) -> Units:
    u = v - r - p.threshold
    return p.spike(u) if p.spiking else u
