"""Files written by Spyx 1.0: how they are told from others, and what their author is told.

Its graphs are chains of nodes that are named `layer_0`, `layer_1`, ... and carry no metadata. A number that is missing
is a layer that it left out, because NIR had no node for it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import nir
from spyx.nir.sizes import PER_UNIT
from spyx.nir.spyx1_nodes import as_meant

INNER = re.compile(r"layer_\d+\.(lif|w_rec|input|output)")
OUTER = re.compile(r"layer_(\d+)(_threshold)?")
WRITERS = ("auto", "nir", "spyx1")
NEURONS = (nir.IF, nir.LIF, nir.CubaLIF, nir.LI)
LEAKY = (nir.LIF, nir.CubaLIF)


def mended(graph: Any, dt: float | None, written_by: str) -> Any:
    """The graph as its author meant it: itself, unless Spyx 1.0 wrote it."""
    if written_by not in WRITERS:
        raise ValueError(
            f"spyx.nir.from_nir(written_by=): expected one of {', '.join(WRITERS)}; got {written_by!r}. Use 'auto'."
        )
    if written_by == "nir" or not isinstance(graph, nir.NIRGraph):
        return graph
    if not all(_finite(node) for _, node in _all(graph)):
        return graph  # its validation names the number; what is read here would hide it
    path = chain(graph)
    if written_by == "auto":
        if path is None or not recognised(graph):
            return graph
        warnings.warn(_warning(path, graph), stacklevel=4)
    if path is None:
        raise ValueError(
            "spyx.nir.from_nir(written_by='spyx1'): expected a chain of nodes named layer_0, layer_1, ...; "
            f"got {', '.join(map(str, graph.nodes))}. Leave written_by away."
        )
    return as_meant(graph, path, _step(graph, dt))


def chain(graph: Any) -> list[str] | None:
    """Names of the nodes from the input to the output; None for a graph that is no numbered chain."""
    found = {name: OUTER.fullmatch(str(name)) for name in graph.nodes if name not in ("input", "output")}
    if not found or not all(found.values()) or not {"input", "output"} <= set(graph.nodes):
        return None
    numbered = [(int(match[1]), match[2] or "", name) for name, match in found.items() if match]
    path = ["input", *(name for *_, name in sorted(numbered)), "output"]
    edges = [tuple(map(str, edge)) for edge in graph.edges]
    return path if sorted(edges) == sorted(zip(path[:-1], path[1:], strict=True)) else None


def recognised(graph: Any) -> bool:
    """Do inner names, gains and the missing metadata of a numbered chain say that Spyx 1.0 wrote it?"""
    inner = [name for node in graph.nodes.values() if isinstance(node, nir.NIRGraph) for name in node.nodes]
    if graph.metadata or any(node.metadata for _, node in _all(graph)):
        return False
    neurons = {name: node for name, node in _all(graph) if isinstance(node, NEURONS)}
    return (
        bool(neurons)
        and all(INNER.fullmatch(str(name)) for name in inner)
        and all(_as_it_wrote(node) for node in neurons.values())
        and all(f"{name}_threshold" in graph.nodes for name, node in neurons.items() if isinstance(node, nir.LI))
        and all(node.input_type["input"] is not None for _, node in _all(graph) if isinstance(node, nir.Flatten))
        and _own_step(graph) is not None
    )


def _as_it_wrote(node: Any) -> bool:
    if len({np.shape(getattr(node, name)) for name in PER_UNIT[type(node)]}) != 1:
        return False
    zero = [getattr(node, name) for name in ("v_leak", "v_reset") if hasattr(node, name)]
    if any(np.any(value) for value in zero) or (hasattr(node, "w_in") and np.any(node.w_in != 1)):
        return False
    return isinstance(node, LEAKY) or bool(np.all(node.r == 1))


def _finite(node: Any) -> bool:
    arrays = [value for value in vars(node).values() if isinstance(value, np.ndarray) and value.dtype.kind in "fc"]
    return all(bool(np.isfinite(value).all()) for value in arrays)


def _own_step(graph: Any) -> float | None:
    """The time step that `tau = dt / (1 - r)` means; None when units disagree, as they do in every other file."""
    found = []
    for _, node in _all(graph):
        if isinstance(node, LEAKY):
            tau = np.asarray(getattr(node, "tau", getattr(node, "tau_mem", None)), np.float64)
            steps = np.ravel(tau * (1 - np.asarray(node.r, np.float64)))
            found.append(steps[np.isfinite(steps) & (steps != 0)])
    steps = np.concatenate(found) if found else np.zeros(0)
    if steps.size == 0:
        return 1.0
    # Where beta is near 1, 1 - r has lost digits.
    step = float(np.median(steps))
    return float(f"{step:.6g}") if step > 0 and np.all(np.abs(steps / step - 1) < 1e-3) else None


def _step(graph: Any, dt: float | None) -> float:
    """The file's own time step, or the caller's when both are the same but for rounding."""
    nodes = [node for _, node in _all(graph)]
    leaky = any(isinstance(node, LEAKY) for node in nodes)
    if dt is None and not leaky and any(isinstance(node, nir.LI) for node in nodes):
        raise ValueError(
            "spyx.nir.from_nir(dt=): expected a time step, because the tau of a PSU_LIF does not tell it; got None. "
            "Pass the dt that the network was written with; Spyx 1.0 took 1 by itself."
        )
    own = (_own_step(graph) if leaky else dt) or dt or 1.0
    return float(dt) if dt is not None and abs(dt / own - 1) < 1e-3 else own


def _warning(path: list[str], graph: Any) -> str:
    said = (
        "spyx.nir.from_nir: Spyx 1.0 wrote this graph (r = beta); its layers have input gain 1, so they are read "
        "with r = 1 / (1 - beta). Pass written_by='nir' to take r as it stands."
    )
    there = {int(match[1]) for match in map(OUTER.fullmatch, path) if match}
    missing = sorted(set(range(max(there))) - there)
    if missing:
        said += (
            f" It left out layer {', '.join(map(str, missing))}, which it had no node for (ALIF, an activation): "
            "what is read is not the network that was written."
        )
    if isinstance(graph.nodes[path[-2]], (nir.Affine, nir.Linear)):
        said += " It left out a readout (LI) at the end, too: if there was one, append it."
    return said


def _all(graph: Any) -> Iterator[tuple[str, Any]]:
    for name, node in graph.nodes.items():
        yield name, node
        if isinstance(node, nir.NIRGraph):
            yield from _all(node)
