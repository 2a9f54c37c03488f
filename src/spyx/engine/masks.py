"""Samples that end before others: a step that leaves their state as it is and sends nothing.

There are two forms. Where a sample ends once, the state counts the steps that remain of it: the input stays what it
was, so that kernels and recurrent steps keep their form. Every other mask is an input of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from spyx.engine import loop
from spyx.engine.feedback import Recurrent
from spyx.engine.params import Params

if TYPE_CHECKING:
    from jax.typing import ArrayLike
    from jaxtyping import Array, Bool, Int, Shaped

    from spyx.engine.types import Alive, Input, Inputs, Output, Outputs, Parameters, Run, State, Step, Tree, Units


class Mask(NamedTuple):
    """Which steps of which samples count.

    Args:
        alive: bool, (time, batch).
        ends: no sample comes back once it has ended: `alive` says how long each is.
    """

    alive: Alive
    ends: bool


def before_end(lengths: Int[ArrayLike, " samples"], steps: int, *, every: int = 1) -> Bool[Array, "samples time"]:
    """Which of `steps` steps, each `every` of the samples' own, come before each sample's end."""
    count = jnp.asarray(lengths).astype(jnp.int32)  # of any kind of integer, of which some could not hold `steps`
    return every * jnp.arange(steps, dtype=jnp.int32)[None] < count[:, None]


@dataclass(frozen=True)
class Counted:
    """The step on states `(remaining, s)`: nothing happens to a sample of which no step remains."""

    step: Step

    def __post_init__(self) -> None:
        object.__setattr__(self, "__qualname__", getattr(self.step, "__qualname__", "step"))

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        remaining, before = s
        return _counted(self.step(p, x, before), s)


@dataclass(frozen=True)
class CountedRecurrent(Recurrent):
    """`Counted` for a recurrent step, which stays one: a sample that has ended is sent nothing."""

    def sent(self, p: Params, x: Units, s: State) -> Units:
        remaining, before = s
        return where(remaining > 0, super().sent(p, x, before))

    def given(self, p: Params, x: Units, current: Units, s: State) -> tuple[Units, State]:
        return _counted(super().given(p, x, current, s[1]), s)


@dataclass(frozen=True)
class Gated:
    """The step on inputs `(x, alive)`, alive being 1 or 0: nothing happens to a sample where it is 0."""

    step: Step

    def __call__(self, p: Parameters, x: Input, s: State) -> tuple[Output, State]:
        x, alive = x
        out, after = self.step(p, x, s)
        return where(alive > 0, out), where(alive > 0, after, s)


def counted(step: Step) -> Step:
    """The step on states `(remaining, s)`."""
    return CountedRecurrent(step.step, step.via, step.carried) if isinstance(step, Recurrent) else Counted(step)


def start_of_lanes(s0: State, alive: Alive | None = None) -> tuple[Units | jax.ShapeDtypeStruct, State]:
    """The state `(remaining, s0)` with a count in every lane, in the dtype of the state, as kernels need it.

    Without `alive` its shapes and dtypes alone.
    """
    like = jax.tree.leaves(s0)[0]
    if alive is None:
        return jax.ShapeDtypeStruct(like.shape, like.dtype), s0
    return jnp.broadcast_to(_aligned(alive.sum(0), like.ndim), like.shape).astype(like.dtype), s0


def by_loop(step: Step, ends: bool, p: Parameters, xs: Inputs, s0: State, alive: Alive) -> tuple[Outputs, State]:
    """`loop.layer` with a mask."""
    if not ends:
        return gated(loop.layer, step, p, xs, s0, alive)
    start = (_aligned(alive.sum(0, dtype=jnp.int32), jax.tree.leaves(s0)[0].ndim), s0)
    outs, (_, end) = loop.layer(counted(step), p, xs, start)
    return outs, end


def by_kernel(run: Run, p: Parameters, xs: Inputs, s0: State, alive: Alive) -> tuple[Outputs, State]:
    """A kernel of a counted step, `run(p, xs, (remaining, s0))`."""
    outs, (_, end) = run(p, xs, start_of_lanes(s0, alive))
    return outs, end


def gated(
    function: Callable[[Step, Parameters, Inputs, State], tuple[Outputs, State]],
    step: Step,
    p: Parameters,
    xs: Inputs,
    s0: State,
    alive: Alive,
) -> tuple[Outputs, State]:
    """`function(step, p, xs, s0)` with a mask of any form.

    The mask is of the dtype of the input, because what solves for all of time at once takes floating numbers alone.
    """
    first = jax.tree.leaves(xs)[0]
    dtype = first.dtype if jnp.issubdtype(first.dtype, jnp.floating) else jnp.float32
    steps = jax.vmap(lambda a: _aligned(a, jax.tree.leaves(s0)[0].ndim))(alive).astype(dtype)
    return function(Gated(step), p, (xs, steps), s0)


def last_of_each(
    values: Shaped[Array, "past+time batch ..."], count: int, mask: Mask | None
) -> Shaped[Array, "batch {count} ..."]:
    """The last `count` entries of every sample, (batch, count, ...); with a mask, those up to its own end.

    Args:
        values: (count before the first step + time, batch, ...).
        count: entries to return.
        mask: whose samples do not come back, or None.
    """
    if mask is None:
        return jnp.moveaxis(values[values.shape[0] - count :], 0, 1)
    steps = mask.alive.sum(0, dtype=jnp.int32)
    return jax.vmap(lambda a, n: jax.lax.dynamic_slice_in_dim(a, n, count), (1, 0))(values, steps)


def where(alive: Bool[Array, "*lead"], values: Tree, otherwise: Tree | None = None) -> Tree:
    """`values` of the samples that are alive, `otherwise`, or zeros, for those that are not."""
    if otherwise is None:
        return jax.tree.map(lambda a: jnp.where(_aligned(alive, a.ndim), a, jnp.zeros((), a.dtype)), values)
    return jax.tree.map(lambda a, b: jnp.where(_aligned(alive, a.ndim), a, b), values, otherwise)


def _counted(found: tuple[Output, State], s: State) -> tuple[Output, State]:
    (out, after), (remaining, before) = found, s
    alive = remaining > 0
    return where(alive, out), (remaining - 1, where(alive, after, before))


def _aligned(alive: Shaped[Array, "*lead"], rank: int) -> Shaped[Array, "*lead ..."]:
    """With axes of size 1 behind the last."""
    return alive.reshape(alive.shape + (1,) * (rank - alive.ndim))
