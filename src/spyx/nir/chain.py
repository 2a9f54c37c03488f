"""Any spyx model as named layers and edges without containers: what `to_nir` walks over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from spyx import nn
from spyx.graph import Graph, StatefulModel


class Wiring(NamedTuple):
    """A model without containers.

    Args:
        layers: name to layer.
        edges: (source, target, delay in steps), in the order in which targets merge.
        inputs: names that edges use for the input.
        outputs: names that edges use for the answer.
        merges: name to merge, where it matters.
    """

    layers: dict[str, Any]
    edges: list[tuple[str, str, int]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    merges: dict[str, str]


def wiring(model: Any) -> Wiring:
    """Take a model apart; a container inside a container is replaced by its contents."""
    if isinstance(model, Graph):
        whole = Wiring(
            {name: model.nodes[name] for name in model.nodes},
            list(model.edges),
            model.inputs,
            model.outputs,
            dict(model.merges),
        )
    elif isinstance(model, StatefulModel):
        whole = _numbered(model)
    else:
        whole = _chain(list(model.layers) if isinstance(model, nn.Sequential) else [model])
    while inner := next((n for n, layer in whole.layers.items() if isinstance(layer, (Graph, nn.Sequential))), None):
        whole = _lifted(whole, inner)
    return whole


def _chain(layers: list[Any]) -> Wiring:
    named = dict(_named(layers))
    path = ["input", *named, "output"]
    edges = [(a, b, 0) for a, b in zip(path[:-1], path[1:], strict=True)]
    return Wiring(named, edges, ("input",), ("output",), {})


def _numbered(model: StatefulModel) -> Wiring:
    struct = model.struct
    named = dict(_named(model.layers))
    names = list(named)
    many = struct.num_inputs > 1
    inputs = tuple(f"input_{k}" if many else "input" for k in range(struct.num_inputs))
    edges = []
    for index, target in enumerate(names):
        edges += [(names[j], target, int(j >= index)) for j in struct.input_connectivity[index]]
        edges += [(inputs[k], target, 0) for k in struct.input_layer_ids[index]]
    edges.append((names[-1], "output", 0))
    merges = {name: struct.merge_of(index, named[name]) for index, name in enumerate(names)}
    return Wiring(named, edges, inputs, ("output",), merges)


def _named(layers: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    for place, layer in enumerate(layers):
        word = getattr(layer, "__name__", type(layer).__name__).lower().strip("_")
        yield f"{word if word.isidentifier() else 'function'}_{place}", layer


def _lifted(whole: Wiring, outer: str) -> Wiring:
    """The contents of one container in its place, under `outer.inner`."""
    inner = wiring(whole.layers[outer])
    if len(inner.inputs) != 1 or len(inner.outputs) != 1:
        raise ValueError(f"node {outer!r} (Graph): has several inputs or outputs inside another graph: write it flat")
    new = {name: f"{outer}.{name}" for name in inner.layers}
    (entry,), (leave,) = inner.inputs, inner.outputs
    layers: dict[str, Any] = {}
    for name, layer in whole.layers.items():
        layers |= {new[n]: one for n, one in inner.layers.items()} if name == outer else {name: layer}
    before = [(a, d) for a, b, d in whole.edges if b == outer]
    edges: list[tuple[str, str, int]] = []
    for source, target, delay in whole.edges:
        if target == outer:
            if source == outer:
                raise ValueError(f"node {outer!r}: a container that leads to itself; write it flat")
            fed = [(new[b], d) for a, b, d in inner.edges if a == entry and b != leave]
            edges += [(source, b, delay + d) for b, d in fed]
            if (source, delay) == before[0]:
                edges += [(new[a], new[b], d) for a, b, d in inner.edges if a != entry and b != leave]
        elif source == outer:
            for a, b, d in inner.edges:
                if b == leave and a == entry:
                    edges += [(first, target, early + d + delay) for first, early in before]
                elif b == leave:
                    edges.append((new[a], target, d + delay))
        else:
            edges.append((source, target, delay))
    return Wiring(layers, edges, whole.inputs, whole.outputs, _merges(whole, outer, inner, new))


def _merges(whole: Wiring, outer: str, inner: Wiring, new: dict[str, str]) -> dict[str, str]:
    """Merges after the container is gone: where two of them meet at one target, adding is the only one that is both."""
    merges = {name: how for name, how in whole.merges.items() if name != outer}
    merges |= {new[name]: how for name, how in inner.merges.items() if name in new}
    (entry,), (leave,) = inner.inputs, inner.outputs
    if sum(target == outer for _, target, _ in whole.edges) > 1:
        first = [target for source, target, _ in inner.edges if source == entry]
        for target in first:
            name = new.get(target)
            alone = sum(t == target for _, t, _ in inner.edges) == 1
            if name is not None and (alone or whole.merges.get(outer) != "sum"):
                merges[name] = whole.merges.get(outer, "sum")
    if sum(target == leave for _, target, _ in inner.edges) > 1:
        for target in [target for source, target, _ in whole.edges if source == outer]:
            alone = sum(t == target for _, t, _ in whole.edges) == 1
            if alone or inner.merges.get(leave) != "sum":
                merges[target] = inner.merges.get(leave, "sum")
    return merges
