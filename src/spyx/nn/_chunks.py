"""Time in chunks: a run in pieces, with the state carried over, as one rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import Tracer

from spyx.engine.derivative import Changes, Rule, push, together
from spyx.engine.jit_cache import jit
from spyx.engine.loop import STATES
from spyx.engine.masks import Mask
from spyx.engine.plan import Again, Cut
from spyx.nn._execution import Execution, check_granted
from spyx.nn._layer import merged, over_time, step_through
from spyx.nn._mask_arguments import without_rest
from spyx.nn._parameters import UNCHANGING

if TYPE_CHECKING:
    from spyx.engine.derivative import Arguments, Tangents
    from spyx.engine.types import Inputs, Outputs, State, Tree
    from spyx.nn._layer import ByIdentity, Seen

    Carry = tuple[nnx.State, State]
    """What the model changes on itself, and its state."""

    Found = tuple[Outputs, State, nnx.State, Seen]
    """Outputs, the state after them, what the model changed on itself, and what was observed."""


F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Chunks(Rule):
    """`(weights, changing, x, state) -> (outs, state', changing', seen)`, time in pieces.

    Without a gradient a chunk is cut out of the input and turned time-major where it is needed. With a gradient of the
    input, it is turned as a whole: a gradient put back piece by piece would touch all of it for every chunk.

    With a mask (`ends` is that of a `Mask`, None without one) x is `(x, alive)`, alive with time where x has it.
    """

    graphdef: nnx.GraphDef | ByIdentity
    how: Execution
    axis: int
    cut: Cut
    ends: bool | None = None

    def forward(self, weights: nnx.State, changing: nnx.State, x: Tree, state: State) -> Found:
        return self._run(weights, changing, x, state, self.axis, "nothing")

    def jvp(self, args: Arguments, tangents: tuple[Tangents, ...]) -> tuple[Tree, Changes]:
        turned = any(t is not None for t in tangents[2])

        def differentiated(weights: nnx.State, changing: nnx.State, x: Tree, state: State) -> Found:
            if turned or self.cut.inference_only:
                x = jax.tree.map(lambda a: jnp.moveaxis(a, self.axis, 0), x)
            if self.cut.inference_only:
                return self._whole(weights, changing, x, state)
            # Of a loop outside of jit, JAX would hold on to everything that it calls; inside, a jit stores more.
            run = Chunks._run if any(isinstance(a, Tracer) for a in jax.tree.leaves(args)) else _jitted
            return run(self, weights, changing, x, state, 0 if turned else self.axis, self.cut.again)

        found = push(differentiated, args, tangents)
        if self.how.recorder is not None:
            self.how.recorder.settled = True
        return found

    def _whole(self, weights: nnx.State, changing: nnx.State, xs: Inputs, state: State) -> Found:
        if self.how.recorder is not None:
            self.how.recorder.time = None
        return self._call(self.how, weights, changing, xs, state)

    def _call(self, how: Execution, weights: nnx.State, changing: nnx.State, xs: Inputs, state: State) -> Found:
        how = how.fresh()
        layer = merged(self.graphdef, weights, changing)
        if self.ends is not None:
            xs, alive = xs
            mask = Mask(alive.reshape(alive.shape[0], -1), self.ends)
            xs, how = without_rest(xs, mask), replace(how, mask=mask)
        if how.mode == "step":
            how.note(layer, xs, "step", "asked for: the whole network inside one scan")
            outs, state = step_through(layer, xs, state, how)
        else:
            outs, state = over_time(layer, xs, state, how)
            check_granted(how)
        return how.alive(outs), state, nnx.split(layer, UNCHANGING, ...)[2], how.seen  # type: ignore[return-value]

    def _run(self, weights: nnx.State, changing: nnx.State, x: Tree, state: State, axis: int, again: Again) -> Found:
        weights, x, (changing, state) = together(weights, x, (changing, state))
        steps = jax.tree.leaves(x)[0].shape[axis]
        length = self.cut.steps(steps)
        full, rest = divmod(steps, length)

        def pieces(
            first: int, count: int, size: int, carry: Carry, how: Execution
        ) -> tuple[Carry, tuple[Outputs, Seen]]:
            """`count` chunks of `size` steps, from step `first` on."""

            def body(carry: Carry, piece: Tree) -> tuple[Carry, tuple[Outputs, Seen]]:
                changing, state = carry
                state = jax.lax.stop_gradient(state) if self.cut.truncate else state
                if axis:
                    piece = jax.tree.map(
                        lambda a: jnp.moveaxis(jax.lax.dynamic_slice_in_dim(a, piece, size, axis), axis, 0), x
                    )
                outs, state, changing, seen = self._call(how, weights, changing, piece, state)
                return (changing, state), (outs, seen)

            xs: Tree = first + size * jnp.arange(count)
            if not axis:
                xs = jax.tree.map(lambda a: a[first : first + count * size].reshape(count, size, *a.shape[1:]), x)
            carry, found = jax.lax.scan(_recomputing(body, again), carry, xs)
            return carry, jax.tree.map(lambda a: a.reshape(count * size, *a.shape[2:]), found)

        carry, found = pieces(0, full, length, (changing, state), self.how)
        if rest:
            carry, last = pieces(full * length, 1, rest, carry, replace(self.how, recorder=None))
            found = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, last)
        (changing, state), (outs, seen) = carry, found
        return outs, state, changing, seen


_jitted = jit(0, 5, 6)(Chunks._run)


def _recomputing(body: F, again: Again) -> F:
    if again == "nothing":
        return body
    policy = jax.checkpoint_policies.save_only_these_names(STATES) if again == "cheap" else None
    return jax.checkpoint(body, prevent_cse=False, policy=policy)  # type: ignore[return-value]
