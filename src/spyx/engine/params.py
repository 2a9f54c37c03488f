"""The namespace `p` that a neuron's `step` reads its parameters from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_pytree_with_keys_class
class Params:
    """Read-only namespace of a neuron's parameters: arrays are leaves of the pytree, everything else is static.

    Static values (numbers, the surrogate) are compared by value, so two equal neurons share one trace.

    Args:
        arrays: name to array.
        static: name to hashable value.

    Example:
        >>> p = Params({"beta": jnp.float32(0.5)}, {"threshold": 1.0})
        >>> float(p.beta), p.threshold
        (0.5, 1.0)
    """

    # Any attribute is allowed: which ones exist is the neuron's business.
    def __getattr__(self, name: str) -> Any:
        known = ", ".join(sorted(k for k in vars(self) if not k.startswith("_")))
        raise AttributeError(
            f"p.{name}: expected a parameter of this neuron ({known}); got {name!r}. Store it on self."
        )

    def __init__(self, arrays: Mapping[str, Any], static: Mapping[str, Any]) -> None:
        self.__dict__.update(arrays, **static)
        self.__dict__["_names"] = tuple(sorted(arrays))
        self.__dict__["_static"] = tuple(sorted(static.items()))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"p.{name}: parameters are read-only inside step. Return a new state instead.")

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[Any, Any]]:
        return [(jax.tree_util.GetAttrKey(k), self.__dict__[k]) for k in self._names], (self._names, self._static)

    @classmethod
    def tree_unflatten(cls, aux: tuple[Any, Any], leaves: Any) -> Params:
        return cls(dict(zip(aux[0], leaves, strict=True)), dict(aux[1]))

    def replace(self, **functions: Any) -> Params:
        """A copy whose functions (`spike`, `feedback`) are swapped; how the engine looks inside a step."""
        other = Params({k: self.__dict__[k] for k in self._names}, dict(self._static))
        other.__dict__.update(functions)
        return other

    def astype(self, dtype: Any) -> Params:
        """A copy whose floating arrays have `dtype`: the state's dtype is the one a step computes in."""

        def cast(a: jax.Array) -> jax.Array:
            return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

        return Params({k: cast(jnp.asarray(self.__dict__[k])) for k in self._names}, dict(self._static))

    def feedback(self, spikes: jax.Array) -> jax.Array:
        """The recurrent current `spikes @ recurrent_w`, contracted over all hidden axes.

        A step that needs a layer's own spikes calls this, so that the engine can keep the product out of the
        weight's gradient loop.
        """
        weight = self.recurrent_w
        return jnp.tensordot(spikes, weight, axes=weight.ndim // 2)
