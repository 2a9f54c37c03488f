"""NIR graphs whose nodes say how they integrate, reset and when their spikes leave: in float64, typed from the docs.

No line is shared with spyx. Nothing is sorted: an answer asks for the answers that it needs, at the steps at which it
needs them, and a cycle without time would ask forever.
"""

from __future__ import annotations

import numpy as np

from reference import nir_network

NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")


def run(graph, inputs, dt, meanings, late_edges=()):
    """What every node of a flat graph sends to a target that it reaches without a delay: (time, *shape).

    Args:
        graph: a NIRGraph without sub-graphs.
        inputs: name to (time, *shape).
        dt: time step.
        meanings: name of every neuron to a dict of integration, reset, spike, multi_spike and v_min.
        late_edges: edges that close a cycle without any other time in it.
    """
    states, known = {name: {} for name in graph.nodes}, {}

    def sent(name, t):
        t -= meanings.get(name, {}).get("spike") == "pre"
        return answer(name, t) if t >= 0 else 0.0

    def taken(name, t):
        return sum((sent(a, t - ((a, b) in late_edges)) for a, b in graph.edges if b == name), 0.0) if t >= 0 else 0.0

    def answer(name, t):
        if (name, t) not in known:
            node = graph.nodes[name]
            if name in inputs:
                known[name, t] = np.asarray(inputs[name][t], float)
            elif type(node).__name__ == "Delay":  # asks for no more than what each unit waits for
                waits = np.rint(np.asarray(node.delay) / dt).astype(int)
                came = {k: np.broadcast_to(taken(name, t - k), waits.shape) for k in np.unique(waits)}
                known[name, t] = np.select([waits == k for k in came], list(came.values()))
            elif type(node).__name__ in NEURONS:
                x = np.asarray(taken(name, t), float)
                known[name, t] = neuron(node, x, states[name], dt, **meanings.get(name, {}))
            else:
                known[name, t] = nir_network.node(node, taken(name, t), states[name], dt)
        return known[name, t]

    steps = range(len(next(iter(inputs.values()))))
    shapes = [{name: np.shape(answer(name, t)) for name in graph.nodes} for t in steps][-1]
    return {name: np.stack([np.broadcast_to(sent(name, t), shapes[name]) for t in steps]) for name in graph.nodes}


def neuron(n, x, state, dt, integration="euler", reset="nir", spike="post", multi_spike=False, v_min=None):
    """Spikes leave a step later under `pre`, which `run` does; the membrane is the same."""
    f = {name: np.asarray(value, float) for name, value in vars(n).items() if isinstance(value, np.ndarray)}
    v = state.get("v", 0.0)

    def lost(tau):
        return dt / tau if integration == "euler" else 1 - np.exp(-dt / tau)

    if "tau_syn" in f:
        i = state.get("i", 0.0)
        x = state["i"] = i - lost(f["tau_syn"]) * i + dt / f["tau_syn"] * f["w_in"] * x
    tau = f.get("tau", f.get("tau_mem"))
    kept = 1.0 if tau is None else 1 - lost(tau)
    v = v + dt * f["r"] * x if tau is None else v + lost(tau) * (f["v_leak"] - v) + dt / tau * f["r"] * x
    if "v_threshold" not in f:
        state["v"] = v
        return v
    count = (v > f["v_threshold"]).astype(float)
    while multi_spike and np.any(more := v > (count + 1) * f["v_threshold"]):
        count = count + more  # one spike for every threshold that the membrane is above
    if reset == "nir":
        v = np.where(count > 0, f["v_reset"], v)
    elif reset == "zero":
        v = np.where(count > 0, 0.0, v)
    elif reset == "subtract":
        v = v - count * (f["v_threshold"] - f["v_reset"])
    else:
        v = v - count * f["v_threshold"] / kept
    state["v"] = v if v_min is None else np.maximum(v, v_min)
    return count
