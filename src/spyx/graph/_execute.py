"""How a graph runs: one time step of everything, or all of time component by component."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
from flax import nnx

from spyx.graph._delay import Ring, after, delayed, push, read
from spyx.graph._merge import merge, text
from spyx.graph._schedule import Edge
from spyx.graph._topology import Plan
from spyx.nn._execution import AUTO, Execution
from spyx.nn._layer import Layer, as_layer, over_time, step_through

if TYPE_CHECKING:
    from spyx.engine.types import Input, Inputs, Output, Outputs, State
    from spyx.graph.types import Signal, Signals, Value


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

    nodes: dict[str, State]
    past: dict[str, Ring]


def step(plan: Plan, layers: Mapping[str, Layer], x: Input, state: GraphState) -> tuple[Output, GraphState]:
    """One time step of the whole graph."""
    signals = plan.named_inputs(x)

    def value(_: int, edge: Edge) -> Input:
        return read(state.past[edge.source], edge.delay) if edge.delay else signals[edge.source]

    nodes = _visit(plan, layers, plan.order, value, signals, state)
    past = {source: push(ring, signals[source]) for source, ring in state.past.items()}
    return _outputs(plan, value), GraphState(nodes, past)


def sequence(
    plan: Plan, layers: Mapping[str, Layer], xs: Inputs, state: GraphState, how: Execution
) -> tuple[Outputs, GraphState]:
    """All of time: a node outside every cycle runs once over all of it, a cycle is stepped on its own.

    A delay counts the steps of a sample: with a mask whose samples come back, `step_through` runs a delayed graph.
    """
    signals = plan.named_inputs(xs)
    nodes: dict[str, State] = {}
    past: dict[str, Ring] = {}

    def value(_: int, edge: Edge) -> Inputs:
        now = signals[edge.source]
        return delayed(state.past[edge.source], now, edge.delay) if edge.delay else now

    for members, cyclic in plan.components:
        if cyclic:
            arriving = {
                index: value(index, edge)
                for name in members
                for index, edge in plan.incoming[name]
                if edge.source not in members
            }
            cycle = Cycle(plan, members, layers)
            among = how.inside(members[0])
            among.note(cycle, next(iter(arriving.values())), "step", f"a cycle through {', '.join(members)}")
            outs, inner = step_through(cycle, arriving, cycle.part_of(state), how)
            signals.update(outs)
            nodes.update(inner.nodes)
            past.update(inner.past)
        else:
            nodes.update(_visit(plan, layers, members, value, signals, state, how))
    outs = _outputs(plan, value)
    past = {source: past.get(source) or after(ring, signals[source], how.mask) for source, ring in state.past.items()}
    return outs, GraphState({name: nodes[name] for name in plan.names}, past)


class Cycle(Layer):
    """The nodes of one cycle as a layer: its input is what flows into the cycle, its output what flows out of it."""

    container = True

    def __init__(self, plan: Plan, members: tuple[str, ...], layers: Mapping[str, Layer]) -> None:
        self._plan, self._members = plan, members
        self._told = tuple(
            name for name in members if any(e.source == name and e.target not in members for e in plan.edges)
        )
        self.layers = nnx.Dict({name: layers[name] for name in members})

    def part_of(self, state: GraphState) -> GraphState:
        """The members' states and the pasts of those whose outputs reach one another late."""
        late = {e.source for e in self._plan.edges if e.delay and e.target in self._members} & set(self._members)
        nodes = {name: state.nodes[name] for name in self._members}
        return GraphState(nodes, {name: state.past[name] for name in self._plan.names if name in late})

    def __call__(self, x: dict[int, Input], state: GraphState) -> tuple[dict[str, Output], GraphState]:
        return self._step(x, state, None)

    def sequence(
        self, xs: dict[int, Inputs], state: GraphState, how: Execution = AUTO
    ) -> tuple[dict[str, Outputs], GraphState]:
        """One time step, observed."""
        arriving = jax.tree.map(lambda a: a[0], xs)
        outs, state = self._step(arriving, state, how)
        return jax.tree.map(lambda a: a[None], outs), state

    def _step(
        self, arriving: dict[int, Input], state: GraphState, how: Execution | None
    ) -> tuple[dict[str, Output], GraphState]:
        signals: Signals = {}

        def value(index: int, edge: Edge) -> Input:
            if index in arriving:
                return arriving[index]
            return read(state.past[edge.source], edge.delay) if edge.delay else signals[edge.source]

        layers = {name: as_layer(self._plan.owner, self.layers[name]) for name in self._members}
        nodes = _visit(self._plan, layers, self._members, value, signals, state, how, single=True)
        past = {source: push(ring, signals[source]) for source, ring in state.past.items()}
        return {name: signals[name] for name in self._told}, GraphState(nodes, past)


def _visit(
    plan: Plan,
    layers: Mapping[str, Layer],
    names: Iterable[str],
    value: Value,
    signals: Signals,
    state: GraphState,
    how: Execution | None = None,
    single: bool = False,
) -> dict[str, State]:
    """Run nodes in order, each on its merged inputs: adds their outputs to `signals`, returns their new states.

    Without `how`, `signals` are those of one time step; with it they have time on axis 0, and with `single` those of
    one step are observed.
    """
    nodes = {}
    for name in names:
        x, layer = _taken(plan, name, value), layers[name]
        try:
            if how is None:
                signals[name], nodes[name] = layer(x, state.nodes[name])
            else:
                inner = how.inside(name)
                xs = jax.tree.map(lambda a: a[None], x) if single else x
                outs, nodes[name] = over_time(layer, xs, state.nodes[name], inner)
                inner.output(layer, outs)
                signals[name] = jax.tree.map(lambda a: a[0], outs) if single else outs
        except (TypeError, ValueError) as error:
            one = jax.tree.map(lambda a: a[0], x) if how is not None and not single else x
            shapes = jax.tree.map(lambda a: text(a.shape), one)
            raise type(error)(
                f"{plan.owner}: node {name!r} ({layer._kind}) cannot take input of shape {shapes}; "
                f"got this from it: {error}"
            ) from error
    return nodes


def _taken(plan: Plan, target: str, value: Value) -> Signal:
    values = [value(index, edge) for index, edge in plan.incoming[target]]
    try:
        return merge(plan.merge_of[target], values)
    except ValueError as error:
        sources = ", ".join(edge.source for _, edge in plan.incoming[target])
        raise ValueError(
            f"{plan.owner}: inputs of {target!r} ({sources}): {error}. Change a layer or the merge."
        ) from error


def _outputs(plan: Plan, value: Value) -> Signal:
    outs = {name: _taken(plan, name, value) for name in plan.outputs}
    return outs[plan.outputs[0]] if len(outs) == 1 else outs
