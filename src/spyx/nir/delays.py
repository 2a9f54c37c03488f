"""Which edges take time: NIR's time is continuous, so in discrete time every cycle needs a step somewhere.

A cycle that has a `Delay` of at least one step, or a node that answers late, has it already. Otherwise what a neuron
of the cycle answers arrives one step later at the next node: the last neuron before the edge that closes the cycle,
found depth-first from the inputs in the order of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

Edge = tuple[str, str]


def closing_edges(
    starts: Sequence[str], edges: Sequence[Edge], taken: Mapping[Edge, int], neurons: Collection[str]
) -> set[Edge]:
    """The edges that need an extra step.

    Args:
        starts: where the search begins.
        edges: all edges, in the order of the file.
        taken: steps that an edge takes anyway; edges that are missing take none.
        neurons: the nodes with a state.
    """
    closing: set[Edge] = set()
    instant = [edge for edge in edges if not taken.get(edge)]
    while cycle := instant_cycle(starts, instant):
        ring = list(zip(cycle, [*cycle[1:], cycle[0]], strict=True))
        late = next((edge for edge in reversed(ring) if edge[0] in neurons), ring[-1])
        closing.add(late)
        instant.remove(late)
    return closing


def instant_cycle(starts: Iterable[str], edges: Sequence[Edge]) -> list[str]:
    """The first cycle that a depth-first search meets, from the node that it comes back to; empty for none."""
    following: dict[str, list[str]] = {}
    for source, target in edges:
        following.setdefault(source, []).append(target)
    done: set[str] = set()
    for start in [*starts, *following]:
        if start in done:
            continue
        path, waiting, on_path = [start], [iter(following.get(start, ()))], {start}
        while path:
            child = next(waiting[-1], None)
            if child is None:
                waiting.pop()
                on_path.discard(path[-1])
                done.add(path.pop())
            elif child in on_path:
                return path[path.index(child) :]
            elif child not in done:
                path.append(child)
                on_path.add(child)
                waiting.append(iter(following.get(child, ())))
    return []


def whole_steps(delay: float, dt: float) -> int | None:
    """A delay in time steps, or None when it is not a whole number of them."""
    steps = round(float(delay) / dt)
    return steps if abs(float(delay) / dt - steps) <= 1e-3 and steps >= 0 else None
