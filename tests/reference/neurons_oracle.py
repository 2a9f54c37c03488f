"""Spiking neurons in plain NumPy float64, one loop over time, written from the equations. Never imports spyx."""

from __future__ import annotations

import numpy as np


def _clip(value):
    return None if value is None else np.clip(np.asarray(value, np.float64), 0.0, 1.0)


def simulate(kind, x, *, alpha=None, beta=None, gamma=None, threshold=1.0, w=None, adaptation=1.0, dtype=np.float64):
    """Run `kind` over x (batch, time, *hidden) from rest; returns outputs of that layout and a dict of states."""
    x = np.asarray(x, dtype)
    alpha, beta, gamma = (_clip(value) for value in (alpha, beta, gamma))
    batch, steps, *hidden = x.shape
    v, i, a = (np.zeros((batch, *hidden), dtype) for _ in range(3))
    if w is not None:
        size = int(np.prod(hidden))
        w = np.asarray(w, dtype).reshape(size, size)
    outs = np.zeros_like(x)
    for t in range(steps):
        th = threshold + adaptation * a
        z = (v > th).astype(dtype)
        fed = 0.0 if w is None else (z.reshape(batch, -1) @ w).reshape(z.shape)
        current = x[:, t] + fed
        if kind == "LI":
            v = beta * v + x[:, t]
            outs[:, t] = v
            continue
        if kind in ("IF", "RIF"):
            v = v + current - z * threshold
        elif kind in ("LIF", "RLIF"):
            v = beta * v + current - z * threshold
        elif kind in ("ALIF", "RALIF"):
            v = beta * v + current - z * th
            a = gamma * a + (1 - gamma) * z
        elif kind in ("CuBaLIF", "RCuBaLIF"):
            i = alpha * i + current
            v = beta * (v - z * threshold) + i
        outs[:, t] = z
    return outs, {"v": v, "i": i, "a": a}


def finite_difference(f, x, eps=1e-6):
    """Central differences of a scalar function at a float64 array."""
    x = np.asarray(x, np.float64)
    grad = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += eps
        down[index] -= eps
        grad[index] = (f(up) - f(down)) / (2 * eps)
    return grad
