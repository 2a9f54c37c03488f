"""A step whose outputs come back later: recurrence with a delay for every connection.

The state holds what is on its way. A loop over time would store that at every step for the backward pass, as often as
there are lags; here it stores what was sent, once, and the gradients of the connection are one convolution over time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from spyx.engine.derivative import Changes, call, inexact, pull, together
from spyx.engine.feedback import Carried, Recurrent, _as_dict
from spyx.engine.jit_cache import jit
from spyx.engine.loop import STATES, Loop, _split
from spyx.engine.params import Params, without

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from spyx.engine.derivative import Arguments
    from spyx.engine.types import Inputs, Outputs, State, Tree, Units


class LateConnection(Protocol):
    """From what a layer sends to the current that it receives later; hashable, its numbers are entries of `p`."""

    @property
    def names(self) -> tuple[str, ...]:
        """The entries of `p` that are its own."""
        ...

    def send(self, p: Params, sent: Float[Array, "time batch *hidden"]) -> Float[Array, "time batch ..."]:
        """What travels, (time, batch, ...), for what is sent; linear in it."""
        ...

    def current(self, p: Params, seen: Float[Array, "past+time batch ..."]) -> Float[Array, "time batch *hidden"]:
        """Currents (time, batch, ...) for what travels, the steps on the way before the first one included."""
        ...


@dataclass(frozen=True)
class Late:
    """The step `step(p, x + current, s)`, whose current is made of what was sent in this step and those before.

    Args:
        base: the recurrent step, whose connection is a `LateConnection`.
        ring: how the state holds what is on its way, (batch, steps, ...), oldest first: the state of `base`, and one
            variable more.
    """

    base: Recurrent
    ring: Carried

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", getattr(self.base, "__qualname__", "step"))

    def __call__(self, p: Params, x: Units, s: State) -> tuple[Units, State]:
        (out, *_), after = self.recorded(p, x, s)
        return out, after

    def recorded(self, p: Params, x: Units, s: State) -> tuple[tuple[Units, State, Units, Units], State]:
        """`((out, local state before, what was sent, the current), the state after)`."""
        local, past = self.ring.split(s)
        sent = self.base.sent(p, x, local)
        seen = self.seen(p, past, sent[None])
        current = self.via.current(p, seen)[0]
        out, after = self.base.given(p, x, current, local)
        return (out, local, sent, current), self.ring.join(after, jnp.moveaxis(seen[1:], 0, 1))

    def seen(
        self, p: Params, past: Float[Array, "batch past ..."], sent: Float[Array, "time batch *hidden"]
    ) -> Float[Array, "past+time batch ..."]:
        """What is on its way, then what is sent now: (steps + time, batch, ...)."""
        return jnp.concatenate([jnp.moveaxis(past, 1, 0), self.via.send(p, sent)])

    @property
    def via(self) -> LateConnection:
        """The connection."""
        return self.base.via  # type: ignore[return-value]


@jit(0)
def layer(step: Late, p: Params, xs: Inputs, s0: State) -> tuple[Outputs, State]:
    """Run the step over time, as `spyx.engine.loop.layer` does."""
    return call(LateLoop(step), p, xs, s0)


@dataclass(frozen=True)
class LateLoop(Loop):
    """The loop of a `Late` step, with a backward pass that stores nothing twice."""

    step: Late  # type: ignore[assignment]

    def keep(self, p: Params, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State], Tree]:
        (outs, *stored), end = call(Loop(_Recorded(self.step)), p, xs, s0)
        return (outs, end), checkpoint_name(stored, STATES)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        p, xs, s0 = args
        before, sent, currents = residuals
        step, steps = self.step, sent.shape[0]
        g_outs, (*g_local_end, g_past_end) = _split(cotangents, s0)
        local_p = step.base.local_parameters(p)
        start = (g_local_end, g_past_end, [jnp.zeros_like(a) for a in inexact(local_p)[0]])
        found, (g_local, g_past, g_local_p) = call(
            Loop(_LateBackward(step), True), p, (g_outs, xs, before, currents), start
        )
        g_xs, g_currents = found

        def whole(own: Params) -> tuple[jax.Array, jax.Array]:
            seen = step.seen(own, step.ring.split(s0)[1], sent)
            return step.via.current(own, seen), jnp.moveaxis(seen[steps:], 0, 1)

        own = without(p, local_p._names)
        (g_own,) = pull(whole, (own,), [*g_currents, g_past_end])
        every = {**_as_dict(local_p, g_local_p), **_as_dict(own, g_own)}
        return [g for name in sorted(every) for g in every[name]], g_xs, [*g_local, g_past]


@dataclass(frozen=True)
class _Recorded:
    """The step with all that its backward pass reads among its outputs."""

    step: Late

    def __call__(self, p: Params, x: Units, s: State) -> tuple[tuple[Units, State, Units, Units], State]:
        return self.step.recorded(p, x, s)


@dataclass(frozen=True)
class _LateBackward:
    """One step of the backward pass; the state is the cotangents of the local state, of what is on its way, and of the
    local parameters, summed up. It returns the cotangents of the input and of the current.
    """

    step: Late

    def __call__(self, p: Params, inputs: Tree, s: Tree) -> tuple[Tree, Tree]:
        (g_out, x, before, current), (g_s, g_past, g_p) = inputs, s
        base, via = self.step.base, self.step.via
        local = base.local_parameters(p)

        def given(local: Params, x: Units, before: State, current: Units) -> tuple[Units, State]:
            return base.given(local, x, current, before)

        def onward(seen: Array) -> tuple[Units, Array]:
            return via.current(p, seen)[0], jnp.moveaxis(seen[1:], 0, 1)

        d_p, d_x, d_s, d_current = pull(given, (local, x, before, current), [*g_out, *g_s])
        shape = (g_past.shape[1] + 1, g_past.shape[0], *g_past.shape[2:])
        nothing, g_past = together(jnp.zeros(shape, g_past.dtype), g_past)
        ((d_seen,),) = pull(onward, (nothing,), [*d_current, g_past])
        (d_sent,) = pull(lambda sent: via.send(p, sent[None])[0], (jnp.zeros_like(x),), [d_seen[-1]])
        more_p, more_s = pull(lambda local, before: base.sent(local, x, before), (local, before), d_sent)
        d_s = [a + b for a, b in zip(d_s, more_s, strict=True)]
        g_p = [a + b + c for a, b, c in zip(g_p, d_p, more_p, strict=True)]
        return (d_x, d_current), (d_s, jnp.moveaxis(d_seen[:-1], 0, 1), g_p)
