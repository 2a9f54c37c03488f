"""Time in pieces: chunks with carried state inside one run."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from spyx.nn.execution import Execution
from spyx.nn.layer import over_time, scan_calls, scan_layer


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
    last, state = scan(tail, state)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, last), state
