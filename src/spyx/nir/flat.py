"""A NIR graph without sub-graphs: what is inside one moves up, under `outer.inner`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import nir

Edge = tuple[str, str]


@dataclass(eq=False)
class Identity(nir.ir.node.NIRNode):
    """A node that changes nothing: where a signal leaves or enters a sub-graph and cannot be contracted."""

    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        self.input_type = {"input": np.array(self.shape)}
        self.output_type = {"output": np.array(self.shape)}


@dataclass(frozen=True)
class Flat:
    """Nodes and edges of a whole graph.

    Args:
        nodes: name to node, `Input`s and `Output`s of the whole included.
        edges: pairs of names, in the order of the file.
        metadata: of the whole graph.
    """

    nodes: dict[str, Any]
    edges: list[Edge]
    metadata: dict[str, Any]

    def incoming(self, name: str) -> list[str]:
        """Sources of the edges into `name`."""
        return [source for source, target in self.edges if target == name]

    def names(self, kind: type | tuple[type, ...]) -> tuple[str, ...]:
        """Names of the nodes of these types."""
        return tuple(name for name, node in self.nodes.items() if isinstance(node, kind))


def flattened(graph: Any) -> Flat:
    """Every sub-graph replaced by its contents."""
    nodes, edges = dict(graph.nodes), [(str(a), str(b)) for a, b in graph.edges]
    while inner := next((name for name, node in nodes.items() if isinstance(node, nir.NIRGraph)), None):
        nodes, edges = _lifted(nodes, edges, inner)
    return Flat(nodes, edges, dict(graph.metadata))


def _lifted(nodes: dict[str, Any], edges: list[Edge], outer: str) -> tuple[dict[str, Any], list[Edge]]:
    graph = nodes[outer]
    new_names: dict[str, str] = {}
    for name in graph.nodes:
        wanted = name if name.startswith(f"{outer}.") else f"{outer}.{name}"
        while wanted in nodes or wanted in new_names.values():
            wanted += "_"
        new_names[name] = wanted
    gates = {"in": _gate(graph, nir.Input), "out": _gate(graph, nir.Output)}
    entry, leave = (new_names[gates[side]] for side in ("in", "out"))
    merged: dict[str, Any] = {}
    for name, node in nodes.items():
        if name != outer:
            merged[name] = node
            continue
        for inner, inside in graph.nodes.items():
            shape = inside.input_type["input"] if isinstance(inside, (nir.Input, nir.Output)) else None
            merged[new_names[inner]] = inside if shape is None else Identity(tuple(int(n) for n in np.ravel(shape)))
    listed = [(leave if a == outer else a, entry if b == outer else b) for a, b in edges]
    listed += [(new_names[str(a)], new_names[str(b)]) for a, b in graph.edges]
    for gate in {entry, leave}:
        merged, listed = _contracted(merged, listed, gate)
    return merged, listed


def _gate(graph: Any, kind: type) -> str:
    return next(name for name, node in graph.nodes.items() if isinstance(node, kind))


def _contracted(nodes: dict[str, Any], edges: list[Edge], gate: str) -> tuple[dict[str, Any], list[Edge]]:
    """Without the identity node `gate`, unless that would make one edge out of two."""
    before = [a for a, b in edges if b == gate]
    after = [b for a, b in edges if a == gate]
    rest = [edge for edge in edges if gate not in edge]
    direct = [(a, b) for a in before for b in after]
    if gate in before or set(direct) & set(rest):
        return nodes, edges
    place = next((k for k, edge in enumerate(edges) if gate in edge), 0)
    kept = sum(gate not in edge for edge in edges[:place])
    return {n: node for n, node in nodes.items() if n != gate}, rest[:kept] + direct + rest[kept:]
