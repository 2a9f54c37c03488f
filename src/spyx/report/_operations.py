"""What a network costs on data: synaptic operations, updates of neurons and bytes, layer by layer.

Names and definitions are NeuroBench's: an operation is effective if neither its input nor its weight is zero, an
accumulate (AC) if the layer's input is -1, 0 or 1, else a multiply-accumulate (MAC). Biases are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from spyx import nn
from spyx.engine.delayed_feedback import Late
from spyx.engine.feedback import Dense, Recurrent
from spyx.engine.masks import before_end
from spyx.nn._layer import as_layer
from spyx.nn._layers_by_path import kernel_of, named_layers, unwrapped
from spyx.nn._neuron import Neuron

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int, Num, Shaped

    from spyx.nn._layer import Model
    from spyx.report.types import Lengths, Samples, Seen

    Counts = dict[str, Shaped[Array, "samples time"]]
    """What is counted of one layer, by the names of `LayerCost`; `graded` where an input was neither -1, 0 nor 1."""


class Operations(TypedDict):
    """Synaptic operations per sample, under NeuroBench's names."""

    Effective_MACs: float
    Effective_ACs: float
    Dense: float


class NeuroBench(TypedDict):
    """What a network costs per sample, under NeuroBench's names; the sparsities are shares, in [0, 1]."""

    SynapticOperations: Operations
    ActivationSparsity: float
    ConnectionSparsity: float
    MembraneUpdates: float
    NeuronUpdates: float
    Parameters: int
    Samples: int
    Steps: float
    NotCounted: list[str]
    Layers: list[dict[str, Any]]  # a `LayerCost` each, by its fields


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs per sample.

    Args:
        name: its path in the network; `.recurrent` behind it is the connection of a layer to itself.
        kind: its class.
        dense: products of all inputs and weights.
        effective_acs: those of an input and a weight that are not zero, where all inputs are -1, 0 or 1.
        effective_macs: the same where they are not.
        updates: of neurons, one for every unit and time step.
        membrane_updates: those that changed the membrane; the first step counts whole.
        outputs: activations of a neuron, one for every unit and time step.
        active: those that are not zero.
        variables: state variables of a unit.
        recurrent: a connection of a layer to itself.
        weights: numbers of a connection.
        zeros: those that are zero.
        parameters: all numbers that train.

    Example:
        >>> layer = LayerCost("0", "Linear", dense=60.0, effective_acs=6.0)
        >>> layer.effective
        6.0
    """

    name: str
    kind: str
    dense: float = 0.0
    effective_acs: float = 0.0
    effective_macs: float = 0.0
    updates: float = 0.0
    membrane_updates: float = 0.0
    outputs: float = 0.0
    active: float = 0.0
    variables: int = 0
    recurrent: bool = False
    weights: int = 0
    zeros: int = 0
    parameters: int = 0

    @property
    def effective(self) -> float:
        """Effective operations, ACs and MACs."""
        return self.effective_acs + self.effective_macs


@dataclass(frozen=True)
class Cost:
    """What a network costs per sample, on the data that it was counted on. It prints as a table.

    Args:
        layers: one `LayerCost` for every connection and neuron.
        samples: how many samples were counted.
        steps: time steps of a sample; the mean of their lengths where lengths were given.
        not_counted: layers with parameters of a kind whose operations are not known, by name.

    Example:
        >>> layers = LayerCost("0", "Linear", dense=60.0, effective_acs=6.0), LayerCost("1", "IF", updates=15.0)
        >>> found = Cost(layers, samples=1, steps=5.0)
        >>> found.input_rate, found.total("updates"), found.as_dict()["SynapticOperations"]["Effective_ACs"]
        (0.1, 15.0, 6.0)
    """

    layers: tuple[LayerCost, ...]
    samples: int
    steps: float
    not_counted: tuple[str, ...] = ()

    def total(self, what: str) -> float:
        """The sum over layers of a number of `LayerCost`, by its name."""
        return sum(getattr(layer, what) for layer in self.layers)

    @property
    def input_rate(self) -> float:
        """Share of the products that are effective: how often an input and a weight are not zero."""
        dense = self.total("dense")
        return self.total("effective") / dense if dense else 0.0

    def as_dict(self) -> NeuroBench:
        """Numbers under NeuroBench's names, for JSON."""
        outputs, weights = self.total("outputs"), self.total("weights")
        return {
            "SynapticOperations": {
                "Effective_MACs": self.total("effective_macs"),
                "Effective_ACs": self.total("effective_acs"),
                "Dense": self.total("dense"),
            },
            "ActivationSparsity": 1 - self.total("active") / outputs if outputs else 0.0,
            "ConnectionSparsity": self.total("zeros") / weights if weights else 0.0,
            "MembraneUpdates": self.total("membrane_updates"),
            "NeuronUpdates": self.total("updates"),
            "Parameters": int(self.total("parameters")),
            "Samples": self.samples,
            "Steps": self.steps,
            "NotCounted": list(self.not_counted),
            "Layers": [vars(layer) for layer in self.layers],
        }

    def __str__(self) -> str:
        head = ("layer", "dense", "effective ACs", "effective MACs", "updates", "active", "parameters")
        rows = [head, *map(_row, self.layers), _row(_sum(self))]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(r, widths, strict=True)))
            for r in rows
        ]
        if self.not_counted:
            lines.append(f"not counted, because their operations are not known: {', '.join(self.not_counted)}")
        return "\n".join([f"per sample of {self.steps:g} steps, mean of {self.samples} samples", *lines])


def cost(model: Model, x: Samples | Iterable[Samples], *, lengths: Lengths | None = None, batch_size: int = 64) -> Cost:
    """Count what a network does on data: synaptic operations, updates of neurons, activity.

    An operation is a product of one input and one weight at one time step: in dense and convolutional layers, and in
    connections of a layer to itself; with a delay it is counted when its spike is sent. With `z` the input and `W` the
    weight of a dense layer, `effective = sum_t sum_ij [z_ti != 0] [W_ij != 0]` and `dense = T * inputs * outputs`.

    Args:
        model: any network that `spyx.nn.run` takes: sequences, graphs, nested ones. It runs in evaluation mode.
        x: input (samples, time, *features): a whole data set, or an iterable of such arrays.
        lengths: (samples,) steps of each sample that count, as for `spyx.nn.run`; only for one array.
        batch_size: samples that run at once; memory grows with it.

    Returns:
        A `Cost`: numbers per sample.

    Raises:
        TypeError: a model that is no network.
        ValueError: no samples.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), nn.IF(3))
        >>> x = jnp.zeros((1, 5, 4)).at[0, 2, :2].set(1.0)  # two spikes, each to three units
        >>> found = cost(net, x)
        >>> found.total("effective_acs"), found.total("dense"), found.total("updates")
        (6.0, 60.0, 15.0)

    Reference:
        NeuroBench: Yik et al. 2025, doi:10.1038/s41467-025-56739-4.
    """
    if lengths is None and not hasattr(x, "__array__"):
        return _mean([cost(model, part, batch_size=batch_size) for part in _checked(x)])
    x = np.asarray(x)
    if x.ndim < 2 or not x.shape[0]:
        raise ValueError(
            f"spyx.report.cost: expected samples (samples, time, ...); got shape {x.shape}. Pass one at least."
        )
    layer = as_layer("spyx.report.cost", model)
    found = []
    for first in range(0, len(x), batch_size):
        part = slice(first, first + batch_size)
        found.append(_count(layer, jnp.asarray(x[part]), None if lengths is None else np.asarray(lengths)[part]))
    return _mean(found)


def _checked(parts: object) -> list[Samples]:
    found: list[Any] = list(parts) if isinstance(parts, Iterable) and not isinstance(parts, str) else [parts]
    wrong = [type(part).__name__ for part in found if not hasattr(part, "__array__")]
    if wrong:
        raise TypeError(
            f"spyx.report.cost: expected an array or an iterable of arrays; got {wrong[0]}. Pass np.asarray(x)."
        )
    if not found:
        raise ValueError("spyx.report.cost: expected samples; got an empty iterable. Pass one array at least.")
    return found


def _count(
    layer: nn.Layer, x: Num[Array, "samples time *features"], lengths: Int[np.ndarray, " samples"] | None
) -> Cost:
    network = layer if layer.container else nn.Sequential(layer)
    layers = named_layers(network, network.state_for(x[:, 0]))
    facts = {fact.name: fact for path, inner in layers.items() for fact in _facts(path, inner)}
    membranes = {next(iter(inner.state)) for inner in layers.values() if isinstance(inner, Neuron)}
    graphdef, variables = nnx.split(network)

    @jax.jit
    def counted(variables: nnx.State, x: Num[Array, "samples time *features"]) -> dict[str, Counts]:
        copy = nnx.merge(graphdef, variables, copy=True)
        copy.eval()
        _, _, seen = nn.observe(copy, x, what=("inputs", "outputs", *membranes), lengths=lengths, mode="layer")
        steps = jnp.ones(x.shape[:2], jnp.int32)
        if lengths is not None:
            steps = before_end(lengths, x.shape[1]).astype(jnp.int32)
        found: dict[str, Counts] = {}
        for path, inner in named_layers(copy, copy.state_for(x[:, 0])).items():
            found |= _numbers(path, inner, seen, steps)
        return found

    numbers = jax.tree.map(lambda a: float(np.asarray(a, np.float64).sum()), counted(variables, x))
    found = []
    for name, got in numbers.items():
        if "effective" in got:
            got["effective_macs" if got.pop("graded") else "effective_acs"] = got.pop("effective")
        found.append(replace(facts[name], **{key: value / len(x) for key, value in got.items()}))
    unknown = tuple(f"{name} {fact.kind}" for name, fact in facts.items() if name not in numbers)
    return Cost(tuple(found), len(x), float(x.shape[1] if lengths is None else np.mean(lengths)), unknown)


def _facts(path: str, layer: nn.Layer) -> list[LayerCost]:
    """What is known of a layer before it runs; nothing of a layer that has no parameter and is no neuron."""
    module = unwrapped(layer)
    if isinstance(module, nn.Delayed) and kernel_of(module) is None:
        return []
    own = sum(a.size for a in jax.tree.leaves(nnx.state(module, nnx.Param))) if isinstance(module, nnx.Module) else 0
    if isinstance(layer, Neuron):
        connection = _connection(layer)
        inside = 0 if connection is None else sum(a.size for a in jax.tree.leaves(nnx.state(connection, nnx.Param)))
        neuron = LayerCost(path, layer._kind, variables=len(layer.state), parameters=own - inside)
        if connection is None:
            return [neuron]
        return [neuron, replace(_weighted(f"{path}.recurrent", connection, inside), recurrent=True)]
    return [_weighted(path, module, own)] if own else []


def _weighted(name: str, module: Model, parameters: int) -> LayerCost:
    product = kernel_of(module)
    kernel = np.ones(0) if product is None else np.asarray(product.kernel[...])
    return LayerCost(
        name, type(module).__name__, weights=kernel.size, zeros=int((kernel == 0).sum()), parameters=parameters
    )


def _connection(layer: Neuron) -> nnx.Module | None:
    """The module that feeds a neuron back into itself, None without one; a dense weight as a layer over all units."""
    step = layer.step.base if isinstance(layer.step, Late) else layer.step
    if not isinstance(step, Recurrent):
        return None
    if not isinstance(step.via, Dense):
        return unwrapped(step.via.module(layer.params()))  # type: ignore[attr-defined]
    units = math.prod(layer.hidden_shape)
    linear = nnx.Linear(units, units, use_bias=False, rngs=nnx.Rngs(0))
    linear.kernel = nnx.Param(getattr(layer.params(), step.via.name).reshape(units, units))
    return linear


def _numbers(path: str, layer: nn.Layer, seen: Seen, steps: Int[Array, "samples time"]) -> dict[str, Counts]:
    """What is counted, by layer: arrays to sum up, small enough to be exact. `steps` are 1 where a step counts."""
    product = kernel_of(layer)
    if product is not None:
        return {path: _products(product, seen[f"{path}.inputs"], steps)}
    if not isinstance(layer, Neuron):
        return {}
    outs, membrane = seen[path], seen[f"{path}.{next(iter(layer.state))}"]
    changed = jnp.concatenate([jnp.ones_like(membrane[:, :1], bool), membrane[:, 1:] != membrane[:, :-1]], axis=1)
    every = steps * math.prod(layer.hidden_shape)
    found = {
        path: {
            "updates": every,
            "membrane_updates": _summed(changed) * steps,
            "outputs": every,
            "active": _summed(outs != 0),
        }
    }
    connection = kernel_of(_connection(layer))
    base = layer.step.base if isinstance(layer.step, Late) else layer.step
    if connection is not None and isinstance(base, Recurrent):
        late = base.carried is not None
        sent = jnp.concatenate([jnp.zeros_like(outs[:, :1]), outs[:, :-1]], axis=1) if late else outs
        sent = sent * steps.reshape(*steps.shape, *(1,) * (sent.ndim - 2)).astype(sent.dtype)
        if isinstance(base.via, Dense):  # its product is over all units, whatever their shape
            sent = sent.reshape(*steps.shape, -1)
        found[f"{path}.recurrent"] = _products(connection, sent, steps)
    return found


def _products(
    module: nnx.Linear | nnx.Conv, xs: Num[Array, "samples time *features"], steps: Int[Array, "samples time"]
) -> Counts:
    """Operations of a layer with a kernel on inputs (batch, time, ...), per sample and step."""
    ones = nnx.merge(*nnx.split(module))
    kernel = module.kernel[...]
    if ones.bias is not None:
        ones.bias = nnx.Param(jnp.zeros(ones.bias.shape, jnp.float32))
    present = (xs != 0).astype(jnp.float32).reshape(-1, *xs.shape[2:])

    def through(kernel: Num[Array, "*window inputs outputs"], x: Float[Array, "n *features"]) -> Float[Array, "n ..."]:
        ones.kernel = nnx.Param(kernel.astype(jnp.float32))
        return ones(x)

    one_step = through(jnp.ones_like(kernel), jnp.ones_like(present[:1])).sum(dtype=jnp.int32)
    return {
        "effective": _summed(through(kernel != 0, present).reshape(*steps.shape, -1)),
        "dense": steps * one_step,
        "graded": _summed((xs != 0) & (jnp.abs(xs.astype(jnp.float32)) != 1)),
    }


def _summed(a: Num[Array, "samples time ..."]) -> Int[Array, "samples time"]:
    """Sums of every sample and step: exact as integers, where one sum over everything would not be."""
    return a.reshape(*a.shape[:2], -1).sum(-1, dtype=jnp.int32)


def _mean(parts: list[Cost]) -> Cost:
    samples = sum(part.samples for part in parts)
    counted = ("dense", "effective_acs", "effective_macs", "updates", "membrane_updates", "outputs", "active")
    layers = []
    for same in zip(*(part.layers for part in parts), strict=True):
        means = {
            key: sum(getattr(layer, key) * part.samples for layer, part in zip(same, parts, strict=True)) / samples
            for key in counted
        }
        if means["effective_acs"] and means["effective_macs"]:  # an input that is graded in one batch is graded
            means["effective_macs"] += means.pop("effective_acs")
            means["effective_acs"] = 0.0
        layers.append(replace(same[0], **means))
    steps = sum(part.steps * part.samples for part in parts) / samples
    return Cost(tuple(layers), samples, steps, parts[0].not_counted)


def _sum(found: Cost) -> LayerCost:
    keys = ("dense", "effective_acs", "effective_macs", "updates", "outputs", "active", "parameters")
    return LayerCost("total", "", **{key: found.total(key) for key in keys})  # type: ignore[arg-type]


def _row(layer: LayerCost) -> tuple[str, ...]:
    numbers = (layer.dense, layer.effective_acs, layer.effective_macs, layer.updates)
    active = f"{layer.active / layer.outputs:.2%}" if layer.outputs else ""
    return (
        f"{layer.name} {layer.kind}".strip(),
        *(f"{n:,.0f}" if n else "" for n in numbers),
        active,
        f"{layer.parameters:,.0f}" if layer.parameters else "",
    )
