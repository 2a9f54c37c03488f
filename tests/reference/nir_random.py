"""Random NIR graphs of every node type, with skipping edges, both spellings of recurrence and several outputs."""

from __future__ import annotations

import numpy as np
import pytest

from reference import nir_network

nir = pytest.importorskip("nir")

SHAPES = [(4,), (3, 5), (2, 6, 5), (2, 6, 5), (4,)]
FIELDS = {
    "I": ("r",),
    "IF": ("r", "v_threshold", "v_reset"),
    "LI": ("tau", "r", "v_leak"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
}
UNITS = (*FIELDS, "Scale", "Threshold", "Delay")
KINDS = {
    1: (*UNITS, *["Affine", "Linear"] * 2),
    2: (*UNITS, *["Conv1d"] * 4, "Flatten"),
    3: (*UNITS, *["Conv2d"] * 4, *["SumPool2d", "AvgPool2d", "Flatten"] * 2),
}


def random_graph(rng, depth, dt):
    """A graph, the shape of its input, and the edges around its cycles that take a step."""
    shape = SHAPES[rng.integers(len(SHAPES))]
    nodes, edges, late = {"input": nir.Input({"input": np.array(shape)})}, [], set()
    shapes, last = {"input": shape}, "input"
    for k in range(depth):
        node, answer = fitting(rng, shapes[last], dt)
        name = f"n{k}"
        same = [other for other in shapes if shapes[other] == shapes[last] and other != last]
        edges += [(last, name), *((other, name) for other in same[:1] if rng.random() < 0.4)]
        nodes[name], shapes[name] = node, answer
        if len(answer) == 1 and type(node).__name__ in FIELDS and rng.random() < 0.4:
            late |= looped(rng, name, nodes, edges, answer[0])
        last = name
    for end, source in {"output": last, "other": f"n{rng.integers(depth)}"}.items():
        nodes[end] = nir.Output({"output": np.array(shapes[source])})
        edges.append((source, end))
    return nir.NIRGraph(nodes, edges, type_check=False), shape, late


def looped(rng, name, nodes, edges, units):
    """A loop around a neuron: through a matrix, inside a sub-graph, or straight back."""
    weight = rng.normal(0, 0.5, (units, units))
    spelling = rng.integers(3)
    if spelling == 0:
        nodes[f"{name}w"] = nir.Linear(weight)
        edges += [(name, f"{name}w"), (f"{name}w", name)]
        return {(name, f"{name}w")}
    if spelling == 1:
        gates = {"input": nir.Input({"input": np.array([units])}), "output": nir.Output({"output": np.array([units])})}
        inner = {**gates, "core": nodes[name], "w": nir.Affine(weight, rng.normal(0, 0.2, units))}
        ring = [("input", "core"), ("core", "w"), ("w", "core"), ("core", "output")]
        nodes[name] = nir.NIRGraph(inner, ring, type_check=False)
        return {(f"{name}.core", f"{name}.w")}
    edges.append((name, name))
    return {(name, name)}


def fitting(rng, shape, dt):
    """A random node that takes this shape, and the shape of its answer."""
    while True:
        node = random_node(rng, rng.choice(KINDS[len(shape)]), shape, dt)
        try:
            answer = nir_network.node(node, np.zeros(shape), {}, dt).shape
        except ValueError:  # a window larger than the map
            continue
        if min(answer) > 0:
            return node, answer


def random_node(rng, kind, shape, dt):
    """Arrays of random numbers, none of them trivial."""
    if kind in FIELDS:
        return neuron(rng, kind, shape, dt)
    if kind in ("Scale", "Threshold"):
        return getattr(nir, kind)(rng.normal(0, 1.2, shape))
    if kind == "Delay":
        return nir.Delay(dt * (rng.integers(0, 4, shape) if rng.random() < 0.5 else np.full(shape, rng.integers(4))))
    if kind in ("Affine", "Linear"):
        weight = rng.normal(0, 1, (rng.integers(1, 7), shape[0]))
        return nir.Linear(weight) if kind == "Linear" else nir.Affine(weight, rng.normal(0, 0.5, len(weight)))
    if kind == "Flatten":
        ends = [(0, -1), (0, len(shape) - 1), sorted(rng.choice(len(shape), 2, replace=False).tolist())]
        return nir.Flatten({"input": np.array(shape)}, *ends[rng.integers(3)])
    if kind.endswith("Pool2d"):
        window, stride = rng.integers(1, 4, 2), rng.integers(1, 4, 2)
        return getattr(nir, kind)(window, stride, np.minimum(rng.integers(0, 2, 2), window // 2))
    return convolution(rng, shape)


def neuron(rng, kind, shape, dt):
    """Every parameter its own for every unit."""
    ranges = dict(tau=(1.5, 12), tau_mem=(1.5, 12), tau_syn=(1.2, 8), r=(1, 6), v_leak=(-0.3, 0.3))
    ranges |= dict(v_threshold=(0.3, 1.2), v_reset=(-0.5, 0.25), w_in=(0.5, 3))
    known = {name: rng.uniform(*ranges[name], shape) for name in FIELDS[kind]}
    scale = {name: dt for name in known if name.startswith("tau")} | ({"r": 0.25 / dt} if kind in ("I", "IF") else {})
    return getattr(nir, kind)(**{name: value * scale.get(name, 1.0) for name, value in known.items()})


def convolution(rng, shape):
    """Stride, padding, dilation and groups in every spelling."""
    space, channels = len(shape) - 1, shape[0]
    groups = int(rng.choice([g for g in range(1, channels + 1) if channels % g == 0]))
    weight = rng.normal(0, 0.6, (groups * rng.integers(1, 4), channels // groups, *rng.integers(1, 4, space)))
    stride, dilation, padding = (rng.integers(low, 3, space) for low in (1, 1, 0))
    mode = rng.integers(4)
    if mode == 0:
        stride, padding = np.ones_like(stride), "same"
    elif mode == 1:
        padding = "valid"
    bias = rng.normal(0, 0.3, len(weight))
    if space == 1:
        one = padding if isinstance(padding, str) else int(padding[0])
        return nir.Conv1d(shape[1], weight, int(stride[0]), one, int(dilation[0]), groups, bias)
    known = shape[1:] if rng.random() < 0.7 else None
    return nir.Conv2d(known, weight, tuple(map(int, stride)), padding, dilation, groups, bias)
