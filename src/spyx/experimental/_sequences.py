"""What a documented whole-sequence call accepts: (batch, time, *hidden_shape), checked and turned time-major."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Num, PyTree, Shaped

    from spyx.engine.types import State

    Sequences: TypeAlias = Num[Array | np.ndarray, "batch time *hidden"]
    """The input of all steps, as the documented calls take it."""

    PerStep: TypeAlias = Float[Array, "batch time *hidden"]
    """One number for each unit of each sample at each step: spikes, a membrane."""

    TimeMajor: TypeAlias = Float[Array, "time batch *hidden"]
    """`PerStep` as layers take and return it."""


def time_major(owner: str, x: Sequences, hidden_shape: tuple[int, ...]) -> TimeMajor:
    """`x` as a floating array (time, batch, *hidden_shape), or an error that names `owner`."""
    if not hasattr(x, "shape") or jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"{owner}: expected an array (batch, time, {_axes(hidden_shape)}); got {type(x).__name__}"
            f"{' of keys' if hasattr(x, 'dtype') else ''}. A key comes first: layer(key, x)."
        )
    if x.ndim != 2 + len(hidden_shape) or x.shape[2:] != hidden_shape:
        raise ValueError(
            f"{owner}: expected input of shape (batch, time, {_axes(hidden_shape)}); got {x.shape}. "
            f"Make the layer before it produce {hidden_shape}, or change hidden_shape."
        )
    x = jnp.asarray(x)
    return jnp.moveaxis(x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32), 1, 0)


def batch_major(tree: PyTree[Shaped[Array, "time batch ..."]]) -> PyTree[Shaped[Array, "batch time ..."]]:
    """Time from axis 0 back to axis 1."""
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), tree)


def check_start(owner: str, start: State, rest: State) -> State:
    """A state to start from, of the shape of the resting one."""
    if jax.tree.map(jnp.shape, start) != jax.tree.map(jnp.shape, rest):
        raise ValueError(
            f"{owner}(start=): expected a state of shape {jax.tree.map(jnp.shape, rest)}; "
            f"got {jax.tree.map(jnp.shape, start)}. Take the one that return_state=True gives."
        )
    return start


def _axes(hidden_shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, hidden_shape))
