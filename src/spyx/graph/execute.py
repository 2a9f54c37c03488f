"""How a graph runs: one time step of everything, or all of time component by component."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from spyx.graph.delay import Ring, after, delayed, push, read
from spyx.graph.merge import merge, text
from spyx.graph.plan import Plan
from spyx.graph.schedule import Edge
from spyx.nn.execution import Execution
from spyx.nn.layer import one_step, over_time, scan_layer


class GraphState(NamedTuple):
    """State of a graph between two time steps.

    Args:
        nodes: node name to its state; None for a node without state.
        past: source name to its `Ring`, for every source of a delayed edge.

    Example:
        >>> from spyx import graph, nn
        >>> net = graph.feed_forward(nn.LI(2))
        >>> sorted(net.initial_state(1).nodes)
        ['li_0']
    """

    nodes: dict[str, Any]
    past: dict[str, Ring]


def step(plan: Plan, layers: Mapping[str, Any], x: Any, state: GraphState) -> tuple[Any, GraphState]:
    """One time step of the whole graph."""
    signals = plan.named_inputs(x)

    def value(_: int, edge: Edge) -> Any:
        return read(state.past[edge.source], edge.delay) if edge.delay else signals[edge.source]

    nodes = _visit(plan, layers, plan.order, value, signals, state)
    past = {source: push(ring, signals[source]) for source, ring in state.past.items()}
    return _outputs(plan, value), GraphState(nodes, past)


def sequence(
    plan: Plan, layers: Mapping[str, Any], xs: Any, state: GraphState, how: Execution
) -> tuple[Any, GraphState]:
    """All of time: a node outside every cycle runs once over all of it, a cycle is stepped on its own."""
    signals = plan.named_inputs(xs)
    nodes: dict[str, Any] = {}
    past: dict[str, Ring] = {}

    def value(_: int, edge: Edge) -> Any:
        now = signals[edge.source]
        return delayed(state.past[edge.source], now, edge.delay) if edge.delay else now

    def run_layer(layer: Any, x: Any, s: Any) -> tuple[Any, Any]:
        return over_time(layer, x, s, how)

    for members, cyclic in plan.components:
        if cyclic:
            fed = {
                index: value(index, edge)
                for name in members
                for index, edge in plan.incoming[name]
                if edge.source not in members
            }
            cycle = Cycle(plan, members, layers)
            how.note(cycle, next(iter(fed.values())), "step", f"a cycle through {', '.join(members)}")
            outs, inner = scan_layer(cycle, fed, cycle.part_of(state))
            signals.update(outs)
            nodes.update(inner.nodes)
            past.update(inner.past)
        else:
            nodes.update(_visit(plan, layers, members, value, signals, state, run_layer, lead=2))
    outs = _outputs(plan, value)
    past = {source: past.get(source) or after(ring, signals[source]) for source, ring in state.past.items()}
    return outs, GraphState({name: nodes[name] for name in plan.names}, past)


class Cycle(nnx.Module):
    """The nodes of one cycle as a layer: takes what flows into the cycle, answers with what flows out of it."""

    def __init__(self, plan: Plan, members: tuple[str, ...], layers: Mapping[str, Any]) -> None:
        self._plan, self._members = plan, members
        self._told = tuple(
            name for name in members if any(e.source == name and e.target not in members for e in plan.edges)
        )
        self.layers = nnx.Dict({name: layers[name] for name in members})

    def part_of(self, state: GraphState) -> GraphState:
        """The members' states and the pasts of those that answer one another late."""
        late = {e.source for e in self._plan.edges if e.delay and e.target in self._members} & set(self._members)
        nodes = {name: state.nodes[name] for name in self._members}
        return GraphState(nodes, {name: state.past[name] for name in self._plan.names if name in late})

    def __call__(self, fed: dict[int, Any], state: GraphState) -> tuple[dict[str, Any], GraphState]:
        signals: dict[str, Any] = {}

        def value(index: int, edge: Edge) -> Any:
            if index in fed:
                return fed[index]
            return read(state.past[edge.source], edge.delay) if edge.delay else signals[edge.source]

        nodes = _visit(self._plan, self.layers, self._members, value, signals, state)
        past = {source: push(ring, signals[source]) for source, ring in state.past.items()}
        return {name: signals[name] for name in self._told}, GraphState(nodes, past)


def _visit(
    plan: Plan,
    layers: Mapping[str, Any],
    names: Iterable[str],
    value: Callable[[int, Edge], Any],
    signals: dict[str, Any],
    state: GraphState,
    call: Callable[[Any, Any, Any], tuple[Any, Any]] = one_step,
    lead: int = 1,
) -> dict[str, Any]:
    """Run nodes in order, each on its merged inputs: adds their answers to `signals`, returns their new states."""
    nodes = {}
    for name in names:
        x = _taken(plan, name, value)
        try:
            signals[name], nodes[name] = call(layers[name], x, state.nodes[name])
        except (TypeError, ValueError) as error:
            shapes = jax.tree.map(lambda a: text(a.shape[lead - 1 :]), x)
            raise type(error)(
                f"{plan.owner}: node {name!r} ({type(layers[name]).__name__}) cannot take input of shape {shapes}; "
                f"got this from it: {error}"
            ) from error
    return nodes


def _taken(plan: Plan, target: str, value: Callable[[int, Edge], Any]) -> Any:
    values = [value(index, edge) for index, edge in plan.incoming[target]]
    try:
        return merge(plan.merge_of[target], values)
    except ValueError as error:
        sources = ", ".join(edge.source for _, edge in plan.incoming[target])
        raise ValueError(
            f"{plan.owner}: inputs of {target!r} ({sources}): {error}. Change a layer or the merge."
        ) from error


def _outputs(plan: Plan, value: Callable[[int, Edge], Any]) -> Any:
    answers = {name: _taken(plan, name, value) for name in plan.outputs}
    return answers[plan.outputs[0]] if len(answers) == 1 else answers
