"""A whole NIR graph in float64, typed from the specification: no line of it is shared with spyx.

Pedersen et al. 2024, doi:10.1038/s41467-024-52259-9, and the shapes that NIR 1.0.8 documents: (channels, *space),
weights (out, in, *window). Forward Euler from a membrane at 0; a spike when the new membrane is above its threshold.
"""

from __future__ import annotations

import itertools

import numpy as np


def run(graph, inputs, dt, late_edges=()):
    """Answer of every Output by name, (time, *shape).

    Args:
        graph: a NIRGraph; sub-graphs are taken apart here.
        inputs: name of every Input to (time, *shape).
        dt: time step.
        late_edges: edges of cycles that take one step; names inside a sub-graph are `outer.inner`.
    """
    nodes, edges = {}, []
    _open(graph, "", nodes, edges)
    order, waiting = [], list(nodes)
    while waiting:
        ready = [n for n in waiting if not any(b == n and a in waiting and (a, b) not in late_edges for a, b in edges)]
        assert ready, f"a cycle among {waiting}"
        order.append(ready[0])
        waiting.remove(ready[0])
    steps = len(next(iter(inputs.values())))
    states = {name: {} for name in nodes}
    now, outs = {}, {name: [] for name in graph.outputs}
    for t in range(steps):
        before, now = now, {}
        for name in order:
            sources = [before.get(a) if (a, b) in late_edges else now[a] for a, b in edges if b == name]
            x = sum((s for s in sources if s is not None), 0.0)
            now[name] = np.asarray(inputs[name][t], float) if name in inputs else node(nodes[name], x, states[name], dt)
        for name in outs:
            outs[name].append(now[name])
    return {name: np.stack(values) for name, values in outs.items()}


def _open(graph, prefix, nodes, edges):
    gates = {}
    for name, inner in graph.nodes.items():
        if type(inner).__name__ == "NIRGraph":
            gates[name] = _open(inner, f"{prefix}{name}.", nodes, edges)
        else:
            nodes[prefix + name] = inner
    for a, b in graph.edges:
        edges.append((gates[a][1] if a in gates else prefix + a, gates[b][0] if b in gates else prefix + b))
    ends = [prefix + n for n in (*graph.inputs, *graph.outputs)]
    return ends[0], ends[-1]


def node(n, x, state, dt):
    """What one node answers to x now; `state` is its own dict."""
    kind = type(n).__name__
    if kind in ("Input", "Output"):
        return x
    if kind in ("Linear", "Affine"):
        x = np.broadcast_to(x, n.weight.shape[1])  # nothing has come yet around a cycle
        return np.array([row @ x for row in n.weight.astype(float)]) + (n.bias if kind == "Affine" else 0.0)
    if kind == "Scale":
        return n.scale.astype(float) * x
    if kind == "Threshold":
        return np.where(x - n.threshold.astype(float) > 0, 1.0, 0.0)
    if kind == "Delay":
        past = state.setdefault("past", [])
        past.append(x)
        steps = np.rint(n.delay / dt).astype(int)
        shown = np.zeros_like(x)
        for place in np.ndindex(x.shape):
            k = len(past) - 1 - steps[place]
            shown[place] = past[k][place] if k >= 0 else 0.0
        return shown
    if kind == "Flatten":
        last = n.end_dim % x.ndim
        return x.reshape(*x.shape[: n.start_dim % x.ndim], -1, *x.shape[last + 1 :])
    if kind in ("SumPool2d", "AvgPool2d"):
        total = window_sums(x, np.ones(pair(n.kernel_size)), pair(n.stride), ends(n.padding, 2), (1, 1))
        return total if kind == "SumPool2d" else total / np.prod(pair(n.kernel_size))
    if kind in ("Conv1d", "Conv2d"):
        return convolution(n, x)
    return neuron(n, x, state, dt)


def neuron(n, x, state, dt):
    """Euler: dv/dt = (v_leak - v + r x)/tau, or r x; with a synapse, di/dt = (w_in x - i)/tau_syn before it."""
    f = {name: np.asarray(value, float) for name, value in vars(n).items() if isinstance(value, np.ndarray)}
    v = state.get("v", 0.0)
    if "tau_syn" in f:
        i = state.get("i", 0.0)
        x = state["i"] = i + dt / f["tau_syn"] * (f["w_in"] * x - i)
    tau = f.get("tau", f.get("tau_mem"))
    v = v + (dt * f["r"] * x if tau is None else dt / tau * (f["v_leak"] - v + f["r"] * x))
    if "v_threshold" not in f:
        state["v"] = v
        return v
    z = v > f["v_threshold"]
    state["v"] = np.where(z, f["v_reset"], v)
    state["margin"] = min(state.get("margin", np.inf), np.abs(v - f["v_threshold"]).min())
    return z.astype(float)


def convolution(n, x):
    """Channel by channel, group by group."""
    space = x.ndim - 1
    weight, groups = n.weight.astype(float), int(n.groups)
    stride, dilation = pair(n.stride, space), pair(n.dilation, space)
    if n.padding == "same" if isinstance(n.padding, str) else False:
        spans = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding = [(span // 2, span - span // 2) for span in spans]
    else:
        padding = ends(0 if isinstance(n.padding, str) else n.padding, space)
    answers = []
    for out in range(len(weight)):
        first = out // (len(weight) // groups) * weight.shape[1]
        taken = [(x[None, first + k], weight[out, k]) for k in range(weight.shape[1])]
        parts = [window_sums(channel, window, stride, padding, dilation)[0] for channel, window in taken]
        answers.append(sum(parts) + n.bias[out])
    return np.stack(answers)


def window_sums(x, window, stride, padding, dilation):
    """Sums of weighted windows of every channel."""
    x = np.pad(x, [(0, 0), *padding])
    axes = zip(x.shape[1:], window.shape, stride, dilation, strict=True)
    counts = [(size - d * (k - 1) - 1) // s + 1 for size, k, s, d in axes]
    y = np.zeros((len(x), *counts))
    for place in np.ndindex(*counts):
        for tap in itertools.product(*map(range, window.shape)):
            at = tuple(p * s + k * d for p, s, k, d in zip(place, stride, tap, dilation, strict=True))
            y[(slice(None), *place)] += window[tap] * x[(slice(None), *at)]
    return y


def pair(value, axes=2):
    """One number per axis."""
    numbers = [int(k) for k in np.ravel(value)]
    return tuple(numbers * axes if len(numbers) == 1 else numbers)


def ends(padding, axes):
    """The same number of zeros at both ends."""
    return [(p, p) for p in pair(padding, axes)]
