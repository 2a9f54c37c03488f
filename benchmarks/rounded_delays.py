"""Rounded delays spike by spike against a product per lag: `python -m benchmarks.rounded_delays [--rounds 7]`.

SHD's shape, 140-256-256-20, 100 steps, batch 128, 0 to 24 steps per synapse: a run of the network, both ways compiled
in one process and taken in turns. Medians of processor time, then of wall time, milliseconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx import nn

STEPS, BATCH, MAX_DELAY = 100, 128, 24
CASES = ((0.01, 2.0), (0.05, 1.5), (0.2, 1.0))
"""Density of the input, and a factor of the weights with which hidden units spike."""
WAYS = {"spike by spike": "auto", "a product per lag": "layer"}


def network(gain: float, rngs: nnx.Rngs) -> nn.Sequential:
    def late(inputs: int, outputs: int) -> nn.Delayed:
        connection = nnx.Linear(inputs, outputs, rngs=rngs)
        connection.kernel[...] = gain * connection.kernel[...]
        return nn.Delayed(connection, MAX_DELAY, rngs=rngs)

    layers = (late(140, 256), nn.LIF(256, rngs=rngs), late(256, 256), nn.LIF(256, rngs=rngs), late(256, 20), nn.LI(20))
    return nn.rounded(nn.Sequential(*layers))


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """Processor and wall time of one call."""
    began = time.process_time(), time.perf_counter()
    jax.block_until_ready(run())
    return time.process_time() - began[0], time.perf_counter() - began[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for density, gain in CASES:
        model = network(gain, nnx.Rngs(0))
        x = jnp.float32(jax.random.uniform(jax.random.key(0), (BATCH, STEPS, 140)) < density)
        made = {}
        for name, mode in WAYS.items():
            made[name] = jax.jit(partial(run, mode=mode)).lower(model, x).compile()
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in made}
        for function in made.values():
            jax.block_until_ready(function(model, x))
        for _ in range(rounds):
            for name, function in made.items():
                took[name].append(seconds(partial(function, model, x)))
        for name, times in took.items():
            cpu, wall = (1e3 * statistics.median(part) for part in zip(*times, strict=True))
            scratch = made[name].memory_analysis().temp_size_in_bytes / 2**20
            print(f"{density:.0%}  {name:18} {cpu:8.1f} {wall:8.1f} ms  {scratch:.0f} MiB", flush=True)


def run(model: nn.Sequential, x: jax.Array, mode: str) -> jax.Array:
    """The network, its connections in one mode; neurons run as they always do."""
    for layer in model.layers:
        x = nn.run(layer, x, mode=mode if isinstance(layer, nn.Delayed) else "auto")[0]
    return x


if __name__ == "__main__":
    main()
