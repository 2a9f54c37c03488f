"""Connections with delays as NIR can say them: one for every delay in use, behind an edge that takes so long."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx.nir.chain import Wiring
from spyx.nn import Delayed, Recurrent
from spyx.nn.delayed import without_bias

Edges = list[tuple[str, str, int]]


def expanded(parts: Wiring) -> tuple[Wiring, list[str]]:
    """The same network without a connection that has delays, and what is in the way.

    Its synapses are sorted by delay: each group is the connection with all other weights 0, and what the groups give
    is added. Delays of the sources of a dense connection are one `Delay` before it. A neuron that is fed back with
    delays becomes the neuron and a cycle.
    """
    problems: list[str] = []
    for name, layer in list(parts.layers.items()):
        if isinstance(layer, Recurrent) and isinstance(vars(layer).get("via"), Delayed):
            via = f"{name}.via"
            inner = {name: layer.neuron, via: layer.via}
            parts = _replaced(parts, name, inner, [(name, 0)], [(name, via, 0), (via, name, 0)], [name])
            name, layer = via, layer.via
        if not isinstance(layer, Delayed):
            continue
        if layer.kernel != "fixed":
            problems.append(f"node {name!r} (Delayed): its delays are still learned; export spyx.nn.rounded(model)")
        elif isinstance(layer.connection, nnx.Module):
            parts = _replaced(parts, name, *_sorted_by_delay(name, layer))
    return parts, problems


def _sorted_by_delay(name: str, layer: Delayed) -> tuple[dict[str, Any], list[tuple[str, int]], Edges, list[str]]:
    steps, connection = np.asarray(layer.delays[...]), layer.connection
    if layer.per == "source" and isinstance(connection, nnx.Linear):
        wait = f"{name}.delay"
        waiting = Delayed(steps.shape, layer.max_delay, kernel="fixed", delays=steps)
        return {wait: waiting, name: connection}, [(wait, 0)], [(wait, name, 0)], [name]
    if layer.per == "source":
        per_group = steps.reshape(connection.feature_group_count, -1)
        steps = np.repeat(per_group, connection.out_features // connection.feature_group_count, 0).T
    groups: dict[str, Any] = {}
    entries: list[tuple[str, int]] = []
    for lag in np.unique(steps).tolist():
        group = nnx.clone(connection) if not groups else nnx.clone(without_bias(connection))
        group.kernel[...] = jnp.where(np.broadcast_to(steps == lag, connection.kernel.shape), connection.kernel[...], 0)
        groups[f"{name}.{lag}" if len(np.unique(steps)) > 1 else name] = group
        entries.append((list(groups)[-1], lag))
    return groups, entries, [], list(groups)


def _replaced(
    parts: Wiring, name: str, inner: dict[str, Any], entries: list[tuple[str, int]], inside: Edges, exits: list[str]
) -> Wiring:
    """Several nodes in the place of one."""
    layers: dict[str, Any] = {}
    for other, layer in parts.layers.items():
        layers |= inner if other == name else {other: layer}
    edges: Edges = []
    for source, target, delay in parts.edges:
        sources = exits if source == name else [source]
        targets = entries if target == name else [(target, 0)]
        edges += [(a, b, delay + more) for a in sources for b, more in targets]
    merges = {other: how for other, how in parts.merges.items() if other != name}
    if name in parts.merges and sum(target == name for _, target, _ in parts.edges) > 1:
        merges |= {entry: parts.merges[name] for entry, _ in entries}
    for target in [target for source, target, _ in parts.edges if source == name and len(exits) > 1]:
        if sum(b == target for _, b, _ in parts.edges) == 1:
            merges[target] = "sum"
    return Wiring(layers, [*edges, *inside], parts.inputs, parts.outputs, merges)
