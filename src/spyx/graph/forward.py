"""One time step of a numbered graph, straight through or delayed, as SNNAX documents them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from spyx.graph.merge import merge
from spyx.graph.states import States, as_inputs, checked_layers
from spyx.graph.structure import GraphStructure
from spyx.nn.layer import Stateless, as_layer


def default_forward_fn(layers: Sequence[Any], struct: GraphStructure, key: Any, states: States, data: Any) -> Any:
    """One time step, straight through: an edge from an earlier layer arrives within the step, feedback in the next one.

    `out_i[t] = layer_i(merge(out_j[t] for j < i, out_j[t - 1] for j >= i, data[t]))`. A spiking layer still answers one
    step late by itself.

    Args:
        layers: one per node: neurons, Flax or Equinox modules, functions, mixed.
        struct: the structure.
        key: random key, split among the layers whose call takes `key=`; None is fine where none does.
        states: from `init_states`, or from the step before.
        data: input of this step (batch, *features), or a list of such arrays for several external inputs.

    Returns:
        `(new_states, outputs)`, where `outputs` is `[output of the last layer]`.

    Raises:
        ValueError: another number of layers or inputs; inputs that cannot merge.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx.graph import init_states
        >>> struct = GraphStructure(2, ((0,), ()), ((), (0,)))
        >>> double = lambda x: 2 * x
        >>> states = init_states([double, double], struct, 1, (1,))
        >>> states, outputs = default_forward_fn([double, double], struct, None, states, jnp.ones((1, 1)))
        >>> outputs[0].tolist()
        [[4.0]]

    Reference:
        SNNAX's documentation of `default_forward_fn`; its code delays every edge, which is `debug_forward_fn` here.
    """
    states, outputs = _step("spyx.graph.default_forward_fn", layers, struct, key, states, data, delayed=False)
    return states, outputs[-1:]


def debug_forward_fn(layers: Sequence[Any], struct: GraphStructure, key: Any, states: States, data: Any) -> Any:
    """One time step where every edge between layers takes one step: an impulse leaves a chain of L layers at t = L - 1.

    `out_i[t] = layer_i(merge(out_j[t - 1] for every parent j, data[t]))`. All outputs are kept until the next step,
    which costs their memory.

    Args:
        layers: as for `default_forward_fn`.
        struct: the structure.
        key: as for `default_forward_fn`.
        states: from `init_states`, or from the step before.
        data: as for `default_forward_fn`.

    Returns:
        `(new_states, outputs)`, where `outputs` has the output of every layer; the last one is the network's.

    Raises:
        ValueError: as for `default_forward_fn`.

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx.graph import init_states
        >>> struct = GraphStructure(2, ((0,), ()), ((), (0,)))
        >>> double = lambda x: 2 * x
        >>> states = init_states([double, double], struct, 1, (1,))
        >>> states, first = debug_forward_fn([double, double], struct, None, states, jnp.ones((1, 1)))
        >>> states, second = debug_forward_fn([double, double], struct, None, states, jnp.zeros((1, 1)))
        >>> first[-1].tolist(), second[-1].tolist()
        ([[0.0]], [[4.0]])

    Reference:
        SNNAX's documentation of `debug_forward_fn`, not implemented there.
    """
    return _step("spyx.graph.debug_forward_fn", layers, struct, key, states, data, delayed=True)


def _step(
    owner: str, layers: Sequence[Any], struct: GraphStructure, key: Any, states: States, data: Any, delayed: bool
) -> tuple[States, list[Any]]:
    layers = checked_layers(owner, layers, struct)
    data = as_inputs(owner, struct, data)
    keys = [None] * len(layers) if key is None else list(jax.random.split(key, len(layers)))
    after, outputs = [], []
    for index, layer in enumerate(layers):
        parents = struct.input_connectivity[index]
        x = [outputs[j] if j < index and not delayed else states.outputs[j] for j in parents]
        x += [data[k] for k in struct.input_layer_ids[index]]
        try:
            out, state = _call(layer, merge(struct.merge_of(index, layer), x), states.layers[index], keys[index])
        except (TypeError, ValueError) as error:
            raise type(error)(f"{owner}: layer {index} ({type(layer).__name__}): {error}") from error
        outputs.append(out)
        after.append(state)
    return States(after, {j: outputs[j] for j in states.outputs}), outputs


def _call(layer: Any, x: Any, state: Any, key: Any) -> tuple[Any, Any]:
    view = as_layer("spyx.graph.default_forward_fn", layer)
    if key is None or "key" not in _parameters(layer):
        return view(x, state)
    return (layer(x, key=key), None) if isinstance(view, Stateless) else layer(x, state, key=key)


def _parameters(layer: Any) -> Iterable[str]:
    try:
        return inspect.signature(layer).parameters
    except (TypeError, ValueError):  # a compiled function tells no signature
        return ()
