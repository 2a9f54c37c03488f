"""The time constants of a graph, and the time step that suits them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import nir
from spyx.nir.delays import whole_steps
from spyx.nir.flat import Flat
from spyx.nir.load import as_graph
from spyx.nir.validate import TIMES, validated

PART = 10
"""Euler steps are at most this part of the smallest time constant: the leak of a step is then within 5 % of the exact
one."""
FINEST = 1e-4
"""A delay makes the suggested step smaller by this factor at most."""


class TimeConstant(NamedTuple):
    """One time constant of a node: its smallest and its largest value over the units."""

    node: str
    name: str
    smallest: float
    largest: float


def time_constants(flat: Flat) -> list[TimeConstant]:
    """Every time constant of the graph, node by node."""
    return [
        TimeConstant(name, field, float(np.min(getattr(node, field))), float(np.max(getattr(node, field))))
        for name, node in flat.nodes.items()
        for field in TIMES
        if hasattr(node, field)
    ]


def suggest_dt(graph: Any) -> float | None:
    """A time step for a graph that records none: a tenth of its smallest time constant, or less.

    It is 1, 2 or 5 times a power of ten, and every `Delay` is a whole number of such steps. A graph without time
    constants gets the step with which an input of 1 adds 1 to its integrators, `1 / r`, where they share one r.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.

    Returns:
        The step in the unit of the graph's time constants; None where nothing tells one.

    Raises:
        ValueError: a graph that is not sound.

    Example:
        >>> import numpy as np
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> suggest_dt(to_nir(nn.Sequential(nn.LIF(2, beta=0.9)), dt=1e-3))  # tau is 0.01
        0.001
    """
    return suggested(validated(as_graph(graph), "spyx.nir.suggest_dt").flat)


def suggested(flat: Flat) -> float | None:
    """As `suggest_dt`, for a graph that passed its checks."""
    found = time_constants(flat)
    delays = [float(d) for name in flat.names(nir.Delay) for d in np.ravel(flat.nodes[name].delay) if d > 0]
    if found:
        most = min(one.smallest for one in found) / PART
    elif delays:
        most = min(delays)
    else:
        r = [np.ravel(flat.nodes[name].r) for name in flat.names((nir.I, nir.IF))]
        values = np.unique(np.concatenate(r)) if r else np.zeros(0)
        return float(1 / values[0]) if len(values) == 1 and values[0] > 0 else None
    most *= 1 + 1e-6  # files hold float32, where 0.01 is a little less
    for exponent in range(math.floor(math.log10(most)), math.floor(math.log10(most * FINEST)), -1):
        for digit in (5, 2, 1):
            step = float(f"{digit}e{exponent}")
            if 0 < step <= most and all(whole_steps(delay, step) is not None for delay in delays):
                return step
    return None
