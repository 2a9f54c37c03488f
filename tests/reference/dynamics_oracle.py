"""Integrate-and-fire neurons with every convention, a loop in NumPy float64. Never imports spyx.

`held` are the spikes of the resets, given: what a detached reset is to a finite difference.
"""

from __future__ import annotations

import numpy as np


def simulate(
    kind,
    x,
    *,
    spike_at="before",
    reset="subtract",
    gain="one",
    delayed=False,
    loses_input=False,
    alpha=0.0,
    beta=1.0,
    gamma=0.0,
    threshold=1.0,
    adaptation=1.0,
    w=None,
    fire=lambda u: (u > 0).astype(np.float64),
    held=None,
):
    """Outputs, membranes after each step, and the spikes of the resets, each (batch, time, units)."""
    x = np.asarray(x, np.float64)
    batch, steps, units = x.shape
    v, i, a, z = (np.zeros((batch, units)) for _ in range(4))
    outs, membranes, resets = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for t in range(steps):
        th = threshold + adaptation * a if kind == "ALIF" else threshold
        late = spike_at == "after" and not delayed
        before = fire(v - th)
        sent = before if spike_at == "before" else z
        current = x[:, t] + (0.0 if w is None else sent @ w)
        i = alpha * i + current if kind == "CuBaLIF" else current
        scale = (1 - beta) if gain == "complement" else 1.0
        r = before if held is None else held[:, t]
        if late:
            u = beta * v + scale * i
            z = fire(u - th)
            r = z if held is None else held[:, t]
            v = {"subtract": u - r * th, "zero": u * (1 - r), "none": u}[reset]
        else:
            if reset == "subtract":
                inside = kind == "CuBaLIF" and spike_at == "before"
                v = beta * (v - r * th) + scale * i if inside else beta * v + scale * i - r * th
            elif reset == "zero" and loses_input:
                v = (beta * v + scale * i) * (1 - r)
            elif reset == "zero":
                v = beta * v * (1 - r) + scale * i
            else:
                v = beta * v + scale * i
            z = before if spike_at == "before" else fire(v - th)
        a = gamma * a + (1 - gamma) * z
        outs[:, t], membranes[:, t], resets[:, t] = z, v, r
    return outs, membranes, resets
