"""spyx, as installed beside this file: `nn.Sequential` and `nn.run` with its defaults.

Options: `epoch=N` (N updates in one compiled loop, as `compile_fit`), `input=uint8`, `conv=flax`, `cpu=0` (as without
the extra `cpu`), `neuron=adLIF` (any neuron of `spyx.nn` in the place of the workload's), `lengths=1` (samples of 60 to
100 % of the steps); anything else goes to `nn.run`, as in `mode=step`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.peers import Steps, flax_steps
from benchmarks.workloads import Conv, DelayedDense, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload
from spyx import nn
from spyx.engine import device

DISTRIBUTIONS = ("spyx-jax", "jax", "flax")

NEURONS = {
    "lif": (nn.LIF, nn.RLIF),
    "cubalif": (nn.CuBaLIF, nn.RCuBaLIF),
    "alif": (nn.ALIF, nn.RALIF),
}


class UserNeuron(nn.Neuron):
    """Quadratic integrate and fire with a hard reset, as a user would write it."""

    state = dict(v=0.0)
    affine = "never"

    @staticmethod
    def step(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
        z = p.spike(v - 1.0)
        return z, (1.0 - z) * (v + 0.1 * v * (v - 1.0)) + x


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    options = dict(options)
    epoch, dtype, conv = options.pop("epoch", 1), options.pop("input", "float32"), options.pop("conv", "spyx")
    if not options.pop("cpu", 1):
        device.has_compiler = lambda: False
    if options.pop("lengths", 0):
        shares = np.random.default_rng(2).uniform(0.6, 1.0, workload.batch)
        options["lengths"] = jnp.asarray(workload.steps * shares, jnp.int32)
    rngs, neuron = nnx.Rngs(0), options.pop("neuron", workload.neuron)
    convolution = nnx.Conv if conv == "flax" else getattr(nn, "Conv", nnx.Conv)
    layers = [_layer(layer, neuron, convolution, rngs) for layer in workload.layers]
    flax_steps.load(layers, workload)

    def logits(model: Any, x: Any) -> Any:
        return nn.run(model, x, **options)[0].sum(1)

    x, labels = workload.data()
    batch_major = jnp.asarray(x.swapaxes(0, 1), dtype)
    return flax_steps.steps(nn.Sequential(*layers), logits, batch_major, jnp.asarray(labels), epoch)


def _layer(layer: Layer, neuron: str, convolution: Any, rngs: nnx.Rngs) -> Any:
    match layer:
        case DelayedDense():
            connection = nn.Linear(layer.inputs, layer.outputs, use_bias=False, rngs=rngs)
            return nn.Delayed(connection, layer.lags - 1, delays=layer.delays(), width=layer.lags // 2)
        case Dense():
            return nnx.Linear(layer.inputs, layer.outputs, rngs=rngs)
        case Conv():
            size = (layer.size, layer.size)
            return convolution(layer.inputs, layer.outputs, size, padding="VALID", rngs=rngs)
        case Pool():
            return nn.SumPool(layer.size, layer.size, "VALID")
        case Flatten():
            return nn.Flatten()
        case Spiking() if neuron == "user":
            return UserNeuron(layer.shape)
        case Spiking() if neuron not in NEURONS:
            return getattr(nn, neuron)(layer.shape, rngs=rngs)
        case Spiking():
            return NEURONS[neuron][layer.recurrent](layer.shape, rngs=rngs)
        case Readout():
            return nn.LI(layer.classes)
