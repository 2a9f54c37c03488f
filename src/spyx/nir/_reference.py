"""NIR's equations in float64 NumPy, one step at a time: what every other execution of a graph is compared with.

Nothing here is shared with `spyx.nn`: arrays have NIR's axes, and a convolution is a sum of shifted products.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np

import nir
from spyx.nir import _flat
from spyx.nir._discrete import AFTER_LEAK, Choices, Meaning, meaning_at, read_meaning, spiking_late, steps_of
from spyx.nir._flat import STATEFUL, Edge, Flat, Identity, Shape, output_shape, window_of
from spyx.nir._io import as_graph
from spyx.nir._rules.nir_nodes import extra_steps
from spyx.nir._validate import validated

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

State = dict[str, Sequence[np.ndarray]]
"""Name of a node to the arrays that it remembers: membrane and current, or its last inputs, the newest first."""


def simulate(
    graph: nir.NIRGraph | str | os.PathLike[str],
    inputs: ArrayLike | Mapping[str, ArrayLike],
    dt: float | None = None,
    **chosen: Unpack[Choices],
) -> dict[str, np.ndarray]:
    """Run a graph by NIR's equations in float64, from a membrane at 0.

    Args:
        graph: a `nir.NIRGraph`, or the path of a file.
        inputs: (time, *shape) in NIR's layout; a dict by name when there are several inputs.
        dt: time step; None is what the file says.
        **chosen: integration, reset, spike, multi_spike and v_min, as for `from_nir`.

    Returns:
        Name of every node to its output, (time, *shape) in NIR's layout; nodes of sub-graphs as `outer.inner`. With
        spike "pre" a neuron's output is the one that arrives: a step late.

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
    local = {name: meaning_at(node, meaning, chosen) for name, node in flat.nodes.items()}
    late = spiking_late(flat, local)
    taken = steps_of(flat, meaning.dt, late)
    xs = _named(inputs, flat.names(nir.Input), checked.given)
    steps = len(next(iter(xs.values())))
    order = order_of_execution(flat, taken)
    past = {name: np.zeros((steps, *checked.given[name])) for name in (*order, *xs)}
    state: State = {}
    for t in range(steps):
        for name, x in xs.items():
            past[name][t] = x[t]
        for name in order:
            x = np.zeros(checked.taken[name])
            for (source, target), delay in taken.items():
                if target == name and t >= delay:
                    x = x + past[source][t - delay]
            past[name][t] = _output(flat.nodes[name], local[name], x, name, state)
    for name in late:
        past[name] = np.concatenate([np.zeros_like(past[name][:1]), past[name][:-1]])
    return past


def order_of_execution(flat: Flat, taken: Mapping[Edge, int]) -> list[str]:
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


def _named(
    inputs: ArrayLike | Mapping[str, ArrayLike], names: tuple[str, ...], shapes: Mapping[str, Shape]
) -> dict[str, np.ndarray]:
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


def _output(node: nir.NIRNode, meaning: Meaning, x: np.ndarray, name: str, state: State) -> np.ndarray:
    if isinstance(node, STATEFUL):
        return _neuron(node, meaning, x, name, state)
    if isinstance(node, _flat.DENSE):
        y = np.asarray(node.weight, np.float64) @ x
        return y + node.bias if isinstance(node, nir.Affine) else y
    if isinstance(node, _flat.CONVOLUTIONS):
        weight, groups = np.asarray(node.weight, np.float64), int(node.groups)
        y = np.zeros(output_shape(node, x.shape))
        for place, seen in _windows(node, x):
            pairs = zip(np.split(weight[(..., *place)], groups), np.split(seen, groups), strict=True)
            y += np.concatenate([np.tensordot(w, part, 1) for w, part in pairs])
        return y + np.asarray(node.bias, np.float64).reshape(-1, *[1] * (y.ndim - 1))
    if isinstance(node, _flat.POOLS):
        y = sum((seen for _, seen in _windows(node, x)), np.zeros(output_shape(node, x.shape)))
        return y / np.prod(window_of(node).kernel) if isinstance(node, nir.AvgPool2d) else y
    if isinstance(node, nir.Flatten):
        return x.reshape(_flat.flattened_shape(x.shape, *_flat.flattened_axes(node, x.shape)))
    if isinstance(node, nir.Scale):
        return x * node.scale
    if isinstance(node, nir.Threshold):
        return (x > node.threshold).astype(np.float64)
    if isinstance(node, nir.Delay):
        return _staggered(node, meaning, x, name, state)
    if isinstance(node, (nir.Output, Identity)):
        return x
    raise ValueError(f"spyx.nir.simulate: expected a node of NIR 1.0.8; got {type(node).__name__}. It has no equation.")


def _neuron(node: nir.NIRNode, meaning: Meaning, x: np.ndarray, name: str, state: State) -> np.ndarray:
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
        remaining = np.ones_like(v)
    else:
        remaining = 1 - leak(tau)
        v = v + leak(tau) * (field["v_leak"] - v) + dt / tau * field["r"] * x
    if "v_threshold" not in field:
        state[name] = (v, i)
        return v
    threshold, reset = field["v_threshold"], field["v_reset"]
    z = (v > threshold).astype(np.float64)
    if meaning.multi_spike:
        z = np.where(z > 0, np.ceil(v / threshold) - 1, 0.0)
    if meaning.reset in ("nir", "zero"):
        v = np.where(z > 0, reset if meaning.reset == "nir" else 0.0, v)
    else:
        v = v - z * (threshold / remaining if meaning.reset == AFTER_LEAK else threshold - reset)
    if meaning.v_min is not None:
        v = np.maximum(v, meaning.v_min)
    state[name] = (v, i)
    return z


def _windows(node: _flat.Windowed, x: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """For every place of a window: what lies under that place, at all positions of the window."""
    window = window_of(node)
    padded = np.pad(x, [(0, 0), *window.ends])
    sizes = output_shape(node, x.shape)[1:]
    for place in np.ndindex(*window.kernel):
        under = zip(place, window.dilation, sizes, window.stride, strict=True)
        yield place, padded[(slice(None), *(slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, n, s in under))]


def _staggered(node: nir.Delay, meaning: Meaning, x: np.ndarray, name: str, state: State) -> np.ndarray:
    """Each unit's delay beyond the shortest, which the edge has already taken."""
    extra = extra_steps(node, meaning.dt).reshape(x.shape)
    length = int(extra.max()) + 1
    state[name] = seen = [x, *state.get(name, [])][:length]
    seen = seen + [np.zeros_like(x)] * (length - len(seen))
    return np.take_along_axis(np.stack(seen), extra[None], 0)[0]
