"""What the user of `Graph` writes, read into names, layers, edges and shapes, or refused with a reason."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import nnx

from spyx.graph._merge import MERGES
from spyx.graph._schedule import Edge
from spyx.graph._topology import Plan
from spyx.nn._delayed import Delayed
from spyx.nn._layer import checked_module

if TYPE_CHECKING:
    from spyx.graph.types import InputShape, WrittenEdge
    from spyx.nn._layer import Model

OWNER = "spyx.graph.Graph"


def read_nodes(nodes: Mapping[str, Model]) -> dict[str, Model]:
    """Name to layer, each checked."""
    if not isinstance(nodes, Mapping):
        raise TypeError(
            f"{OWNER}(nodes=): expected a dict of name to layer; got {type(nodes).__name__}. Name the nodes."
        )
    if not nodes:
        raise ValueError(f"{OWNER}(nodes=): expected at least one node; got none. Add a layer.")
    for name in nodes:
        if not isinstance(name, str):
            raise TypeError(f"{OWNER}(nodes=): expected names as keys; got {name!r}. Use a string.")
    return {name: checked_module(f"{OWNER}(nodes[{name!r}])", layer) for name, layer in nodes.items()}


def read_names(argument: str, names: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several, all different."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"{OWNER}({argument}=): expected different names; got {names!r}. For example ('left', 'right')."
        )
    return names


def read_merges(merge: str | Mapping[str, str]) -> dict[str, str]:
    """Name to merge; "*" for the rest."""
    if isinstance(merge, Mapping):
        return dict(merge)
    if not isinstance(merge, str):
        raise TypeError(
            f"{OWNER}(merge=): expected one of {', '.join(MERGES)}, or a dict of node to one of them; got {merge!r}. "
            "A merge of your own is a node with merge 'list'."
        )
    return {"*": merge}


def read_shapes(plan: Plan, input_shape: InputShape | None) -> tuple[tuple[str, jax.ShapeDtypeStruct], ...] | None:
    """One sample's input, as a hashable tuple of (name, shape and dtype with batch 1)."""
    if input_shape is None:
        return None
    found = []
    for name, shape in plan.named_inputs(input_shape).items():
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        if not all(isinstance(size, int) and size > 0 for size in sizes):
            raise ValueError(
                f"{OWNER}(input_shape=): expected the sizes of one sample at one step; got {shape!r}. "
                "For example (34, 34)."
            )
        found.append((name, jax.ShapeDtypeStruct((1, *sizes), jnp.float32)))
    return tuple(found)


def own_merge(layer: Model | None) -> str | None:
    """The merge that a layer names itself, in an attribute `merge`."""
    how = getattr(layer, "merge", None)
    return how if isinstance(how, str) and how in MERGES else None


def read_edges(edges: Iterable[WrittenEdge], taken: Iterable[str]) -> tuple[list[Edge], dict[str, Delayed], list[str]]:
    """Edges out of what the user wrote, the `Delayed` that some of them pass by name, and what was wrong with the rest.

    Args:
        edges: as the user wrote them.
        taken: names that are in use.
    """
    good: list[Edge] = []
    passed: dict[str, Delayed] = {}
    problems, taken = [], set(taken)
    for edge in edges:
        names, rest = (edge[:2], edge[2:]) if isinstance(edge, (tuple, list)) else ((), ())
        layer = rest[-1] if rest and isinstance(rest[-1], Delayed) else None
        steps = rest if layer is None else rest[:-1]
        if len(names) < 2 or len(steps) > 1 or not all(isinstance(name, str) for name in names):
            problems.append(
                f"edge {_written(edge)}: write (source, target), then a delay in time steps, an nn.Delayed, or both"
            )
            continue
        delay = steps[0] if steps else 0
        if not isinstance(delay, int) or isinstance(delay, bool) or delay < 0:
            problems.append(
                f"edge {_written(edge)}: a delay is a whole number of time steps, 0 or more, or an nn.Delayed"
            )
            continue
        if layer is None:
            good.append(Edge(names[0], names[1], delay))
            continue
        usual = edge_name(*names)
        name = next(n for k in itertools.count(2) for n in (usual, f"{usual} ({k})") if n not in taken)
        taken.add(name)
        passed[name] = layer
        good.append(Edge(names[0], names[1], delay, name))
    return good, passed, problems


def edge_name(source: str, target: str) -> str:
    """The name of the node that an edge with a `Delayed` passes."""
    return f"{source}->{target}"


def through_nodes(edges: Iterable[Edge]) -> Iterator[Edge]:
    """The same edges, cut in two where they pass a node."""
    for edge in edges:
        yield Edge(edge.source, edge.via or edge.target, edge.delay)
        if edge.via:
            yield Edge(edge.via, edge.target)


def _written(edge: object) -> str:
    """What the user wrote, with modules by their types."""
    if not isinstance(edge, (tuple, list)) or not any(isinstance(part, nnx.Module) for part in edge):
        return repr(edge)
    words = [type(part).__name__ if isinstance(part, nnx.Module) else repr(part) for part in edge]
    return f"({', '.join(words)})"
