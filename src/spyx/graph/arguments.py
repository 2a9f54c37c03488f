"""What the user of `Graph` writes, read into names, layers, edges and shapes, or refused with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from spyx.graph.merge import MERGES
from spyx.graph.plan import Plan
from spyx.graph.schedule import Edge
from spyx.nn.layer import checked_module

OWNER = "spyx.graph.Graph"


def read_nodes(nodes: Any) -> dict[str, Any]:
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


def read_names(argument: str, names: Any) -> tuple[str, ...]:
    """One name or several, all different."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(
            f"{OWNER}({argument}=): expected different names; got {names!r}. For example ('left', 'right')."
        )
    return names


def read_merges(merge: Any) -> dict[str, str]:
    """Name to merge; "*" for the rest."""
    if isinstance(merge, Mapping):
        return dict(merge)
    if not isinstance(merge, str):
        raise TypeError(
            f"{OWNER}(merge=): expected one of {', '.join(MERGES)}, or a dict of node to one of them; got {merge!r}. "
            "A merge of your own is a node with merge 'list'."
        )
    return {"*": merge}


def read_shapes(plan: Plan, input_shape: Any) -> tuple[tuple[str, jax.ShapeDtypeStruct], ...] | None:
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


def own_merge(layer: Any) -> str | None:
    """The merge that a layer names itself, in an attribute `merge`."""
    how = getattr(layer, "merge", None)
    return how if isinstance(how, str) and how in MERGES else None


def read_edges(edges: Any) -> tuple[list[Edge], list[str]]:
    """Edges out of what the user wrote, and what was wrong with the rest."""
    good, problems = [], []
    for edge in edges:
        names = edge[:2] if isinstance(edge, (tuple, list)) else ()
        if len(names) < 2 or len(edge) > 3 or not all(isinstance(name, str) for name in names):
            problems.append(f"edge {edge!r}: write (source, target) or (source, target, delay)")
            continue
        delay = edge[2] if len(edge) == 3 else 0
        if not isinstance(delay, int) or isinstance(delay, bool) or delay < 0:
            problems.append(f"edge {edge!r}: a delay is a whole number of time steps, 0 or more")
            continue
        good.append(Edge(names[0], names[1], delay))
    return good, problems
