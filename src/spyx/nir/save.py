"""`to_nir`: a spyx model as a NIR graph, or one error with everything that NIR cannot say."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nir
import spyx
from spyx.graph import Graph
from spyx.nir import layout
from spyx.nir.chain import Wiring, wiring
from spyx.nir.delays import closing_edges
from spyx.nir.expand import expanded
from spyx.nir.flat import Identity
from spyx.nir.layout import Layouts, Shape
from spyx.nir.meaning import Meaning
from spyx.nir.rule import Site, rule_for_layer
from spyx.nir.rules.dense import order
from spyx.nir.rules.exact import NEURONS
from spyx.nir.rules.neurons import RECURRENT
from spyx.nir.sizes import answer_shape
from spyx.nn import Delayed, Neuron
from spyx.nn.layer import as_layer, step_shape

OWNER = "spyx.nir.to_nir"


def saved(model: Any, dt: float, input_shape: Any = None, *, nir_axes: bool = False) -> nir.NIRGraph:
    """The graph; what the arguments mean is said at `to_nir`. `nir_axes`: `input_shape` has NIR's axes."""
    meaning = Meaning(dt)
    parts, problems = expanded(wiring(model))
    _raise(problems)
    rules = {name: rule_for_layer(layer) for name, layer in parts.layers.items()}
    problems = [
        f"node {name!r} ({_kind(parts.layers[name])}): NIR has no node for it; teach it one with spyx.nir.rule"
        for name, rule in rules.items()
        if rule is None
    ]
    problems += [f"node {name!r}: a name has no '/' and does not start with '_'" for name in _bad_names(parts)]
    problems += _merge_problems(parts)
    _raise(problems)
    kinds = _kinds(parts, rules)
    shapes = _input_shapes(parts, kinds, model, input_shape, nir_axes)
    taken, given = _shapes(parts, shapes)
    pairs = [(a, b) for a, b, _ in parts.edges]
    rough = layout.solve(kinds, pairs, dict.fromkeys(kinds, (0,)))
    maps = {name: rough.taken[name].nir_shape(taken[name]) for name in kinds if kinds[name] == "flatten"}
    axes = layout.solve(kinds, pairs, maps)
    return _assembled(parts, rules, meaning, taken, given, axes)


def _assembled(
    parts: Wiring,
    rules: dict[str, Any],
    meaning: Meaning,
    taken: dict[str, Shape],
    given: dict[str, Shape],
    axes: Layouts,
) -> nir.NIRGraph:
    nodes: dict[str, Any] = {}
    problems: list[str] = []
    for name in parts.inputs:
        nodes[name] = nir.Input({"input": np.array(axes.given[name].nir_shape(given[name]))})
    edges = _timed_edges(parts, rules)
    listed: list[tuple[str, str]] = []
    for name, layer in parts.layers.items():
        site = Site(
            name,
            meaning,
            axes.taken[name].nir_shape(taken[name]),
            axes.given[name].nir_shape(given[name]),
            axes.taken[name],
            axes.given[name],
        )
        try:
            node = rules[name].save(layer, site)
            if answer_shape(node, site.shape) != site.answer:
                raise ValueError(f"becomes a {type(node).__name__} that answers another shape than {site.answer}")
            nodes[name] = node
            node.input_type, node.output_type = {"input": np.array(site.shape)}, {"output": np.array(site.answer)}
            if not isinstance(layer, tuple(NEURONS)):
                node.metadata = {**node.metadata, "layer": type(layer).__name__}
            if type(layer) in RECURRENT:
                nodes[f"{name}.w_rec"] = _recurrent(layer, site)
                listed += [(name, f"{name}.w_rec"), (f"{name}.w_rec", name)]
        except ValueError as error:
            problems.append(f"node {name!r} ({type(layer).__name__}): {error}")
    for name in parts.outputs:
        known = axes.taken[name]
        metadata = {"order": "channels last"} if known.kind == "flat" else {}
        nodes[name] = nir.Output({"output": np.array(known.nir_shape(taken[name]))}, metadata=metadata)
    _raise(problems)
    for source, target, delay in edges:
        if delay:
            between = _free(f"{source}.delay", nodes)
            shape = axes.given[source].nir_shape(given[source])
            nodes[between] = nir.Delay(np.full(shape, delay * meaning.dt))
            listed += [(source, between), (between, target)]
        else:
            listed.append((source, target))
    nodes, listed = _without_identities(nodes, listed)
    metadata = {**_whole_meaning(nodes, meaning), "spyx": spyx.__version__}
    graph = nir.NIRGraph(nodes, listed, metadata=metadata, type_check=False)
    return graph


def _timed_edges(parts: Wiring, rules: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Edges with the delays that must be spelled out: a reader gives a cycle without any the same step by itself."""
    pairs = [(a, b) for a, b, _ in parts.edges]
    lag = {(a, b): int(a in rules and rules[a].latency > 0) for a, b in pairs}
    neurons = [name for name, layer in parts.layers.items() if isinstance(layer, Neuron)]
    given = {(a, b): d for a, b, d in parts.edges}
    single = {pair for pair, d in given.items() if d == 1}

    def closed(silent: set[tuple[str, str]]) -> set[tuple[str, str]]:
        taken = {pair: lag[pair] + (0 if pair in silent else given[pair]) for pair in pairs}
        return closing_edges(parts.inputs, pairs, taken, neurons)

    implied = closed(single) & single
    if closed(implied) != implied:
        implied = set()
    return [(a, b, 0 if (a, b) in implied else d) for a, b, d in parts.edges]


def _kinds(parts: Wiring, rules: dict[str, Any]) -> dict[str, str]:
    kinds = {name: rule.kind_of(parts.layers[name]) for name, rule in rules.items()}
    return {**kinds, **dict.fromkeys(parts.inputs, "input"), **dict.fromkeys(parts.outputs, "output")}


def _input_shapes(parts: Wiring, kinds: dict[str, str], model: Any, said: Any, nir_axes: bool) -> dict[str, Shape]:
    """The shape of every input, on spyx's axes: said by the caller, by the model, or by the layers that it feeds."""
    if said is None and isinstance(model, Graph) and model._input is not None:
        return {name: tuple(spec.shape[1:]) for name, spec in model._input}
    if isinstance(said, Mapping):
        if set(said) != set(parts.inputs) and len(said) == len(parts.inputs) == 1:
            said = {parts.inputs[0]: next(iter(said.values()))}
        given = {name: _shape(said.get(name)) for name in parts.inputs}
    elif said is not None:
        given = dict.fromkeys(parts.inputs, _shape(said))
    else:
        given = {name: _first_shape(parts, name) for name in parts.inputs}
    missing = [name for name, shape in given.items() if shape is None]
    if missing:
        raise ValueError(
            f"{OWNER}(input_shape=): expected the shape of one sample at one step, because the layers do not tell it; "
            f"got none for {', '.join(missing)}. For example input_shape=(34, 34, 2)."
        )
    known = {name: shape for name, shape in given.items() if shape is not None}
    if nir_axes:
        axes = layout.solve(kinds, [(a, b) for a, b, _ in parts.edges], dict.fromkeys(kinds, (0,)))
        known = {name: axes.given[name].spyx_shape(shape) for name, shape in known.items()}
    return known


def _first_shape(parts: Wiring, name: str) -> Shape | None:
    for source, target, _ in parts.edges:
        layer = parts.layers.get(target)
        if source == name and isinstance(layer, Neuron):
            return layer.hidden_shape
        if source == name and isinstance(layer, Delayed):
            return layer.connection
        if (
            source == name
            and isinstance(width := getattr(layer, "in_features", None), int)
            and not hasattr(layer, "strides")
        ):
            return (width,)
    return None


def _shape(value: Any) -> Shape | None:
    if value is None:
        return None
    return tuple(int(n) for n in np.ravel(value))


def _shapes(parts: Wiring, inputs: dict[str, Shape]) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """What every node takes and answers on spyx's axes; cycles have neurons or widths that tell."""
    given: dict[str, Shape] = dict(inputs)
    taken: dict[str, Shape] = dict(inputs)
    waiting = list(inputs)
    problems: list[str] = []
    while waiting:
        source = waiting.pop(0)
        for a, target, _ in parts.edges:
            if a != source:
                continue
            if target in taken:
                if taken[target] != given[source]:
                    problems.append(
                        f"node {target!r}: takes {taken[target]}, but {given[source]} comes from {source!r}"
                    )
                continue
            taken[target] = given[source]
            if target in parts.outputs:
                continue
            try:
                spec = jax.ShapeDtypeStruct((1, *given[source]), jnp.float32)
                given[target] = tuple(step_shape(as_layer(OWNER, parts.layers[target]), spec).shape[1:])
                waiting.append(target)
            except (TypeError, ValueError) as error:
                problems.append(f"node {target!r} ({_kind(parts.layers[target])}): {error}")
    _raise(problems)
    return taken, given


def _recurrent(layer: Any, site: Site) -> nir.Linear:
    weight = np.asarray(layer.recurrent_w[...])
    if weight.ndim != 2:
        raise ValueError(f"is recurrent over {weight.ndim // 2} axes: NIR's Linear has one; flatten before it")
    back = np.argsort(order(site.given, weight.shape[0]))
    node = nir.Linear(np.ascontiguousarray(weight.T[back][:, back]))
    node.input_type, node.output_type = {"input": np.array(site.answer)}, {"output": np.array(site.answer)}
    return node


def _without_identities(
    nodes: dict[str, Any], edges: list[tuple[str, str]]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """NIR has no identity: an edge goes past it, and a factor of 1 stays where two edges would become one."""
    for name in [n for n, node in nodes.items() if isinstance(node, Identity)]:
        before, after = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        direct = [(a, b) for a in before for b in after]
        rest = [edge for edge in edges if name not in edge]
        if name in before or set(direct) & set(rest):
            nodes[name] = nir.Scale(np.ones(nodes[name].shape, np.float32), metadata={"layer": "Pass"})
        else:
            place = next(k for k, edge in enumerate(edges) if name in edge)
            kept = sum(name not in edge for edge in edges[:place])
            nodes, edges = {n: v for n, v in nodes.items() if n != name}, rest[:kept] + direct + rest[kept:]
    return nodes, edges


def _whole_meaning(nodes: dict[str, Any], meaning: Meaning) -> dict[str, Any]:
    """What all spiking nodes have in common; a node that differs says so itself."""
    said = meaning.as_metadata()
    spiking = [node for node in nodes.values() if isinstance(node, (nir.IF, nir.LIF, nir.CubaLIF))]
    for key in ("integration", "reset", "spike"):
        values = [str(node.metadata[key]) for node in spiking if key in node.metadata]
        if values:
            said[key] = values[0].split(" ")[0] if key == "reset" else values[0]
    return said


def _merge_problems(parts: Wiring) -> list[str]:
    problems = []
    for name, how in parts.merges.items():
        sources = [a for a, b, _ in parts.edges if b == name]
        if len(sources) > 1 and how != "sum":
            problems.append(f"node {name!r}: merges {', '.join(sources)} by {how!r}, but NIR adds what meets")
    return problems


def _bad_names(parts: Wiring) -> list[str]:
    names = (*parts.inputs, *parts.layers, *parts.outputs)
    return [name for name in names if "/" in name or name.startswith("_")]


def _free(wanted: str, nodes: dict[str, Any]) -> str:
    while wanted in nodes:
        wanted += "_"
    return wanted


def _kind(layer: Any) -> str:
    return "function" if inspect.isfunction(layer) else type(layer).__name__


def _raise(problems: list[str]) -> None:
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in dict.fromkeys(problems))
        raise ValueError(
            f"{OWNER}: expected a model that NIR can express; got {len(problems)} part(s) that it cannot. Mend:{lines}"
        )
