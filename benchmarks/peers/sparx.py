"""sparx (published as sparxml): Flax Linen layers over time-major input, one scan per neuron layer, not unrolled.

So its docs/performance.md advises on a CPU. Each feature learns a decay, as in ours. Its loop is one's own, with optax.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import sparx.nn as snn

from benchmarks.peers import Steps, Unsupported
from benchmarks.workloads import BETA, LEARNING_RATE, Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("sparxml", "jax", "flax")

TAU = -1.0 / math.log(BETA)


class Network(nn.Module):
    """The layers of a workload, one after the other."""

    layers: tuple[Layer, ...]

    def setup(self) -> None:
        self.parts = [_layer(layer) for layer in self.layers]

    def __call__(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    network, adam = Network(workload.layers), optax.adam(LEARNING_RATE)
    x, labels = map(jnp.asarray, workload.data())
    params = network.init(jax.random.key(0), x)["params"]
    for index, array in enumerate(workload.weights(averaged=True)):
        if array is not None:
            name = "recurrent" if isinstance(workload.layers[index], Spiking) else "kernel"
            params[f"parts_{index}"][name] = jnp.asarray(array)
    carry = (params, adam.init(params))

    def logits(params: Any, x: Any) -> Any:
        return network.apply({"params": params}, x).sum(0)

    def loss(params: Any, x: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), labels).mean()

    def update(carry: Any, x: Any, labels: Any) -> Any:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, x, labels)
        updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    compiled, forward = jax.jit(update, donate_argnums=0), jax.jit(logits)

    def train() -> float:
        nonlocal carry
        carry, value = compiled(carry, x, labels)
        jax.block_until_ready(carry)
        return float(value)

    def infer() -> Any:
        return forward(carry[0], x).block_until_ready()

    def compiled_mib(kind: str) -> float:
        lowered = compiled.lower(carry, x, labels) if kind == "train" else forward.lower(carry[0], x)
        return lowered.compile().memory_analysis().temp_size_in_bytes / 2**20

    return Steps(train, infer, compiled_mib)


def _layer(layer: Layer) -> Any:
    match layer:
        case Dense():
            return nn.Dense(layer.outputs)
        case Conv():
            return nn.Conv(layer.outputs, (layer.size, layer.size), padding="VALID")
        case Pool():
            return lambda x: nn.avg_pool(x, (layer.size, layer.size), (layer.size, layer.size))
        case Flatten():
            return lambda x: x.reshape(*x.shape[:2], -1)
        case Spiking():
            neuron = snn.LIF(tau=TAU, learn_tau=True)
            return snn.Recurrent(neuron) if layer.recurrent else neuron
        case Readout():
            return snn.LI(tau=TAU, learn_tau=True)
