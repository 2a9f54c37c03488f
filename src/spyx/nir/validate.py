"""Everything that is wrong with a NIR graph, found before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import nir
from spyx.nir.flat import Flat, Identity, flattened
from spyx.nir.layout import Shape
from spyx.nir.sizes import PER_UNIT, answer_shape, own_shape, shape_tuple

TIMES = ("tau", "tau_mem", "tau_syn")
MOST_UNITS = 2**27
WHOLE = ("stride", "dilation", "groups", "kernel_size", "padding", "start_dim", "end_dim", "input_shape")
SCALARS = ("groups", "start_dim", "end_dim")
SIZES = ("stride", "dilation", "groups", "kernel_size")


class Validated(NamedTuple):
    """A graph that passed.

    Args:
        flat: its nodes and edges without sub-graphs.
        taken: NIR's shape of what every node takes.
        given: NIR's shape of what every node answers.
    """

    flat: Flat
    taken: dict[str, Shape]
    given: dict[str, Shape]


def validated(graph: Any, owner: str = "spyx.nir.from_nir") -> Validated:
    """Check a graph; one ValueError lists everything that is wrong, each with its node's name."""
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"{owner}: expected a nir.NIRGraph or the path of one; got {type(graph).__name__}. Read it.")
    problems = [*_graph_problems(graph, "")]
    _raise(owner, problems)
    flat = flattened(graph)
    for name, node in flat.nodes.items():
        problems += [f"node {name!r} ({type(node).__name__}): {text}" for text in _node_problems(node)]
    problems += _edge_problems(flat)
    _raise(owner, problems)
    taken, given, problems = _shapes(flat)
    problems += [
        f"node {name!r} ({type(flat.nodes[name]).__name__}): gives {math.prod(shape)} values a step, over the limit of "
        f"{MOST_UNITS}"
        for name, shape in given.items()
        if math.prod(shape) > MOST_UNITS
    ]
    _raise(owner, problems)
    return Validated(flat, taken, given)


def _raise(owner: str, problems: list[str]) -> None:
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in dict.fromkeys(problems))
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ValueError(f"{owner}: expected a graph that NIR's equations can run; got {count}. Mend:{lines}")


def _graph_problems(graph: Any, prefix: str) -> Iterator[str]:
    """Names, edges and gates, of sub-graphs too."""
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
    gates = {kind: [n for n, node in graph.nodes.items() if isinstance(node, kind)] for kind in (nir.Input, nir.Output)}
    for kind, found in gates.items():
        if not found or (prefix and len(found) > 1):
            listed = ", ".join(map(repr, found)) or "none"
            wanted = f"one {kind.__name__}" if prefix else f"an {kind.__name__} node"
            yield f"{where}has {listed}: it needs {wanted}, so that edges say where signals come in and go out"
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            yield from _graph_problems(node, f"{prefix}.{name}" if prefix else name)


def _node_problems(node: Any) -> Iterator[str]:
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
    if isinstance(node, (nir.Affine, nir.Linear)) and np.ndim(node.weight) != 2:
        yield f"weight has the shape {np.shape(node.weight)}: spyx reads matrices, (outputs, inputs)"
    elif isinstance(node, nir.Affine) and np.shape(node.bias) != node.weight.shape[:1]:
        yield f"bias has the shape {np.shape(node.bias)}: the weight answers {node.weight.shape[0]}"
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        yield from _convolution_problems(node)
    shapes = {name: np.shape(getattr(node, name)) for name in PER_UNIT.get(type(node), ())}
    if len(set(shapes.values())) > 1:
        yield f"its arrays have different shapes: {', '.join(f'{n} {s}' for n, s in shapes.items())}"
    if () in shapes.values():
        yield "its arrays have no axes: one value per unit is expected"


def _convolution_problems(node: Any) -> Iterator[str]:
    rank = 3 if isinstance(node, nir.Conv1d) else 4
    if np.ndim(node.weight) != rank:
        yield f"weight has {np.ndim(node.weight)} axes: {rank} are expected, (outputs, inputs, *window)"
        return
    groups = np.asarray(node.groups)
    if groups.ndim or not 1 <= groups < np.inf or node.weight.shape[0] % int(groups):
        yield f"groups is {node.groups}: it divides the {node.weight.shape[0]} channels of the answer"
    if np.asarray(node.bias).shape != node.weight.shape[:1]:
        yield f"bias has the shape {np.asarray(node.bias).shape}: the weight answers {node.weight.shape[0]} channels"


def _edge_problems(flat: Flat) -> Iterator[str]:
    known = {nir.Input, nir.Output, nir.NIRGraph}
    sources, targets = {a for a, _ in flat.edges}, {b for _, b in flat.edges}
    for name, node in flat.nodes.items():
        if isinstance(node, nir.Input) and name in targets:
            yield f"node {name!r} (Input): an edge leads to it, but it is where signals come in"
        if isinstance(node, nir.Output) and name in sources:
            yield f"node {name!r} (Output): an edge starts from it, but it is where signals go out"
        if type(node) not in known and name not in targets:
            yield f"node {name!r} ({type(node).__name__}): no edge leads to it"
        if type(node) not in known and name not in sources:
            yield f"node {name!r} ({type(node).__name__}): dangling, no edge starts from it"
        if isinstance(node, nir.Input) and own_shape(node) is None:
            yield f"node {name!r} (Input): has no shape: say that of one sample at one step"
        if isinstance(node, nir.Input) and name not in sources:
            yield f"node {name!r} (Input): no edge starts from it"
        if isinstance(node, nir.Output) and name not in targets:
            yield f"node {name!r} (Output): no edge leads to it"


def _shapes(flat: Flat) -> tuple[dict[str, Shape], dict[str, Shape], list[str]]:
    """Shapes from the inputs on, around cycles as far as they are known."""
    taken: dict[str, Shape] = {}
    given = {name: shape_tuple(flat.nodes[name].input_type["input"]) for name in flat.names(nir.Input)}
    problems: list[str] = []
    following: dict[str, list[str]] = {}
    for source, target in flat.edges:
        following.setdefault(source, []).append(target)
    waiting = list(given)
    while waiting:
        source = waiting.pop(0)
        for target in following.get(source, ()):
            node, shape = flat.nodes[target], given[source]
            who = f"node {target!r} ({type(node).__name__})"
            if target in taken:
                if taken[target] != shape:
                    problems.append(f"{who}: takes {taken[target]}, but {shape} comes from {source!r}")
                continue
            taken[target] = shape
            try:
                given[target] = answer_shape(node, shape)
            except ValueError as error:
                problems.append(f"{who}: {error}, from {source!r}")
                own = own_shape(node) if not isinstance(node, Identity) else node.shape
                if own is None:
                    continue
                try:
                    given[target] = answer_shape(node, own)
                except ValueError:
                    continue
            waiting.append(target)
    if not problems:
        lost = [name for name, node in flat.nodes.items() if name not in given and not isinstance(node, nir.Output)]
        problems = [f"node {name!r}: no signal from an input reaches it" for name in lost]
    return {**taken, **{n: given[n] for n in flat.names(nir.Input)}}, given, problems
