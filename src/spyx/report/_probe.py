"""What `doctor` measures: one compiled run of a batch, its gradient, and a few numbers for every layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.engine.delayed_feedback import Late
from spyx.engine.feedback import Recurrent
from spyx.fn._regression import PairFunction
from spyx.fn._traces import TraceFunction
from spyx.nn._fields import Within
from spyx.nn._layer import hashable, merged
from spyx.nn._layers_by_path import (
    fires,
    inputs_first,
    kernel_of,
    layers_with_state,
    named_layers,
    nearest,
    unwrapped,
    wiring,
)
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Array, Bool, Float, Int, Num, Shaped

    from spyx.engine.types import State
    from spyx.report.types import Loss, Objective, Seen, Structure

MARGIN = 0.05
"""Share of its range by which a parameter must lie outside to be a finding: an update may step over the end."""


@dataclass(frozen=True)
class ConnectionProbe:
    """A layer with a kernel.

    Args:
        name: path and kind.
        size: weights.
        zero: all of them are 0.
        same: every unit has the same ones, and there are several.
        units: it has.
    """

    name: str
    size: int
    zero: bool
    same: bool
    units: int


@dataclass(frozen=True)
class NeuronProbe:
    """A layer of neurons on the batch.

    Args:
        name: path and kind.
        spikes: its step calls the activation.
        recurrent: it is fed back into itself.
        last: no other neuron is between it and the output.
        fed_by: the layer with parameters before it.
        rate: mean output.
        silent: share of units without an output other than 0.
        slope: mean slope of the surrogate at its inputs over that at 0, times the threshold's distance from rest.
        nearest: largest input of the surrogate: how close a membrane came to its threshold.
        input_high: largest input.
        largest: largest magnitude of a state.
        finite: all states are.
        decay: share of the state that is left after a step without input.
        tau_steps: time constant of the state, in steps.
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
    tau_steps: float
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
        not_finite: how many parameters of a layer are not finite, by path and kind.
        unseen: steps at the end of the input that change nothing in the output.
        dropped: share that a Dropout drops in training, by path and kind.
        outputs: largest magnitude of the output of a layer with a state that is no neuron, by path and kind.
    """

    connections: list[ConnectionProbe]
    neurons: list[NeuronProbe]
    classes: int
    loss_finite: bool
    gradients: dict[str, float]
    time_ratio: float | None
    not_finite: dict[str, int]
    unseen: int = 0
    dropped: dict[str, float] = field(default_factory=dict)
    outputs: dict[str, float] = field(default_factory=dict)


class _Activity(NamedTuple):
    """The numbers of a `NeuronProbe` that are measured, under the same names."""

    spikes: Bool[Array, ""]
    rate: Float[Array, ""]
    silent: Float[Array, ""]
    slope: Float[Array, ""]
    nearest: Float[Array, ""]
    input_high: Float[Array, ""]
    largest: Float[Array, ""]
    finite: Bool[Array, ""]
    decay: Float[Array, ""]
    tau_steps: Float[Array, ""]


class _Measured(NamedTuple):
    """What one run gives: the activity of neurons by path, and, where there is a loss, what `Probe` says of it.

    `steps` is the size of the gradient at every step of the input.
    """

    neurons: dict[str, _Activity]
    outputs: dict[str, Float[Array, ""]]
    loss: Float[Array, ""] | float = 0.0
    gradients: dict[str, Float[Array, ""]] | None = None
    steps: Float[Array, " time"] | None = None
    classes: int = 0


def probe(
    layer: nn.Layer,
    x: Num[Array, "samples time *features"],
    more: tuple[Shaped[Array, "samples ..."], ...],
    loss: Loss | Objective,
    lengths: Int[Array, " samples"] | None,
    *,
    whole: bool,
) -> Probe:
    """Measure a container on a batch.

    Args:
        layer: the container.
        x: input.
        more: what the batch holds besides, the labels first; empty leaves the gradient out.
        loss: `(traces, targets) -> loss`, or with `whole` `(model, x, *more) -> loss`.
        lengths: steps of each sample that count, or None.
        whole: the loss runs the network itself.
    """
    state = jax.eval_shape(lambda: nnx.clone(layer).state_for(x[:, 0]))  # a key that is drawn changes a copy
    found = named_layers(layer, state)
    sources, ends = wiring(layer, state)
    layers = {path: found[path] for path in inputs_first(sources, ends)}
    names = {path: f"{path} {inner._kind}" for path, inner in layers.items()}
    graphdef, params, rest = nnx.split(layer, nnx.Param, ...)
    structure = hashable(graphdef)
    not_finite = {
        names[path]: count
        for path, inner in layers.items()
        if (count := sum(int((~np.isfinite(np.asarray(a))).sum()) for a in _floating(inner, nnx.Variable)))
    }
    if not_finite:
        return Probe([], [], 0, False, {}, None, not_finite)
    got: _Measured = jax.tree.map(np.asarray, _measured(structure, loss, whole, params, rest, x, more, lengths))
    connections, neurons = [], []
    readouts = nearest(ends, sources, layers, lambda inner: isinstance(inner, Neuron))
    for path, inner in layers.items():
        module = kernel_of(inner)
        if isinstance(inner, Neuron):
            fed_by = nearest(sources[path], sources, layers, lambda inner: bool(_floating(inner)))
            before = names[fed_by[0]] if fed_by and not isinstance(layers[fed_by[0]], Neuron) else None
            neurons.append(_as_probe(names[path], inner, got.neurons[path], before, path in readouts))
        elif module is not None:
            kernel = np.asarray(module.kernel[...])
            columns = kernel.reshape(-1, kernel.shape[-1])
            same = columns.shape[1] > 1 and bool((columns == columns[:, :1]).all())
            connections.append(ConnectionProbe(names[path], kernel.size, not kernel.any(), same, columns.shape[1]))
    measured = got.gradients or {}
    gradients = {name: float(measured[path]) for path, name in names.items() if path in measured}
    ratio, unseen = None, 0
    if got.steps is not None:
        sizes = np.asarray(got.steps)[: x.shape[1] if lengths is None else int(np.max(lengths))]
        quiet = len(sizes) - 1 - int(np.flatnonzero(sizes)[-1]) if sizes.any() else 0
        heard = sizes[: len(sizes) - quiet]  # what a spike sends arrives a step later, behind the end for the last
        quarter = max(1, len(heard) // 4)
        ratio = float(heard[:quarter].mean() / heard[-quarter:].mean()) if sizes.any() else None
        if quiet >= 3 and quiet >= len(sizes) / 5:  # rare, so that this second derivative is hardly ever compiled
            reach = np.asarray(_reached(structure, params, rest, x, lengths))[: len(sizes)]
            unseen = len(sizes) - 1 - int(np.flatnonzero(reach)[-1]) if reach.any() else 0
            ratio = None  # the loss itself reads no further
    finite = bool(np.isfinite(got.loss))
    outputs = {name: float(got.outputs[path]) for path, name in names.items() if path in got.outputs}
    modules = {name: unwrapped(layers[path]) for path, name in names.items()}
    dropped = {name: float(module.rate) for name, module in modules.items() if isinstance(module, nnx.Dropout)}
    return Probe(connections, neurons, int(got.classes), finite, gradients, ratio, {}, unseen, dropped, outputs)


def lengths_for(loss: Loss | Objective, lengths: Int[Array, " samples"] | None) -> dict[str, Int[Array, " samples"]]:
    """What a loss is given beside outputs and labels: the lengths, where it is one of `spyx.fn`."""
    takes = isinstance(loss, (TraceFunction, PairFunction))
    return {"lengths": lengths} if takes and lengths is not None else {}


def _floating(layer: nn.Layer, kind: type[nnx.Variable] = nnx.Param) -> list[Float[Array, "..."]]:
    module = unwrapped(layer)
    found = jax.tree.leaves(nnx.state(module, kind)) if isinstance(module, nnx.Module) else []
    return [a for a in found if jnp.issubdtype(a.dtype, jnp.floating)]


def _network(structure: Structure, params: nnx.State, rest: nnx.State) -> nn.Layer:
    copy = merged(structure, params, rest)
    copy.eval()
    return copy


def _wide(x: Num[Array, "..."]) -> Float[Array, "..."]:
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _measured(
    structure: Structure,
    loss: Loss | Objective,
    whole: bool,
    params: nnx.State,
    rest: nnx.State,
    x: Num[Array, "samples time *features"],
    more: tuple[Shaped[Array, "samples ..."], ...],
    lengths: Int[Array, " samples"] | None,
) -> _Measured:
    network = _network(structure, params, rest)
    layers = named_layers(network, network.state_for(x[:, 0]))
    what = ("inputs", "outputs", "state")
    neurons = {path: inner for path, inner in layers.items() if isinstance(inner, Neuron)}
    others = [path for path in layers_with_state(network, network.state_for(x[:, 0])) if path not in neurons]
    where = (*neurons, *others) or None
    outs, _, seen = nn.observe(network, x, what=what, where=where, lengths=lengths, mode="layer")
    outputs = {path: jnp.abs(seen[path]).max().astype(jnp.float32) for path in others}
    found = {path: _neuron(path, inner, seen) for path, inner in neurons.items()}
    if not more and not whole:
        return _Measured(found, outputs)
    given = lengths_for(loss, lengths)

    def value(params: nnx.State, x: Float[Array, "samples time *features"]) -> Float[Array, ""]:
        copy = _network(structure, params, rest)
        if whole:
            return loss(copy, x, *more)
        return loss(nn.run(copy, x, lengths=lengths, mode="layer")[0], more[0], **given)

    number, (g_params, g_x) = jax.value_and_grad(value, argnums=(0, 1))(params, _wide(x))
    gradients = named_layers(merged(structure, g_params, rest), network.state_for(x[:, 0]))
    biggest = {
        path: jnp.stack([jnp.abs(a).max().astype(jnp.float32) for a in _floating(inner)]).max()
        for path, inner in gradients.items()
        if not isinstance(inner, Neuron) and _floating(inner)
    }
    return _Measured(found, outputs, number, biggest, _by_step(g_x), outs.shape[-1])


@partial(jax.jit, static_argnums=0)
def _reached(
    structure: Structure,
    params: nnx.State,
    rest: nnx.State,
    x: Num[Array, "samples time *features"],
    lengths: Int[Array, " samples"] | None,
) -> Float[Array, " time"]:
    """How much the outputs, all of them, depend on each step of the input."""

    def total(x: Float[Array, "samples time *features"]) -> Float[Array, ""]:
        outs = nn.run(_network(structure, params, rest), x, lengths=lengths, mode="layer")[0]
        parts = jax.tree.leaves(outs)
        waves = [jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in parts]  # nothing cancels
        return jnp.stack([jnp.sum(a * wave) for a, wave in zip(parts, waves, strict=True)]).sum()

    return _by_step(jax.grad(total)(_wide(x)))


def _by_step(g: Float[Array, "samples time *features"]) -> Float[Array, " time"]:
    return jnp.sqrt(jnp.sum(g**2, axis=tuple(range(2, g.ndim)))).mean(0)


def _as_probe(name: str, neuron: Neuron, got: _Activity, before: str | None, last: bool) -> NeuronProbe:
    recurrent = isinstance(neuron.step, (Recurrent, Late))
    numbers = {key: value.item() for key, value in got._asdict().items()}
    return NeuronProbe(name, recurrent=recurrent, last=last, fed_by=before, pinned=tuple(_pins(neuron)), **numbers)


def _neuron(path: str, neuron: Neuron, seen: Seen) -> _Activity:
    """Small numbers of one layer; every step runs again from the states that were seen, to hear its surrogate."""
    xs, outs = seen[f"{path}.inputs"], seen[path]
    after = [seen[f"{path}.{name}"] for name in neuron.state]
    floating = [a for a in after if jnp.issubdtype(a.dtype, jnp.floating)]
    largest = jnp.stack([jnp.abs(a).max() for a in floating]).max()
    rest = jax.tree.leaves(neuron.initial_state(xs.shape[0], after[0].dtype))
    found = _Activity(
        tau_steps=jnp.float32(jnp.inf),
        spikes=jnp.asarray(fires(neuron)),
        rate=jnp.mean((outs != 0).astype(jnp.float32)),
        silent=jnp.mean((outs == 0).all((0, 1)).astype(jnp.float32)),
        input_high=xs.max().astype(jnp.float32),
        largest=largest,
        finite=jnp.isfinite(largest),
        decay=jnp.float32(1.0),
        slope=jnp.float32(1.0),
        nearest=jnp.float32(0.0),
    )
    if len(rest) != len(after):  # a stochastic neuron has a key in its state, and no step runs again without it
        return found
    before = [
        jnp.concatenate([r[:, None].astype(a.dtype), a[:, :-1]], axis=1) for r, a in zip(rest, after, strict=True)
    ]
    states = before[0] if len(before) == 1 else neuron.State(*before)
    p = neuron.params().astype(after[0].dtype)
    heard: list[Float[Array, "..."]] = []

    def step(x: Float[Array, "steps *units"], s: State) -> tuple[State, list[Float[Array, "..."]]]:
        heard.clear()

        def spike(u: Float[Array, "..."]) -> Float[Array, "..."]:
            heard.append(u)
            return jax.lax.stop_gradient(neuron.activation(u))  # a surrogate's slope is no part of a decay

        _, end = neuron.step(p.replace(spike=spike), x, s)
        return end, list(heard)

    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (xs.astype(after[0].dtype), states))
    _, us = step(*flat)
    _, moved = jax.jvp(
        lambda s: step(jnp.zeros_like(flat[0]), s)[0], (flat[1],), (jax.tree.map(jnp.ones_like, flat[1]),)
    )
    left = jax.tree.leaves(moved)[0]
    tau = -1 / jnp.log(jnp.clip(jnp.mean(jnp.abs(left)), 1e-9, 1 - 1e-6))
    found = found._replace(tau_steps=tau, decay=jnp.mean(left))
    if not us:
        return found
    _, slopes = jax.jvp(neuron.activation, (us[-1],), (jnp.ones_like(us[-1]),))
    _, top = jax.jvp(neuron.activation, (jnp.zeros(()),), (jnp.ones(()),))
    still = rest[0] if len(rest) == 1 else neuron.State(*rest)
    _, from_rest = step(jnp.zeros_like(xs[:, 0], after[0].dtype), still)
    far = jnp.maximum(1.0, jnp.abs(jnp.mean(from_rest[-1])))  # 1 for most neurons, nearly 100 for one in mV
    slope = jnp.mean(jnp.abs(slopes)) / jnp.maximum(jnp.abs(top), 1e-30) * far
    return found._replace(slope=slope, nearest=us[-1].max())


def _pins(neuron: Neuron) -> Iterator[tuple[str, float, float]]:
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
