"""Layers that other libraries wrote: how each becomes a layer of a container."""

from __future__ import annotations

import sys
from typing import Any

import jax
from flax import nnx


def as_layer(owner: str, layer: Any) -> Any:
    """`layer` itself, an Equinox module wrapped, or a TypeError that names `owner`.

    Args:
        owner: the public name to blame.
        layer: something with `initial_state` and `__call__`, or a callable.
    """
    equinox = sys.modules.get("equinox")  # whoever holds an Equinox module has imported it
    if equinox is not None and isinstance(layer, equinox.Module):
        return EquinoxLayer(layer)
    if isinstance(layer, type):
        raise TypeError(f"{owner}: expected a layer; got the class {layer.__name__}. Make an instance of it.")
    if not callable(layer):
        raise TypeError(
            f"{owner}: expected a layer or a function; got {type(layer).__name__}. "
            "A layer has initial_state(batch_size) and layer(x, state)."
        )
    return layer


class EquinoxLayer(nnx.Module):
    """A stateless Equinox module as a layer: its floating arrays train as `nnx.Param`, it is mapped over the batch.

    Args:
        module: an `equinox.Module` written for one sample.

    Shapes:
        (batch, *features) -> (batch, *features').

    Example:
        >>> import equinox as eqx
        >>> layer = EquinoxLayer(eqx.nn.Linear(3, 4, key=jax.random.key(0)))
        >>> layer(jax.numpy.ones((2, 3))).shape
        (2, 4)
    """

    def __init__(self, module: Any) -> None:
        import equinox

        arrays, rest = equinox.partition(module, equinox.is_inexact_array)
        leaves, self._arrays_def = jax.tree.flatten(arrays)
        self.weights = nnx.List([nnx.Param(leaf) for leaf in leaves])
        self._rest = nnx.static(_Opaque(rest))

    def __call__(self, x: jax.Array) -> jax.Array:
        import equinox

        arrays = jax.tree.unflatten(self._arrays_def, [weight[...] for weight in self.weights])
        return jax.vmap(equinox.combine(arrays, self._rest.value))(x)


class _Opaque:
    """Hides a pytree from Flax: what is not trained is compared by identity."""

    def __init__(self, value: Any) -> None:
        self.value = value
