"""Everything that is wrong with a NIR graph, found before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

import nir
from spyx.graph._topology import raise_all
from spyx.nir._discrete import TIMES
from spyx.nir._flat import CONVOLUTIONS, DENSE, PER_UNIT, Flat, Shape, flattened, output_shape, own_shape, propagate

EXPECTED = "a graph that NIR's equations can run"
MOST_UNITS = 2**27
WHOLE = ("stride", "dilation", "groups", "kernel_size", "padding", "start_dim", "end_dim", "input_shape")
SCALARS = ("groups", "start_dim", "end_dim")
SIZES = ("stride", "dilation", "groups", "kernel_size")


class Validated(NamedTuple):
    """A graph that passed, and NIR's shapes of the input (`taken`) and the output (`given`) of every node."""

    flat: Flat
    taken: dict[str, Shape]
    given: dict[str, Shape]


def validated(graph: object, owner: str = "spyx.nir.from_nir") -> Validated:
    """Check a graph; one ValueError lists everything that is wrong, each with its node's name."""
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"{owner}: expected a nir.NIRGraph or the path of one; got {type(graph).__name__}. Read it.")
    raise_all(owner, _graph_problems(graph, ""), EXPECTED)
    flat = flattened(graph)
    label = {name: f"node {name!r} ({type(node).__name__})" for name, node in flat.nodes.items()}
    problems = [f"{label[name]}: {text}" for name, node in flat.nodes.items() for text in _node_problems(node)]
    problems += [f"{label[name]}: {text}" for name in flat.nodes for text in _edge_problems(flat, name)]
    raise_all(owner, problems, EXPECTED)

    nodes = flat.nodes
    inputs = {name: own_shape(nodes[name]) or () for name in flat.names(nir.Input)}
    taken, given, problems = propagate(
        flat.edges, inputs, label, lambda n, shape: output_shape(nodes[n], shape), lambda n: own_shape(nodes[n])
    )
    if not problems:
        lost = [name for name, node in flat.nodes.items() if name not in given and not isinstance(node, nir.Output)]
        problems = [f"{label[name]}: no signal from an input reaches it" for name in lost]
    problems += [
        f"{label[name]}: gives {math.prod(shape)} values a step, over the limit of {MOST_UNITS}"
        for name, shape in given.items()
        if math.prod(shape) > MOST_UNITS
    ]
    raise_all(owner, problems, EXPECTED)
    return Validated(flat, taken, given)


def _graph_problems(graph: nir.NIRGraph, prefix: str) -> Iterator[str]:
    """Names, edges, inputs and outputs, of sub-graphs too."""
    where = f"sub-graph {prefix!r}: " if prefix else ""
    if not graph.nodes:
        yield f"{where}has no nodes"
    for name in graph.nodes:
        if not isinstance(name, str) or not name or name.startswith("_") or "/" in name:
            yield f"{where}node {name!r}: a name is not empty, has no '/' and does not start with '_'"
    for edge in graph.edges:
        if len(edge) != 2:
            yield f"{where}edge {tuple(edge)!r}: an edge joins two nodes"
            continue
        for end in dict.fromkeys(str(end) for end in edge):
            if end not in graph.nodes:
                yield f"{where}edge {tuple(map(str, edge))!r}: there is no node {end!r}"
    pairs = [tuple(map(str, edge)) for edge in graph.edges]
    yield from (f"{where}edge {pair!r} is there twice" for pair in dict.fromkeys(pairs) if pairs.count(pair) > 1)
    for kind in (nir.Input, nir.Output):
        found = [name for name, node in graph.nodes.items() if isinstance(node, kind)]
        if not found or (prefix and len(found) > 1):
            listed = ", ".join(map(repr, found)) or "none"
            wanted = f"one {kind.__name__}" if prefix else f"an {kind.__name__} node"
            yield f"{where}has {listed}: it needs {wanted}, so that edges say where signals come in and go out"
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            yield from _graph_problems(node, f"{prefix}.{name}" if prefix else name)


def _node_problems(node: nir.NIRNode) -> Iterator[str]:
    arrays = {n: np.asarray(v) for n, v in vars(node).items() if isinstance(v, (np.ndarray, np.generic, float, int))}
    for name, value in arrays.items():
        if value.dtype.kind not in "fiub":
            yield f"{name} has the dtype {value.dtype}: numbers are expected"
        elif value.size == 0:
            yield f"{name} is empty"
        elif not np.all(np.isfinite(value)):
            yield f"{name} is not finite"
        elif name in SCALARS and value.ndim:
            yield f"{name} has the shape {value.shape}: one number is expected"
        elif name in WHOLE and np.any(value != np.round(value)):
            yield f"{name} is {value}: whole numbers are expected"
        elif name in TIMES and np.any(value <= 0):
            yield f"{name} has the value {value.min():g}: a time constant is above 0"
        elif name in SIZES and np.any(value < 1):
            yield f"{name} has the value {value.min()}: it is at least 1"
        elif name in ("padding", "delay") and np.any(value < 0):
            yield f"{name} has the value {value.min()}: it is at least 0"
    if isinstance(node, DENSE) and np.ndim(node.weight) != 2:
        yield f"weight has the shape {np.shape(node.weight)}: spyx reads matrices, (outputs, inputs)"
    elif isinstance(node, nir.Affine) and np.shape(node.bias) != node.weight.shape[:1]:
        yield f"bias has the shape {np.shape(node.bias)}: the weight has {node.weight.shape[0]} outputs"
    if isinstance(node, CONVOLUTIONS):
        yield from _convolution_problems(node)
    shapes = {name: np.shape(getattr(node, name)) for name in PER_UNIT.get(type(node), ())}
    if len(set(shapes.values())) > 1:
        yield f"its arrays have different shapes: {', '.join(f'{n} {s}' for n, s in shapes.items())}"
    if () in shapes.values():
        yield "its arrays have no axes: one value per unit is expected"


def _convolution_problems(node: nir.Conv1d | nir.Conv2d) -> Iterator[str]:
    rank = 3 if isinstance(node, nir.Conv1d) else 4
    if np.ndim(node.weight) != rank:
        yield f"weight has {np.ndim(node.weight)} axes: {rank} are expected, (outputs, inputs, *window)"
        return
    groups = np.asarray(node.groups)
    if groups.ndim or not 1 <= groups < np.inf or node.weight.shape[0] % int(groups):
        yield f"groups is {node.groups}: it divides the {node.weight.shape[0]} channels of the output"
    if np.asarray(node.bias).shape != node.weight.shape[:1]:
        yield f"bias has the shape {np.asarray(node.bias).shape}: the weight has {node.weight.shape[0]} output channels"


def _edge_problems(flat: Flat, name: str) -> Iterator[str]:
    node = flat.nodes[name]
    enters, leaves = any(b == name for _, b in flat.edges), any(a == name for a, _ in flat.edges)
    if isinstance(node, nir.Input):
        if enters:
            yield "an edge leads to it, but it is where signals come in"
        if own_shape(node) is None:
            yield "has no shape: say that of one sample at one step"
        if not leaves:
            yield "no edge starts from it"
    elif isinstance(node, nir.Output):
        if leaves:
            yield "an edge starts from it, but it is where signals go out"
        if not enters:
            yield "no edge leads to it"
    else:
        if not enters:
            yield "no edge leads to it"
        if not leaves:
            yield "dangling, no edge starts from it"
