"""NIR graphs without sub-graphs, and the shape of every signal in them, for every node type of NIR 1.0.8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

import nir

OneNode = TypeVar("OneNode", bound=nir.NIRNode)
Edge = tuple[str, str]
Nodes = dict[str, nir.NIRNode]
Shape = tuple[int, ...]
Sizes = int | Sequence[int] | np.ndarray
"""One number for all spatial axes, or one per axis."""

Windowed = nir.Conv1d | nir.Conv2d | nir.SumPool2d | nir.AvgPool2d
"""A node with a sliding window."""

PER_UNIT: dict[type, tuple[str, ...]] = {
    nir.I: ("r",),
    nir.IF: ("r", "v_threshold", "v_reset"),
    nir.LI: ("tau", "r", "v_leak"),
    nir.LIF: ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    nir.CubaLI: ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    nir.CubaLIF: ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    nir.Scale: ("scale",),
    nir.Threshold: ("threshold",),
    nir.Delay: ("delay",),
}
"""Nodes that work unit by unit, and their arrays; the first one has the node's shape."""
SPIKING = (nir.IF, nir.LIF, nir.CubaLIF)
STATEFUL = (*SPIKING, nir.I, nir.LI, nir.CubaLI)
DENSE = (nir.Affine, nir.Linear)
CONVOLUTIONS = (nir.Conv1d, nir.Conv2d)
POOLS = (nir.SumPool2d, nir.AvgPool2d)


@dataclass(eq=False)
class Identity(nir.ir.node.NIRNode):
    """A node that changes nothing: where a signal leaves or enters a sub-graph and cannot be contracted."""

    shape: Shape

    def __post_init__(self) -> None:
        self.input_type = {"input": np.array(self.shape)}
        self.output_type = {"output": np.array(self.shape)}


@dataclass(frozen=True)
class Flat:
    """Nodes, edges in the order of the file, and metadata of a whole graph."""

    nodes: Nodes
    edges: list[Edge]
    metadata: dict[str, object]

    def names(self, kind: type | tuple[type, ...]) -> tuple[str, ...]:
        """Names of the nodes of these types."""
        return tuple(name for name, node in self.nodes.items() if isinstance(node, kind))

    def of(self, kind: type[OneNode]) -> dict[str, OneNode]:
        """The nodes of this type, by name."""
        return {name: node for name, node in self.nodes.items() if isinstance(node, kind)}


def flattened(graph: nir.NIRGraph) -> Flat:
    """Every sub-graph replaced by its contents, under `outer.inner`."""
    nodes, edges = dict(graph.nodes), [(str(a), str(b)) for a, b in graph.edges]
    while inner := next(((name, node) for name, node in nodes.items() if isinstance(node, nir.NIRGraph)), None):
        nodes, edges = _lifted(nodes, edges, *inner)
    return Flat(nodes, edges, dict(graph.metadata))


def _lifted(nodes: Nodes, edges: list[Edge], outer: str, graph: nir.NIRGraph) -> tuple[Nodes, list[Edge]]:
    new_names: dict[str, str] = {}
    for name in graph.nodes:
        wanted = name if name.startswith(f"{outer}.") else f"{outer}.{name}"
        new_names[name] = free_name(wanted, {*nodes, *new_names.values()})
    entry, leave = (
        next(new_names[name] for name, node in graph.nodes.items() if isinstance(node, kind))
        for kind in (nir.Input, nir.Output)
    )
    inside = {
        new_names[name]: Identity(shape_tuple(node.input_type["input"]))
        if isinstance(node, (nir.Input, nir.Output))
        else node
        for name, node in graph.nodes.items()
    }
    merged: Nodes = {}
    for name, node in nodes.items():
        merged |= inside if name == outer else {name: node}
    listed = [(leave if a == outer else a, entry if b == outer else b) for a, b in edges]
    listed += [(new_names[str(a)], new_names[str(b)]) for a, b in graph.edges]
    for gate in (entry, leave):
        merged, listed = contracted(merged, listed, gate)
    return merged, listed


def contracted(nodes: Nodes, edges: list[Edge], gate: str) -> tuple[Nodes, list[Edge]]:
    """Without the node `gate`, which changes nothing, unless that would make one edge out of two."""
    before = [a for a, b in edges if b == gate]
    rest = [edge for edge in edges if gate not in edge]
    direct = [(a, b) for a in before for source, b in edges if source == gate]
    if gate in before or set(direct) & set(rest):
        return nodes, edges
    place = next((k for k, edge in enumerate(edges) if gate in edge), 0)  # no edge before it touches the gate
    return {n: node for n, node in nodes.items() if n != gate}, rest[:place] + direct + rest[place:]


def free_name(wanted: str, taken: Iterable[str]) -> str:
    """The name, with as many underscores as make it another one than those that are taken."""
    while wanted in taken:
        wanted += "_"
    return wanted


def propagate(
    edges: Iterable[Edge],
    inputs: Mapping[str, Shape],
    label: Mapping[str, str],
    output_of: Callable[[str, Shape], Shape],
    own: Callable[[str], Shape | None] = lambda name: None,
) -> tuple[dict[str, Shape], dict[str, Shape], list[str]]:
    """Input shapes, output shapes and problems of all nodes, from the inputs on, around cycles as far as known.

    `label` is how problems name a node. `output_of(node, input shape)` raises when the node cannot take that; what
    follows such a node is checked with the input shape that the node itself knows, `own(node)`.
    """
    taken, given, waiting = dict(inputs), dict(inputs), list(inputs)
    problems: list[str] = []
    following: dict[str, list[str]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    while waiting:
        source = waiting.pop(0)
        shape = given[source]
        for target in following.get(source, ()):
            if target in taken:
                if taken[target] != shape:
                    problems.append(f"{label[target]}: takes {taken[target]}, but {shape} comes from {source!r}")
                continue
            taken[target] = shape
            try:
                given[target] = output_of(target, shape)
            except (TypeError, ValueError) as error:
                whence = "" if str(error).endswith(".") else f", from {source!r}"
                problems.append(f"{label[target]}: {error}{whence}")
                if (known := own(target)) is None:
                    continue
                try:
                    given[target] = output_of(target, known)
                except (TypeError, ValueError):
                    continue
            waiting.append(target)
    return taken, given, problems


def own_shape(node: nir.NIRNode) -> Shape | None:
    """The shape of its input that a node itself knows; None for a node that takes any."""
    if type(node) in PER_UNIT:
        return np.shape(getattr(node, PER_UNIT[type(node)][0]))
    if isinstance(node, Identity):
        return node.shape
    if isinstance(node, DENSE):
        return (int(node.weight.shape[-1]),)
    if isinstance(node, (nir.Input, nir.Flatten)) and node.input_type["input"] is not None:
        return shape_tuple(node.input_type["input"])
    if isinstance(node, nir.Output) and node.output_type["output"] is not None:
        return shape_tuple(node.output_type["output"])
    if isinstance(node, CONVOLUTIONS) and node.input_shape is not None:
        return (int(node.weight.shape[1]) * int(node.groups), *per_axis(node.input_shape, node.weight.ndim - 2))
    return None


def output_shape(node: nir.NIRNode, shape: Shape) -> Shape:
    """The shape of a node's output for input of `shape`; ValueError with the reason when it cannot take that."""
    own = own_shape(node)
    if own is not None and own != shape:
        raise ValueError(f"takes the shape {own}, but {shape} comes in")
    if isinstance(node, DENSE):
        return (int(node.weight.shape[0]),)
    if isinstance(node, nir.Flatten):
        return flattened_shape(shape, *flattened_axes(node, shape))
    if not isinstance(node, (*CONVOLUTIONS, *POOLS)):
        return shape
    window = window_of(node)
    axes = len(window.kernel)
    if len(shape) != axes + 1:
        raise ValueError(f"takes (channels, {'length' if axes == 1 else 'height, width'}), but {shape} comes in")
    channels = shape[0]
    if isinstance(node, CONVOLUTIONS):
        wanted, channels = int(node.weight.shape[1]) * int(node.groups), int(node.weight.shape[0])
        if shape[0] != wanted:
            raise ValueError(f"takes {wanted} channels, but {shape} comes in")
    sizes = [
        (n + low + high - d * (k - 1) - 1) // s + 1 for n, k, s, d, (low, high) in zip(shape[1:], *window, strict=True)
    ]
    if min(channels, *sizes) < 1:
        raise ValueError(f"leaves nothing of {shape}: its window is larger than the input")
    return (channels, *sizes)


class Window(NamedTuple):
    """The sliding window of a convolution or a pool; one entry per spatial axis, `ends` the padding on both sides."""

    kernel: Shape
    stride: Shape
    dilation: Shape
    ends: list[tuple[int, int]]


def window_of(node: Windowed) -> Window:
    """The window of a convolution or a pool."""
    if isinstance(node, CONVOLUTIONS):
        axes = node.weight.ndim - 2
        kernel, dilation = shape_tuple(node.weight.shape[2:]), per_axis(node.dilation, axes)
    else:
        axes = 2
        kernel, dilation = per_axis(node.kernel_size, 2), (1, 1)
    stride, padding = per_axis(node.stride, axes), node.padding
    if np.shape(padding) == (2, 2) and not isinstance(node, CONVOLUTIONS):  # the pairs that Spyx 1.0 meant
        ends = [(int(low), int(high)) for low, high in np.asarray(padding)]
    elif not isinstance(padding, str):
        ends = [(n, n) for n in per_axis(padding, axes)]
    elif padding == "valid":
        ends = [(0, 0)] * axes
    else:
        if any(n != 1 for n in stride):
            raise ValueError("pads 'same' with a stride: NIR says only for stride 1 what that means")
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        ends = [(span // 2, span - span // 2) for span in spans]
    return Window(kernel, stride, dilation, ends)


def flattened_axes(node: nir.Flatten, shape: Shape) -> tuple[int, int]:
    """First and last axis that a `Flatten` merges."""
    rank = len(shape)
    first, last = (int(n) + rank if int(n) < 0 else int(n) for n in (node.start_dim, node.end_dim))
    if not 0 <= first <= last < rank:
        raise ValueError(f"flattens the axes {int(node.start_dim)} to {int(node.end_dim)} of {shape}")
    return first, last


def flattened_shape(shape: Shape, first: int, last: int) -> Shape:
    """A shape with the axes from `first` to `last` merged."""
    return (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])


def per_axis(value: Sizes, axes: int) -> Shape:
    """One number per axis out of a number or a sequence."""
    numbers = shape_tuple(value)
    if len(numbers) not in (1, axes):
        raise ValueError(f"has {len(numbers)} sizes for {axes} axes")
    return numbers * axes if len(numbers) == 1 else numbers


def shape_tuple(value: Sizes) -> Shape:
    """A shape as a tuple of ints."""
    return tuple(int(n) for n in np.ravel(value))
