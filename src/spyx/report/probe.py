"""What `doctor` measures: one compiled run of a batch, its gradient, and a few numbers for every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.engine.late import Late
from spyx.engine.recurrent import Recurrent
from spyx.fn.traces import TraceFunction
from spyx.nn.fields import Within
from spyx.nn.neuron import Neuron
from spyx.report.operations import kernel_of, named_layers

MARGIN = 0.05
"""Share of its range by which a parameter must lie outside to be a finding: an update may step over the end."""


@dataclass(frozen=True)
class ConnectionProbe:
    """A layer with a kernel.

    Args:
        name: path and kind.
        size: weights.
        zero: all of them are 0.
    """

    name: str
    size: int
    zero: bool


@dataclass(frozen=True)
class NeuronProbe:
    """A layer of neurons on the batch.

    Args:
        name: path and kind.
        spikes: its step calls the activation.
        recurrent: it is fed back into itself.
        last: nothing follows it.
        fed_by: the layer with a kernel before it.
        rate: mean output.
        silent: share of units without an output other than 0.
        slope: mean slope of the surrogate at its inputs, over the slope at 0.
        nearest: largest input of the surrogate: how close a membrane came to its threshold.
        input_high: largest input.
        largest: largest magnitude of a state.
        finite: all states are.
        decay: share of the state that is left after a step without input.
        pinned: name, share outside of its range, and the end that is used instead, of every parameter that is clipped.
    """

    name: str
    spikes: bool
    recurrent: bool
    last: bool
    fed_by: str | None
    rate: float
    silent: float
    slope: float
    nearest: float
    input_high: float
    largest: float
    finite: bool
    decay: float
    pinned: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Probe:
    """Everything that was measured.

    Args:
        connections: layers with a kernel, in order.
        neurons: layers of neurons, in order.
        classes: width of the output.
        loss_finite: the loss is a number.
        gradients: largest magnitude of the gradient of every layer's parameters, by path and kind; weights alone.
        time_ratio: gradient of the input's first quarter over that of its last; None where the input has none.
    """

    connections: list[ConnectionProbe]
    neurons: list[NeuronProbe]
    classes: int
    loss_finite: bool
    gradients: dict[str, float]
    time_ratio: float | None


def probe(layer: Any, x: jax.Array, y: jax.Array | None, loss: Any, lengths: jax.Array | None = None) -> Probe:
    """Measure a container on a batch."""
    given = {"lengths": lengths} if lengths is not None and isinstance(loss, TraceFunction) else {}
    layers = named_layers(layer, layer.state_for(x[:, 0]))
    names = {path: f"{path} {inner._kind}" for path, inner in layers.items()}
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)

    @jax.jit
    def measured(params: Any, rest: Any, x: jax.Array, y: Any) -> dict[str, Any]:
        def network(params: Any) -> Any:
            copy = nnx.merge(graphdef, params, rest, copy=True)
            copy.eval()
            return copy

        outs, _, seen = nn.observe(
            network(params), x, what=("inputs", "outputs", "state"), lengths=lengths, mode="layer"
        )
        parts = named_layers(network(params), layer.state_for(x[:, 0]))
        found: dict[str, Any] = {p: _neuron(p, n, seen) for p, n in parts.items() if isinstance(n, Neuron)}
        if y is None:
            return {"neurons": found}
        wide = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)

        def value(params: Any, x: jax.Array) -> jax.Array:
            return loss(nn.run(network(params), x, lengths=lengths, mode="layer")[0], y, **given)

        number, (g_params, g_x) = jax.value_and_grad(value, argnums=(0, 1))(params, wide)
        quarter = max(1, x.shape[1] // 4)
        sizes = jnp.sqrt(jnp.sum(g_x**2, axis=tuple(range(2, g_x.ndim)), keepdims=False)).mean(0)
        of_gradients = named_layers(network(g_params), layer.state_for(x[:, 0]))
        biggest = {
            path: jnp.stack([jnp.abs(a).max() for a in jax.tree.leaves(nnx.state(inner, nnx.Param))])
            for path, inner in of_gradients.items()
            if kernel_of(inner) is not None
        }
        ends = sizes[:quarter].mean(), sizes[-quarter:].mean()
        return {"neurons": found, "loss": number, "gradients": biggest, "ends": ends, "outs": outs.shape[-1]}

    got = jax.tree.map(np.asarray, measured(params, rest, x, y))
    connections, neurons, before = [], [], None
    order = list(layers)
    for path, inner in layers.items():
        module = kernel_of(inner)
        if isinstance(inner, Neuron):
            numbers = {key: value.item() for key, value in got["neurons"][path].items()}
            neurons.append(_as_probe(names[path], inner, numbers, before, path == order[-1]))
        elif module is not None:
            kernel = np.asarray(module.kernel[...])
            connections.append(ConnectionProbe(names[path], kernel.size, not kernel.any()))
            before = names[path]
    gradients = {names[path]: float(a.max()) for path, a in got.get("gradients", {}).items()}
    early, late = got.get("ends", (0.0, 0.0))
    ratio = None if y is None or (early == 0 and late == 0) else float(early / late) if late else float("inf")
    finite = bool(np.isfinite(got.get("loss", 0.0)))
    return Probe(connections, neurons, int(got.get("outs", 0)), finite, gradients, ratio)


def _as_probe(name: str, neuron: Neuron, got: dict[str, Any], before: str | None, last: bool) -> NeuronProbe:
    recurrent = isinstance(neuron.step, (Recurrent, Late))
    return NeuronProbe(name, recurrent=recurrent, last=last, fed_by=before, pinned=tuple(_pins(neuron)), **got)


def _neuron(path: str, neuron: Neuron, seen: dict[str, Any]) -> dict[str, Any]:
    """Small numbers of one layer; every step runs again from the states that were seen, to hear its surrogate."""
    xs, outs = seen[f"{path}.inputs"], seen[path]
    after = [seen[f"{path}.{name}"] for name in neuron.state]
    rest = jax.tree.leaves(neuron.initial_state(xs.shape[0], after[0].dtype))
    before = [
        jnp.concatenate([r[:, None].astype(a.dtype), a[:, :-1]], axis=1) for r, a in zip(rest, after, strict=True)
    ]
    states = before[0] if len(before) == 1 else neuron.State(*before)
    p = neuron.params().astype(after[0].dtype)
    heard: list[jax.Array] = []

    def step(x: Any, s: Any) -> tuple[Any, list[jax.Array]]:
        heard.clear()

        def spike(u: jax.Array) -> jax.Array:
            heard.append(u)
            return neuron.activation(u)

        _, end = neuron.step(p.replace(spike=spike), x, s)
        return end, list(heard)

    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (xs.astype(after[0].dtype), states))
    _, us = step(*flat)
    floating = [a for a in after if jnp.issubdtype(a.dtype, jnp.floating)]
    largest = jnp.stack([jnp.abs(a).max() for a in floating]).max()
    _, moved = jax.jvp(
        lambda s: step(jnp.zeros_like(flat[0]), s)[0], (flat[1],), (jax.tree.map(jnp.ones_like, flat[1]),)
    )
    found = {
        "spikes": jnp.asarray(bool(us)),
        "rate": jnp.mean((outs != 0).astype(jnp.float32)),
        "silent": jnp.mean((outs == 0).all((0, 1)).astype(jnp.float32)),
        "input_high": xs.max().astype(jnp.float32),
        "largest": largest,
        "finite": jnp.isfinite(largest),
        "decay": jnp.mean(jax.tree.leaves(moved)[0]),
        "slope": jnp.float32(1.0),
        "nearest": jnp.float32(0.0),
    }
    if us:
        _, slopes = jax.jvp(neuron.activation, (us[-1],), (jnp.ones_like(us[-1]),))
        _, top = jax.jvp(neuron.activation, (jnp.zeros(()),), (jnp.ones(()),))
        found["slope"] = jnp.mean(jnp.abs(slopes)) / jnp.maximum(jnp.abs(top), 1e-30)
        found["nearest"] = us[-1].max()
    return found


def _pins(neuron: Neuron) -> Any:
    """Parameters that are clipped, and how much of each lies outside of its range."""
    for name, variable in vars(neuron).items():
        if not isinstance(variable, nnx.Param):
            continue
        within = neuron.constraint_of(name, variable)
        if not isinstance(within, Within) or within.by not in ("clip", "unit"):
            continue
        stored, (low, high) = np.asarray(variable[...]), (within.low, within.high)
        if within.by == "unit":
            low, high = 0.0, 1.0
        margin = MARGIN * (high - low) if low is not None and high is not None else MARGIN
        for end, sign in ((low, -1), (high, 1)):
            if end is not None and (share := float((sign * (stored - end) > margin).mean())):
                yield name, share, float(end)
