"""Weights and decays on the grid of a chip, before the graph leaves for it."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np

import nir

PRECISIONS = "float16, bfloat16, or int2 to int16"
WEIGHTS = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d, nir.Scale)
DECAYS = {"tau": ("r",), "tau_mem": ("r",), "tau_syn": ("w_in",)}
"""Every time constant, and the gain that moves with it so that the input counts as before."""


def quantise(graph: nir.NIRGraph, *, weights: str | None = None, decays: str | None = None, dt: float | None = None):
    """A copy of a graph whose weights and decays lie on a grid.

    `intN` weights are whole multiples of one step per node, `max|w| / (2**(N-1) - 1)`; `intN` decays are multiples of
    `2**-N`, as a chip that multiplies the membrane by an N-bit fraction has them. The gain of the input,
    `r dt / tau`, stays as it was. Biases are left alone.

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
    for name, precision in (("weights", weights), ("decays", decays)):
        if precision is not None:
            _bits(name, precision)
    step = float(graph.metadata.get("dt", 0.0)) if dt is None else float(dt)
    if decays is not None and not step > 0:
        raise ValueError("spyx.nir.quantise(dt=): expected a time step, to know what a decay is; got none. Pass dt.")
    result = _quantised(graph, weights, decays, step)
    for name, precision in (("weights", weights), ("decays", decays)):
        if precision is not None:
            result.metadata[f"{name}_precision"] = precision
    return result


def _quantised(graph: nir.NIRGraph, weights: str | None, decays: str | None, dt: float) -> nir.NIRGraph:
    nodes: dict[str, Any] = {}
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            nodes[name] = _quantised(node, weights, decays, dt)
            continue
        node = copy.deepcopy(node)
        if weights is not None and isinstance(node, WEIGHTS):
            field = "scale" if isinstance(node, nir.Scale) else "weight"
            setattr(node, field, _on_grid(getattr(node, field), weights))
        for tau, gains in DECAYS.items():
            if decays is not None and hasattr(node, tau):
                _set_decay(node, tau, gains, decays, dt)
        nodes[name] = node
    return nir.NIRGraph(nodes, list(graph.edges), metadata=dict(graph.metadata), type_check=False)


def _set_decay(node: Any, name: str, gains: tuple[str, ...], precision: str, dt: float) -> None:
    tau = np.asarray(getattr(node, name), np.float64)
    beta, bits = 1 - dt / tau, _bits("decays", precision)
    if bits is None:
        beta = _rounded(beta, precision)
    else:
        beta = np.round(beta * 2.0**bits) / 2.0**bits
    # A decay of 1 would never leak, and tau would be infinite: the largest that the grid holds below it.
    beta = np.clip(beta, 0, 1 - (2.0**-8 if bits is None else 2.0**-bits))
    new = dt / (1 - beta)
    setattr(node, name, new)
    for gain in gains:
        setattr(node, gain, np.asarray(getattr(node, gain), np.float64) * (new / tau))
    for raw in ("alpha", "beta"):
        node.metadata.pop(raw, None)


def _on_grid(weight: np.ndarray, precision: str) -> np.ndarray:
    bits = _bits("weights", precision)
    if bits is None:
        return _rounded(weight, precision)
    largest = float(np.abs(weight).max(initial=0))
    if not largest:
        return weight
    step = largest / (2 ** (bits - 1) - 1)
    return (np.round(weight / step) * step).astype(weight.dtype)


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
