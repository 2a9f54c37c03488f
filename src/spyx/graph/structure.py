"""`GraphStructure`: SNNAX's graphs in numbers, checked, and the same graph with names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spyx.graph.arguments import own_merge
from spyx.graph.merge import MERGES
from spyx.graph.plan import Plan, raise_all
from spyx.graph.schedule import Edge, reachable


@dataclass(frozen=True)
class GraphStructure:
    """A graph in numbers: which layers see the input, and which layer sees which.

    An edge from an earlier layer (j < i) leads forward; one from the layer itself or a later one (j >= i) is feedback.
    The last layer is the output.

    Args:
        num_layers: number of layers, at least 1.
        input_layer_ids: for every layer the indices of the external inputs that it sees; () for none.
        input_connectivity: for every layer the indices of the layers that it sees, its parents; () for none.
        merge: how a layer merges several inputs, parents first, then external ones: "concatenate" (default, on the
            last axis), "sum", "mean" or "list"; one for all, or a dict by layer.

    Raises:
        ValueError: everything that is wrong, in one list.

    Example:
        >>> GraphStructure(3, ((0,), (), ()), ((), (0, 2), (1,))).feedback
        ((2, 1),)

    Reference:
        SNNAX (Lohoff, Finkbeiner and Neftci 2024), doi:10.48550/arXiv.2409.02842. The merge is ours:
        there a layer with several inputs receives a list.
    """

    num_layers: int
    input_layer_ids: Sequence[Sequence[int]]
    input_connectivity: Sequence[Sequence[int]]
    merge: Any = "concatenate"

    def __post_init__(self) -> None:
        raise_all("spyx.graph.GraphStructure", _problems(self))
        for name in ("input_layer_ids", "input_connectivity"):
            object.__setattr__(self, name, tuple(tuple(int(i) for i in ids) for ids in getattr(self, name)))
        if isinstance(self.merge, Mapping):
            object.__setattr__(self, "merge", tuple(sorted(self.merge.items())))

    @property
    def num_inputs(self) -> int:
        """Number of external inputs."""
        return 1 + max(index for ids in self.input_layer_ids for index in ids)

    @property
    def feedback(self) -> tuple[tuple[int, int], ...]:
        """The edges (source, target) that lead back, or from a layer to itself."""
        return tuple((j, i) for i, parents in enumerate(self.input_connectivity) for j in parents if j >= i)

    def merge_of(self, index: int, layer: Any = None) -> str:
        """How layer `index` merges its inputs: as said here, or else as the layer itself says."""
        if isinstance(self.merge, str):
            return own_merge(layer) or self.merge
        return dict(self.merge).get(index) or own_merge(layer) or "concatenate"


def plan_of(struct: GraphStructure, layers: Sequence[Any], delayed: bool, owner: str) -> Plan:
    """The same graph with names, so that shapes, order and execution are those of `Graph`."""
    edges = []
    for index in range(struct.num_layers):
        for j in struct.input_connectivity[index]:
            edges.append(Edge(str(j), str(index), int(delayed or j >= index)))
        edges += [Edge(f"input {k}", str(index)) for k in struct.input_layer_ids[index]]
    edges.append(Edge(str(struct.num_layers - 1), "output"))
    merges = [(str(index), struct.merge_of(index, layer)) for index, layer in enumerate(layers)]
    inputs = tuple(f"input {k}" for k in range(struct.num_inputs))
    names = tuple(name for name, _ in merges)
    return Plan(owner, names, inputs, ("output",), tuple(edges), (*merges, ("output", "concatenate")))


def _problems(struct: GraphStructure) -> list[str]:
    count = struct.num_layers
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return [f"num_layers is {count!r}: a graph has at least 1 layer"]
    problems = []
    for name in ("input_layer_ids", "input_connectivity"):
        ids = getattr(struct, name)
        if not isinstance(ids, (list, tuple)) or not all(isinstance(entry, (list, tuple)) for entry in ids):
            problems.append(f"{name} is {ids!r}: write one tuple of indices per layer, () for none")
        elif len(ids) != count:
            problems.append(f"{name} has {len(ids)} entries: there are {count} layers")
        elif not all(isinstance(i, int) and not isinstance(i, bool) for entry in ids for i in entry):
            problems.append(f"{name} is {ids!r}: indices are whole numbers")
    if problems:
        return problems
    for layer in range(count):
        external, parents = struct.input_layer_ids[layer], struct.input_connectivity[layer]
        problems += [f"layer {layer}: there is no layer {j}" for j in parents if not 0 <= j < count]
        problems += [f"layer {layer}: there is no external input {k}" for k in external if k < 0]
        for name, ids in (("layer", parents), ("external input", external)):
            problems += [
                f"layer {layer}: {name} {j} is there twice" for j in sorted({j for j in ids if ids.count(j) > 1})
            ]
    used = {k for ids in struct.input_layer_ids for k in ids}
    problems += [f"external input {k} feeds no layer" for k in range(max(used, default=0)) if k not in used]
    starts = [str(i) for i, ids in enumerate(struct.input_layer_ids) if ids]
    edges = [Edge(str(j), str(i)) for i, parents in enumerate(struct.input_connectivity) for j in parents]
    alive = reachable(starts, edges)
    problems += [
        f"layer {i} is unreachable: no edge leads to it from an input" for i in range(count) if str(i) not in alive
    ]
    if not isinstance(struct.merge, (str, Mapping)):
        return [*problems, f"merge is {struct.merge!r}: write one of {', '.join(MERGES)}, or a dict by layer"]
    merges = struct.merge if isinstance(struct.merge, Mapping) else {0: struct.merge}
    problems += [f"merge of layer {i}: there is no such layer" for i in merges if i not in range(count)]
    return problems + [
        f"merge {how!r}: the merges are {', '.join(MERGES)}" for how in merges.values() if how not in MERGES
    ]
