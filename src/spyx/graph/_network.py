"""`Graph`: named layers, and edges that may skip, branch, feed back and take their time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import jax
from flax import nnx

from spyx.graph import _execute, _shapes
from spyx.graph._arguments import (
    OWNER,
    own_merge,
    read_edges,
    read_merges,
    read_names,
    read_nodes,
    read_shapes,
    through_nodes,
)
from spyx.graph._delay import silent
from spyx.graph._describe import describe
from spyx.graph._execute import GraphState
from spyx.graph._topology import Plan, merge_problems, raise_all, structure_problems
from spyx.nn._execution import AUTO, Execution, takes_masks
from spyx.nn._layer import Layer, as_layer, step_through

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

    from spyx.engine.types import Input, Inputs, Output, Outputs, Shapes, State
    from spyx.graph.types import InputShape, Spec, WrittenEdge
    from spyx.nn._layer import Model


class Graph(Layer):
    """A network of named nodes: `out_n[t] = node_n(merge(out_m[t - delay] for every edge m -> n))`.

    An edge without a delay arrives within the same time step, an edge with delay d arrives d steps later; before the
    first step every signal is 0. A cycle needs a delay somewhere. Nodes outside every cycle run over all of time at
    once, and only a cycle is stepped, with the same result. A spiking node's output is one step late by itself, see its
    own docstring.

    An edge with an `nn.Delayed` has a delay for every source, target or synapse, trained or fixed: it leads through
    that layer, which is the node "source->target". Beside it, `delay` steps more are waited; a delay that is trained
    may become 0, so a cycle needs them.

    Args:
        nodes: name to layer. A layer is whatever `nn.Sequential` takes, another graph, or a function.
        edges: (source, target), (source, target, delay in time steps), (source, target, nn.Delayed) or
            (source, target, delay in time steps, nn.Delayed). A target's inputs merge in this order.
        merge: how a node or output merges several inputs: "concatenate" (default, on the last axis), "sum", "mean" or
            "list". A string is for all of them; a dict says it by name, "*" standing for the rest. A layer may also
            name its own, in an attribute `merge`.
        inputs: names that edges use for the graph's input; default "input".
        outputs: names that edges use for the graph's output; default "output".
        input_shape: shape of one sample at one step, for a check of all shapes at once and for `initial_state`, where
            a delayed signal is part of the state; a dict by name when there are several inputs. Default None: the
            first input tells.

    Shapes:
        one step: (batch, *features) -> (batch, *features'); several inputs or outputs are dicts by name. State:
        `GraphState`. Over time: see `spyx.nn.run`.

    Raises:
        TypeError: something that is not a layer, a name or an edge.
        ValueError: everything that is wrong with the structure and the shapes, in one list: unknown or unreachable
            nodes, a cycle without a delay, shapes that cannot merge, ...

    Example:
        >>> import jax.numpy as jnp
        >>> from spyx import nn
        >>> net = Graph(
        ...     nodes={"fc": nnx.Linear(3, 4, rngs=nnx.Rngs(0)), "lif": nn.LIF(4, beta=0.9), "out": nn.LI(4)},
        ...     edges=[("input", "fc"), ("fc", "lif"), ("lif", "lif", 2), ("lif", "out"), ("out", "output")],
        ...     merge={"lif": "sum"},
        ... )
        >>> out, state = nn.run(net, jnp.ones((5, 7, 3)))
        >>> out.shape
        (5, 7, 4)
    """

    container = True

    def __init__(
        self,
        nodes: Mapping[str, Model],
        edges: Iterable[WrittenEdge],
        merge: str | Mapping[str, str] = "concatenate",
        *,
        inputs: str | Sequence[str] = ("input",),
        outputs: str | Sequence[str] = ("output",),
        input_shape: InputShape | None = None,
    ) -> None:
        layers = read_nodes(nodes)
        heads, ends = read_names("inputs", inputs), read_names("outputs", outputs)
        asked = read_merges(merge)
        good, passed, problems = read_edges(edges, {*layers, *heads, *ends})
        problems += structure_problems(tuple(layers), heads, ends, good)
        problems += merge_problems(asked, {*layers, *ends})
        good = [edge for edge in good if edge.source in {*layers, *heads} and edge.target in {*layers, *ends}]
        merges = {
            name: asked.get(name) or own_merge(layers.get(name)) or asked.get("*", "concatenate")
            for name in (*layers, *ends)
        }
        of_edges = {edge.via: passed[edge.via] for edge in good if edge.via}
        layers |= of_edges
        merges |= dict.fromkeys(of_edges, "concatenate")
        how = tuple(sorted(merges.items()))
        self._plan = Plan(OWNER, tuple(layers), heads, ends, tuple(through_nodes(good)), how, tuple(of_edges))
        self.nodes = nnx.Dict(layers)
        self._input = read_shapes(self._plan, input_shape)
        if self._input is None:
            problems += _shapes.early_problems(self._plan, self._layers())
        else:
            problems += _shapes.infer(self._plan, self._layers(), dict(self._input)).problems
        raise_all(OWNER, problems)

    @property
    def edges(self) -> tuple[tuple[str, str, int], ...]:
        """All edges as (source, target, delay); one with an `nn.Delayed` is two, by way of "source->target"."""
        return tuple((edge.source, edge.target, edge.delay) for edge in self._plan.edges)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return self._plan.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self._plan.outputs

    @property
    def input_shape(self) -> tuple[int, ...] | dict[str, tuple[int, ...]] | None:
        """The shape of one sample at one step that the graph was made with; a dict where it has several inputs."""
        if self._input is None:
            return None
        found = {name: spec.shape[1:] for name, spec in self._input}
        return found if len(found) > 1 else next(iter(found.values()))

    @property
    def merges(self) -> dict[str, str]:
        """The merge of every node and output; it matters where several edges end."""
        return dict(self._plan.merges)

    @property
    def state_needs_input(self) -> bool:
        """Does the shape of the state depend on the input's? Then `state_for` makes it."""
        return bool(self._plan.memory) or any(layer.state_needs_input for layer in self._layers().values())

    def initial_state(self, batch_size: int) -> GraphState:
        """The state of `batch_size` samples before the first step: nodes at rest, nothing on its way.

        Raises:
            ValueError: the shape of a delayed signal follows neither from `input_shape` nor from the layers.
        """
        if not self.state_needs_input:
            return GraphState({name: node.initial_state(batch_size) for name, node in self._layers().items()}, {})
        if self._input is None:
            return self._state(_shapes.guessed_inputs(self._plan, self._layers(), batch_size), batch_size)
        given = {n: jax.ShapeDtypeStruct((batch_size, *spec.shape[1:]), spec.dtype) for n, spec in self._input}
        return self._state(given, batch_size)

    def state_for(self, x: Input | Shapes) -> GraphState:
        """The state before the first step, for input like `x`: one time step of it, or its `jax.ShapeDtypeStruct`."""
        given = self._plan.named_inputs(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), x))
        return self._state(given, jax.tree.leaves(given)[0].shape[0])

    def __call__(self, x: Input, state: GraphState) -> tuple[Output, GraphState]:
        """One time step: `(x, state) -> (out, new state)`."""
        return self._run(lambda: _execute.step(self._plan, self._layers(), x, self._checked(state)), x, lead=0)

    @takes_masks
    def sequence(self, xs: Inputs, state: GraphState, how: Execution = AUTO) -> tuple[Outputs, GraphState]:
        """All of time: `xs` is (time, batch, *features)."""
        if how.mask is not None and not how.mask.ends and state.past:
            return step_through(self, xs, state, how)
        return self._run(
            lambda: _execute.sequence(self._plan, self._layers(), xs, self._checked(state), how), xs, lead=1
        )

    def named_children(self, state: GraphState) -> dict[str, tuple[Model, State]]:
        """Every node by its name, with its part of `state`."""
        return {name: (self.nodes[name], state.nodes[name]) for name in self._plan.names}

    def sources(self) -> dict[str, tuple[str, ...]]:
        """The nodes and inputs that feed every node and output, by name."""
        targets = (*self._plan.names, *self._plan.outputs)
        return {name: tuple(e.source for e in self._plan.edges if e.target == name) for name in targets}

    def draw(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """A picture of the graph, with the delays on the edges; of an `nn.Delayed`, the least and the greatest.

        Args:
            path: file to write, its ending chooses the format (png, svg, pdf); None writes nothing.

        Returns:
            The Matplotlib figure.

        Raises:
            ImportError: without Matplotlib, `pip install 'spyx-jax[plot]'`.
        """
        from spyx.graph._draw import draw

        return draw(self, path)

    def __repr__(self) -> str:
        return describe(self)

    __str__ = __repr__

    def _layers(self) -> dict[str, Layer]:
        return {name: as_layer(OWNER, self.nodes[name]) for name in self._plan.names}

    def _state(self, given: Mapping[str, Spec], batch: int) -> GraphState:
        found = _shapes.infer(self._plan, self._layers(), given, batch)
        raise_all(OWNER, found.problems)
        unknown = [source for source in self._plan.memory if source not in found.signals]
        unknown += [n for n, layer in self._layers().items() if layer.state_needs_input and n not in found.taken]
        if unknown:
            raise ValueError(
                f"{OWNER}.initial_state: expected to know the shapes that the state depends on; got no shape for "
                f"{', '.join(unknown)}. Construct with input_shape=, use state_for(x) with one step of input, or leave "
                "the state to run."
            )
        nodes = {
            name: layer.state_for(found.taken[name]) if layer.state_needs_input else layer.initial_state(batch)
            for name, layer in self._layers().items()
        }
        past = {source: silent(found.signals[source], length) for source, length in self._plan.memory.items()}
        return GraphState(nodes, past)

    def _checked(self, state: State) -> GraphState:
        expected = (set(self._plan.names), set(self._plan.memory))
        if isinstance(state, GraphState) and (set(state.nodes), set(state.past)) == expected:
            return state
        got = f"one of {', '.join(state.nodes)}" if isinstance(state, GraphState) else type(state).__name__
        raise ValueError(
            f"{OWNER}: expected this graph's GraphState, with the nodes {', '.join(self._plan.names)}; got {got}. "
            "Make it with initial_state(batch_size), or let run make it."
        )

    def _run(
        self, execution: Callable[[], tuple[Outputs, GraphState]], x: Input | Inputs, lead: int
    ) -> tuple[Outputs, GraphState]:
        """Run, and if it fails for its shapes, report everything that does not fit instead of the first thing."""
        try:
            return execution()
        except (TypeError, ValueError):
            specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[lead:], a.dtype), x)
            batch = next((leaf.shape[0] for leaf in jax.tree.leaves(specs) if leaf.shape), 1)
            raise_all(OWNER, _shapes.infer(self._plan, self._layers(), self._plan.named_inputs(specs), batch).problems)
            raise
