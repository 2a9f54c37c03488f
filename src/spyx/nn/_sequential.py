"""`Sequential`: layers one after the other, with and without state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
from flax import nnx

from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._layer import Layer, as_layer, checked_module, over_time, step_shape

if TYPE_CHECKING:
    from jaxtyping import Array, Shaped

    from spyx.engine.types import Input, Inputs, Output, Outputs, Shapes, State, Tree
    from spyx.nn._layer import Model


class Sequential(Layer):
    """A chain of layers, each fed with the output of the one before at the same time step.

    Layers with a state (`initial_state` and `layer(x, state)`) and without (Flax or Equinox modules, plain functions)
    mix freely. A spiking layer may add one step of latency, see its own docstring.

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
        >>> net = nn.Sequential(nn.Linear(3, 4, rngs=nnx.Rngs(0)), nn.IF(4), nn.LI(2 * 2))
        >>> out, state = net(jnp.ones((5, 3)), net.initial_state(5))
        >>> out.shape, len(state)
        ((5, 4), 3)
    """

    container = True

    def __init__(self, *layers: Model) -> None:
        if not layers:
            raise ValueError("spyx.nn.Sequential: expected at least one layer; got none. Pass layers as arguments.")
        if len(layers) == 1 and isinstance(layers[0], (list, tuple)):
            raise TypeError("spyx.nn.Sequential: expected layers as arguments; got a list. Write Sequential(*layers).")
        self.layers = nnx.List([checked_module("spyx.nn.Sequential", layer) for layer in layers])

    def initial_state(self, batch_size: int) -> list[State]:
        """One state per layer, None for a layer without state."""
        return [layer.initial_state(batch_size) for layer in self._layers()]

    @property
    def state_needs_input(self) -> bool:
        """A layer has a state whose shape depends on its input: `state_for` makes it, not `initial_state`."""
        return any(layer.state_needs_input for layer in self._layers())

    def state_for(self, x: Input | Shapes) -> list[State]:
        """One state per layer for input like `x`: one time step (batch, *features), or its `jax.ShapeDtypeStruct`."""
        if not self.state_needs_input:
            return self.initial_state(jax.tree.leaves(x)[0].shape[0])
        states = []
        for index, layer in enumerate(self._layers()):
            try:
                states.append(layer.state_for(x))
                x = step_shape(layer, x)
            except (TypeError, ValueError) as error:
                raise _blame(index, layer, x, 1, error) from error
        return states

    def __call__(self, x: Input, state: list[State]) -> tuple[Output, list[State]]:
        """One time step: `(x, state) -> (out, new state)`."""
        after = []
        for index, (layer, s) in enumerate(zip(self._layers(), self._checked(state), strict=True)):
            try:
                y, s = layer(x, s)
            except (TypeError, ValueError) as error:
                raise _blame(index, layer, x, 1, error) from error
            x = y
            after.append(s)
        return x, after

    @takes_masks
    def sequence(self, xs: Inputs, state: list[State], how: Execution = AUTO) -> tuple[Outputs, list[State]]:
        """All of time, layer after layer: `xs` is (time, batch, *features)."""
        after = []
        for index, (layer, s) in enumerate(zip(self._layers(), self._checked(state), strict=True)):
            inner = how.inside(str(index))
            try:
                ys, s = over_time(layer, xs, s, inner)
            except (TypeError, ValueError) as error:
                raise _blame(index, layer, xs, 2, error) from error
            inner.output(layer, ys)
            xs = ys
            after.append(s)
        return xs, after

    def named_children(self, state: list[State]) -> dict[str, tuple[Model, State]]:
        """Every layer by its index, with its part of `state`."""
        return {str(i): (layer, s) for i, (layer, s) in enumerate(zip(self.layers, state, strict=True))}

    def _layers(self) -> list[Layer]:
        return [as_layer("spyx.nn.Sequential", layer) for layer in self.layers]

    def _checked(self, state: Sequence[State]) -> list[State]:
        if not isinstance(state, (list, tuple)) or len(state) != len(self.layers):
            got = f"{len(state)} entries" if isinstance(state, (list, tuple)) else type(state).__name__
            raise ValueError(
                f"spyx.nn.Sequential: expected a state list with {len(self.layers)} entries, one per layer; got {got}. "
                "Make it with initial_state(batch_size)."
            )
        return list(state)


def _blame(index: int, layer: Layer, x: Tree, lead: int, error: Exception) -> Exception:
    shape = jax.tree.map(lambda a: ("batch", *a.shape[lead:]), x)
    text = "(" + ", ".join(map(str, shape)) + ")" if isinstance(shape, tuple) else str(shape)
    return type(error)(
        f"spyx.nn.Sequential: layer {index} ({layer._kind}) cannot take input of shape {text}; "
        f"got this from it: {error}"
    )


class Unflatten(nnx.Module):
    """Split one feature axis: `(batch, prod(shape)) -> (batch, *shape)`, in the order of `Flatten`. No state.

    Args:
        shape: of the features of one sample.

    Raises:
        ValueError: input of another number of features.

    Example:
        >>> import jax.numpy as jnp
        >>> Unflatten((3, 4))(jnp.ones((2, 12))).shape
        (2, 3, 4)
    """

    def __init__(self, shape: tuple[int, ...] | list[int]) -> None:
        self.shape = tuple(shape)

    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim != 2 or x.shape[1] != math.prod(self.shape):
            raise ValueError(
                f"spyx.nn.Unflatten: expected input of shape (batch, {math.prod(self.shape)}); got {x.shape}. "
                f"Give the shape that the features have, in place of {self.shape}."
            )
        return x.reshape(x.shape[0], *self.shape)


class Flatten(nnx.Module):
    """Merge all feature axes: `(batch, *features) -> (batch, prod(features))`. No state.

    Example:
        >>> import jax.numpy as jnp
        >>> Flatten()(jnp.ones((2, 3, 4))).shape
        (2, 12)
    """

    def __call__(self, x: Shaped[Array, "batch *features"]) -> Shaped[Array, "batch features"]:
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))
