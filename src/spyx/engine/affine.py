"""Affine recurrences, solved over all of time at once.

A neuron whose new state is affine in the old one, `s' = A s + b`, needs no time loop: two steps in a row are again one
affine step, so an associative scan finds every state in about `2 log2(T)` sweeps. Nobody writes `A` and `b` down: they
are read off `step` by differentiating it. With `k` state variables `A` is one k x k block per unit and time step, so no
unit may read another unit's state.

The backward pass needs no loop either, and no affinity: the cotangent of the state obeys the recurrence
`m_t = J_t^T m_{t+1} + c_t`, which is affine whatever the step is. One associative scan in reverse solves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.engine.derivative import Changes, Rule, Same, call
from spyx.engine.feedback import Recurrent
from spyx.engine.jit_cache import jit
from spyx.engine.loop import Loop, layer
from spyx.engine.params import Params

if TYPE_CHECKING:
    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.types import Input, Inputs, Leaves, Outputs, Parameters, State, States, Step, Tree

Blocks = list[list[jax.Array]]
"""`A` of `s' = A s + b`: entry `[i][j]` is what variable i takes from variable j, for every unit."""


@jit(0)
def parallel(step: Step, p: Params, xs: Inputs, s0: State) -> tuple[Outputs, State]:
    """Run a step that is affine in its state by an associative scan: `layer`, up to rounding.

    A state that is not finite is found by the loop: zero times infinity would spread it.

    Args:
        step: `(p, x, s) -> (out, s')`, pure; `s'` affine in `s`, each unit reading only its own state.
        p: parameters, read by every step. With integers in `p`, `xs` or `s0`, and without a time step, the loop runs.
        xs: inputs, time on axis 0.
        s0: state before the first step.

    Returns:
        `(outs, s_T)`: outputs with time on axis 0 and the state after the last step.
    """
    if not runs_at_once(p, xs, s0):
        return layer(step, p, xs, s0)
    return call(Parallel(step), p, xs, s0)[:2]


def runs_at_once(p: Parameters, xs: Inputs, s0: State) -> bool:
    """There is a time step to solve for, and every array has a cotangent."""
    leaves = jax.tree.leaves((p, xs, s0))
    floating = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves)
    return jax.tree.leaves(xs)[0].shape[0] > 0 and floating


def states_before(transition: Callable[[States], States], s0: State, steps: int) -> States:
    """The state before every step of an affine recurrence.

    Args:
        transition: all steps at once, from the states before (time on axis 0) to the states after.
        s0: state before the first step.
        steps: number of steps, at least 1.
    """
    start, tree = jax.tree.flatten(s0)

    def after(states: Leaves) -> Leaves:
        return jax.tree.leaves(transition(jax.tree.unflatten(tree, states)))

    zeros = [jnp.zeros((steps, *leaf.shape), leaf.dtype) for leaf in start]
    offset, linear = jax.linearize(after, zeros)
    columns = [linear(_unit(zeros, j)) for j in range(len(zeros))]
    blocks = [[column[i] for column in columns] for i in range(len(zeros))]
    ends = solve(blocks, offset, start)
    before = [jnp.concatenate([s[None], e[:-1]]) for s, e in zip(start, ends, strict=True)]
    return jax.tree.unflatten(tree, before)


def solve(blocks: Blocks, offset: Leaves, start: Leaves, *, reverse: bool = False) -> Leaves:
    """`s_t = A_t s_{t-1} + b_t` for all `t` from `start`; `reverse` runs from the last step to the first.

    Args:
        blocks: `A`, as `blocks[i][j]` of shape (time, ...): what variable i takes from variable j.
        offset: `b`, one array (time, ...) per variable.
        start: one array (...) per variable.
        reverse: `s_t = A_t s_{t+1} + b_t`.
    """
    n = range(len(start))
    first = -1 if reverse else 0
    offset = [b.at[first].add(sum((blocks[i][j][first] * start[j] for j in n), 0.0)) for i, b in enumerate(offset)]

    def combine(earlier: tuple[Blocks, Leaves], later: tuple[Blocks, Leaves]) -> tuple[Blocks, Leaves]:
        (a1, b1), (a2, b2) = earlier, later
        product = [[_dot(a2[i], [row[j] for row in a1]) for j in n] for i in n]
        return product, [_dot(a2[i], b1) + b2[i] for i in n]

    return jax.lax.associative_scan(combine, (blocks, offset), reverse=reverse)[1]


def all_steps(step: Step, p: Params, xs: Inputs, before: States) -> tuple[Outputs, States]:
    """Every step at once, from the states before: `(outs, states after)`."""
    return jax.vmap(step, (None, 0, 0))(p, xs, before)


@dataclass(frozen=True)
class AtOnce(Rule):
    """A run over all of time at once, from the states before every step; its derivatives are those of the loop."""

    step: Step

    def states(self, p: Params, xs: Inputs, s0: State) -> tuple[States, Tree]:
        """The state before every step, and arrays of integers that say how it was found."""
        raise NotImplementedError

    def forward(self, p: Params, xs: Inputs, s0: State) -> tuple[Outputs, State, Tree]:
        return self._at_once(p, xs, s0)[0]

    def keep(self, p: Params, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State, Tree], States]:
        return call(Same(self._at_once, self._by_loop), p, xs, s0)

    def tangent(self, args: Arguments, tangents: tuple[Tangents, ...]) -> Changes:
        return Loop(self.step).tangent(args, tangents)

    def backward(self, args: Arguments, residuals: Tree, cotangents: Changes) -> tuple[Changes, ...]:
        if isinstance(self.step, Recurrent):
            return Loop(self.step).backward(args, residuals, cotangents)
        p, xs, s0 = args
        shapes = jax.eval_shape(Loop(self.step).forward, *args)
        g_outs, g_end = jax.tree.unflatten(jax.tree.structure(shapes), cotangents)
        found = backward(self.step, p, xs, residuals, g_outs, g_end)
        return tuple(map(jax.tree.leaves, found))

    def _at_once(self, p: Params, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State, Tree], States]:
        found, how = self.states(p, xs, s0)
        finite = jnp.stack([jnp.isfinite(a).all() for a in jax.tree.leaves(found)]).all()
        before = jax.lax.cond(finite, lambda: found, lambda: Loop(_States(self.step)).forward(p, xs, s0)[0])
        outs, after = all_steps(self.step, p, xs, before)
        return (outs, jax.tree.map(lambda s: s[-1], after), how), before

    def _by_loop(self, p: Params, xs: Inputs, s0: State) -> tuple[tuple[Outputs, State, Tree], States]:
        (outs, end), before = Loop(self.step).keep(p, xs, s0)
        return (outs, end, self.states(*jax.lax.stop_gradient((p, xs, s0)))[1]), before


@dataclass(frozen=True)
class Parallel(AtOnce):
    """By one associative scan."""

    def states(self, p: Params, xs: Inputs, s0: State) -> tuple[States, Tree]:
        steps = jax.tree.leaves(xs)[0].shape[0]
        return states_before(lambda s: all_steps(self.step, p, xs, s)[1], s0, steps), ()


@dataclass(frozen=True)
class _States:
    """The step, whose output is the state before it."""

    step: Step

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[State, State]:
        return s, self.step(p, x, s)[1]


def backward(
    step: Step, p: Parameters, xs: Inputs, before: States, g_outs: Outputs, g_end: State
) -> tuple[Parameters, Inputs, State]:
    """Cotangents of `(p, xs, s0)` from those of `(outs, s_T)`, without a loop over time.

    Exact for every step whose units read only their own state, resets and surrogates included.
    """
    _, pull = jax.vjp(partial(all_steps, step), p, xs, before)
    g_end, tree = jax.tree.flatten(g_end)
    zeros = [jnp.zeros_like(leaf) for leaf in jax.tree.leaves(before)]

    def state_cotangent(g_outs: Outputs, g_after: Leaves) -> Leaves:
        return jax.tree.leaves(pull((g_outs, jax.tree.unflatten(tree, g_after)))[2])

    silent = jax.tree.map(jnp.zeros_like, g_outs)
    rows = [state_cotangent(silent, _unit(zeros, i)) for i in range(len(zeros))]
    transposed = [[row[j] for row in rows] for j in range(len(zeros))]
    g_before = solve(transposed, state_cotangent(g_outs, zeros), g_end, reverse=True)
    g_after = [jnp.concatenate([g[1:], end[None]]) for g, end in zip(g_before, g_end, strict=True)]
    g_p, g_xs, _ = pull((g_outs, jax.tree.unflatten(tree, g_after)))
    return g_p, g_xs, jax.tree.unflatten(tree, [g[0] for g in g_before])


def _unit(zeros: Leaves, index: int) -> Leaves:
    return [jnp.ones_like(z) if i == index else z for i, z in enumerate(zeros)]


def _dot(row: Leaves, column: Leaves) -> jax.Array:
    terms = [a * b for a, b in zip(row, column, strict=True)]
    return sum(terms[1:], terms[0])
