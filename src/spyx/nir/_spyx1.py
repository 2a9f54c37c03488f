"""Files written by Spyx 1.0: how they are told from others, and what they mean in NIR's terms.

Its graphs are chains of nodes that are named `layer_0`, `layer_1`, ... and carry no metadata. A number that is missing
is a layer that it left out, because NIR had no node for it. It wrote `r = beta` where its layers have input gain 1,
left `w_in` at 1, read none of them back, and wired the input of a recurrent layer into its matrix. Signals of rank 3
were maps, channels last; it wrote their axes channels first, but left what stands behind a flattened map in its own
order. It always ran `spyx.nn`'s neurons.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

import nir
from spyx.nir._axes import Layout
from spyx.nir._discrete import AFTER_LEAK
from spyx.nir._flat import DENSE, PER_UNIT, SPIKING, Nodes, shape_tuple
from spyx.nir._rules.spyx_neurons import tau_of

INNER = re.compile(r"layer_\d+\.(lif|w_rec|input|output)")
OUTER = re.compile(r"layer_(\d+)(_threshold)?")
WRITERS = ("auto", "nir", "spyx1")
LEAKY = (nir.LIF, nir.CubaLIF)
DYNAMICS = {"integration": "euler", "spike": "pre", "reset": "subtract"}
CHANNELS_LAST = {"order": "channels last"}


def as_meant(graph: nir.NIRGraph, dt: float | None, written_by: str = "auto") -> nir.NIRGraph:
    """The graph as its author meant it: itself, unless Spyx 1.0 wrote it."""
    if written_by not in WRITERS:
        raise ValueError(
            f"spyx.nir.from_nir(written_by=): expected one of {', '.join(WRITERS)}; got {written_by!r}. Use 'auto'."
        )
    nodes = [node for _, node in _all(graph)]
    # A number that is not finite is for the validation to name; what is read here would hide it.
    if written_by == "nir" or not all(map(_finite, nodes)):
        return graph
    path = _chain(graph)
    if written_by == "auto":
        if path is None or not _recognised(graph, nodes):
            return graph
        warnings.warn(_warning(path, graph), stacklevel=3)
    if path is None:
        raise ValueError(
            "spyx.nir.from_nir(written_by='spyx1'): expected a chain of nodes named layer_0, layer_1, ...; "
            f"got {', '.join(map(str, graph.nodes))}. Leave written_by out."
        )
    return _translated(graph, path, _step(nodes, dt))


def _chain(graph: nir.NIRGraph) -> list[str] | None:
    """Names of the nodes from the input to the output; None for a graph that is no numbered chain."""
    found = {name: OUTER.fullmatch(str(name)) for name in graph.nodes if name not in ("input", "output")}
    if not found or not all(found.values()) or not {"input", "output"} <= set(graph.nodes):
        return None
    numbered = [(int(match[1]), match[2] or "", name) for name, match in found.items() if match]
    path = ["input", *(name for *_, name in sorted(numbered)), "output"]
    edges = [tuple(map(str, edge)) for edge in graph.edges]
    return path if sorted(edges) == sorted(zip(path[:-1], path[1:], strict=True)) else None


def _recognised(graph: nir.NIRGraph, nodes: Sequence[nir.NIRNode]) -> bool:
    """Do inner names, gains and the missing metadata of a numbered chain say that Spyx 1.0 wrote it?"""
    inner = [name for node in graph.nodes.values() if isinstance(node, nir.NIRGraph) for name in node.nodes]
    if graph.metadata or any(node.metadata for node in nodes):
        return False
    neurons = {name: node for name, node in _all(graph) if isinstance(node, (*SPIKING, nir.LI))}
    return (
        bool(neurons)
        and all(INNER.fullmatch(str(name)) for name in inner)
        and all(map(_as_it_wrote, neurons.values()))
        and all(f"{name}_threshold" in graph.nodes for name, node in neurons.items() if isinstance(node, nir.LI))
        and all(node.input_type["input"] is not None for node in nodes if isinstance(node, nir.Flatten))
        and _own_step(nodes) is not None
    )


def _as_it_wrote(node: nir.IF | nir.LIF | nir.CubaLIF | nir.LI) -> bool:
    if len({np.shape(getattr(node, name)) for name in PER_UNIT[type(node)]}) != 1:
        return False
    if any(np.any(getattr(node, name, 0)) for name in ("v_leak", "v_reset")) or np.any(getattr(node, "w_in", 1) != 1):
        return False
    return isinstance(node, LEAKY) or bool(np.all(node.r == 1))


def _finite(node: nir.NIRNode) -> bool:
    arrays = [value for value in vars(node).values() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"]
    return all(bool(np.isfinite(value).all()) for value in arrays)


def _own_step(nodes: Sequence[nir.NIRNode]) -> float | None:
    """The time step that `tau = dt / (1 - r)` means; None when units disagree, as they do in every other file."""
    found = []
    for node in nodes:
        if isinstance(node, LEAKY):
            tau = np.asarray(node.tau if isinstance(node, nir.LIF) else node.tau_mem, np.float64)
            steps = np.ravel(tau * (1 - np.asarray(node.r, np.float64)))
            found.append(steps[np.isfinite(steps) & (steps != 0)])
    steps = np.concatenate(found) if found else np.zeros(0)
    if steps.size == 0:
        return 1.0
    # Where beta is near 1, 1 - r has lost digits.
    step = float(np.median(steps))
    return float(f"{step:.6g}") if step > 0 and np.all(np.abs(steps / step - 1) < 1e-3) else None


def _step(nodes: Sequence[nir.NIRNode], dt: float | None) -> float:
    """The file's own time step, or the caller's when both are the same but for rounding."""
    leaky = any(isinstance(node, LEAKY) for node in nodes)
    if dt is None and not leaky and any(isinstance(node, nir.LI) for node in nodes):
        raise ValueError(
            "spyx.nir.from_nir(dt=): expected a time step, because the tau of a PSU_LIF does not tell it; got None. "
            "Pass the dt that the network was written with; Spyx 1.0 took 1 by itself."
        )
    own = (_own_step(nodes) if leaky else dt) or dt or 1.0
    return float(dt) if dt is not None and abs(dt / own - 1) < 1e-3 else own


def _warning(path: list[str], graph: nir.NIRGraph) -> str:
    warning = (
        "spyx.nir.from_nir: Spyx 1.0 wrote this graph (r = beta); its layers have input gain 1, so they are read "
        "with r = 1 / (1 - beta). Pass written_by='nir' to take r as it stands."
    )
    there = {int(match[1]) for match in map(OUTER.fullmatch, path) if match}
    missing = sorted(set(range(max(there))) - there)
    if missing:
        warning += (
            f" It left out layer {', '.join(map(str, missing))}, which it had no node for (ALIF, an activation): "
            "what is read is not the network that was written."
        )
    if isinstance(graph.nodes[path[-2]], DENSE):
        warning += " It left out a readout (LI) at the end, too: if there was one, append it."
    return warning


def _all(graph: nir.NIRGraph) -> Iterator[tuple[str, nir.NIRNode]]:
    for name, node in graph.nodes.items():
        yield name, node
        if isinstance(node, nir.NIRGraph):
            yield from _all(node)


def _translated(graph: nir.NIRGraph, path: list[str], dt: float) -> nir.NIRGraph:
    """The same network in NIR's terms; `path` names its nodes from the input to the output."""
    nodes: Nodes = {name: _node(graph.nodes[name], dt) for name in path}
    if len(shape_tuple(nodes["input"].input_type["input"])) == 3:
        nodes["input"] = nir.Input(nodes["input"].input_type, metadata=CHANNELS_LAST)
    flat = None
    for name in path:
        node = nodes[name]
        if isinstance(node, nir.Flatten):
            shape = shape_tuple(node.input_type["input"])
            flat = Layout("flat", shape) if len(shape) == 3 else None
        elif flat is not None:
            try:
                nodes[name] = _channels_first(node, flat)
            except (IndexError, ValueError) as error:
                raise ValueError(
                    f"spyx.nir.from_nir: expected as many units at node {name!r} as in the map {flat.shape} that "
                    "Spyx 1.0 flattened before it; got another number. Correct the graph."
                ) from error
            flat = None if isinstance(node, DENSE) else flat
    return nir.NIRGraph(nodes, list(graph.edges), metadata={"dt": dt, **DYNAMICS}, type_check=False)


def _node(node: nir.NIRNode, dt: float) -> nir.NIRNode:
    """The same node with input gain 1, and the name of the layer that it was."""
    if isinstance(node, nir.NIRGraph):
        return _recurrent(node, dt)
    if isinstance(node, SPIKING):
        threshold = np.asarray(node.v_threshold, np.float64)
        if isinstance(node, nir.IF):
            return nir.IF(np.full(np.shape(node.r), 1 / dt), threshold, metadata={**DYNAMICS, "layer": "IF"})
        tau = _tau(node.r, dt)
        zero = np.zeros_like(tau)
        if isinstance(node, nir.LIF):
            known = {**DYNAMICS, "reset": AFTER_LEAK, "layer": "LIF"}
            return nir.LIF(tau, tau / dt, zero, threshold, metadata=known)
        syn = _tau(_decay(node.tau_syn, dt), dt)
        known = {**DYNAMICS, "layer": "CuBaLIF"}
        return nir.CubaLIF(syn, tau, tau / dt, zero, threshold, zero, syn / dt, metadata=known)
    if isinstance(node, nir.LI):
        tau = _tau(_decay(node.tau, dt), dt)
        return nir.LI(tau, tau / dt, np.zeros_like(tau), metadata={"layer": "LI"})
    total = np.ravel(node.padding) if isinstance(node, nir.SumPool2d) else np.zeros(0, int)
    if isinstance(node, nir.SumPool2d) and total.dtype.kind in "iu" and total.size == 2 and total.any():
        # It wrote the sum of both ends, where NIR means each of them.
        ends = np.stack([total // 2, total - total // 2], axis=-1)
        return nir.SumPool2d(node.kernel_size, node.stride, ends, metadata={"same": True})
    return node


def _recurrent(graph: nir.NIRGraph, dt: float) -> nir.NIRGraph:
    """The input leads to the neuron, not to the matrix."""
    core = next((name for name, node in graph.nodes.items() if isinstance(node, SPIKING)), None)
    matrix = next((name for name, node in graph.nodes.items() if isinstance(node, DENSE)), None)
    gates = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    nodes: Nodes = {name: _node(node, dt) for name, node in graph.nodes.items()}
    edges = [(str(a), str(b)) for a, b in graph.edges]
    if core is not None and matrix is not None:
        nodes[core].metadata["layer"] = f"R{nodes[core].metadata['layer']}"
        new = {name: f"{core}.w_rec" if name == matrix else name for name in nodes}
        nodes = {new[name]: node for name, node in nodes.items()}
        edges = [(new.get(a, a), core if a in gates and b == matrix else new.get(b, b)) for a, b in edges]
    return nir.NIRGraph(nodes, edges, type_check=False)


def _channels_first(node: nir.NIRNode, flat: Layout) -> nir.NIRNode:
    """A node behind a flattened map, its units in NIR's order."""
    if isinstance(node, nir.NIRGraph):
        nodes = {name: _channels_first(inner, flat) for name, inner in node.nodes.items()}
        for name, inner in nodes.items():
            if isinstance(inner, nir.Linear):
                nodes[name] = nir.Linear(inner.weight[flat.to_nir(np.arange(len(inner.weight)))])
        return nir.NIRGraph(nodes, list(node.edges), type_check=False)
    if isinstance(node, nir.Output):
        return nir.Output(node.output_type, metadata=CHANNELS_LAST)
    if isinstance(node, DENSE):
        columns = node.weight[:, flat.to_nir(np.arange(node.weight.shape[1]))]
        return nir.Linear(columns) if isinstance(node, nir.Linear) else nir.Affine(columns, node.bias)
    if type(node) not in PER_UNIT:
        return node
    arrays = {name: flat.to_nir(np.asarray(getattr(node, name))) for name in PER_UNIT[type(node)]}
    same = cast(Callable[..., nir.NIRNode], type(node))
    return same(**arrays, metadata=node.metadata)


def _decay(tau: np.ndarray, dt: float) -> np.ndarray:
    return (1 - dt / np.asarray(tau, np.float64)).astype(np.float32)


def _tau(beta: np.ndarray, dt: float) -> np.ndarray:
    return tau_of(np.clip(np.asarray(beta, np.float64), 0, 1), dt)
