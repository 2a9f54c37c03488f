"""The loop over time, with derivatives of its own.

Autodiff of `lax.scan` stores every intermediate of every step. Here the forward pass stores the state before each step
and the backward pass differentiates one step at a time from it. An output that depends on the state alone (a spike of
the membrane before its update) is computed from the stored states, all of time at once. The backward pass and forward
mode are loops of the same kind, so that every higher derivative follows the same rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from spyx.engine.derivative import Changes, Rule, call, filled, inexact, pull, push
from spyx.engine.feedback import Recurrent
from spyx.engine.jit_cache import jit

if TYPE_CHECKING:
    from jaxtyping import Array

    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.params import Params
    from spyx.engine.types import Input, Inputs, Output, Outputs, Parameters, Shapes, State, States, Step, Tree

STATES = "spyx: states of a loop over time"
"""Name, for a policy of `jax.checkpoint`, of what a loop over time would have to run again for: all else is cheap."""


@jit(0)
def layer(step: Step, p: Parameters, xs: Inputs, s0: State) -> tuple[Outputs, State]:
    """Run a step over time.

    Args:
        step: `(p, x, s) -> (out, s')`, pure, closing over no traced value.
        p: parameters, read by every step.
        xs: inputs, time on axis 0.
        s0: state before the first step.

    Returns:
        `(outs, s_T)`: outputs with time on axis 0 and the state after the last step.
    """
    return call(Loop(step), p, xs, s0)


def single(step: Step, p: Parameters, xs: Inputs, s0: State) -> tuple[Outputs, State]:
    """`layer` for one time step, without a loop."""
    out, end = step(p, jax.tree.map(lambda a: a[0], xs), s0)
    return jax.tree.map(lambda a: a[None], out), end


@dataclass(frozen=True)
class Loop(Rule):
    """`(p, xs, s0) -> (outs, s_T)`.

    Args:
        step: one time step.
        reverse: from the last step to the first.
    """

    step: Step
    reverse: bool = False

    def forward(self, p: Parameters, xs: Inputs, s0: State) -> tuple[Outputs, State]:
        def body(s: State, x: Input) -> tuple[State, Output]:
            out, after = self.step(p, x, s)
            return after, out

        end, outs = jax.lax.scan(body, s0, xs, reverse=self.reverse)
        return outs, end

    def keep(self, p: Parameters, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State], States]:
        no_input = jax.tree.map(lambda a: jnp.zeros(a.shape[1:], a.dtype), xs)
        from_state = not depends(lambda x: self.step(p, x, s0)[0], no_input)
        stored, end = call(Loop(_WithState(self.step, not from_state), self.reverse), p, xs, s0)
        before, outs = checkpoint_name(stored, STATES)
        if from_state:
            outs = jax.vmap(lambda s: self.step(p, no_input, s)[0])(before)
        return (outs, end), before

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        full = [filled(t, inexact(a)[0]) for a, t in zip(args, tangents, strict=True)]
        moved, (_, end) = call(Loop(_Tangent(self.step), self.reverse), *zip(args, full, strict=True))
        return [*moved, *end]

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        p, xs, s0 = args
        g_outs, g_end = _split(cotangents, s0)
        inputs = (g_outs, xs, residuals)
        if not isinstance(self.step, Recurrent):
            start = (g_end, [jnp.zeros_like(a) for a in inexact(p)[0]])
            g_xs, (g_s0, g_p) = call(Loop(_Backward(self.step), not self.reverse), p, inputs, start)
            return g_p, g_xs, g_s0
        start = (g_end, [jnp.zeros_like(a) for a in inexact(self.step.local_parameters(p))[0]])
        found, (g_s0, g_local) = call(Loop(_PostponedBackward(self.step), not self.reverse), p, inputs, start)
        g_xs, sent, g_current = found
        return self.step.all_cotangents(p, g_local, sent, g_current), g_xs, g_s0


@dataclass(frozen=True)
class _WithState:
    """The step, and the state before it among its outputs; without its own output where that follows from the state."""

    step: Step
    with_output: bool

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        out, after = self.step(p, x, s)
        return (s, out if self.with_output else None), after


@dataclass(frozen=True)
class _Tangent:
    """The change of a step: parameters, input and state come with their tangents, the output is a tangent."""

    step: Step

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        args, tangents = zip(p, x, s, strict=True)
        (_, after), moved = push(self.step, args, tangents)
        out, end = _split(moved, after)
        return out, (after, end)


@dataclass(frozen=True)
class _Backward:
    """One step of the backward pass: the state is the cotangents of the state and, summed up, of the parameters."""

    step: Step

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        (g_out, x, before), (g_s, g_p) = x, s
        d_p, d_x, d_s = pull(self.step, (p, x, before), [*g_out, *g_s])
        return d_x, (d_s, [a + b for a, b in zip(g_p, d_p, strict=True)])


@dataclass(frozen=True)
class _PostponedBackward:
    """`_Backward` for a recurrent step, which leaves the parameters of its connection for one product afterwards.

    It returns what was sent and the cotangent of the current that came of it.
    """

    step: Recurrent

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        (g_out, x, before), (g_s, g_p) = x, s
        zero, sent = jnp.zeros_like(x), self.step.sent(p, x, before)

        def shifted(local: Params, x: Array, before: State, extra: Array) -> tuple[Output, State]:
            return self.step.with_extra_current(p, local, x, before, extra)

        local = self.step.local_parameters(p)
        d_p, d_x, d_s, d_current = pull(shifted, (local, x, before, zero), [*g_out, *g_s])
        return (d_x, sent, d_current), (d_s, [a + b for a, b in zip(g_p, d_p, strict=True)])


def _split(changes: Changes, end: State) -> tuple[Changes, Changes]:
    """Derivatives of outputs and of the state after them."""
    count = len(changes) - len(inexact(end)[0])
    return changes[:count], changes[count:]


def depends(function: Callable[[Input], Output], x: Shapes) -> bool:
    """A chain of operations leads from x to the result, whatever its numbers."""
    jaxpr = jax.make_jaxpr(function)(x).jaxpr
    from_x = {id(v) for v in jaxpr.invars}
    for equation in jaxpr.eqns:
        if from_x.intersection(map(id, equation.invars)):
            from_x.update(map(id, equation.outvars))
    return not from_x.isdisjoint(map(id, jaxpr.outvars))
