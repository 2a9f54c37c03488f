"""`Sequential`: layers one after the other, with and without state."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from spyx.nn.execution import Execution
from spyx.nn.foreign import as_layer
from spyx.nn.layer import initial_state, needs_input, one_step, over_time, state_for, step_shape


class Sequential(nnx.Module):
    """A chain of layers, each fed with the output of the one before at the same time step.

    Layers with a state (`initial_state` and `layer(x, state)`) and without (Flax or Equinox modules, plain functions)
    mix freely. A spiking layer answers one step late, see its own docstring.

    Args:
        *layers: at least one layer.

    Shapes:
        one step: (batch, *features) -> (batch, *features'); state: a list with one entry per layer, None for a layer
        without state. Over time: see `spyx.nn.run`.

    Raises:
        TypeError: something that is not a layer.
        ValueError: no layer; a state list of another length; a layer that cannot take its input (named with its index).

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx import nn
        >>> net = nn.Sequential(nnx.Linear(3, 4, rngs=nnx.Rngs(0)), nn.IF(4), nn.LI(2 * 2))
        >>> out, state = net(jnp.ones((5, 3)), net.initial_state(5))
        >>> out.shape, len(state)
        ((5, 4), 3)
    """

    def __init__(self, *layers: Any) -> None:
        if not layers:
            raise ValueError("spyx.nn.Sequential: expected at least one layer; got none. Pass layers as arguments.")
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            raise TypeError("spyx.nn.Sequential: expected layers as arguments; got a list. Write Sequential(*layers).")
        self.layers = nnx.List([as_layer("spyx.nn.Sequential", layer) for layer in layers])

    def initial_state(self, batch_size: int) -> list[Any]:
        """One state per layer, None for a layer without state."""
        return [initial_state(layer, batch_size) for layer in self.layers]

    @property
    def state_needs_input(self) -> bool:
        """Has a layer a state whose shape depends on its input? Then `state_for` makes it, not `initial_state`."""
        return any(needs_input(layer) for layer in self.layers)

    def state_for(self, x: Any) -> list[Any]:
        """One state per layer for input like `x`: one time step (batch, *features), or its `jax.ShapeDtypeStruct`."""
        unknown = [None] * len(self.layers)
        return self._chain(lambda layer, x, _: (step_shape(layer, x), state_for(layer, x)), x, unknown, lead=1)[1]

    def __call__(self, x: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        """One time step: `(x, state) -> (out, new state)`."""
        return self._chain(lambda layer, x, s: one_step(layer, x, s), x, state, lead=1)

    def sequence(self, xs: Any, state: list[Any], how: Execution | None = None) -> tuple[Any, list[Any]]:
        """All of time, layer after layer: `xs` is (time, batch, *features)."""
        how = Execution() if how is None else how
        return self._chain(lambda layer, x, s: over_time(layer, x, s, how), xs, state, lead=2)

    def children(self, state: list[Any]) -> list[tuple[Any, Any]]:
        """Every layer with its part of `state`."""
        return list(zip(self.layers, state, strict=True))

    def _chain(self, call: Any, x: Any, state: list[Any], lead: int) -> tuple[Any, list[Any]]:
        if not isinstance(state, (list, tuple)) or len(state) != len(self.layers):
            got = f"{len(state)} entries" if isinstance(state, (list, tuple)) else type(state).__name__
            raise ValueError(
                f"spyx.nn.Sequential: expected a state list with {len(self.layers)} entries, one per layer; got {got}. "
                "Make it with initial_state(batch_size)."
            )
        after = []
        for index, (layer, s) in enumerate(zip(self.layers, state, strict=True)):
            try:
                x, s = call(layer, x, s)
            except (TypeError, ValueError) as error:
                shape = jax.tree.map(lambda a: ("batch", *a.shape[lead:]), x)
                raise type(error)(
                    f"spyx.nn.Sequential: layer {index} ({type(layer).__name__}) cannot take input of shape "
                    f"{_shape_text(shape)}; got this from it: {error}"
                ) from error
            after.append(s)
        return x, after


def _shape_text(shape: Any) -> str:
    return "(" + ", ".join(map(str, shape)) + ")" if isinstance(shape, tuple) else str(shape)


class Flatten(nnx.Module):
    """Merge all feature axes: `(batch, *features) -> (batch, prod(features))`. No state.

    Example:
        >>> import jax.numpy as jnp
        >>> Flatten()(jnp.ones((2, 3, 4))).shape
        (2, 12)
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        size = 1
        for n in x.shape[1:]:
            size *= n
        return x.reshape(x.shape[0], size)
