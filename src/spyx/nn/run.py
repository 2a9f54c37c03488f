"""`run`: the one place where time is handled and where the mode of execution is chosen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.nn.chunks import Chunks, automatic, in_chunks, whole
from spyx.nn.execution import MODES, PARALLEL, Choice, Execution
from spyx.nn.layer import is_stateful, state_for


def run(
    model: Any,
    x: Any,
    state: Any = None,
    *,
    time_axis: int = 1,
    mode: str = "auto",
    chunk: int | None = None,
    remat: bool = False,
    truncate: bool = False,
    batch_major: bool | None = None,
) -> tuple[Any, Any]:
    """Run a model over time: `out[t], state = model(x[t], state)` for every `t`.

    Args:
        model: a layer (`initial_state` and `layer(x, state)`): a neuron, a `Sequential`, a graph, or your own.
        x: input (batch, time, *features), or a pytree of such arrays. NumPy, uint8 and bool spikes are welcome.
        state: state before the first step; None is `model.initial_state(batch)`. Feed the returned state back in to
            go on with a stream.
        time_axis: where time is in `x` and in the outputs; default 1, batch-major. 0 is time-major.
        mode: "layer" lets a stateless layer see all of time in one call, and only neurons recur; "step" runs the
            whole network one time step at a time (least memory, forward-mode differentiation); "auto" (default)
            picks the fastest exact mode. "parallel" runs every neuron that never resets by an associative scan, and
            "fixed_point" every resetting one by guessing its spikes until they agree; the other layers run as in
            "layer". All modes give the same answer.
        chunk: run this many time steps at a time and carry the state; None (default) runs all at once. Same answer.
        remat: keep only the state between chunks and recompute the rest on the way back: memory grows with the square
            root of the number of steps, for about one more forward pass. Without `chunk`, the square root is its size.
        truncate: let no gradient cross from a chunk to the one before it (truncated backpropagation through time).
        batch_major: Spyx 1.0's spelling: True is `time_axis=1`, False is `time_axis=0`.

    Returns:
        `(outputs, final_state)`; outputs have time on `time_axis`.

    Raises:
        TypeError: a model without `initial_state`.
        ValueError: an unknown mode, or one that no neuron of the model can run in; an axis out of range; a shape that
            a layer does not take; a chunk below 1, or `truncate` without one.

    Example:
        >>> from spyx import nn
        >>> out, v = nn.run(nn.LI(2, beta=0.5), jnp.ones((1, 3, 2)))
        >>> out[0, :, 0].tolist()
        [1.0, 1.5, 1.75]
    """
    chunks = Chunks.checked(chunk, remat, truncate)
    return _run(model, x, state, _axis(time_axis, batch_major), Execution(_known(mode)), chunks)


class Explanation(list[Choice]):
    """What `explain` found: a list of `Choice`, printed as a table."""

    def __str__(self) -> str:
        lines = [(c.layer, str(c.shape), c.mode, c.why) for c in self]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    __repr__ = __str__


def explain(model: Any, x: Any, state: Any = None, *, time_axis: int = 1, mode: str = "auto") -> Explanation:
    """What `run` would do without a gradient: for every layer, the mode it runs in and why. Nothing is computed.

    Args:
        model: as for `run`.
        x: as for `run`; only its shape and dtype matter.
        state: as for `run`.
        time_axis: as for `run`.
        mode: as for `run`.

    Returns:
        One `Choice(layer, shape, mode, why)` per layer, in the order of execution; `shape` is (time, batch, ...), the
        time of a chunk where time is cut. It prints as a table.

    Example:
        >>> from spyx import nn
        >>> nn.explain(nn.LI(2), jnp.ones((1, 3, 2)))
        LI  (3, 1, 2)  layer  one loop over time with a hand-derived backward pass
    """
    record = Explanation()
    how = Execution(_known(mode), record)
    if isinstance(model, nnx.Module):
        graphdef, variables = nnx.split(model)  # a copy, so that BatchNorm cannot keep a tracer
        jax.eval_shape(lambda v, x: _run(nnx.merge(graphdef, v), x, state, time_axis, how)[0], variables, x)
    else:
        jax.eval_shape(lambda x: _run(model, x, state, time_axis, how)[0], x)
    return record


def _run(
    model: Any, x: Any, state: Any, time_axis: int, how: Execution, chunks: Chunks | None = None
) -> tuple[Any, Any]:
    if not is_stateful(model):
        raise TypeError(
            f"spyx.nn.run: expected a model with initial_state(batch_size); got {type(model).__name__}. "
            "Wrap layers without state in spyx.nn.Sequential(...)."
        )
    x = jax.tree.map(jnp.asarray, x)
    axis = _checked_axis(x, time_axis)
    if state is None:
        state = state_for(model, jax.tree.map(lambda a: jax.ShapeDtypeStruct(_without(a.shape, axis), a.dtype), x))
    if how.mode in PARALLEL and how.record is None:
        how = Execution(how.mode, [])
    if chunks is None and how.mode == "auto":
        chunks = automatic(model, x, axis, state)
    if chunks is None:
        outs, state = whole(model, jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), x), state, how)
    else:
        outs, state = in_chunks(model, x, axis, state, how, chunks)
    _check_used(how)
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, axis), outs), state


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _check_used(how: Execution) -> None:
    """Asked for by name and used nowhere: the answer would be right, and the wish silently dropped."""
    if how.mode in PARALLEL and all(choice.mode != how.mode for choice in how.record or ()):
        raise ValueError(
            f"spyx.nn.run(mode={how.mode!r}): expected a neuron with affine = {PARALLEL[how.mode][0]!r} that is local; "
            "got a model without one. Use mode='layer'."
        )


def _known(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"spyx.nn.run(mode=): expected one of {', '.join(MODES)}; got {mode!r}. Use 'auto'.")
    return mode


def _axis(time_axis: int, batch_major: bool | None) -> int:
    if batch_major is None:
        return time_axis
    axis = 1 if batch_major else 0
    if time_axis not in (1, axis):
        raise ValueError(
            f"spyx.nn.run: expected time_axis and batch_major to agree; got time_axis={time_axis} and "
            f"batch_major={batch_major}. Pass only time_axis."
        )
    return axis


def _checked_axis(x: Any, time_axis: int) -> int:
    leaves = jax.tree.leaves(x)
    if not leaves:
        raise ValueError("spyx.nn.run: expected an array (batch, time, ...); got an empty tree. Pass the input spikes.")
    rank = min(leaf.ndim for leaf in leaves)
    if rank < 2:
        raise ValueError(
            f"spyx.nn.run: expected input with a batch and a time axis; got shape {leaves[0].shape}. "
            "Add the batch axis with x[None]."
        )
    if not -rank <= time_axis < rank:
        raise ValueError(
            f"spyx.nn.run(time_axis=): expected an axis of the input {leaves[0].shape}; got {time_axis}. "
            "Use 1 for (batch, time, ...) and 0 for (time, batch, ...)."
        )
    axis = time_axis % leaves[0].ndim
    lengths = {leaf.shape[axis] for leaf in leaves}
    if len(lengths) > 1:
        raise ValueError(f"spyx.nn.run: expected inputs of one length; got {sorted(lengths)} steps. Pad them.")
    return axis
