"""Files written by Spyx 1.0: what their author meant, and that version's call signatures.

Spyx 1.0 wrote `r = beta` where its layers have input gain 1, left `w_in` at 1, read none of them back, wired the input
of a recurrent layer into its matrix, and named its nodes `layer_0`, `layer_1`, ... It always ran `spyx.nn`'s neurons.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import nir
from spyx.nir.meaning import AFTER_LEAK, text

NAME = re.compile(r"layer_\d+(_threshold|\.lif|\.w_rec|\.input|\.output)?|input|output")
WRITERS = ("auto", "nir", "spyx1")


def mended(graph: Any, dt: float | None, written_by: str) -> Any:
    """The graph as its author meant it: itself, unless Spyx 1.0 wrote it."""
    if written_by not in WRITERS:
        raise ValueError(
            f"spyx.nir.from_nir(written_by=): expected one of {', '.join(WRITERS)}; got {written_by!r}. Use 'auto'."
        )
    if written_by == "nir" or not isinstance(graph, nir.NIRGraph):
        return graph
    if written_by == "auto":
        if not recognised(graph):
            return graph
        warnings.warn(
            "spyx.nir.from_nir: Spyx 1.0 wrote this graph (r = beta); its layers have input gain 1, so they are read "
            "with r = 1 / (1 - beta). Pass written_by='nir' to take r as it stands.",
            stacklevel=4,
        )
    step = _step(graph, dt)
    nodes = {name: _node(node, step) for name, node in graph.nodes.items()}
    known = {"dt": step, "integration": "euler", "reset": "subtract", "spike": "pre"}
    return nir.NIRGraph(nodes, list(graph.edges), metadata=known, type_check=False)


def recognised(graph: Any) -> bool:
    """Do names, gains and the missing metadata say that Spyx 1.0 wrote this?"""
    nodes = list(_all(graph))
    if any(node.metadata for _, node in nodes) or graph.metadata:
        return False
    if not all(NAME.fullmatch(name) for name, _ in nodes if isinstance(name, str)):
        return False
    spiking = [node for _, node in nodes if isinstance(node, (nir.IF, nir.LIF, nir.CubaLIF, nir.LI))]
    leaky = [node for node in spiking if isinstance(node, (nir.LIF, nir.CubaLIF))]
    return bool(leaky) and all(map(_as_spyx1_wrote, spiking)) and _own_step(leaky) is not None


def _as_spyx1_wrote(node: Any) -> bool:
    zero = [getattr(node, name) for name in ("v_leak", "v_reset") if hasattr(node, name)]
    if any(np.any(value) for value in zero) or (hasattr(node, "w_in") and np.any(node.w_in != 1)):
        return False
    return isinstance(node, (nir.LIF, nir.CubaLIF)) or bool(np.all(node.r == 1))


def _own_step(leaky: list[Any]) -> float | None:
    """The time step that `tau = dt / (1 - r)` means; None when units disagree, as they do in every other file."""
    found = []
    for node in leaky:
        tau = np.asarray(getattr(node, "tau", getattr(node, "tau_mem", None)), np.float64)
        steps = tau * (1 - np.asarray(node.r, np.float64))
        found.append(steps[np.isfinite(steps) & (steps != 0)])
    steps = np.concatenate([np.ravel(part) for part in found])
    if steps.size == 0:
        return 1.0
    # Where beta is near 1, 1 - r has lost digits.
    step = float(np.median(steps))
    return float(f"{step:.6g}") if step > 0 and np.all(np.abs(steps / step - 1) < 1e-3) else None


def _step(graph: Any, dt: float | None) -> float:
    """The file's own time step, or the caller's when both are the same but for rounding."""
    leaky = [node for _, node in _all(graph) if isinstance(node, (nir.LIF, nir.CubaLIF))]
    own = _own_step(leaky) or dt or 1.0
    return float(dt) if dt is not None and (not leaky or abs(dt / own - 1) < 1e-3) else own


def _all(graph: Any) -> Iterator[tuple[str, Any]]:
    for name, node in graph.nodes.items():
        yield name, node
        if isinstance(node, nir.NIRGraph):
            yield from _all(node)


def _node(node: Any, dt: float) -> Any:
    """The same node with input gain 1, and the word for the layer that it was."""
    if isinstance(node, nir.NIRGraph):
        return _recurrent(node, dt)
    spiking = {"integration": "euler", "spike": "pre", "reset": "subtract"}
    if isinstance(node, nir.IF):
        return nir.IF(_full(node.r, 1 / dt), _wide(node.v_threshold), metadata={**spiking, "layer": "IF"})
    if isinstance(node, nir.LIF):
        known = {**spiking, "reset": AFTER_LEAK, "layer": "LIF", "beta": np.asarray(node.r, np.float32)}
        tau = _tau(node.r, dt)
        return nir.LIF(tau, tau / dt, np.zeros_like(tau), _wide(node.v_threshold), metadata=known)
    if isinstance(node, nir.CubaLIF):
        alpha = (1 - dt / np.asarray(node.tau_syn, np.float64)).astype(np.float32)
        known = {**spiking, "layer": "CuBaLIF", "alpha": alpha, "beta": np.asarray(node.r, np.float32)}
        tau, syn = _tau(node.r, dt), _tau(alpha, dt)
        zero = np.zeros_like(tau)
        return nir.CubaLIF(syn, tau, tau / dt, zero, _wide(node.v_threshold), zero, syn / dt, metadata=known)
    if isinstance(node, nir.LI):
        tau = np.asarray(node.tau, np.float64)
        return nir.LI(tau, tau / dt, np.zeros_like(tau))
    if isinstance(node, nir.SumPool2d) and np.any(node.padding):
        # It wrote the sum of both ends, where NIR means each of them.
        return nir.SumPool2d(node.kernel_size, node.stride, np.asarray(node.padding) // 2, metadata={"same": True})
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


def _tau(beta: Any, dt: float) -> np.ndarray:
    from spyx.nir.rules.neurons import NEVER

    decay = np.clip(np.asarray(beta, np.float64), 0, 1)
    return dt * (1 / np.where(decay < 1, 1 - decay, 1 / NEVER))


def _full(like: Any, value: float) -> np.ndarray:
    return np.full(np.shape(like), value)


def _wide(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)
