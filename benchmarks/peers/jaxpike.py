"""jaxpike: `unroll`, the fastest of its strategies by its README: layer-wise, the scan unrolled 8 times.

Recurrence needs its `Graph`, which runs the whole network in one scan. Its neurons scale their input by 1 - alpha;
the weights make up for it. Option: `scan_unroll=N`.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxpike as jp
import optax

from benchmarks.peers import Steps, Unsupported
from benchmarks.workloads import BETA, LEARNING_RATE, Conv, Dense, Flatten, Layer, Pool, Readout, Spiking, Workload

DISTRIBUTIONS = ("jaxpike", "jax", "equinox")

TAU = -1.0 / math.log(BETA)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    weights = workload.weights(gain=1.0 / (1.0 - BETA), averaged=True)
    layers = [_layer(layer, array) for layer, array in zip(workload.layers, weights, strict=True)]
    recurrent = [index for index, layer in enumerate(workload.layers) if isinstance(layer, Spiking) and layer.recurrent]
    model = _graph(layers, recurrent[0], weights) if recurrent else jp.Sequential(*layers)

    def logits(model: Any, x: Any) -> Any:
        return jp.unroll(model, x, **options)[0].sum(0)

    def loss(model: Any, x: Any, labels: Any) -> Any:
        return jp.cross_entropy(logits(model, x), labels), None

    adam = optax.adam(LEARNING_RATE)
    state = adam.init(eqx.filter(model, eqx.is_inexact_array))
    update, forward = jp.make_step(loss, adam), eqx.filter_jit(logits)
    x, labels = map(jnp.asarray, workload.data())

    def train() -> float:
        nonlocal model, state
        model, state, value, _ = update(model, state, x, labels)
        jax.block_until_ready((eqx.filter(model, eqx.is_array), state))
        return float(value)

    def infer() -> Any:
        return forward(model, x).block_until_ready()

    def compiled_mib(kind: str) -> float:
        lowered = update.lower(model, state, x, labels) if kind == "train" else forward.lower(model, x)
        return lowered.compile().compiled.memory_analysis().temp_size_in_bytes / 2**20

    return Steps(train, infer, compiled_mib)


def _layer(layer: Layer, array: Any) -> Any:
    key = jax.random.key(0)
    match layer:
        case Dense():
            return _with_weight(jp.Dense(layer.inputs, layer.outputs, key=key), array.T)
        case Conv():
            made = jp.Conv2d(layer.inputs, layer.outputs, layer.size, padding="VALID", key=key)
            return _with_weight(made, array)
        case Pool():
            return jp.Pool2d(layer.size)
        case Flatten():
            return jp.Flatten()
        case Spiking():
            return jp.LIF(tau=TAU)
        case Readout():
            return jp.LeakyIntegrator(tau=TAU)


def _with_weight(layer: Any, array: Any) -> Any:
    return eqx.tree_at(lambda layer: layer.weight, layer, jnp.asarray(array))


def _graph(layers: list[Any], at: int, weights: list[Any]) -> Any:
    """The chain, with a dense layer from the neuron at `at` back to itself."""
    size = weights[at].shape[0]
    back = _with_weight(jp.Dense(size, size, use_bias=False, key=jax.random.key(0)), weights[at].T)
    names = [f"layer{index}" for index in range(len(layers))]
    edges = [*zip(["input", *names[:-1]], names, strict=True), (names[at], "back"), ("back", names[at])]
    return jp.Graph(nodes={**dict(zip(names, layers, strict=True)), "back": back}, edges=edges, output=names[-1])
