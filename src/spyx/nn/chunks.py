"""Time in pieces: chunks with carried state inside one run."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.nn.execution import Execution
from spyx.nn.layer import Again, over_time, scan_calls, scan_layer
from spyx.nn.neuron import Neuron
from spyx.nn.parameters import Constant


class Chunks(NamedTuple):
    """How time is cut: steps per chunk (None: the square root of all), what is recomputed, gradient cut or not."""

    length: int | None
    again: Again
    truncate: bool

    @classmethod
    def checked(cls, chunk: Any, remat: bool, truncate: bool) -> Chunks | None:
        """The cut that the arguments of `run` ask for, None for none."""
        if chunk is not None and (not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1):
            raise ValueError(
                f"spyx.nn.run(chunk=): expected at least 1 time step; got {chunk!r}. Pass an int, or None."
            )
        if truncate and chunk is None:
            raise ValueError("spyx.nn.run(truncate=): expected a chunk to cut at; got chunk=None. Pass chunk=.")
        return cls(chunk, "all" if remat else "nothing", truncate) if chunk is not None or remat else None


CACHE_BYTES = 2 * 2**20
"""What the states of a chunk's widest layer may fill: with a few of them alive, a second-level cache holds them. What
fills less than three chunks is not cut: memory of that size is not given back to the system, and is fresh only once."""


def automatic(model: Any, x: Any, axis: int, state: Any) -> Chunks | None:
    """The cut that is faster than none: on a CPU, pieces of time that stay in the cache.

    In training, memory that is written once and read once costs more than cheap things done again. Products of
    convolutions are not cheap, and a weight's gradient that does not fit the cache should not be summed up over
    chunks: such models are cut in inference alone. One that changes itself is never cut: BatchNorm means all of time
    at once.
    """
    if jax.default_backend() != "cpu" or not isinstance(model, nnx.Module):
        return None
    _, weights, changing = nnx.split(model, (nnx.Param, Constant), ...)
    if jax.tree.leaves(changing):
        return None
    dense = all(w.ndim <= 2 and w.size * w.dtype.itemsize <= CACHE_BYTES for w in jax.tree.leaves(weights))
    if not dense and _differentiated((weights, x, state)):
        return None
    size = jax.tree.leaves(x)[0].shape
    steps, batch = size[axis], size[0 if axis else 1]
    neurons = [module for _, module in nnx.iter_modules(model) if isinstance(module, Neuron)]
    units = max((math.prod(neuron.hidden_shape) for neuron in neurons), default=0)
    variables = max((len(neuron.state) for neuron in neurons), default=1)
    if 4 * batch * units * steps < 3 * CACHE_BYTES:
        return None
    length = max(1, CACHE_BYTES // (4 * batch * units * variables))
    even = [n for n in range((length + 1) // 2, 2 * length + 1) if steps % n == 0]  # no shorter chunk at the end
    return Chunks(min(even, key=lambda n: abs(math.log(n / length)), default=length), "cheap", False)


def _differentiated(tree: Any) -> bool:
    # Only speed depends on this: inside grad(jit(f)) nothing shows, and the answer is the same.
    return any(type(leaf).__name__ in ("JVPTracer", "LinearizeTracer") for leaf in jax.tree.leaves(tree))


def whole(model: Any, xs: Any, state: Any, how: Execution) -> tuple[Any, Any]:
    """All of `xs` (time on axis 0) at once, in the mode asked for."""
    if how.mode == "step":
        how.note(model, xs, "step", "asked for: the whole network inside one scan")
        return scan_layer(model, xs, state)
    return over_time(model, xs, state, how)


def in_chunks(model: Any, x: Any, axis: int, state: Any, how: Execution, chunks: Chunks) -> tuple[Any, Any]:
    """`whole`, a chunk of `x` at a time with the state carried over; a last, shorter chunk takes what is left."""
    if _differentiated(x):  # a gradient put back piece by piece would touch all of it for every chunk
        x, axis = jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), x), 0
    steps = jax.tree.leaves(x)[0].shape[axis]
    if steps == 0:
        return whole(model, jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), x), state, how)
    length = min(chunks.length or math.ceil(math.sqrt(steps)), steps)
    full, rest = divmod(steps, length)

    def call(size: int, how: Execution, model: Any, piece: Any, state: Any) -> tuple[Any, Any]:
        state = jax.lax.stop_gradient(state) if chunks.truncate else state
        if axis:
            # Cut here and turned time-major here: no second copy of the whole input is ever made.
            piece = jax.tree.map(lambda a: jnp.moveaxis(jax.lax.dynamic_slice_in_dim(a, piece, size, axis), axis, 0), x)
        return whole(model, piece, state, how)

    def scan(first: int, count: int, size: int, state: Any, how: Execution) -> tuple[Any, Any]:
        """`count` chunks of `size` steps, from step `first` on."""
        pieces = first + size * jnp.arange(count)
        if not axis:
            pieces = jax.tree.map(lambda a: a[first : first + count * size].reshape(count, size, *a.shape[1:]), x)
        outs, state = scan_calls(model, partial(call, size, how), pieces, state, again=chunks.again)
        return jax.tree.map(lambda a: a.reshape(count * size, *a.shape[2:]), outs), state

    outs, state = scan(0, full, length, state, how)
    if rest == 0:
        return outs, state
    last, state = scan(full * length, 1, rest, state, replace(how, record=None))  # `explain` has heard it
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), outs, last), state
