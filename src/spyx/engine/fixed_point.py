"""Neurons with a reset, in parallel over time: guess the spikes, solve the then affine recurrence, look again.

Once its spikes are given, a resetting neuron is affine in its state and `affine.solve` finds every state at once. Those
states give better spikes, and so on. A spike depends on earlier ones only, so every round makes at least one more time
step final: after T rounds the result is exact, whatever the guess; a guess that stays the same is exact at once. How
many rounds it takes grows with how often resets change later spikes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from spyx.engine import affine
from spyx.engine.affine import AtOnce
from spyx.engine.derivative import call, together
from spyx.engine.jit_cache import jit
from spyx.engine.loop import layer
from spyx.engine.params import Params

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int

    from spyx.engine.types import Input, Inputs, Outputs, State, States, Step

    Round = tuple[jax.Array, list[jax.Array], States, jax.Array]
    """Rounds done, the spikes that were guessed, the states before every step, and how many spikes changed."""

Spikes = list[jax.Array]
"""What each call of `p.spike` in a step returned."""


class Convergence(NamedTuple):
    """How a fixed-point run ended; the result is exact if and only if `changed` is 0.

    Args:
        rounds: rounds done, int32.
        changed: spikes that the last round still changed and that a later step depends on, int32.

    Example:
        >>> how = Convergence(rounds=jnp.int32(4), changed=jnp.int32(0))
        >>> bool(how.changed == 0)
        True
    """

    rounds: Int[Array, ""]
    changed: Int[Array, ""]


def fixed_point(
    step: Step, p: Params, xs: Inputs, s0: State, rounds: int | None = None
) -> tuple[Outputs, State, Convergence]:
    """Run a step that is affine once its spikes are given; same result as `layer`, up to rounding.

    Args:
        step: `(p, x, s) -> (out, s')`, pure; `s'` affine in `s` with the values of `p.spike` held; units read one
            another through spikes only.
        p: parameters, read by every step.
        xs: inputs, time on axis 0.
        s0: state before the first step.
        rounds: stop after so many rounds; None goes on until nothing changes, T rounds at the most. With fewer the
            result may be inexact, and `Convergence.changed` says so.

    Returns:
        `(outs, s_T, Convergence(rounds, changed))`.

    Raises:
        TypeError: rounds is not an int.
        ValueError: rounds below 1.

    Example:
        >>> from spyx import nn
        >>> lif = nn.LIF(1, beta=0.5)
        >>> xs = jnp.full((8, 1, 1), 0.7)
        >>> outs, v, how = fixed_point(lif.step, lif.params(), xs, lif.initial_state(1))
        >>> outs.ravel().tolist(), int(how.rounds), int(how.changed)
        ([0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], 5, 0)

    Reference:
        Lim et al. 2024, arXiv:2309.12252, for solving a non-linear recurrence by iterating linear ones.
    """
    if rounds is not None and (isinstance(rounds, bool) or not isinstance(rounds, int)):
        raise TypeError(f"spyx.engine.fixed_point(rounds=): expected an int or None; got {rounds!r}. None is exact.")
    if rounds is not None and rounds < 1:
        raise ValueError(f"spyx.engine.fixed_point(rounds=): expected at least 1; got {rounds}. None is exact.")
    return _compiled(step, p, xs, s0, rounds)


def exact(step: Step, p: Params, xs: Inputs, s0: State) -> tuple[Outputs, State]:
    """`fixed_point` run until it is exact: a mode like every other."""
    return fixed_point(step, p, xs, s0)[:2]


@jit(0, 4)
def _compiled(step: Step, p: Params, xs: Inputs, s0: State, rounds: int | None) -> tuple[Outputs, State, Convergence]:
    if not affine.runs_at_once(p, xs, s0):
        return *layer(step, p, xs, s0), Convergence(jnp.int32(0), jnp.int32(0))
    return call(FixedPoint(step, rounds), p, xs, s0)


@dataclass(frozen=True)
class FixedPoint(AtOnce):
    """By guessing the spikes until they agree; BPTT at the states that were found."""

    rounds: int | None

    def states(self, p: Params, xs: Inputs, s0: State) -> tuple[States, Convergence]:
        return _solve(self.step, self.rounds, p, xs, s0)


def _solve(step: Step, rounds: int | None, p: Params, xs: Inputs, s0: State) -> tuple[States, Convergence]:
    steps = jax.tree.leaves(xs)[0].shape[0]
    limit = steps if rounds is None else rounds

    def given(spikes: Spikes, x: Input, s: State) -> State:
        held = iter(spikes)
        return step(p.replace(spike=lambda _: next(held)), x, s)[1]

    def fired(x: Input, s: State) -> Spikes:
        spikes: Spikes = []

        def spike(v: jax.Array) -> jax.Array:
            spikes.append(p.spike(v))
            return spikes[-1]

        step(p.replace(spike=spike), x, s)
        return spikes

    def one_round(carry: Round) -> Round:
        done, spikes, _, _ = carry
        before = affine.states_before(lambda s: jax.vmap(given)(spikes, xs, s), s0, steps)
        found = jax.vmap(fired)(xs, before)
        # The last step's spikes reach no state before a step, so they alone cannot make the result wrong.
        changed = sum((jnp.sum(a[:-1] != b[:-1], dtype=jnp.int32) for a, b in zip(found, spikes, strict=True)), 0)
        return done + 1, found, before, jnp.asarray(changed, jnp.int32)

    def go_on(carry: Round) -> Bool[Array, ""]:
        done, _, _, changed = carry
        return (changed > 0) & (done < limit)

    states = jax.tree.map(lambda s: jnp.broadcast_to(s, (steps, *s.shape)), s0)
    silence = [jnp.zeros(z.shape, z.dtype) for z in jax.eval_shape(jax.vmap(fired), xs, states)]
    start, *_ = together((jnp.int32(0), silence, states, jnp.int32(1)), p, xs, s0)
    done, _, before, changed = jax.lax.while_loop(go_on, one_round, start)
    return before, Convergence(done, changed)
