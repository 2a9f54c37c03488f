"""NIR graphs of one shape, so that few programs are compiled."""

from __future__ import annotations

import numpy as np
import pytest

nir = pytest.importorskip("nir")

DT, UNITS, STEPS = 1e-3, 4, 40


def fields(kind: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Parameters of one neuron node, none of them trivial."""

    def between(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, UNITS)

    known = {
        "tau": between(3, 12) * DT,
        "tau_mem": between(3, 12) * DT,
        "tau_syn": between(2, 8) * DT,
        "r": between(2, 6) / (DT if kind in ("I", "IF") else 1.0) / (5.0 if kind in ("I", "IF") else 1.0),
        "v_leak": between(-0.2, 0.2),
        "v_threshold": between(0.5, 1.5),
        "v_reset": between(-0.4, 0.3),
        "w_in": between(0.5, 3),
    }
    names = {
        "I": ("r",),
        "IF": ("r", "v_threshold", "v_reset"),
        "LI": ("tau", "r", "v_leak"),
        "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
        "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
        "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    }
    return {name: known[name] for name in names[kind]}


def chain(*nodes, shape=(UNITS,)):
    """A chain of nodes between an Input and an Output, types unchecked."""
    named = {f"n{k}": node for k, node in enumerate(nodes)}
    path = ["input", *named, "output"]
    ends = {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array([0])})}
    graph = {"input": ends["input"], **named, "output": ends["output"]}
    edges = list(zip(path[:-1], path[1:], strict=True))
    return graph, edges


def graph_of(*nodes, shape=(UNITS,), answer=(UNITS,)):
    """The chain as a graph."""
    named, edges = chain(*nodes, shape=shape)
    named["output"] = nir.Output({"output": np.array(answer)})
    return nir.NIRGraph(named, edges, type_check=False)


def spikes(seed: int = 0, shape=(UNITS,), steps: int = STEPS) -> np.ndarray:
    """Random input (time, *shape)."""
    return (np.random.default_rng(seed).random((steps, *shape)) < 0.4).astype(np.float32)
