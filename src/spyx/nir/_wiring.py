"""Any spyx model as named layers and edges without containers, in connections that NIR has: what `to_nir` writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.graph import Graph, StatefulModel
from spyx.nn._delayed import without_bias
from spyx.nn._layer import Model

Layers = dict[str, Model]
DelayedEdge = tuple[str, str, int]
Place = tuple[str, int]
"""A node, and the steps that the way to it, or from it, takes."""


class Wiring(NamedTuple):
    """A model without containers; `inputs` and `outputs` are names that its edges use, `merges` is by target."""

    layers: Layers
    edges: list[DelayedEdge]  # in the order in which targets merge
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    merges: dict[str, str]

    def count_into(self, target: str) -> int:
        """The number of edges that end there."""
        return sum(b == target for _, b, _ in self.edges)


def wiring(model: Model) -> Wiring:
    """Take a model apart; a container inside a container is replaced by its contents."""
    if isinstance(model, Graph):
        layers = {name: model.nodes[name] for name in model.nodes}
        whole = Wiring(layers, list(model.edges), model.inputs, model.outputs, dict(model.merges))
    elif isinstance(model, StatefulModel):
        whole = _numbered(model)
    else:
        layers = dict(_named(list(model.layers) if isinstance(model, nn.Sequential) else [model]))
        path = ["input", *layers, "output"]
        edges = [(a, b, 0) for a, b in zip(path[:-1], path[1:], strict=True)]
        whole = Wiring(layers, edges, ("input",), ("output",), {})
    while inner := next((n for n, layer in whole.layers.items() if isinstance(layer, (Graph, nn.Sequential))), None):
        whole = _lifted(whole, inner)
    return whole


def _numbered(model: StatefulModel) -> Wiring:
    struct = model.struct
    layers = dict(_named(model.layers))
    names = list(layers)
    many = struct.num_inputs > 1
    inputs = tuple(f"input_{k}" if many else "input" for k in range(struct.num_inputs))
    edges = []
    for index, target in enumerate(names):
        edges += [(names[j], target, int(j >= index)) for j in struct.input_connectivity[index]]
        edges += [(inputs[k], target, 0) for k in struct.input_layer_ids[index]]
    edges.append((names[-1], "output", 0))
    merges = {name: struct.merge_of(index, layers[name]) for index, name in enumerate(names)}
    return Wiring(layers, edges, inputs, ("output",), merges)


def _named(layers: Sequence[Model]) -> Iterator[tuple[str, Model]]:
    for place, layer in enumerate(layers):
        word = getattr(layer, "__name__", type(layer).__name__).lower().strip("_")
        yield f"{word if word.isidentifier() else 'function'}_{place}", layer


def _replaced(
    whole: Wiring, name: str, layers: Layers, entries: list[Place], exits: list[Place], inside: list[DelayedEdge]
) -> Wiring:
    """Several nodes in the place of one, all merges but its own unchanged.

    Edges that led to the node lead to all `entries` now, those that started from it start from all `exits`, where ""
    stands for where its own input came from. The edges `inside` come behind the first one that led to the node.
    """
    new: Layers = {}
    for other, layer in whole.layers.items():
        new |= layers if other == name else {other: layer}
    before = [(source, delay) for source, target, delay in whole.edges if target == name]
    edges: list[DelayedEdge] = []
    for source, target, delay in whole.edges:
        sources: list[Place] = [] if source == name else [(source, 0)]
        for exit, more in exits if source == name else ():
            sources += [(exit, more)] if exit else [(first, early + more) for first, early in before]
        targets = entries if target == name else [(target, 0)]
        edges += [(a, b, early + delay + late) for a, early in sources for b, late in targets]
        edges += inside if target == name and (source, delay) == before[0] else []
    merges = {other: how for other, how in whole.merges.items() if other != name}
    return Wiring(new, edges, whole.inputs, whole.outputs, merges)


def _lifted(whole: Wiring, outer: str) -> Wiring:
    """The contents of one container in its place, under `outer.inner`."""
    inner = wiring(whole.layers[outer])
    if len(inner.inputs) != 1 or len(inner.outputs) != 1:
        raise ValueError(f"node {outer!r} (Graph): has several inputs or outputs inside another graph: write it flat")
    if any(source == target == outer for source, target, _ in whole.edges):
        raise ValueError(f"node {outer!r}: a container that leads to itself; write it flat")
    (entry,), (leave,) = inner.inputs, inner.outputs
    new = {**{name: f"{outer}.{name}" for name in inner.layers}, entry: ""}
    lifted = _replaced(
        whole,
        outer,
        {new[name]: layer for name, layer in inner.layers.items()},
        entries=[(new[b], d) for a, b, d in inner.edges if a == entry and b != leave],
        exits=[(new[a], d) for a, b, d in inner.edges if b == leave],
        inside=[(new[a], new[b], d) for a, b, d in inner.edges if a != entry and b != leave],
    )
    # Where two merges meet at one target, adding is the only one that is both.
    merges = lifted.merges
    merges |= {new[name]: how for name, how in inner.merges.items() if name in inner.layers}
    if whole.count_into(outer) > 1:
        how = whole.merges.get(outer, "sum")
        for target in [b for a, b, _ in inner.edges if a == entry and b in inner.layers]:
            if inner.count_into(target) == 1 or whole.merges.get(outer) != "sum":
                merges[new[target]] = how
    if inner.count_into(leave) > 1:
        for target in [target for source, target, _ in whole.edges if source == outer]:
            if whole.count_into(target) == 1 or inner.merges.get(leave) != "sum":
                merges[target] = inner.merges.get(leave, "sum")
    return lifted


def without_delays(parts: Wiring) -> tuple[Wiring, list[str]]:
    """The same network without a connection that has delays, and the problems that prevent this.

    Its synapses are sorted by delay: each group is the connection with all other weights 0, behind an edge that takes
    so long, and the outputs of the groups are added. Delays of the sources of a dense connection are one `Delay` before
    it. A neuron that is fed back with delays becomes the neuron and a cycle.
    """
    problems: list[str] = []
    for name, layer in list(parts.layers.items()):
        if isinstance(layer, nn.Recurrent) and isinstance(vars(layer).get("via"), nn.Delayed):
            via = f"{name}.via"
            inner = {name: layer.neuron, via: layer.via}
            parts = _expanded(parts, name, inner, [(name, 0)], [name], [(name, via, 0), (via, name, 0)])
            name, layer = via, layer.via
        if not isinstance(layer, nn.Delayed):
            continue
        if layer.kernel != "fixed":
            problems.append(f"node {name!r} (Delayed): its delays are still learned; export spyx.nn.rounded(model)")
        elif isinstance(layer.connection, nnx.Module):
            parts = _expanded(parts, name, *_sorted_by_delay(name, layer))
    return parts, problems


def _sorted_by_delay(name: str, layer: nn.Delayed) -> tuple[Layers, list[Place], list[str], list[DelayedEdge]]:
    steps, connection = np.asarray(layer.delays[...]), layer.connection
    if layer.per == "source" and isinstance(connection, nnx.Linear):
        wait = f"{name}.delay"
        waiting = nn.Delayed(steps.shape, layer.max_delay, kernel="fixed", delays=steps)
        return {wait: waiting, name: connection}, [(wait, 0)], [name], [(wait, name, 0)]
    if layer.per == "source":
        per_group = steps.reshape(connection.feature_group_count, -1)
        steps = np.repeat(per_group, connection.out_features // connection.feature_group_count, 0).T
    groups: Layers = {}
    entries: list[Place] = []
    lags = np.unique(steps).tolist()
    for lag in lags:
        group = nnx.clone(connection) if not groups else nnx.clone(without_bias(connection))
        group.kernel[...] = jnp.where(np.broadcast_to(steps == lag, connection.kernel.shape), connection.kernel[...], 0)
        groups[f"{name}.{lag}" if len(lags) > 1 else name] = group
        entries.append((list(groups)[-1], lag))
    return groups, entries, list(groups), []


def _expanded(
    parts: Wiring, name: str, inner: Layers, entries: list[Place], exits: list[str], inside: list[DelayedEdge]
) -> Wiring:
    """The nodes of one connection in its place; several exits are added."""
    new = _replaced(parts, name, inner, entries, [(exit, 0) for exit in exits], [])
    if name in parts.merges and parts.count_into(name) > 1:
        new.merges.update({entry: parts.merges[name] for entry, _ in entries})
    for target in [b for a, b, _ in parts.edges if a == name and len(exits) > 1]:
        if parts.count_into(target) == 1:
            new.merges[target] = "sum"
    return new._replace(edges=[*new.edges, *inside])
