"""The training loop around ours and Spyx 1.0: the network is split once, the step is compiled with donated buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from benchmarks.peers import Steps
from benchmarks.workloads import BETA, LEARNING_RATE, Conv, Dense, Spiking, Workload

Forward = Callable[[Any, jax.Array], jax.Array]


def load(layers: list[Any], workload: Workload) -> None:
    """The workload's weights, and one trainable decay per neuron, `BETA` at the start."""
    for layer, spec, array in zip(layers, workload.layers, workload.weights(), strict=True):
        if isinstance(spec, (Dense, Conv)):
            getattr(layer, "connection", layer).kernel[...] = jnp.asarray(array)
        elif isinstance(spec, Spiking) and spec.recurrent:
            layer.recurrent_w[...] = jnp.asarray(array)
        if hasattr(layer, "beta"):
            layer.beta[...] = jnp.full(layer.beta[...].shape, BETA, jnp.float32)


def steps(model: Any, logits: Forward, x: jax.Array, labels: jax.Array, epoch: int = 1) -> Steps:
    """Compiled steps of `logits(model, x) -> (batch, classes)`.

    Args:
        model: a Flax NNX module.
        logits: the forward pass.
        x: input.
        labels: (batch,).
        epoch: that many updates in one compiled loop, as `compile_fit` runs them; the time is that of one.
    """
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    adam = optax.adam(LEARNING_RATE)

    def loss(params: Any, rest: Any, x: jax.Array, labels: jax.Array) -> jax.Array:
        found = logits(nnx.merge(graphdef, params, rest), x)
        return optax.softmax_cross_entropy_with_integer_labels(found, labels).mean()

    def update(carry: Any, rest: Any, x: jax.Array, labels: jax.Array) -> Any:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, rest, x, labels)
        updates, state = adam.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    def run_epoch(carry: Any, rest: Any, x: jax.Array, labels: jax.Array) -> Any:
        if epoch == 1:
            return update(carry, rest, x, labels)
        carry, values = jax.lax.scan(lambda carry, _: update(carry, rest, x, labels), carry, length=epoch)
        return carry, values[0]

    def forward(params: Any, rest: Any, x: jax.Array) -> jax.Array:
        return logits(nnx.merge(graphdef, params, rest), x)

    run_epoch = jax.jit(run_epoch, donate_argnums=0)
    forward = jax.jit(forward)
    carry = (params, adam.init(params))

    def train() -> float:
        nonlocal carry
        carry, value = run_epoch(carry, rest, x, labels)
        jax.block_until_ready(carry)
        return float(value)

    def infer() -> Any:
        return forward(carry[0], rest, x).block_until_ready()

    def compiled_mib(kind: str) -> float:
        lowered = run_epoch.lower(carry, rest, x, labels) if kind == "train" else forward.lower(carry[0], rest, x)
        return temporaries_mib(lowered)

    return Steps(train, infer, compiled_mib)


def temporaries_mib(lowered: Any) -> float:
    """Scratch memory of a lowered program, as XLA plans it."""
    return lowered.compile().memory_analysis().temp_size_in_bytes / 2**20
