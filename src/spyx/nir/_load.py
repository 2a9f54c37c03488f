"""`from_nir`: a NIR graph as a `spyx.graph.Graph` that computes the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np

import nir
from spyx import nn
from spyx.graph import Graph
from spyx.graph._topology import raise_all
from spyx.nir import _axes, _spyx1
from spyx.nir._axes import Layouts
from spyx.nir._discrete import Choices, Meaning, instant_cycle, meaning_at, read_meaning, steps_of, text, whole_steps
from spyx.nir._flat import SPIKING, Edge, Flat, Shape
from spyx.nir._io import as_graph
from spyx.nir._rules import spyx_neurons
from spyx.nir._rules.nir_nodes import Pass
from spyx.nir._rules.table import Rule, Site, rules_for_node
from spyx.nir._validate import MOST_UNITS, Validated, validated
from spyx.nn._layer import Model

if TYPE_CHECKING:
    from jaxtyping import Array, Num, Shaped

    from spyx.engine.types import Output, Outputs, States
    from spyx.graph import GraphState

    Data = Num[Array | np.ndarray, "time batch ..."]
    """Input of all steps, time-major."""

OWNER, EXPECTED = "spyx.nir.from_nir", "nodes that spyx can read"


class _Options(Choices, total=False):
    """What is given by name, whatever else is."""

    written_by: str
    rngs: object


@overload
def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str], *args: float, dt: float | None = None, **options: Unpack[_Options]
) -> Graph: ...


@overload
def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str],
    input_data: Data,
    *args: float,
    dt: float | None = None,
    return_all_states: bool = False,
    **options: Unpack[_Options],
) -> tuple[Graph, Outputs | tuple[Outputs, States]]: ...


def from_nir(
    graph: nir.NIRGraph | str | os.PathLike[str],
    *args: Data | float,
    dt: float | None = None,
    integration: str | None = None,
    reset: str | None = None,
    spike: str | None = None,
    multi_spike: bool | None = None,
    v_min: float | None = None,
    written_by: str = "auto",
    input_data: Data | None = None,
    return_all_states: bool = False,
    rngs: object = None,
) -> Graph | tuple[Graph, Outputs | tuple[Outputs, States]]:
    """A NIR graph as a `spyx.graph.Graph` that computes the same.

    NIR's equations are continuous in time; how they become steps is chosen here, and what is not chosen is what the
    file says, or else Euler, NIR's own reset and a spike within the step. All of tau, r, v_leak, v_threshold, v_reset,
    w_in and tau_syn count. A cycle without a delay gets one step, on the edge that closes it. Maps are channels-first
    in NIR and channels-last in spyx; signals that no convolution or pool touches have the same axes.

    Args:
        graph: a `nir.NIRGraph`, or the path of a .nir file.
        *args: `dt`; or, as in Spyx 1.0, `input_data` and `dt`. What is not a number is input data.
        dt: time step, in the unit of the graph's time constants; None is what the file says.
        integration: "euler" or "exponential" (exact decay, as Sinabs and Rockpool do it).
        reset: "nir" (to v_reset), "subtract" (v_threshold - v_reset) or "zero".
        spike: "post", from the updated membrane, or "pre": the same spikes one step later, as in `spyx.nn`.
        multi_spike: let a membrane of several thresholds spike several times in a step.
        v_min: lower bound of every membrane that spikes.
        written_by: "spyx1": take the gain that Spyx 1.0's author meant (it wrote r = beta). "nir": take r as it stands.
            "auto" (default) recognises such files, and warns.
        input_data: Spyx 1.0's: input (time, batch, ...) to run the model on; its `dt` is 1 unless given.
        return_all_states: Spyx 1.0's: return the states of every step, too.
        rngs: Spyx 1.0's; nothing is drawn.

    Returns:
        The model. With input data, as Spyx 1.0 did: `(model, outputs)` or `(model, (outputs, states))`, time-major.

    Raises:
        ValueError: everything that is wrong with the graph, in one list with the names of the nodes.
        TypeError: something that is no graph.

    Example:
        >>> one = np.ones(1)
        >>> lif = nir.LIF(tau=2 * one, r=one, v_leak=0 * one, v_threshold=one / 2, v_reset=0 * one)
        >>> graph = nir.NIRGraph.from_list(nir.Linear(np.ones((1, 1))), lif)
        >>> model = from_nir(graph, dt=1.0)
        >>> nn.run(model, jnp.ones((1, 4, 1)))[0][0, :, 0].tolist()
        [0.0, 1.0, 0.0, 1.0]

    Reference:
        Pedersen et al. 2024, Neuromorphic intermediate representation, doi:10.1038/s41467-024-52259-9.
    """
    if input_data is None and args and np.ndim(args[0]) > 0:
        input_data, args = args[0], args[1:]  # type: ignore[assignment]
    if args and dt is None:
        dt, args = args[0], args[1:]  # type: ignore[assignment]
    if args:
        raise TypeError(
            f"spyx.nir.from_nir: expected a graph and a time step, the rest by name; got {len(args)} more. Name them."
        )
    if input_data is not None and dt is None:
        dt = 1
    plain = _spyx1.as_meant(as_graph(graph), dt, written_by)
    checked = validated(plain)
    chosen = Choices(integration=integration, reset=reset, spike=spike, multi_spike=multi_spike, v_min=v_min)
    model = built(checked, read_meaning(plain.metadata, dt, **chosen), chosen)
    if input_data is None:
        return model
    xs = jnp.asarray(input_data)
    if not return_all_states:
        return model, nn.run(model, xs, time_axis=0)[0]

    def step(state: GraphState, x: Shaped[Array, "batch ..."]) -> tuple[GraphState, tuple[Output, GraphState]]:
        out, state = model(x, state)
        return state, (out, state)

    return model, jax.lax.scan(step, model.initial_state(xs.shape[1]), xs)[1]


class _Loaded(NamedTuple):
    """The layers of a graph while it is built."""

    layers: dict[str, Model]
    late: set[str]  # nodes whose output is made late by the edges that leave them
    late_itself: set[str]  # nodes whose layer is late by itself
    folded: set[str]  # nodes that became a part of another


def built(checked: Validated, meaning: Meaning, chosen: Mapping[str, object]) -> Graph:
    """A model out of a graph that passed; `chosen` is what the caller chose, which counts more than single nodes."""
    flat = checked.flat
    rules = {name: rules_of(node) for name, node in flat.nodes.items()}
    problems = [
        f"node {n!r} ({type(flat.nodes[n]).__name__}): no rule reads it" for n, found in rules.items() if not found
    ]
    raise_all(OWNER, [*problems, *_delay_problems(flat, meaning.dt)], EXPECTED)
    axes = axes_of(checked)
    found = _Loaded({}, set(), set(), set())
    for name, node in flat.nodes.items():
        if isinstance(node, (nir.Input, nir.Output)) or name in found.folded:
            continue
        here = meaning_at(node, meaning, chosen)
        site = _site(checked, axes, name, here)
        try:
            found.layers[name], rule = _recurrent(flat, site, found, axes) or _layer(node, site, rules[name])
        except ValueError as error:
            problems.append(f"node {name!r} ({type(node).__name__}): {error}")
            continue
        if rule.latency:
            found.late_itself.add(name)
        elif here.spike == "pre" and isinstance(node, SPIKING):
            found.late.add(name)
    raise_all(OWNER, problems, EXPECTED)
    for name in found.folded:
        found.layers.pop(name, None)
    taken = _exact_where_needed(checked, found, axes, meaning)
    inputs = flat.names(nir.Input)
    edges: list[tuple[str, str, int]] = [(a, b, steps) for (a, b), steps in taken.items()]
    if not found.layers:  # a Graph has at least one node
        first = f"pass {inputs[0]}"
        found.layers[first] = Pass()
        edges = [*((first if a == inputs[0] else a, b, n) for a, b, n in edges), (inputs[0], first, 0)]
    shapes = input_shapes(checked, axes)
    return Graph(found.layers, edges, merge="sum", inputs=inputs, outputs=flat.names(nir.Output), input_shape=shapes)


def input_shapes(checked: Validated, axes: Layouts) -> Shape | dict[str, Shape]:
    """`input_shape` of the graph, on spyx's axes."""
    names = checked.flat.names(nir.Input)
    shapes = {name: axes.given[name].spyx_shape(checked.given[name]) for name in names}
    return shapes if len(shapes) > 1 else shapes[names[0]]


def axes_of(checked: Validated) -> Layouts:
    """Axes of every signal of a graph that passed and whose nodes have rules."""
    flat = checked.flat
    kinds = {name: rules_of(node)[0].kind_of(node) for name, node in flat.nodes.items()}
    ordered = {name: _channels_last(flat.nodes[name]) for name in flat.names(nir.Output)}
    axes = _axes.solve(kinds, flat.edges, checked.taken, ordered)
    lost = [n for n, known in ordered.items() if known and axes.taken[n].kind != "flat"]
    why = "says that its order is channels last, but no flattened map leads there"
    raise_all(OWNER, [f"node {name!r} (Output): {why}" for name in lost], EXPECTED)
    return axes


def rules_of(node: nir.NIRNode) -> list[Rule]:
    """The rules that may read a node, best first."""
    if isinstance(node, nir.Input):
        return [Rule(None, nir.Input, kind="map" if _channels_last(node) else "input")]
    if isinstance(node, nir.Output):
        return [Rule(None, nir.Output, kind="output")]
    return rules_for_node(node, text(node.metadata.get("layer")))


def _channels_last(node: nir.NIRNode) -> bool:
    return text(node.metadata.get("order")) == "channels last"


def _site(checked: Validated, axes: Layouts, name: str, here: Meaning) -> Site:
    return Site(name, here, checked.taken[name], checked.given[name], axes.taken[name], axes.given[name])


def _layer(node: nir.NIRNode, site: Site, rules: list[Rule]) -> tuple[Model, Rule]:
    for rule in rules:
        layer = rule.load(node, site) if rule.load else None
        if layer is not None:
            return layer, rule
    raise ValueError("no rule could read it")


def _recurrent(flat: Flat, site: Site, found: _Loaded, axes: Layouts) -> tuple[Model, Rule] | None:
    """A recurrent layer of spyx out of the neuron and the matrix that it was written as."""
    name, back = site.name, f"{site.name}.w_rec"
    node, matrix = flat.nodes[name], flat.nodes.get(back)
    recorded = text(node.metadata.get("layer"))
    kind = next((layer for layer in spyx_neurons.RECURRENT if layer.__name__ == recorded), None)
    if kind is None or not isinstance(matrix, nir.Linear) or axes.taken[back] != site.given:
        return None
    if {edge for edge in flat.edges if back in edge} != {(name, back), (back, name)}:
        return None
    order = site.given.order(matrix.weight.shape[0])
    weight = jnp.asarray(matrix.weight[order][:, order].T, jnp.float32)
    layer = spyx_neurons.load(node, site, layer=kind, weight=weight)
    if layer is None:
        return None
    found.folded.add(back)
    return layer, Rule(kind, type(node), latency=1)


def _delay_problems(flat: Flat, dt: float) -> list[str]:
    problems = []
    for name, node in flat.of(nir.Delay).items():
        delays = np.ravel(node.delay)
        wrong = [float(d) for d in delays if whole_steps(d, dt) is None]
        if wrong:
            problems.append(
                f"node {name!r} (Delay): a delay of {wrong[0]:g} is {wrong[0] / dt:g} steps of dt = {dt:g}, "
                "not a whole number"
            )
        elif delays.size and (most := (delays / dt).max()) * delays.size > MOST_UNITS:
            problems.append(
                f"node {name!r} (Delay): {delays.size} units wait up to {most:g} steps, which takes more than "
                f"{MOST_UNITS} values"
            )
    return problems


def _exact_where_needed(checked: Validated, found: _Loaded, axes: Layouts, meaning: Meaning) -> dict[Edge, int]:
    """Steps of all edges. A cycle whose only time is a neuron's own lateness takes NIR's neuron and a late edge."""
    flat = checked.flat
    while True:
        taken = steps_of(flat, meaning.dt, found.late | found.late_itself, found.folded)
        taken = {edge: steps - (edge[0] in found.late_itself) for edge, steps in taken.items()}
        cycle = instant_cycle(flat.names(nir.Input), taken)
        if not cycle:
            return taken
        for name in found.late_itself & set(cycle):
            node = flat.nodes[name]
            site = _site(checked, axes, name, meaning_at(node, meaning, {}))
            found.layers[name], _ = _layer(node, site, [rule for rule in rules_for_node(node, None) if rule.default])
            found.late_itself.discard(name)
            found.late.add(name)
