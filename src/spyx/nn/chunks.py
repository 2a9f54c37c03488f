"""Time in pieces: chunks with carried state inside one run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.nn.execution import Execution
from spyx.nn.layer import over_time, scan_calls, scan_layer
from spyx.nn.parameters import Constant


class Chunks(NamedTuple):
    """How time is cut: steps per chunk (None: the square root of all), recomputed or kept, gradient cut or not."""

    length: int | None
    remat: bool
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
        return cls(chunk, remat, truncate) if chunk is not None or remat else None


CACHE_BYTES = 2 * 2**20
"""What a chunk's widest layer may fill: with a few of them alive, a second-level cache holds the pieces."""


def automatic(model: Any, xs: Any, state: Any) -> Chunks | None:
    """The cut that is faster than none: on a CPU, when no gradient is taken, pieces that stay in the cache.

    A backward pass needs every layer's output anyway, so training is not cut. Nor is a model that changes itself:
    BatchNorm means all of time at once.
    """
    if jax.default_backend() != "cpu" or not isinstance(model, nnx.Module):
        return None
    _, weights, changing = nnx.split(model, (nnx.Param, Constant), ...)
    if jax.tree.leaves(changing) or _differentiated((weights, xs, state)):
        return None
    steps, batch = jax.tree.leaves(xs)[0].shape[:2]
    shapes = [getattr(module, "hidden_shape", ()) for _, module in nnx.iter_modules(model)]
    units = [math.prod(shape) for shape in shapes]
    length = max(1, CACHE_BYTES // max(4 * batch * max(units, default=1), 1))
    return Chunks(length, False, False) if 2 * length <= steps else None


def _differentiated(tree: Any) -> bool:
    # Only speed depends on this: inside grad(jit(f)) nothing shows, and the cut is exact there as well.
    return any(type(leaf).__name__ in ("JVPTracer", "LinearizeTracer") for leaf in jax.tree.leaves(tree))


def whole(model: Any, xs: Any, state: Any, how: Execution) -> tuple[Any, Any]:
    """All of `xs` (time on axis 0) at once, in the mode asked for."""
    if how.mode == "step":
        how.note(model, xs, "step", "asked for: the whole network inside one scan")
        return scan_layer(model, xs, state)
    return over_time(model, xs, state, how)


def in_chunks(model: Any, xs: Any, state: Any, how: Execution, chunks: Chunks) -> tuple[Any, Any]:
    """`whole`, a chunk at a time with the state carried over; a last, shorter chunk takes what is left."""
    steps = jax.tree.leaves(xs)[0].shape[0]
    length = chunks.length or max(1, math.ceil(math.sqrt(steps)))
    full = steps // length

    def call(model: Any, piece: Any, state: Any) -> tuple[Any, Any]:
        state = jax.lax.stop_gradient(state) if chunks.truncate else state
        return whole(model, piece, state, how)

    def scan(pieces: Any, state: Any) -> tuple[Any, Any]:
        outs, state = scan_calls(model, call, pieces, state, remat=chunks.remat)
        return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:]), outs), state

    # `full` may be 0 and the rest may be empty: a scan of length 0 and an empty chunk both give empty outputs.
    head = jax.tree.map(lambda a: a[: full * length].reshape(full, length, *a.shape[1:]), xs)
    if full * length == steps:
        return scan(head, state)
    tail = jax.tree.map(lambda a: a[full * length :][None], xs)
    if full == 0:
        return scan(tail, state)
    first, state = scan(head, state)
    how = replace(how, record=None)  # what `explain` had to say, the head has said
    last, state = scan(tail, state)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last), state
