"""NIR's equations in float64 NumPy, one step at a time: what every other execution of a graph is compared with.

Nothing here is shared with `spyx.nn`: arrays keep NIR's axes, and a convolution is a sum of shifted products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import nir
from spyx.nir.delays import whole_steps
from spyx.nir.flat import Identity
from spyx.nir.load import STATEFUL, as_graph, meaning_at, spiking_late, steps_of
from spyx.nir.meaning import AFTER_LEAK, Meaning, read_meaning
from spyx.nir.sizes import answer_shape, flattened_axes, flattened_shape, paddings, per_axis, pool_paddings
from spyx.nir.validate import validated


def simulate(graph: Any, inputs: Any, dt: float | None = None, **chosen: Any) -> dict[str, np.ndarray]:
    """Run a graph by NIR's equations in float64, from a membrane at 0.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        inputs: (time, *shape) in NIR's layout; a dict by name when there are several inputs.
        dt: time step; None is what the file says.
        **chosen: integration, reset, spike, multi_spike and v_min, as for `from_nir`.

    Returns:
        Name of every node to what it answered, (time, *shape) in NIR's layout; nodes of sub-graphs as `outer.inner`.
        With spike "pre" a neuron's answer is the one that arrives: a step late.

    Raises:
        ValueError: as `from_nir`; inputs of other names or shapes.

    Example:
        >>> from spyx import nn
        >>> from spyx.nir import to_nir
        >>> graph = to_nir(nn.Sequential(nn.LIF(1, beta=0.5)), dt=1.0)
        >>> simulate(graph, np.full((4, 1), 0.8))["lif_0"][:, 0].tolist()
        [0.0, 0.0, 1.0, 0.0]
    """
    graph = as_graph(graph)
    meaning = read_meaning(graph.metadata, dt, **chosen)
    checked = validated(graph, "spyx.nir.simulate")
    flat = checked.flat
    sure = {name for name, value in chosen.items() if value is not None}
    local = {name: meaning_at(node, meaning, sure) for name, node in flat.nodes.items()}
    late = spiking_late(flat, local)
    taken = steps_of(flat, meaning.dt, late)
    xs = _named(inputs, flat.names(nir.Input), checked.given)
    steps = len(next(iter(xs.values())))
    order = order_of_execution(flat, taken)
    past: dict[str, np.ndarray] = {name: np.zeros((steps, *checked.given[name])) for name in (*order, *xs)}
    state: dict[str, Any] = {}
    for t in range(steps):
        for name, x in xs.items():
            past[name][t] = x[t]
        for name in order:
            x = np.zeros(checked.taken[name])
            for (source, target), delay in taken.items():
                if target == name and t >= delay:
                    x = x + past[source][t - delay]
            past[name][t] = _answer(flat.nodes[name], local[name], x, name, state)
    return {name: _late(values) if name in late else values for name, values in past.items()}


def _late(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


def order_of_execution(flat: Any, taken: Mapping[tuple[str, str], int]) -> list[str]:
    """Sources before targets, along the edges that take no time."""
    waiting = [name for name, node in flat.nodes.items() if not isinstance(node, nir.Input)]
    instant = {name: {a for (a, b), d in taken.items() if b == name and not d} for name in waiting}
    done = set(flat.names(nir.Input))
    order = []
    while waiting:
        name = next(name for name in waiting if instant[name] <= done)
        waiting.remove(name)
        done.add(name)
        order.append(name)
    return order


def _named(inputs: Any, names: tuple[str, ...], shapes: Mapping[str, Any]) -> dict[str, np.ndarray]:
    given = dict(inputs) if isinstance(inputs, Mapping) else dict.fromkeys(names, inputs)
    if set(given) != set(names):
        raise ValueError(
            f"spyx.nir.simulate(inputs=): expected the inputs {', '.join(names)}; got {', '.join(given)}. Name them."
        )
    xs = {name: np.asarray(given[name], np.float64) for name in names}
    for name, x in xs.items():
        if x.shape[1:] != shapes[name]:
            raise ValueError(
                f"spyx.nir.simulate(inputs=): expected (time, {', '.join(map(str, shapes[name]))}) for {name!r}; "
                f"got {x.shape}. NIR's maps are channels-first."
            )
    return xs


def _answer(node: Any, meaning: Meaning, x: np.ndarray, name: str, state: dict[str, Any]) -> np.ndarray:
    if isinstance(node, STATEFUL):
        return _neuron(node, meaning, x, name, state)
    if isinstance(node, (nir.Affine, nir.Linear)):
        y = np.asarray(node.weight, np.float64) @ x
        return y + node.bias if isinstance(node, nir.Affine) else y
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        return _convolved(node, x)
    if isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        return _pooled(node, x)
    if isinstance(node, nir.Flatten):
        return x.reshape(flattened_shape(x.shape, *flattened_axes(node, x.shape)))
    if isinstance(node, nir.Scale):
        return x * node.scale
    if isinstance(node, nir.Threshold):
        return (x > node.threshold).astype(np.float64)
    if isinstance(node, nir.Delay):
        return _staggered(node, meaning, x, name, state)
    if isinstance(node, (nir.Output, Identity)):
        return x
    raise ValueError(f"spyx.nir.simulate: expected a node of NIR 1.0.8; got {type(node).__name__}. It has no equation.")


def _neuron(node: Any, meaning: Meaning, x: np.ndarray, name: str, state: dict[str, Any]) -> np.ndarray:
    dt = meaning.dt
    field = {k: np.asarray(v, np.float64) for k, v in vars(node).items() if isinstance(v, (np.ndarray, float, int))}
    v, i = state.get(name, (np.zeros_like(x), np.zeros_like(x)))

    def leak(tau: np.ndarray) -> np.ndarray:
        return dt / tau if meaning.integration == "euler" else -np.expm1(-dt / tau)

    if "tau_syn" in field:
        i = i - leak(field["tau_syn"]) * i + dt / field["tau_syn"] * field["w_in"] * x
        x = i
    tau = field.get("tau", field.get("tau_mem"))
    if tau is None:
        v = v + dt * field["r"] * x
        kept = np.ones_like(v)
    else:
        kept = 1 - leak(tau)
        v = v + leak(tau) * (field["v_leak"] - v) + dt / tau * field["r"] * x
    if "v_threshold" not in field:
        state[name] = (v, i)
        return v
    threshold, reset = field["v_threshold"], field["v_reset"]
    z = (v > threshold).astype(np.float64)
    if meaning.multi_spike:
        z = np.where(z > 0, np.ceil(v / threshold) - 1, 0.0)
    if meaning.reset == "nir":
        v = np.where(z > 0, reset, v)
    elif meaning.reset == "zero":
        v = np.where(z > 0, 0.0, v)
    else:
        jump = threshold / kept if meaning.reset == AFTER_LEAK else threshold - reset
        v = v - z * jump
    if meaning.v_min is not None:
        v = np.maximum(v, meaning.v_min)
    state[name] = (v, i)
    return z


def _convolved(node: Any, x: np.ndarray) -> np.ndarray:
    weight, groups = np.asarray(node.weight, np.float64), int(node.groups)
    space = weight.ndim - 2
    padded = np.pad(x, [(0, 0), *paddings(node)])
    stride, dilation = per_axis(node.stride, space), per_axis(node.dilation, space)
    answer = answer_shape(node, x.shape)
    y = np.zeros(answer)
    parts = np.split(padded, groups)
    for place in np.ndindex(*weight.shape[2:]):
        window = tuple(
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(place, dilation, answer[1:], stride, strict=True)
        )
        taps = np.split(weight[(slice(None), slice(None), *place)], groups)
        y += np.concatenate([np.tensordot(w, p[(slice(None), *window)], 1) for w, p in zip(taps, parts, strict=True)])
    return y + np.asarray(node.bias, np.float64).reshape(-1, *[1] * space)


def _pooled(node: Any, x: np.ndarray) -> np.ndarray:
    kernel, stride = per_axis(node.kernel_size, 2), per_axis(node.stride, 2)
    padded = np.pad(x, [(0, 0), *pool_paddings(node)])
    answer = answer_shape(node, x.shape)
    y = np.zeros(answer)
    for row, column in np.ndindex(*kernel):
        y += padded[
            :,
            row : row + (answer[1] - 1) * stride[0] + 1 : stride[0],
            column : column + (answer[2] - 1) * stride[1] + 1 : stride[1],
        ]
    return y / np.prod(kernel) if isinstance(node, nir.AvgPool2d) else y


def _staggered(node: Any, meaning: Meaning, x: np.ndarray, name: str, state: dict[str, Any]) -> np.ndarray:
    """Each unit's delay beyond the shortest, which the edge has already taken."""
    steps = np.array([whole_steps(d, meaning.dt) for d in np.ravel(node.delay)]).reshape(x.shape)
    extra = steps - steps.min()
    seen = [x, *state.get(name, [])][: int(extra.max()) + 1]
    state[name] = seen
    seen = seen + [np.zeros_like(x)] * (int(extra.max()) + 1 - len(seen))
    return np.take_along_axis(np.stack(seen), extra[None], 0)[0]
