"""`to_nir`: a spyx model as a NIR graph, or one error with everything that NIR cannot express."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

import nir
import spyx
from spyx import nn
from spyx.graph import Graph
from spyx.graph._topology import raise_all
from spyx.nir import _axes, _flat
from spyx.nir._discrete import Meaning, closing_edges
from spyx.nir._flat import Edge, Identity, Nodes, Shape, Sizes, shape_tuple
from spyx.nir._rules.nir_nodes import NEURONS
from spyx.nir._rules.spyx_neurons import RECURRENT, HasFeedback
from spyx.nir._rules.table import Rule, Site, rule_for_layer
from spyx.nir._wiring import DelayedEdge, Wiring, wiring, without_delays
from spyx.nn._layer import Model, as_layer, step_shape

OWNER = "spyx.nir.to_nir"
EXPECTED = "a model that NIR can express"
InputShape = Sizes | Mapping[str, Sizes] | None


def to_nir(
    model: Model,
    *args: float | Mapping[str, Sizes],
    dt: float | None = None,
    input_shape: InputShape = None,
    output_shape: InputShape = None,
) -> nir.NIRGraph:
    """A model as a NIR graph, with the dynamics that it has here.

    Our neurons have input gain 1, so `r = 1 / (1 - beta)` and `w_in = 1 / (1 - alpha)`; a layer that never leaks
    becomes a `nir.IF`. Recurrent layers become a neuron and a `Linear` back to it. The time step, the integration, the
    reset and the timing of spikes are written into the metadata, the raw parameters beside them.

    Args:
        model: a layer, `nn.Sequential`, `graph.Graph`, or SNNAX's `StatefulModel`.
        *args: `dt`; or, as in Spyx 1.0, the dicts `input_shape` and `output_shape`, and `dt` (there 1 unless given).
        dt: time step, in the unit that the time constants shall have.
        input_shape: shape of one sample at one step, in spyx's layout (channels last); a dict by input name when there
            are several. Only needed where the layers do not tell. From Spyx 1.0: a dict, in NIR's layout.
        output_shape: Spyx 1.0's; checked against the output of the model.

    Returns:
        A `nir.NIRGraph`; `spyx.nir.write` writes it to a file.

    Raises:
        ValueError: everything that NIR cannot express, in one list with the names of the nodes.

    Example:
        >>> graph = to_nir(nn.Sequential(nn.LIF(2, beta=0.75)), dt=1e-3)
        >>> graph.nodes["lif_0"].tau.tolist(), graph.nodes["lif_0"].r.tolist()
        ([0.004, 0.004], [4.0, 4.0])

    Reference:
        Pedersen et al. 2024, Neuromorphic intermediate representation, doi:10.1038/s41467-024-52259-9.
    """
    rest = list(args)
    old = isinstance(input_shape, Mapping) and output_shape is not None
    if rest and isinstance(rest[0], Mapping):
        old, input_shape = True, rest.pop(0)  # type: ignore[assignment]
        if rest and output_shape is None:
            output_shape = rest.pop(0)  # type: ignore[assignment]
    if rest and dt is None:
        dt = float(rest.pop(0))  # type: ignore[arg-type]
    if rest:
        raise TypeError(
            f"{OWNER}: expected a model and a time step, the rest by name; got {len(rest)} more. Name them."
        )
    if dt is None and not old:
        raise ValueError(f"{OWNER}(dt=): expected a time step; got None. For example dt=1e-3, in seconds.")
    graph = _saved(model, Meaning(1.0 if dt is None else dt), input_shape, nir_axes=old)
    if output_shape is not None:
        shapes = output_shape.values() if isinstance(output_shape, Mapping) else [output_shape]
        expected = sorted(shape_tuple(shape) for shape in shapes)
        found = sorted(shape_tuple(node.output_type["output"]) for node in graph.outputs.values())
        if expected != found:
            raise ValueError(
                f"{OWNER}(output_shape=): expected the shapes of the model's outputs, {found}; got {expected}. "
                "Leave it out."
            )
    return graph


def _saved(model: Model, meaning: Meaning, input_shape: InputShape, nir_axes: bool) -> nir.NIRGraph:
    """The graph; `nir_axes`: `input_shape` has NIR's axes."""
    parts, problems = without_delays(wiring(model))
    raise_all(OWNER, problems, EXPECTED)
    label = {name: f"node {name!r} ({type(layer).__name__})" for name, layer in parts.layers.items()}
    label |= {name: f"node {name!r}" for name in parts.outputs}
    rules: dict[str, Rule] = {}
    for name, layer in parts.layers.items():
        if found := rule_for_layer(layer):
            rules[name] = found
        else:
            problems.append(f"{label[name]}: NIR has no node for it; teach it one with spyx.nir.rule")
    problems += [
        f"node {name!r}: a name has no '/' and does not start with '_'"
        for name in (*parts.inputs, *parts.layers, *parts.outputs)
        if "/" in name or name.startswith("_")
    ]
    for name, how in parts.merges.items():
        sources = [a for a, b, _ in parts.edges if b == name]
        if len(sources) > 1 and how != "sum":
            problems.append(f"node {name!r}: merges {', '.join(sources)} by {how!r}, but NIR adds what meets")
    raise_all(OWNER, problems, EXPECTED)
    kinds = {name: rule.kind_of(parts.layers[name]) for name, rule in rules.items()}
    kinds |= {**dict.fromkeys(parts.inputs, "input"), **dict.fromkeys(parts.outputs, "output")}
    pairs = [(a, b) for a, b, _ in parts.edges]
    rough = _axes.solve(kinds, pairs, dict.fromkeys(kinds, (0,)))
    inputs = _input_shapes(parts, model, input_shape)
    if nir_axes:
        inputs = {name: rough.given[name].spyx_shape(shape) for name, shape in inputs.items()}

    def output_of(name: str, shape: Shape) -> Shape:
        if name in parts.outputs:
            return shape
        spec = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
        return tuple(step_shape(as_layer(OWNER, parts.layers[name]), spec).shape[1:])

    taken, given, problems = _flat.propagate(pairs, inputs, label, output_of)
    raise_all(OWNER, problems, EXPECTED)
    maps = {name: rough.taken[name].nir_shape(taken[name]) for name in kinds if kinds[name] == "flatten"}
    axes = _axes.solve(kinds, pairs, maps)
    sites = {
        n: Site(n, meaning, before.nir_shape(taken[n]), after.nir_shape(given[n]), before, after)
        for n, before, after in zip(axes.taken, axes.taken.values(), axes.given.values(), strict=True)
    }
    return _assembled(parts, rules, sites, label, meaning)


def _assembled(
    parts: Wiring, rules: Mapping[str, Rule], sites: Mapping[str, Site], label: Mapping[str, str], meaning: Meaning
) -> nir.NIRGraph:
    nodes: Nodes = {name: nir.Input({"input": np.array(sites[name].output_shape)}) for name in parts.inputs}
    problems: list[str] = []
    edges: list[Edge] = []
    saves = {name: rule.save for name, rule in rules.items() if rule.save}
    for name, layer in parts.layers.items():
        site: Site = sites[name]
        try:
            node = saves[name](layer, site)
            if _flat.output_shape(node, site.shape) != site.output_shape:
                raise ValueError(
                    f"becomes a {type(node).__name__} whose output has another shape than {site.output_shape}"
                )
            nodes[name] = _typed(node, site.shape, site.output_shape)
            if type(layer) not in NEURONS:
                node.metadata = {**node.metadata, "layer": type(layer).__name__}
            if type(layer) in RECURRENT:
                nodes[f"{name}.w_rec"] = _typed(_recurrence(layer, site), site.output_shape, site.output_shape)  # type: ignore[arg-type]
                edges += [(name, f"{name}.w_rec"), (f"{name}.w_rec", name)]
        except ValueError as error:
            problems.append(f"{label[name]}: {error}")
    raise_all(OWNER, problems, EXPECTED)
    for name in parts.outputs:
        metadata = {"order": "channels last"} if sites[name].taken.kind == "flat" else {}
        nodes[name] = nir.Output({"output": np.array(sites[name].shape)}, metadata=metadata)
    for source, target, delay in _timed_edges(parts, rules):
        if delay:
            between = _flat.free_name(f"{source}.delay", nodes)
            nodes[between] = nir.Delay(np.full(sites[source].output_shape, delay * meaning.dt))
            edges += [(source, between), (between, target)]
        else:
            edges.append((source, target))
    for name, node in {n: node for n, node in nodes.items() if isinstance(node, Identity)}.items():
        nodes, edges = _flat.contracted(nodes, edges, name)
        if name in nodes:  # NIR has no identity: a factor of 1 stays where two edges would become one
            nodes[name] = nir.Scale(np.ones(node.shape, np.float32), metadata={"layer": "Pass"})
    metadata = {**_common(nodes, meaning), "spyx": spyx.__version__}
    return nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False)


def _typed(node: nir.NIRNode, taken: Shape, given: Shape) -> nir.NIRNode:
    node.input_type, node.output_type = {"input": np.array(taken)}, {"output": np.array(given)}
    return node


def _timed_edges(parts: Wiring, rules: Mapping[str, Rule]) -> list[DelayedEdge]:
    """Edges with the delays that must be spelled out: a reader gives a cycle without any the same step by itself."""
    lag = {(a, b): int(a in rules and rules[a].latency > 0) for a, b, _ in parts.edges}
    neurons = [name for name, layer in parts.layers.items() if isinstance(layer, nn.Neuron)]
    given = {(a, b): d for a, b, d in parts.edges}
    single = {pair for pair, d in given.items() if d == 1}

    def closed(silent: set[Edge]) -> set[Edge]:
        taken = {pair: steps + (0 if pair in silent else given[pair]) for pair, steps in lag.items()}
        return closing_edges(parts.inputs, taken, neurons)

    implied = closed(single) & single
    if closed(implied) != implied:
        implied = set()
    return [(a, b, 0 if (a, b) in implied else d) for a, b, d in parts.edges]


def _input_shapes(parts: Wiring, model: Model, wanted: InputShape) -> dict[str, Shape]:
    """The shape of every input: from the caller, from the model, or from the layers that it leads to."""
    if wanted is None and isinstance(model, Graph) and model._input is not None:
        return {name: tuple(spec.shape[1:]) for name, spec in model._input}
    if isinstance(wanted, Mapping):
        if set(wanted) != set(parts.inputs) and len(wanted) == len(parts.inputs) == 1:
            wanted = {parts.inputs[0]: next(iter(wanted.values()))}
        given = {name: wanted.get(name) for name in parts.inputs}
    elif wanted is not None:
        given = dict.fromkeys(parts.inputs, wanted)
    else:
        given = {name: _first_shape(parts, name) for name in parts.inputs}
    missing = [name for name, shape in given.items() if shape is None]
    if missing:
        raise ValueError(
            f"{OWNER}(input_shape=): expected the shape of one sample at one step, because the layers do not tell it; "
            f"got none for {', '.join(missing)}. For example input_shape=(34, 34, 2)."
        )
    return {name: shape_tuple(shape) for name, shape in given.items() if shape is not None}


def _first_shape(parts: Wiring, name: str) -> Shape | None:
    for layer in [parts.layers.get(target) for source, target, _ in parts.edges if source == name]:
        if isinstance(layer, nn.Neuron):
            return layer.hidden_shape
        if isinstance(layer, nn.Delayed):
            return layer.connection
        if isinstance(width := getattr(layer, "in_features", None), int) and not hasattr(layer, "strides"):
            return (width,)
    return None


def _recurrence(layer: HasFeedback, site: Site) -> nir.Linear:
    weight = np.asarray(layer.recurrent_w[...])
    if weight.ndim != 2:
        raise ValueError(f"is recurrent over {weight.ndim // 2} axes: NIR's Linear has one; flatten before it")
    back = np.argsort(site.given.order(weight.shape[0]))
    return nir.Linear(np.ascontiguousarray(weight.T[back][:, back]))


def _common(nodes: Nodes, meaning: Meaning) -> dict[str, object]:
    """What all spiking nodes have in common; a node that differs says so itself."""
    common: dict[str, object] = dict(meaning.as_metadata())
    spiking = [node for node in nodes.values() if isinstance(node, _flat.SPIKING)]
    for key in ("integration", "reset", "spike"):
        values = [str(node.metadata[key]) for node in spiking if key in node.metadata]
        if values:
            common[key] = values[0].split(" ")[0] if key == "reset" else values[0]
    return common
