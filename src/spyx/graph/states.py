"""The states of a numbered graph before the first step, and what its functions check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.graph import shapes
from spyx.graph.plan import raise_all
from spyx.graph.structure import GraphStructure, plan_of
from spyx.nn.layer import Layer, Stateless, as_layer, checked_module


class States(NamedTuple):
    """State of a numbered graph between two time steps.

    Args:
        layers: the state of every layer, None for a layer without state.
        outputs: layer index to its last output, for the edges that deliver it a step later.

    Example:
        >>> from spyx import nn
        >>> states = init_states([nn.LI(2)], GraphStructure(1, ((0,),), ((),)), 1, (2,))
        >>> states.outputs[0].tolist()
        [[0.0, 0.0]]
    """

    layers: list[Any]
    outputs: dict[int, Any]


def init_states(layers: Sequence[Any], struct: GraphStructure, batch_size: int, input_shapes: Any) -> States:
    """The states before the first step: layers at rest, and every layer's output for the delayed edges.

    The output of a layer with state is 0 before the first step, that of a layer without is its answer to an input of
    zeros (its bias), as in SNNAX.

    Args:
        layers: one per node, in the order of the structure.
        struct: the structure.
        batch_size: number of samples.
        input_shapes: shape of one sample at one step, without batch; a list of such shapes for several inputs.

    Raises:
        ValueError: shapes that do not fit, all of them in one list; another number of layers or of inputs.

    Example:
        >>> states = init_states([jnp.tanh, jnp.sin], GraphStructure(2, ((0,), ()), ((), (0,))), 3, (4,))
        >>> states.layers, states.outputs[1].shape
        ([None, None], (3, 4))
    """
    layers = checked_layers("spyx.graph.init_states", layers, struct)
    given = given_inputs("spyx.graph.init_states", struct, input_shapes, batch_size)
    return states_before(layers, struct, batch_size, given, range(struct.num_layers))


def states_before(
    layers: Sequence[Any], struct: GraphStructure, batch_size: int, given: Mapping[str, Any], kept: Iterable[int]
) -> States:
    """States at rest, with the outputs of the layers in `kept`."""
    owner = "spyx.graph.init_states"
    plan = plan_of(struct, layers, True, owner)
    views = [as_layer(owner, layer) for layer in layers]
    named = dict(zip(plan.names, views, strict=True))
    found = shapes.infer(plan, named, given, batch_size)
    raise_all(owner, found.problems)
    unknown = [j for j in kept if str(j) not in found.signals]
    unknown += [j for j, layer in enumerate(views) if layer.state_needs_input and str(j) not in found.taken]
    if unknown:
        raise ValueError(
            f"{owner}: expected to know the shapes that the states depend on; got none for the layers "
            f"{', '.join(map(str, unknown))}. Give input_shapes=, or leave the state to run."
        )
    states = [
        layer.state_for(found.taken[name]) if layer.state_needs_input else layer.initial_state(batch_size)
        for name, layer in named.items()
    ]
    return States(states, {j: _before(views[j], found, str(j)) for j in kept})


def _before(layer: Layer, found: shapes.Shapes, name: str) -> Any:
    """The output before the first step."""
    if not isinstance(layer, Stateless) or name not in found.taken:
        return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), found.signals[name])
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), found.taken[name])
    return nnx.clone(layer)(zeros, None)[0]  # a copy: BatchNorm shall not learn from it


def checked_layers(owner: str, layers: Sequence[Any], struct: GraphStructure) -> list[Any]:
    """Layers, as many as the structure has."""
    if not isinstance(struct, GraphStructure):
        raise TypeError(f"{owner}(struct=): expected a GraphStructure; got {type(struct).__name__}. Make one.")
    if len(layers) != struct.num_layers:
        raise ValueError(
            f"{owner}: expected {struct.num_layers} layers, as in the structure; got {len(layers)}. Pass one per node."
        )
    return [checked_module(owner, layer) for layer in layers]


def as_inputs(owner: str, struct: GraphStructure, data: Any) -> list[Any]:
    """One input or a list of them, as a list of the right length."""
    inputs = list(data) if isinstance(data, (list, tuple)) else [data]
    if len(inputs) != struct.num_inputs:
        raise ValueError(
            f"{owner}: expected {struct.num_inputs} inputs, as in the structure; got {len(inputs)}. "
            "Pass a list with one entry per external input."
        )
    return inputs


def given_inputs(owner: str, struct: GraphStructure, input_shapes: Any, batch_size: int) -> dict[str, Any]:
    """Shapes of the external inputs by their name in the plan."""
    one = isinstance(input_shapes, int) or all(isinstance(n, int) for n in input_shapes)
    listed: list[Any] = as_inputs(owner, struct, [input_shapes] if one else list(input_shapes))  # type: ignore
    sizes = [(shape,) if isinstance(shape, int) else tuple(shape) for shape in listed]
    return {f"input {k}": jax.ShapeDtypeStruct((batch_size, *s), jnp.float32) for k, s in enumerate(sizes)}
