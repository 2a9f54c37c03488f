"""The gain of a neuron moved into the weights before it: the same equations, read alike by libraries that ignore r."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

import nir

GAINS = {nir.LI: ("r",), nir.LIF: ("r",), nir.CubaLI: ("r", "w_in"), nir.CubaLIF: ("r", "w_in")}
WEIGHTS = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d)


def portable(graph: nir.NIRGraph) -> nir.NIRGraph:
    """A copy in which r and w_in are 1 wherever weights can take them: `W' = r w_in W`, `b' = r w_in b`.

    Norse ignores r, and snnTorch refuses it in CubaLIF nodes; both read weights. A neuron keeps its gain when not all
    of its input comes through weights of its own, or when units of one channel differ.

    Args:
        graph: what `to_nir` made, or any graph; sub-graphs stay as they are.

    Returns:
        A new graph with the same answers up to rounding.

    Example:
        >>> from flax import nnx
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> net = nn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nn.LIF(3, beta=0.75))
        >>> portable(to_nir(net, dt=1e-4)).nodes["lif_1"].r.tolist()
        [1.0, 1.0, 1.0]
    """
    nodes = copy.deepcopy(dict(graph.nodes))
    edges = [(str(a), str(b)) for a, b in graph.edges]
    for name, node in nodes.items():
        before = [a for a, b in edges if b == name]
        own = all(isinstance(nodes[a], WEIGHTS) and [t for s, t in edges if s == a] == [name] for a in before)
        if type(node) not in GAINS or not before or not own:
            continue
        gain = np.prod([np.asarray(getattr(node, field), np.float64) for field in GAINS[type(node)]], axis=0)
        channels = gain.reshape(gain.shape[0], -1)
        if np.any(channels != channels[:, :1]):
            continue
        for source in before:
            _scale(nodes[source], channels[:, 0])
        for field in GAINS[type(node)]:
            setattr(node, field, np.ones_like(gain))
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata), type_check=False)


def _scale(node: Any, gain: np.ndarray) -> None:
    weight = np.asarray(node.weight)
    node.weight = (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
    if hasattr(node, "bias"):
        node.bias = (np.asarray(node.bias) * gain).astype(np.asarray(node.bias).dtype)
