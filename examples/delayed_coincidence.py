"""Which of eight intervals lies between two spikes? With delays that learn, and without.

`python examples/delayed_coincidence.py [--seeds 5]` trains both networks from several seeds and prints their accuracy
on pairs that were not trained on, delays rounded: mean, standard deviation, every seed's. The membranes forget within
a few steps, so that the network without delays cannot compare the two spikes.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from spyx import fn, nn, optimize

CLASSES, STEPS, MAX_DELAY, HIDDEN, EPOCHS = 8, 40, 20, 64, 40


def pairs(key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Spikes (count, STEPS, 2) of two inputs, the second one 2, 4, ... 16 steps after the first; the class."""
    keys = jax.random.split(key)
    label = jax.random.randint(keys[0], (count,), 0, CLASSES)
    first = jax.random.randint(keys[1], (count,), 0, 4)
    times = jnp.stack([first, first + 2 * label + 2], -1)
    return jnp.float32(jnp.arange(STEPS)[None, :, None] == times[:, None]), label


def one_is_too_few(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Weights below the threshold of 1, of which any two are above it."""
    return jax.random.uniform(key, shape, dtype, 0.6, 0.8)


def network(delays: bool, rngs: nnx.Rngs) -> nn.Sequential:
    """A hidden layer that forgets at once, and a readout."""
    connection: Any = nn.Linear(2, HIDDEN, use_bias=False, kernel_init=one_is_too_few, rngs=rngs)
    if delays:
        connection = nn.Delayed(connection, MAX_DELAY, rngs=rngs)
    hidden = nn.LIF(HIDDEN, beta=nn.Fixed(0.3), rngs=rngs)
    return nn.Sequential(connection, hidden, nn.Linear(HIDDEN, CLASSES, rngs=rngs), nn.LI(CLASSES))


def loss(model: Any, x: jax.Array, label: jax.Array) -> jax.Array:
    """Cross-entropy of the readout summed over time."""
    return fn.integral_crossentropy()(nn.run(model, x)[0], label)


def widths(epoch: Any, model: Any) -> None:
    """Kernels shrink to a single step in the first half of the training."""
    nn.set_width(model, nn.shrinking(epoch, MAX_DELAY / 2, 0.01, epochs=EPOCHS / 2))


def accuracies(delays: bool, seeds: int) -> list[float]:
    """Train a network from every seed, together; the share of new pairs that each tells right, delays rounded."""
    train, (x, label) = pairs(jax.random.key(0), 2048), pairs(jax.random.key(1), 1024)
    rates = {"weights": optax.adam(1e-3), "decays": optax.adam(1e-3), "delays": optax.adam(0.1)}
    found = optimize.population(
        lambda seed: network(delays, nnx.Rngs(seed)),
        optax.multi_transform(rates, optimize.parameter_kinds),
        loss,
        jax.tree.map(lambda a: a.reshape(16, 128, *a.shape[1:]), train),
        epochs=EPOCHS,
        seeds=seeds,
        on_epoch_start=widths,
    )
    scores = (fn.integral_accuracy()(nn.run(nn.rounded(member.model), x)[0], label)[0] for member in found.members)
    return [float(score) for score in scores]


def main() -> None:
    """Both networks from every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    for name, delays in (("with delays", True), ("without", False)):
        found = accuracies(delays, seeds)
        spread = statistics.stdev(found) if seeds > 1 else 0.0
        each = ", ".join(f"{score:.3f}" for score in found)
        print(f"{name}: {statistics.fmean(found):.3f} (standard deviation {spread:.3f}), {each}", flush=True)


if __name__ == "__main__":
    main()
