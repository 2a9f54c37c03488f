"""The structure of a graph, apart from its layers: names, edges, merges, and what follows from them."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from spyx.graph._merge import MERGES
from spyx.graph._schedule import Component, Edge, components, instant_cycles, reachable

One = TypeVar("One")
"""What belongs to one input: a signal, or its shape."""


@dataclass(frozen=True)
class Plan:
    """Hashable and equal by value, so that two graphs of one structure share one trace.

    Args:
        owner: the public name that errors blame.
        names: the nodes.
        inputs: the names that the graph's input arrives under.
        outputs: the names that its output is read from.
        edges: all connections; a target's inputs merge in this order.
        merges: how each target with several inputs merges them: pairs (target, merge), sorted.
        passed: the nodes that were written on an edge, each between two of `edges`. They run as all others do, so
            graphs that differ in this alone are equal.
    """

    owner: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    edges: tuple[Edge, ...]
    merges: tuple[tuple[str, str], ...]
    passed: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def whole_edges(self) -> tuple[Edge, ...]:
        """The edges as they were written: one that passes a node is one, and names it in `via`."""
        before = {edge.target: edge for edge in self.edges if edge.target in self.passed}
        return tuple(
            edge if edge.source not in before else before[edge.source]._replace(target=edge.target, via=edge.source)
            for edge in self.edges
            if edge.target not in before
        )

    @cached_property
    def components(self) -> tuple[Component, ...]:
        """What runs, in order."""
        return components(self.names, self.edges)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The order of the nodes within one time step."""
        return tuple(name for component in self.components for name in component.members)

    @cached_property
    def incoming(self) -> Mapping[str, tuple[tuple[int, Edge], ...]]:
        """The edges into every node and output, with their index."""
        into: dict[str, list[tuple[int, Edge]]] = {name: [] for name in (*self.names, *self.outputs)}
        for index, edge in enumerate(self.edges):
            into[edge.target].append((index, edge))
        return {target: tuple(found) for target, found in into.items()}

    @cached_property
    def memory(self) -> Mapping[str, int]:
        """How many past steps of a source are stored, for every source of a delayed edge."""
        longest: dict[str, int] = {}
        for edge in self.edges:
            if edge.delay:
                longest[edge.source] = max(edge.delay, longest.get(edge.source, 0))
        return longest

    @cached_property
    def merge_of(self) -> Mapping[str, str]:
        """The merge of every target."""
        return dict(self.merges)

    def named_inputs(self, x: One | Mapping[str, One]) -> dict[str, One]:
        """The graph's input by name: one input is the value itself, several are a mapping."""
        if len(self.inputs) == 1:
            return {self.inputs[0]: x}  # type: ignore[dict-item]
        if not isinstance(x, Mapping) or set(x) != set(self.inputs):
            named = f"the names {', '.join(map(str, x))}" if isinstance(x, Mapping) else type(x).__name__
            got = "one array" if hasattr(x, "shape") else named
            raise ValueError(
                f"{self.owner}: expected a dict with the inputs {', '.join(self.inputs)}; got {got}. "
                f"Pass {{{', '.join(f'{name!r}: ...' for name in self.inputs)}}}."
            )
        return dict(x)


def structure_problems(
    names: Sequence[str], inputs: Sequence[str], outputs: Sequence[str], edges: Sequence[Edge]
) -> list[str]:
    """Everything that is wrong with the structure, shapes apart."""
    problems = []
    for name in (*inputs, *outputs):
        if name in names:
            problems.append(f"node {name!r}: the name is reserved for the graph's own input or output")
    for name in sorted(set(inputs) & set(outputs)):
        problems.append(f"{name!r} is both an input and an output: give them two names")
    for name in names:
        if not name or name.startswith("_"):
            problems.append(f"node {name!r}: a name starts with a letter or a digit")
    known = set(names) | set(inputs) | set(outputs)
    for edge in edges:
        problems += [_unknown(name, edge, known) for name in dict.fromkeys(edge[:2]) if name not in known]
        if edge.target in inputs:
            problems.append(f"edge {shown(edge)}: {edge.target!r} is an input, nothing can lead to it")
        if edge.source in outputs:
            problems.append(f"edge {shown(edge)}: {edge.source!r} is an output, nothing can start from it")
    repeated = [edge for position, edge in enumerate(edges) if edge in edges[:position]]
    problems += [f"edge {shown(edge)} is there twice" for edge in dict.fromkeys(repeated)]
    for cycle in instant_cycles(names, edges):
        learned = any(edge.via and {edge.source, edge.target} <= set(cycle) for edge in edges)
        beside = (
            ", as (source, target, 1, nn.Delayed(...)) does: an nn.Delayed alone may wait 0 steps" if learned else ""
        )
        problems.append(
            f"the cycle through {', '.join(cycle)} has no delay: give one of its edges a delay of at least 1{beside}"
        )
    alive = reachable(inputs, edges)
    problems += [
        f"node {name!r} is unreachable: no edge leads to it from an input" for name in names if name not in alive
    ]
    problems += [f"output {name!r} is unreachable from an input" for name in outputs if name not in alive]
    sources = {edge.source for edge in edges}
    problems += [f"input {name!r} leads nowhere" for name in inputs if name not in sources]
    return problems


def merge_problems(merge: Mapping[str, str], targets: Collection[str]) -> list[str]:
    """Merges that do not exist, and merges of nothing."""
    problems = []
    for name, how in merge.items():
        if name not in targets and name != "*":
            problems.append(f"merge of {name!r}: there is no such node or output")
        if how not in MERGES:
            problems.append(f"merge {how!r}: the merges are {', '.join(MERGES)}")
    return problems


def raise_all(owner: str, found: Iterable[str], expected: str = "a graph that can run") -> None:
    """One error that lists every problem; nothing if there is none."""
    problems = list(found)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        lines = "".join(f"\n  - {problem}" for problem in dict.fromkeys(problems))
        raise ValueError(f"{owner}: expected {expected}; got {count}. Fix:{lines}")


def shown(edge: Edge) -> str:
    """An edge as the user writes it."""
    words = [repr(edge.source), repr(edge.target), *([str(edge.delay)] if edge.delay else [])]
    return f"({', '.join([*words, *(['nn.Delayed'] if edge.via else [])])})"


def _unknown(name: str, edge: Edge, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the names are {', '.join(sorted(known))}"
    return f"edge {shown(edge)}: unknown node {name!r}, {hint}"
