"""One time step at a time, batch 1, on a CPU: `python -m benchmarks.stepper [--steps 5000] [--rate 0.05]`.

The network is W1's, 700-512-512-20, with weights such that about a twentieth of the hidden units spike. The native
step, by indices and by an array, takes turns with the jitted step of the same network, called the way a control loop
would: NumPy in, NumPy out. Medians in microseconds per step, and the ratio to the jitted step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.side_by_side import machine
from spyx import nn

INPUTS, HIDDEN, CLASSES = 700, 512, 20
TURN = 50
"""Steps that one way takes before the next has its turn: a busy machine slows all of them alike."""


def network() -> nn.Sequential:
    rngs = nnx.Rngs(0)
    init = nnx.initializers.variance_scaling(6.0, "fan_in", "normal")

    def linear(inputs: int, outputs: int) -> nn.Linear:
        return nn.Linear(inputs, outputs, kernel_init=init, rngs=rngs)

    first, second = nn.LIF(HIDDEN, rngs=rngs), nn.LIF(HIDDEN, rngs=rngs)
    last = [linear(HIDDEN, CLASSES), nn.LI(CLASSES)]
    return nn.Sequential(linear(INPUTS, HIDDEN), first, linear(HIDDEN, HIDDEN), second, *last)


def jitted(net: nn.Sequential) -> Callable[[np.ndarray], np.ndarray]:
    """What one writes without `stepper`: the network's call under `jax.jit`, the state carried by hand."""
    graphdef, variables = nnx.split(net)

    @jax.jit
    def step(variables: Any, x: Any, state: Any) -> Any:
        return nnx.merge(graphdef, variables)(x, state)

    state = net.initial_state(1)

    def call(x: np.ndarray) -> np.ndarray:
        nonlocal state
        out, state = step(variables, x, state)
        return np.asarray(out)

    return call


def medians(ways: dict[str, Callable[[int], Any]], steps: int) -> dict[str, float]:
    """Microseconds per step."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for start in range(0, steps, TURN):
        for name, way in ways.items():
            way(start)  # its own numbers are back in the cache
            for k in range(start, start + TURN):
                begin = time.perf_counter()
                way(k)
                taken[name].append(time.perf_counter() - begin)
    return {name: 1e6 * statistics.median(times) for name, times in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.stepper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5000, help="timed steps of every way; default 5000")
    parser.add_argument("--rate", type=float, default=0.05, help="share of active inputs; default 0.05")
    arguments = parser.parse_args()
    net, rng = network(), np.random.default_rng(0)
    x = (rng.random((256, 1, INPUTS)) < arguments.rate).astype(np.float32)
    indices = [np.flatnonzero(row) for row in x]
    _, _, seen = nn.observe(net, jnp.asarray(x.swapaxes(0, 1)), where=("1", "3"))
    by_indices, by_array, plain = nn.stepper(net), nn.stepper(net), jitted(net)
    fallback = nn.stepper(nn.Sequential(*net.layers, lambda x: x))
    ways = {
        "jitted step": lambda k: plain(x[k % 256]),
        "stepper, jitted": lambda k: fallback(x[k % 256]),
        "stepper, array": lambda k: by_array(x[k % 256]),
        "stepper, indices": lambda k: by_indices.events(indices[k % 256]),
    }
    found = medians(ways, arguments.steps)
    rates = ", ".join(f"{float(rate.mean()):.1%}" for rate in seen.values())
    print(f"{machine()}\n{x.mean():.1%} of the inputs and {rates} of the hidden units are active")
    print("\n| | us per step | of the jitted step |\n| --- | ---: | ---: |")
    for name, us in found.items():
        print(f"| {name} | {us:.1f} | {us / found['jitted step']:.3f} |")


if __name__ == "__main__":
    main()
