"""`EquinoxLayer`: a module of Equinox among the layers of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from flax import nnx

if TYPE_CHECKING:
    from jaxtyping import Array, Float


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

    def __init__(self, module: Callable[..., Array]) -> None:
        import equinox

        arrays, rest = equinox.partition(module, equinox.is_inexact_array)
        leaves, self._arrays_def = jax.tree.flatten(arrays)
        self.weights = nnx.List([nnx.Param(leaf) for leaf in leaves])
        self._rest = nnx.static(_Opaque(rest))

    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        import equinox

        arrays = jax.tree.unflatten(self._arrays_def, [weight[...] for weight in self.weights])
        return jax.vmap(equinox.combine(arrays, self._rest.value))(x)


class _Opaque:
    """Hides a pytree from Flax: what is not trained is compared by identity."""

    def __init__(self, value: object) -> None:
        self.value = value
