"""Where a stochastic layer's randomness comes from.

A key says which numbers are drawn: use it once. The same key for the noise of an input and for the spikes makes the two
one and the same draw. Nothing in a key tells that it was used before; `jax.debug_key_reuse(True)` finds it for
keys made by `jax.random.key`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike, Float, Int, Key, PRNGKeyArray, PyTree

    from spyx.engine.types import State, Units


class NoisyState(NamedTuple):
    """State of a stochastic layer between time steps.

    Step `t` of sample `b` draws from `fold_in(key[b], time[b])`: chunks, batches and modes do not change a sample's
    spikes.

    Args:
        membrane: what integrates; an array (batch, *hidden_shape), or a NamedTuple of such arrays.
        key: one key per sample, shape (batch,); None until `with_key`.
        time: steps done, int32, shape (batch,).

    Example:
        >>> from spyx.experimental import StochasticAssociativeLIF
        >>> state = StochasticAssociativeLIF(3, beta=0.9).initial_state(2, key=jax.random.key(0))
        >>> state.membrane.shape, state.key.shape, state.time.tolist()
        ((2, 3), (2,), [0, 0])
    """

    membrane: PyTree[Units]
    key: Key[Array, " batch"] | None
    time: Int[Array, " batch"]


def with_key(state: State, key: PRNGKeyArray) -> State:
    """The state of a layer or of a whole network, with a fresh key for every stochastic layer in it.

    Args:
        state: what `initial_state(batch_size)` gave, for a stochastic layer or for a container of layers.
        key: from `jax.random.key`; split, so that no two layers and no two samples share one.

    Returns:
        The same tree, with `key` set in every `NoisyState`.

    Raises:
        TypeError: key is not a key.
        ValueError: nothing in the state is stochastic; several keys.

    Example:
        >>> from spyx import experimental, nn
        >>> net = nn.Sequential(nn.IF(2), experimental.StochasticAssociativeLIF(2, beta=0.9))
        >>> state = with_key(net.initial_state(3), jax.random.key(0))
        >>> spikes, state = nn.run(net, jnp.ones((3, 5, 2)), state)
        >>> spikes.shape
        (3, 5, 2)
    """
    who = "spyx.experimental.with_key"
    key = checked_key(who, key)
    nodes, tree = jax.tree.flatten(state, is_leaf=_is_noisy)
    noisy = [i for i, node in enumerate(nodes) if _is_noisy(node)]
    if not noisy:
        raise ValueError(f"{who}: expected the state of a stochastic layer; got none in it. No key is needed.")
    for i, one in zip(noisy, jax.random.split(key, len(noisy)), strict=True):
        nodes[i] = nodes[i]._replace(key=jax.random.split(one, nodes[i].time.shape[0]))
    return jax.tree.unflatten(tree, nodes)


def _is_noisy(node: object) -> bool:
    return isinstance(node, NoisyState)


def checked_key(owner: str, key: PRNGKeyArray) -> Key[Array, ""]:
    """One key, new-style or `PRNGKey`, as a typed key; or an error that names `owner`."""
    dtype = getattr(key, "dtype", None)
    if dtype is not None and dtype == jnp.uint32:
        key = jax.random.wrap_key_data(jnp.asarray(key))
    elif dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        got = "None" if key is None else f"{type(key).__name__} {key!r}" if dtype is None else f"an array of {dtype}"
        raise TypeError(
            f"{owner}: expected a random key where the spikes are drawn; got {got}. Pass jax.random.key(0), "
            "and a new key (jax.random.split) for every call."
        )
    if key.ndim:
        raise ValueError(f"{owner}: expected one key; got {key.shape} keys. Pass one of them, or use jax.vmap.")
    return key


def uniform(
    key: Key[Array, " batch"], time: Int[Array, " batch"], hidden_shape: tuple[int, ...], dtype: DTypeLike
) -> Units:
    """The noise of one step of every sample, (batch, *hidden_shape), uniform on [0, 1)."""

    def one(key: Key[Array, ""], time: Int[Array, ""]) -> Float[Array, "*hidden"]:
        return jax.random.uniform(jax.random.fold_in(key, time), hidden_shape, dtype)

    return jax.vmap(one)(key, time)
