"""Connections with delays in NumPy float64, each sum written out. Never imports spyx.

Layout: x (batch, time, features), for an image (batch, time, length, channels).
"""

from __future__ import annotations

import numpy as np


def weight_of_lag(kernel, lags, d, width, p=None):
    """k(l; d) for every lag: (lags, *d.shape). `p` is broadcast to d."""
    at = np.arange(lags).reshape(-1, *(1,) * np.ndim(d))
    if kernel == "gauss":
        bell = np.exp(-(((at - d) / (abs(width) + 0.27)) ** 2) / 2)
        return bell / (bell.sum(0) + 1e-7)
    s = 1 + width if p is None else 1 + 2 * width / (1 + np.exp(-p))
    return np.where(s > abs(at - d), s - abs(at - d), 0) / s**2


def plain(x, w, b):
    return x @ w + b


def conv(x, w, b, stride, groups):
    """Valid convolution along the length, channels last: w (window, in / groups, out)."""
    window, per_group, outs = w.shape
    count = (x.shape[-2] - window) // stride + 1
    y = np.zeros((*x.shape[:-2], count, outs))
    for o in range(outs):
        first = o // (outs // groups) * per_group
        for at in range(count):
            patch = x[..., at * stride : at * stride + window, first : first + per_group]
            y[..., at, o] = (patch * w[..., o]).sum((-2, -1)) + b[o]
    return y


def delayed(x, w, b, d, per, kernel, lags, width, p=None, product=plain):
    """`y_j[t] = b_j + sum_i sum_l w_ij k(l; d_ij) x_i[t - l]`."""
    if per == "synapse" and p is not None:
        p = p[:, None]
    k = weight_of_lag(kernel, lags, d, width, p)
    nothing = np.zeros_like(b)
    y = 0
    for lag in range(min(lags, x.shape[1])):
        late = np.zeros_like(x)
        late[:, lag:] = x[:, : x.shape[1] - lag]
        if per == "synapse":
            y = y + product(late, w * k[lag], nothing)
        elif per == "source":
            y = y + product(late * k[lag], w, nothing)
        else:
            y = y + product(late, w, nothing) * k[lag]
    return y + b


def deliver(spikes, w, b, steps):
    """Currents (batch, time, out), spike by spike: each arrives at every target after that synapse's delay."""
    batch, time, _ = spikes.shape
    currents = np.tile(b, (batch, time, 1)).astype(np.float64)
    for n, t, i in zip(*np.nonzero(spikes), strict=True):
        for j in range(w.shape[1]):
            if t + steps[i, j] < time:
                currents[n, t + steps[i, j], j] += w[i, j] * spikes[n, t, i]
    return currents


def lif(currents, beta, threshold=1.0):
    """Spikes of `z = H(v - threshold)`, `v' = beta v + x - threshold z`."""
    v = np.zeros_like(currents[:, 0])
    out = np.zeros_like(currents)
    for t in range(currents.shape[1]):
        z = (v > threshold).astype(np.float64)
        out[:, t] = z
        v = beta * v + currents[:, t] - threshold * z
    return out


def recurrent_lif(x, w, steps, beta, threshold=1.0, same_step=True):
    """LIF units that feed one another: every spike is put down where it arrives, `steps[i, j]` later.

    With `same_step` a spike of the membrane before the update acts on that update where its delay is 0. Else a unit
    spikes from the membrane after the update, and the spike arrives in the next step where its delay is 0.
    """
    batch, time, units = x.shape
    arriving = x.astype(np.float64).copy()
    v, out = np.zeros((batch, units)), np.zeros_like(arriving)
    for t in range(time):
        if not same_step:
            v = beta * v + arriving[:, t]
        z = (v > threshold).astype(np.float64)
        out[:, t] = z
        for n, i in zip(*np.nonzero(z), strict=True):
            for j in range(units):
                at = t + steps[i, j] + (not same_step)
                if at < time:
                    arriving[n, at, j] += w[i, j]
        v = v - threshold * z if not same_step else beta * v + arriving[:, t] - threshold * z
    return out


def lif_graph(x, sizes, connections, beta, spike=lambda v: (v > 0).astype(np.float64), threshold=1.0):
    """LIF units in named groups: every spike is put down where it arrives. Returns what each group sends.

    Args:
        x: (batch, time, features) of the group "input".
        sizes: group to number of units; one that only receives returns what arrives.
        connections: (source, target, lag, taps): a spike of unit i adds `taps[l, i, j]` to unit j, `lag + l` later.
    """
    batch, time, features = x.shape
    arriving = {name: np.zeros((batch, time, size)) for name, size in sizes.items()}
    sent = {"input": np.asarray(x, np.float64)} | {name: np.zeros_like(a) for name, a in arriving.items()}
    neurons = {source for source, *_ in connections} - {"input"}
    v = {name: np.zeros_like(arriving[name][:, 0]) for name in neurons}
    for t in range(time):
        for name in neurons:
            sent[name][:, t] = spike(v[name] - threshold)
        for source, target, lag, taps in connections:
            for n, i in zip(*np.nonzero(sent[source][:, t]), strict=True):
                for late in range(min(len(taps), time - t - lag)):
                    arriving[target][n, t + lag + late] += sent[source][n, t, i] * taps[late, i]
        for name in neurons:
            v[name] = beta * v[name] + arriving[name][:, t] - threshold * sent[name][:, t]
    return sent | {name: arriving[name] for name in sizes if name not in neurons}
