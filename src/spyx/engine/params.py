"""The namespace `p` that a neuron's `step` reads its parameters from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, DTypeLike

    from spyx.engine.types import Data, Tree


Static = tuple[tuple[str, ...], tuple[tuple[str, Hashable], ...]]
"""Names of the arrays, and all static values."""


@jax.tree_util.register_pytree_with_keys_class
class Params:
    """Read-only namespace of a neuron's parameters: arrays are leaves of the pytree, everything else is static.

    Static values (numbers, the surrogate) are compared by value, so two equal neurons share one trace.

    Args:
        arrays: name to array, or to a pytree of arrays.
        static: name to hashable value.

    Example:
        >>> p = Params({"beta": jnp.float32(0.5)}, {"threshold": 1.0})
        >>> float(p.beta), p.threshold
        (0.5, 1.0)
    """

    _names: tuple[str, ...]
    _static: tuple[tuple[str, Hashable], ...]

    # Every attribute is allowed: which ones exist depends on the neuron.
    def __getattr__(self, name: str) -> Any:
        known = ", ".join(sorted(k for k in vars(self) if not k.startswith("_")))
        advice = "Feed a neuron back with spyx.nn.Recurrent" if name == "feedback" else "Store it on self"
        raise AttributeError(f"p.{name}: expected a parameter of this neuron ({known}); got {name!r}. {advice}.")

    def __init__(self, arrays: Mapping[str, Tree], static: Mapping[str, Hashable]) -> None:
        self.__dict__.update(arrays, **static)
        self.__dict__["_names"] = tuple(sorted(arrays))
        self.__dict__["_static"] = tuple(sorted(static.items()))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"p.{name}: parameters are read-only inside step. Return a new state instead.")

    def tree_flatten_with_keys(
        self,
    ) -> tuple[list[tuple[Hashable, Tree]], Static]:
        return [(jax.tree_util.GetAttrKey(k), self.__dict__[k]) for k in self._names], (self._names, self._static)

    @classmethod
    def tree_unflatten(cls, aux: Static, leaves: Iterable[Tree]) -> Params:
        return cls(dict(zip(aux[0], leaves, strict=True)), dict(aux[1]))

    def replace(self, **functions: Callable[[Array], Array]) -> Params:
        """A copy whose functions (`spike`) are swapped; how the engine looks inside a step."""
        other = Params({k: self.__dict__[k] for k in self._names}, dict(self._static))
        other.__dict__.update(functions)
        return other

    def astype(self, dtype: DTypeLike) -> Params:
        """A copy whose floating arrays have `dtype`: the state's dtype is the one a step computes in."""

        def cast(a: Data) -> jax.Array:
            a = jnp.asarray(a)
            return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

        return Params({k: jax.tree.map(cast, self.__dict__[k]) for k in self._names}, dict(self._static))


def without(p: Params, names: Collection[str]) -> Params:
    """A copy without these arrays."""
    return Params({k: p.__dict__[k] for k in p._names if k not in names}, dict(p._static))
