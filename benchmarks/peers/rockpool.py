"""Rockpool: its JAX modules, one `lax.scan` per neuron layer, in one compiled step as in its JAX tutorial.

Its LIF always has a synaptic current; here that decays within a step or so. Its readout is `ExpSynJax`. Its JAX side
has no convolution. Input is (batch, time, features).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from rockpool.nn.combinators import Sequential
from rockpool.nn.modules import ExpSynJax, LIFJax, LinearJax

from benchmarks.peers import Steps, Unsupported
from benchmarks.workloads import BETA, LEARNING_RATE, Dense, Layer, Readout, Spiking, Workload

DISTRIBUTIONS = ("rockpool", "jax")

DT = 1e-3
TAU = -DT / math.log(BETA)


def build(workload: Workload, options: dict[str, Any]) -> Steps:
    if workload.neuron != "lif":
        raise Unsupported(f"compared with LIF alone, not {workload.neuron}")
    layers = [_layer(layer, array) for layer, array in zip(workload.layers, workload.weights(), strict=True)]
    model = Sequential(*layers)
    adam = optax.adam(LEARNING_RATE)

    def logits(parameters: Any, x: Any) -> Any:
        return model.set_attributes(parameters).reset_state()(x)[0].sum(1)

    def loss(parameters: Any, x: Any, labels: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(logits(parameters, x), labels).mean()

    def update(carry: Any, x: Any, labels: Any) -> Any:
        parameters, state = carry
        value, gradient = jax.value_and_grad(loss)(parameters, x, labels)
        updates, state = adam.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), state), value

    update, forward = jax.jit(update, donate_argnums=0), jax.jit(logits)
    parameters = jax.tree.map(lambda array: jnp.array(array, jnp.float32), model.parameters())
    carry = (parameters, adam.init(parameters))
    x, labels = workload.data()
    x, labels = jnp.asarray(x.swapaxes(0, 1)), jnp.asarray(labels)

    def train() -> float:
        nonlocal carry
        carry, value = update(carry, x, labels)
        jax.block_until_ready(carry)
        return float(value)

    def infer() -> Any:
        return forward(carry[0], x).block_until_ready()

    def compiled_mib(kind: str) -> float:
        lowered = update.lower(carry, x, labels) if kind == "train" else forward.lower(carry[0], x)
        return lowered.compile().memory_analysis().temp_size_in_bytes / 2**20

    return Steps(train, infer, compiled_mib)


def _layer(layer: Layer, array: Any) -> Any:
    match layer:
        case Dense():
            return LinearJax(shape=(layer.inputs, layer.outputs), weight=array, has_bias=True)
        case Spiking():
            back = dict(has_rec=True, w_rec=array) if layer.recurrent else {}
            return LIFJax(shape=layer.shape, tau_mem=TAU, tau_syn=DT, dt=DT, rng_key=jax.random.PRNGKey(0), **back)
        case Readout():
            return ExpSynJax(shape=(layer.classes,), tau=TAU, dt=DT)
        case _:
            raise Unsupported(f"no {type(layer).__name__.lower()} among its JAX modules")
