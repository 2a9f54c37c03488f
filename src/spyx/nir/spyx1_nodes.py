"""What Spyx 1.0's nodes mean, said in NIR's terms.

It wrote `r = beta` where its layers have input gain 1, left `w_in` at 1, read none of them back, and wired the input of
a recurrent layer into its matrix. Signals of rank 3 were maps, channels last; it wrote their axes channels first, but
left what stands behind a flattened map in its own order. It always ran `spyx.nn`'s neurons.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import nir
from spyx.nir.layout import Layout
from spyx.nir.meaning import AFTER_LEAK, text
from spyx.nir.rules.neurons import NEVER
from spyx.nir.sizes import PER_UNIT, shape_tuple

SPIKING = {"integration": "euler", "spike": "pre", "reset": "subtract"}
CHANNELS_LAST = {"order": "channels last"}


def as_meant(graph: Any, path: list[str], dt: float) -> Any:
    """The same network in NIR's terms; `path` names its nodes from the input to the output."""
    nodes = {name: _node(graph.nodes[name], dt) for name in path}
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
                    "Spyx 1.0 flattened before it; got another number. Mend the graph."
                ) from error
            flat = None if isinstance(node, (nir.Affine, nir.Linear)) else flat
    return nir.NIRGraph(nodes, list(graph.edges), metadata={"dt": dt, **SPIKING}, type_check=False)


def _node(node: Any, dt: float) -> Any:
    """The same node with input gain 1, and the word for the layer that it was."""
    if isinstance(node, nir.NIRGraph):
        return _recurrent(node, dt)
    if isinstance(node, nir.IF):
        return nir.IF(np.full(np.shape(node.r), 1 / dt), _wide(node.v_threshold), metadata={**SPIKING, "layer": "IF"})
    if isinstance(node, nir.LIF):
        known = {**SPIKING, "reset": AFTER_LEAK, "layer": "LIF"}
        tau = _tau(node.r, dt)
        return nir.LIF(tau, tau / dt, np.zeros_like(tau), _wide(node.v_threshold), metadata=known)
    if isinstance(node, nir.CubaLIF):
        known = {**SPIKING, "layer": "CuBaLIF"}
        tau, syn = _tau(node.r, dt), _tau(_decay(node.tau_syn, dt), dt)
        zero = np.zeros_like(tau)
        return nir.CubaLIF(syn, tau, tau / dt, zero, _wide(node.v_threshold), zero, syn / dt, metadata=known)
    if isinstance(node, nir.LI):
        tau = _tau(_decay(node.tau, dt), dt)
        return nir.LI(tau, tau / dt, np.zeros_like(tau), metadata={"layer": "LI"})
    total = np.ravel(node.padding) if isinstance(node, nir.SumPool2d) else np.zeros(0, int)
    if total.dtype.kind in "iu" and total.size == 2 and total.any():
        # It wrote the sum of both ends, where NIR means each of them.
        ends = np.stack([total // 2, total - total // 2], axis=-1)
        return nir.SumPool2d(node.kernel_size, node.stride, ends, metadata={"same": True})
    return node


def _recurrent(graph: Any, dt: float) -> Any:
    """The input feeds the neuron, not the matrix."""
    core = next((name for name, node in graph.nodes.items() if isinstance(node, (nir.IF, nir.LIF, nir.CubaLIF))), None)
    matrix = next((name for name, node in graph.nodes.items() if isinstance(node, (nir.Linear, nir.Affine))), None)
    gates = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    nodes = {name: _node(node, dt) for name, node in graph.nodes.items()}
    if core is None or matrix is None:
        return nir.NIRGraph(nodes, list(graph.edges), type_check=False)
    nodes[core].metadata["layer"] = f"R{text(nodes[core].metadata['layer'])}"
    new_matrix = f"{core}.w_rec"
    nodes = {new_matrix if name == matrix else name: node for name, node in nodes.items()}
    edges = [(a, core if a in gates and b == matrix else b) for a, b in graph.edges]
    edges = [(new_matrix if a == matrix else a, new_matrix if b == matrix else b) for a, b in edges]
    return nir.NIRGraph(nodes, edges, type_check=False)


def _channels_first(node: Any, flat: Layout) -> Any:
    """A node behind a flattened map, its units in NIR's order."""
    if isinstance(node, nir.NIRGraph):
        nodes = {name: _channels_first(inner, flat) for name, inner in node.nodes.items()}
        for name, inner in nodes.items():
            if isinstance(inner, nir.Linear):
                nodes[name] = nir.Linear(inner.weight[flat.to_nir(np.arange(len(inner.weight)))])
        return nir.NIRGraph(nodes, list(node.edges), type_check=False)
    if isinstance(node, nir.Output):
        return nir.Output(node.output_type, metadata=CHANNELS_LAST)
    if isinstance(node, (nir.Affine, nir.Linear)):
        columns = node.weight[:, flat.to_nir(np.arange(node.weight.shape[1]))]
        return nir.Linear(columns) if isinstance(node, nir.Linear) else nir.Affine(columns, node.bias)
    if type(node) not in PER_UNIT:
        return node
    arrays = {name: flat.to_nir(np.asarray(getattr(node, name))) for name in PER_UNIT[type(node)]}
    return type(node)(**arrays, metadata=node.metadata)


def _decay(tau: Any, dt: float) -> np.ndarray:
    return (1 - dt / np.asarray(tau, np.float64)).astype(np.float32)


def _tau(beta: Any, dt: float) -> np.ndarray:
    decay = np.clip(np.asarray(beta, np.float64), 0, 1)
    return dt * (1 / np.where(decay < 1, 1 - decay, 1 / NEVER))


def _wide(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
