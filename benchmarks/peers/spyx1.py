"""Spyx 1.0: `spyx.nn.run`, the whole network in one scan, time-major as its documentation prefers.

Its `fit` calls `nnx.jit`, which splits the network at every step; here it is split once, which is faster. Its
`compile_fit` ("the throughput pattern") compiles again at every call: `epoch=N` is that loop, compiled once.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx

from benchmarks.peers import Steps, Unsupported, flax_steps
from benchmarks.workloads import Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload
from spyx import axn, nn

DISTRIBUTIONS = ("spyx", "jax", "flax")


class UserNeuron(nnx.Module):
    """Quadratic integrate and fire with a hard reset, as a user of Spyx 1.0 would write it."""

    def __init__(self, hidden_shape: tuple[int, ...]) -> None:
        self.hidden_shape = hidden_shape
        self.spike = axn.superspike()

    def initial_state(self, batch_size: int) -> Any:
        return jnp.zeros((batch_size, *self.hidden_shape))

    def __call__(self, x: Any, v: Any) -> tuple[Any, Any]:
        z = self.spike(v - 1.0)
        return z, (1.0 - z) * (v + 0.1 * v * (v - 1.0)) + x


NEURONS = {"lif": (nn.LIF, nn.RLIF), "cubalif": (nn.CuBaLIF, nn.RCuBaLIF), "alif": (nn.ALIF, None)}


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    rngs = nnx.Rngs(0)
    layers = [_layer(layer, workload.neuron, rngs) for layer in workload.layers]
    flax_steps.load(layers, workload)

    def logits(model: Any, x: Any) -> Any:
        return nn.run(model, x)[0].sum(0)

    x, labels = map(jnp.asarray, workload.data())
    return flax_steps.steps(nn.Sequential(*layers), logits, x, labels, **options)


def _layer(layer: Layer, neuron: str, rngs: nnx.Rngs) -> Any:
    match layer:
        case Dense():
            return nnx.Linear(layer.inputs, layer.outputs, rngs=rngs)
        case Conv():
            return nnx.Conv(layer.inputs, layer.outputs, (layer.size, layer.size), padding="VALID", rngs=rngs)
        case Pool():
            return nn.SumPool((layer.size, layer.size), (layer.size, layer.size), "VALID")
        case Flatten():
            return nn.Flatten()
        case Spiking() if neuron == "user":
            return UserNeuron(layer.shape)
        case Spiking():
            if len(layer.shape) > 1 and neuron == "alif":
                raise Unsupported("ALIF on feature maps: its state doubles every axis and then splits the last")
            if (kind := NEURONS[neuron][layer.recurrent]) is None:
                raise Unsupported(f"no recurrent {neuron}")
            return kind(layer.shape, rngs=rngs)
        case Readout():
            return nn.LI((layer.classes,), rngs=rngs)
