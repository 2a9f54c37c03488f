"""A graph in words: one line per node, in the order of execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jax.core import Tracer

from spyx.nn._delayed import Delayed

if TYPE_CHECKING:
    from spyx.graph._network import Graph
    from spyx.nn._layer import Model


def describe(graph: Graph) -> str:
    """Every node with its layer and its inputs; `(+2)` is an edge that arrives two steps later."""
    plan = graph._plan
    rows = [(name, word(graph.nodes[name])) for name in plan.order] + [(name, "") for name in plan.outputs]
    name_width, kind_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"Graph({len(plan.names)} nodes, {len(plan.edges)} edges)"]
    for name, kind in rows:
        sources = [e.source + (f" (+{e.delay})" if e.delay else "") for _, e in plan.incoming[name]]
        how = f"{plan.merge_of[name]}: " if len(sources) > 1 else ""
        lines.append(f"  {name:<{name_width}}  {kind:<{kind_width}}  <- {how}{', '.join(sources)}")
    cycles = ["{" + ", ".join(members) + "}" for members, cyclic in plan.components if cyclic]
    return "\n".join([*lines, f"  stepped: {', '.join(cycles)}"] if cycles else lines)


def word(layer: Model) -> str:
    """A layer in a word or two: its type and its size, and its delays."""
    if isinstance(layer, Delayed):
        inner = word(layer.connection) if layer._has_product else "×".join(map(str, layer.connection))
        return f"Delayed({inner}, {lags(layer)})"
    kind = getattr(layer, "__name__", type(layer).__name__)
    sizes = (getattr(layer, "in_features", None), getattr(layer, "out_features", None))
    if all(isinstance(size, int) for size in sizes):
        return f"{kind}({sizes[0]} → {sizes[1]})"
    shape = getattr(layer, "hidden_shape", None)
    return f"{kind}({'×'.join(map(str, shape))})" if isinstance(shape, tuple) else kind


def lags(layer: Delayed, more: int = 0) -> str:
    """The least and the greatest delay of a layer, `+0.4–8.9`; where `more` steps are waited, those too."""
    value = layer.delays[...]
    if isinstance(value, Tracer):
        return f"+{more}–{more + layer.max_delay}"
    ends = (more + float(np.min(value)), more + float(np.max(value)))
    shown = [f"{end:.0f}" if layer.kernel == "fixed" else f"{end:.1f}" for end in ends]
    return "+" + "–".join(dict.fromkeys(shown))
