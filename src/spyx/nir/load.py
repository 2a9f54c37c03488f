"""`from_nir`: a NIR graph as a `spyx.graph.Graph` that computes the same."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

import nir
from spyx.graph import Graph
from spyx.nir import layout, spyx1
from spyx.nir.delays import Edge, closing_edges, instant_cycle, whole_steps
from spyx.nir.flat import Flat
from spyx.nir.layout import Layouts
from spyx.nir.meaning import Meaning, read_meaning, text
from spyx.nir.rule import Rule, Site, rules_for_node
from spyx.nir.rules import dense
from spyx.nir.rules.exact import Pass
from spyx.nir.rules.neurons import RECURRENT
from spyx.nir.rules.neurons import load as load_spyx_neuron
from spyx.nir.validate import MOST_UNITS, Validated, validated

SPIKING = (nir.IF, nir.LIF, nir.CubaLIF)
STATEFUL = (*SPIKING, nir.I, nir.LI, nir.CubaLI)
OWNER = "spyx.nir.from_nir"


def load_graph(
    graph: Any,
    dt: float | None = None,
    *,
    integration: str | None = None,
    reset: str | None = None,
    spike: str | None = None,
    multi_spike: bool | None = None,
    v_min: float | None = None,
    written_by: str = "auto",
) -> Graph:
    """The model; what the arguments mean is said at `from_nir`."""
    graph = as_graph(graph)
    graph = spyx1.mended(graph, dt, written_by)
    checked = validated(graph)
    chosen = dict(integration=integration, reset=reset, spike=spike, multi_spike=multi_spike, v_min=v_min)
    meaning = read_meaning(graph.metadata, dt, **chosen)
    sure = {key for key, value in chosen.items() if value is not None}
    return built(checked, meaning, sure)


def as_graph(graph: Any) -> Any:
    """The graph itself, or the one in the file of that name."""
    if isinstance(graph, (str, os.PathLike)):
        from spyx.nir.read import read

        return read(graph)
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(
            f"{OWNER}: expected a nir.NIRGraph or the path of a file; got {type(graph).__name__}. Read it first."
        )
    return graph


def built(checked: Validated, meaning: Meaning, sure: set[str]) -> Graph:
    """A model out of a graph that passed; `sure` names what the caller chose, over the head of single nodes."""
    flat = checked.flat
    rules = {name: _rules(name, node) for name, node in flat.nodes.items()}
    problems = [
        f"node {n!r} ({type(flat.nodes[n]).__name__}): no rule reads it" for n, found in rules.items() if not found
    ]
    problems += _delay_problems(flat, meaning.dt)
    _raise(problems)
    axes = layouts(checked, {n: found[0].kind_of(flat.nodes[n]) for n, found in rules.items()})
    layers, late, early, folded = {}, set(), set(), set()
    for name, node in flat.nodes.items():
        if isinstance(node, (nir.Input, nir.Output)) or name in folded:
            continue
        here = meaning_at(node, meaning, sure)
        site = Site(name, here, checked.taken[name], checked.given[name], axes.taken[name], axes.given[name])
        try:
            layers[name], rule = _folded(flat, name, site, folded, axes) or _layer(node, site, rules[name])
            if rule.latency:
                early.add(name)
            elif here.spike == "pre" and isinstance(node, SPIKING):
                late.add(name)
        except ValueError as error:
            problems.append(f"node {name!r} ({type(node).__name__}): {error}")
    _raise(problems)
    layers = {name: layer for name, layer in layers.items() if name not in folded}
    return _graph(checked, layers, _Latencies(late, early, folded), axes, meaning)


def meaning_at(node: Any, meaning: Meaning, sure: Collection[str]) -> Meaning:
    """The meaning at one node: the caller's word, then the node's, then the graph's."""
    at = meaning.at(node)
    kept = {key: getattr(meaning, key) for key in {"integration", "spike", "reset"}.intersection(sure)}
    if kept.get("reset") == "subtract" and at.reset.startswith("subtract"):
        kept.pop("reset")
    return Meaning(**{**vars(at), **kept})


def spiking_late(flat: Flat, local: Mapping[str, Meaning]) -> set[str]:
    """The spiking nodes whose answer arrives a step later, by the meaning at each node."""
    return {name for name in flat.names(SPIKING) if local[name].spike == "pre"}


def axes_of(checked: Validated) -> Layouts:
    """Axes of every signal of a graph that passed."""
    nodes = checked.flat.nodes
    return layouts(checked, {name: _rules(name, node)[0].kind_of(node) for name, node in nodes.items()})


def layouts(checked: Validated, kinds: dict[str, str]) -> Layouts:
    """Axes of every signal."""
    flat = checked.flat
    ordered = {n: text(flat.nodes[n].metadata.get("order")) == "channels last" for n in flat.names(nir.Output)}
    axes = layout.solve(kinds, flat.edges, checked.taken, ordered)
    lost = [n for n, known in ordered.items() if known and axes.taken[n].kind != "flat"]
    _raise(
        [f"node {n!r} (Output): says that its order is channels last, but no flattened map leads there" for n in lost]
    )
    return axes


def _rules(name: str, node: Any) -> list[Rule]:
    if isinstance(node, nir.Input):
        known = text(node.metadata.get("order")) == "channels last"
        return [Rule(None, nir.Input, kind="map" if known else "input")]
    if isinstance(node, nir.Output):
        return [Rule(None, nir.Output, kind="output")]
    return rules_for_node(node, text(node.metadata.get("layer")))


def _layer(node: Any, site: Site, rules: list[Rule]) -> tuple[Any, Rule]:
    for rule in rules:
        layer = rule.load(node, site) if rule.load else None
        if layer is not None:
            return layer, rule
    raise ValueError("no rule could read it")


def _folded(flat: Flat, name: str, site: Site, folded: set[str], axes: Layouts) -> tuple[Any, Rule] | None:
    """A recurrent layer of spyx out of the neuron and the matrix that it was written as."""
    node, back = flat.nodes[name], f"{name}.w_rec"
    said = text(node.metadata.get("layer"))
    kind = next((layer for layer in RECURRENT if layer.__name__ == said), None)
    if kind is None or not isinstance(flat.nodes.get(back), nir.Linear) or axes.taken[back] != site.given:
        return None
    around = {edge for edge in flat.edges if back in edge}
    if around != {(name, back), (back, name)}:
        return None
    order = dense.order(site.given, flat.nodes[back].weight.shape[0])
    weight = jnp.asarray(flat.nodes[back].weight[order][:, order].T, jnp.float32)
    layer = load_spyx_neuron(node, site, layer=kind, weight=weight)
    if layer is None:
        return None
    folded.add(back)
    return layer, Rule(kind, type(node), latency=1)


def _delay_problems(flat: Flat, dt: float) -> list[str]:
    problems = []
    for name in flat.names(nir.Delay):
        wrong = [float(d) for d in np.ravel(flat.nodes[name].delay) if whole_steps(d, dt) is None]
        if wrong:
            problems.append(
                f"node {name!r} (Delay): a delay of {wrong[0]:g} is {wrong[0] / dt:g} steps of dt = {dt:g}, "
                "not a whole number"
            )
            continue
        delays = np.ravel(flat.nodes[name].delay) / dt
        if delays.size and delays.max() * delays.size > MOST_UNITS:
            problems.append(
                f"node {name!r} (Delay): {delays.size} units wait up to {delays.max():g} steps, which takes more than "
                f"{MOST_UNITS} values"
            )
    return problems


def steps_of(flat: Flat, dt: float, late: Collection[str], folded: Collection[str] = ()) -> dict[Edge, int]:
    """The time that every edge takes: delays, late answers, and the steps without which cycles have no time."""
    edges = [edge for edge in flat.edges if not set(folded) & set(edge)]
    taken = dict.fromkeys(edges, 0)
    for source, target in edges:
        if isinstance(flat.nodes[target], nir.Delay):
            taken[source, target] += min(whole_steps(d, dt) or 0 for d in np.ravel(flat.nodes[target].delay))
        if source in late:
            taken[source, target] += 1
    for edge in closing_edges(flat.names(nir.Input), edges, taken, flat.names(STATEFUL)):
        taken[edge] += 1
    return taken


class _Latencies(NamedTuple):
    """Which nodes are late by the edges that leave them, which by themselves, and which are part of another."""

    late: set[str]
    early: set[str]
    folded: set[str]


def _exact_where_needed(
    checked: Validated, layers: dict[str, Any], lags: _Latencies, axes: Layouts, meaning: Meaning
) -> dict[Edge, int]:
    """Steps of all edges. A cycle whose only time is a neuron's own lateness takes NIR's neuron and a late edge."""
    flat = checked.flat
    while True:
        taken = steps_of(flat, meaning.dt, lags.late | lags.early, lags.folded)
        for edge in taken:
            taken[edge] -= edge[0] in lags.early
        cycle = instant_cycle(flat.names(nir.Input), [edge for edge, steps in taken.items() if not steps])
        if not cycle:
            return taken
        for name in lags.early & set(cycle):
            node = flat.nodes[name]
            here = meaning_at(node, meaning, set())
            site = Site(name, here, checked.taken[name], checked.given[name], axes.taken[name], axes.given[name])
            layers[name], _ = _layer(node, site, [rule for rule in rules_for_node(node, None) if rule.default])
            lags.early.discard(name)
            lags.late.add(name)


def _graph(checked: Validated, layers: dict[str, Any], lags: _Latencies, axes: Layouts, meaning: Meaning) -> Graph:
    flat = checked.flat
    taken = _exact_where_needed(checked, layers, lags, axes, meaning)
    inputs, outputs = flat.names(nir.Input), flat.names(nir.Output)
    edges: list[tuple[str, str, int]] = [(a, b, steps) for (a, b), steps in taken.items()]
    if not layers:
        layers = {f"pass {inputs[0]}": Pass()}
        edges = [(f"pass {inputs[0]}" if a == inputs[0] else a, b, n) for a, b, n in edges]
        edges.append((inputs[0], f"pass {inputs[0]}", 0))
    shapes = {name: axes.given[name].spyx_shape(checked.given[name]) for name in inputs}
    one = next(iter(shapes.values()))
    return Graph(
        layers,
        edges,
        merge="sum",
        inputs=inputs,
        outputs=outputs,
        input_shape=shapes if len(shapes) > 1 else one,
    )


def _raise(problems: list[str]) -> None:
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in dict.fromkeys(problems))
        raise ValueError(
            f"{OWNER}: expected nodes that spyx can read; got {len(problems)} that it cannot. Mend:{lines}"
        )
