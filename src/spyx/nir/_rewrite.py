"""Copies of a graph that suit others: weights and decays on the grid of a chip, gains moved into weights."""

from __future__ import annotations

import copy
import re

import numpy as np

import nir
from spyx.nir._flat import CONVOLUTIONS, DENSE, Nodes

PRECISIONS = "float16, bfloat16, or int2 to int16"
DECAYS = {"tau": ("r",), "tau_mem": ("r",), "tau_syn": ("w_in",)}
"""Every time constant, and the gain that moves with it so that the input counts as before."""
GAINS = {nir.LI: ("r",), nir.LIF: ("r",), nir.CubaLI: ("r", "w_in"), nir.CubaLIF: ("r", "w_in")}


def quantise(
    graph: nir.NIRGraph, *, weights: str | None = None, decays: str | None = None, dt: float | None = None
) -> nir.NIRGraph:
    """A copy of a graph whose weights and decays lie on a grid.

    `intN` weights are whole multiples of one step per node, `max|w| / (2**(N-1) - 1)`; `intN` decays are multiples of
    `2**-N`, as a chip that multiplies the membrane by an N-bit fraction has them. The gain of the input,
    `r dt / tau`, stays as it was. Biases do not change.

    Args:
        graph: what `to_nir` made, or any graph.
        weights: precision of weights; None leaves them.
        decays: precision of decays, `1 - dt/tau`; None leaves them.
        dt: time step; None is what the graph says.

    Returns:
        A new graph; what was done is in its metadata.

    Raises:
        ValueError: another precision; decays without a time step.

    Example:
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> graph = quantise(to_nir(nn.Sequential(nn.LIF(1, beta=0.9)), dt=1.0), decays="int4")
        >>> 1 - 1 / graph.nodes["lif_0"].tau.item()
        0.875
    """
    chosen = {name: value for name, value in (("weights", weights), ("decays", decays)) if value is not None}
    bits = {name: _bits(name, precision) for name, precision in chosen.items()}
    step = float(graph.metadata.get("dt", 0.0)) if dt is None else float(dt)
    if decays is not None and not step > 0:
        raise ValueError("spyx.nir.quantise(dt=): expected a time step, to know what a decay is; got none. Pass dt.")

    def quantised(graph: nir.NIRGraph) -> nir.NIRGraph:
        nodes: Nodes = {}
        for name, node in graph.nodes.items():
            nodes[name] = quantised(node) if isinstance(node, nir.NIRGraph) else copy.deepcopy(node)
            if weights is not None and isinstance(node, (*DENSE, *CONVOLUTIONS, nir.Scale)):
                field = "scale" if isinstance(node, nir.Scale) else "weight"
                setattr(nodes[name], field, _on_grid(getattr(node, field), weights, bits["weights"]))
            for tau in DECAYS if decays is not None else ():
                if hasattr(node, tau):
                    _set_decay(nodes[name], tau, decays or "", bits["decays"], step)
        return nir.NIRGraph(nodes, list(graph.edges), metadata=dict(graph.metadata), type_check=False)

    result = quantised(graph)
    result.metadata.update({f"{name}_precision": precision for name, precision in chosen.items()})
    return result


def _set_decay(node: nir.NIRNode, name: str, precision: str, bits: int | None, dt: float) -> None:
    tau = np.asarray(getattr(node, name), np.float64)
    beta = 1 - dt / tau
    beta = _rounded(beta, precision) if bits is None else np.round(beta * 2.0**bits) / 2.0**bits
    # A decay of 1 would never leak, and tau would be infinite: the largest that the grid holds below it.
    beta = np.clip(beta, 0, 1 - (2.0**-8 if bits is None else 2.0**-bits))
    new = dt / (1 - beta)
    setattr(node, name, new)
    for gain in DECAYS[name]:
        setattr(node, gain, np.asarray(getattr(node, gain), np.float64) * (new / tau))
    for raw in ("alpha", "beta"):
        node.metadata.pop(raw, None)


def _on_grid(weight: np.ndarray, precision: str, bits: int | None) -> np.ndarray:
    if bits is None:
        return _rounded(weight, precision)
    largest = float(np.abs(weight).max(initial=0))
    step = largest / (2 ** (bits - 1) - 1)
    return (np.round(weight / step) * step).astype(weight.dtype) if largest else weight


def _rounded(values: np.ndarray, precision: str) -> np.ndarray:
    import ml_dtypes

    kind = np.float16 if precision == "float16" else ml_dtypes.bfloat16
    return np.asarray(values).astype(kind).astype(values.dtype)


def _bits(name: str, precision: str) -> int | None:
    if precision in ("float16", "bfloat16"):
        return None
    match = re.fullmatch(r"int(\d+)", precision) if isinstance(precision, str) else None
    if not match or not 2 <= int(match[1]) <= 16:
        raise ValueError(f"spyx.nir.quantise({name}=): expected {PRECISIONS}; got {precision!r}. Choose one.")
    return int(match[1])


def portable(graph: nir.NIRGraph) -> nir.NIRGraph:
    """A copy in which r and w_in are 1 wherever weights can take them: `W' = r w_in W`, `b' = r w_in b`.

    Norse ignores r, and snnTorch refuses it in CubaLIF nodes; both read weights. A neuron's gain stays where not all of
    its input comes through weights of its own, or where units of one channel differ.

    Args:
        graph: what `to_nir` made, or any graph; sub-graphs stay as they are.

    Returns:
        A new graph with the same outputs up to rounding.

    Example:
        >>> from flax import nnx
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> net = nn.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nn.LIF(3, beta=0.75))
        >>> portable(to_nir(net, dt=1e-4)).nodes["lif_1"].r.tolist()
        [1.0, 1.0, 1.0]
    """
    nodes: Nodes = copy.deepcopy(dict(graph.nodes))
    edges = [(str(a), str(b)) for a, b in graph.edges]
    for name, node in nodes.items():
        before = [a for a, b in edges if b == name]
        own = all(
            isinstance(nodes[a], (*DENSE, *CONVOLUTIONS)) and [t for s, t in edges if s == a] == [name] for a in before
        )
        if type(node) not in GAINS or not before or not own:
            continue
        gain = np.prod([np.asarray(getattr(node, field), np.float64) for field in GAINS[type(node)]], axis=0)
        channels = gain.reshape(gain.shape[0], -1)
        if np.any(channels != channels[:, :1]):
            continue
        for weights in (nodes[source] for source in before):
            for field in ("weight", "bias") if hasattr(weights, "bias") else ("weight",):
                old = np.asarray(getattr(weights, field))
                factor = channels[:, 0].reshape(-1, *[1] * (old.ndim - 1))
                setattr(weights, field, (old * factor).astype(old.dtype))
        for field in GAINS[type(node)]:
            setattr(node, field, np.ones_like(gain))
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata), type_check=False)
