"""In which order nodes run: the graph condensed into its strongly connected components.

Tarjan, R. (1972), Depth-first search and linear graph algorithms, doi:10.1137/0201010; without recursion, because a
chain of a thousand layers is a legal graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple


class Component(NamedTuple):
    """Nodes that run together: one node over all of time, or the nodes of a cycle, stepped in this order."""

    members: tuple[str, ...]
    cyclic: bool


class Edge(NamedTuple):
    """From a source to a target, arriving `delay` time steps later; `via` names the node that it passes, if any."""

    source: str
    target: str
    delay: int = 0
    via: str = ""


def components(names: Sequence[str], edges: Collection[Edge]) -> tuple[Component, ...]:
    """The components in the order in which they can run; edges that leave `names` are none of their business."""
    found = []
    for members in strongly_connected(names, edges):
        inside = [e for e in edges if e.source in members and e.target in members]
        within_step = [e for e in inside if not e.delay]
        order = [name for group in strongly_connected(_in_order(names, members), within_step) for name in group]
        found.append(Component(tuple(order), bool(inside)))
    return tuple(found)


def instant_cycles(names: Sequence[str], edges: Collection[Edge]) -> list[tuple[str, ...]]:
    """Groups of nodes that would need their own output within one time step."""
    within_step = [e for e in edges if not e.delay]
    loops = {e.source for e in within_step if e.source == e.target}
    groups = strongly_connected(names, within_step)
    return [tuple(_in_order(names, g)) for g in groups if len(g) > 1 or g[0] in loops]


def first_cycle(starts: Iterable[str], edges: Iterable[Edge]) -> list[str]:
    """The first cycle that a depth-first search meets, from the node that it comes back to; empty for none."""
    following = _following(edges)
    done: set[str] = set()
    for start in [*starts, *following]:
        path = [] if start in done else [start]
        waiting = [iter(following.get(name, ())) for name in path]
        while path:
            child = next(waiting[-1], None)
            if child is None:
                waiting.pop()
                done.add(path.pop())
            elif child in path:
                return path[path.index(child) :]
            elif child not in done:
                path.append(child)
                waiting.append(iter(following.get(child, ())))
    return []


def reachable(starts: Iterable[str], edges: Collection[Edge]) -> set[str]:
    """Everything that a signal from `starts` can get to, the starts included."""
    following = _following(edges)
    seen, waiting = set(starts), list(starts)
    while waiting:
        for name in following.get(waiting.pop(), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return seen


def strongly_connected(names: Sequence[str], edges: Collection[Edge]) -> list[list[str]]:
    """Tarjan's components, sources before targets."""
    inside = set(names)
    following = _following(e for e in edges if e.source in inside and e.target in inside)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    waiting: set[str] = set()
    found: list[list[str]] = []
    for root in reversed(names):
        if root in index:
            continue
        path = [(root, iter(following.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        waiting.add(root)
        while path:
            name, rest = path[-1]
            child = next(rest, None)
            if child is None:
                path.pop()
                if path:
                    parent = path[-1][0]
                    low[parent] = min(low[parent], low[name])
                if low[name] == index[name]:
                    cut = stack.index(name)
                    found.append(stack[cut:])
                    waiting.difference_update(stack[cut:])
                    del stack[cut:]
            elif child not in index:
                index[child] = low[child] = len(index)
                stack.append(child)
                waiting.add(child)
                path.append((child, iter(following.get(child, ()))))
            elif child in waiting:
                low[name] = min(low[name], index[child])
    return found[::-1]


def _following(edges: Iterable[Edge]) -> Mapping[str, list[str]]:
    following: dict[str, list[str]] = {}
    for edge in edges:
        following.setdefault(edge.source, []).append(edge.target)
    return following


def _in_order(names: Sequence[str], members: Collection[str]) -> list[str]:
    return [name for name in names if name in members]
