"""Ring buffers: what a node returned in the last few steps, for the edges that deliver it later.

A ring is part of the network's state, so its batch axis comes first like everywhere. One push overwrites the oldest
entry in place; nothing is shifted, so a long delay costs memory and no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from spyx.engine.masks import Mask, last_of_each, where

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Shaped

    from spyx.engine.types import Input, Inputs, Shapes
    from spyx.graph.types import Past, Position


class Ring(NamedTuple):
    """The last steps of one signal.

    Args:
        past: (batch, length, *features), or a tree of such arrays.
        position: slot of the oldest entry, which the next push overwrites.

    Example:
        >>> from spyx import graph, nn
        >>> net = graph.Graph({"lif": nn.IF(2)}, [("input", "lif", 3), ("lif", "output")], input_shape=2)
        >>> net.initial_state(5).past["input"].past.shape
        (5, 3, 2)
    """

    past: Past
    position: Position

    def unless(self, alive: Bool[Array, " batch"], before: Ring) -> Ring:
        """After a step of the samples that are `alive` (batch); those that are not keep what they had, oldest first."""

        def one(after: jax.Array, past: jax.Array) -> jax.Array:
            if past.shape[1] == 1:
                return where(alive, after, past)
            # The position moves for all samples, so what a sample keeps moves with it.
            return where(alive, after, jnp.roll(past, 1, axis=1))

        return Ring(jax.tree.map(one, self.past, before.past), self.position)


def silent(like: Input | Shapes, length: int) -> Ring:
    """A ring of zeros for a signal whose step looks like `like`: (batch, *features) with a dtype."""

    def zeros(a: jax.Array | jax.ShapeDtypeStruct) -> Shaped[Array, "batch length ..."]:
        # Spikes may travel as integers in one run and as floating numbers in the next.
        dtype = a.dtype if jnp.issubdtype(a.dtype, jnp.inexact) else jnp.float32
        return jnp.zeros((a.shape[0], length, *a.shape[1:]), dtype)

    past = jax.tree.map(zeros, like)
    return Ring(past, jnp.zeros((), jnp.int32))


def read(ring: Ring, delay: int) -> Input:
    """The signal `delay` steps ago, before this step's push."""

    def one(past: jax.Array) -> jax.Array:
        length = past.shape[1]
        if length == 1:
            return past[:, 0]
        return jax.lax.dynamic_index_in_dim(past, (ring.position - delay) % length, axis=1, keepdims=False)

    return jax.tree.map(one, ring.past)


def push(ring: Ring, signal: Input) -> Ring:
    """The ring after one more step."""

    def one(past: jax.Array, value: jax.Array) -> jax.Array:
        if value.shape != (past.shape[0], *past.shape[2:]):
            raise _other_shape((past.shape[0], *past.shape[2:]), value.shape)
        value = _stored(value, past.dtype)
        if past.shape[1] == 1:
            return value[:, None]
        return jax.lax.dynamic_update_index_in_dim(past, value, ring.position, axis=1)

    return Ring(jax.tree.map(one, ring.past, signal), (ring.position + 1) % _length(ring))


def delayed(ring: Ring, signals: Inputs, delay: int) -> Inputs:
    """`signals` (time, batch, ...), `delay` steps later: the ring supplies the first of them."""

    def one(past: jax.Array, values: jax.Array) -> jax.Array:
        all_of_it = _unrolled(past, ring.position, values)
        first = past.shape[1] - delay
        return all_of_it[first : first + values.shape[0]]

    return jax.tree.map(one, ring.past, signals)


def after(ring: Ring, signals: Inputs, mask: Mask | None = None) -> Ring:
    """The ring after all of `signals` (time, batch, ...), slot for slot what pushing them one by one leaves.

    With a mask, whose samples must not come back, each sample's entries end with its own last step.
    """
    length = _length(ring)
    steps = jax.tree.leaves(signals)[0].shape[0]
    position = (ring.position + steps) % length

    def one(past: jax.Array, values: jax.Array) -> jax.Array:
        last = last_of_each(_unrolled(past, ring.position, values), length, mask)
        return last if length == 1 else jnp.roll(last, position, axis=1)

    return Ring(jax.tree.map(one, ring.past, signals), position)


def _unrolled(
    past: Shaped[Array, "batch length ..."], position: Position, values: Shaped[Array, "time batch ..."]
) -> Shaped[Array, "length+time batch ..."]:
    """Oldest entry first, then `values`: (length + time, batch, ...)."""
    if values.shape[1:] != (past.shape[0], *past.shape[2:]):
        raise _other_shape((past.shape[0], *past.shape[2:]), values.shape[1:])
    oldest_first = past if past.shape[1] == 1 else jnp.roll(past, -position, axis=1)
    return jnp.concatenate([jnp.moveaxis(oldest_first, 1, 0), _stored(values, past.dtype)])


def _stored(values: jax.Array, dtype: np.dtype) -> jax.Array:
    """The values in the dtype of the ring, which must be able to hold them."""
    if jnp.issubdtype(values.dtype, jnp.inexact) and jnp.promote_types(values.dtype, dtype) != dtype:
        raise ValueError(
            f"spyx.graph.Graph: expected a state made for signals of dtype {values.dtype}; got one of {dtype}, which "
            "would round them. Make the state for this input: run(model, x) does, or model.state_for(x[:, 0])."
        )
    return values.astype(dtype)


def _length(ring: Ring) -> int:
    return jax.tree.leaves(ring.past)[0].shape[1]


def _other_shape(expected: tuple[int, ...], got: tuple[int, ...]) -> ValueError:
    return ValueError(
        f"spyx.graph.Graph: expected a state made for signals of shape {expected}; got {got}. "
        "Make the state for this input: run(model, x) does, or model.state_for(x[:, 0])."
    )
