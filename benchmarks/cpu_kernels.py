"""Fused kernels against the loop, one layer at a time, on a CPU: `python -m benchmarks.cpu_kernels [--rounds 15]`.

Modes take turns (A B A B ...), so that a busy machine slows all of them alike; the numbers are medians in
milliseconds and the ratio of medians.
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

from spyx import axn, nn

SHAPES = {
    "W1": (100, 64, 512),
    "W3": (1024, 32, 128),
    "readout": (100, 64, 20),
    "small": (100, 4, 32),
    "W2": (100, 64, 256),
    "narrow": (100, 64, 128),
    "few": (100, 16, 256),
    "many": (100, 256, 256),
    "least": (100, 4, 256),
}
"""Time, batch, units: layers of W1, of W3, W1's readout, one that fits into a cache, W2's recurrent layer, others."""

NEURONS: dict[str, Callable[[int], nn.Neuron]] = {
    "LIF": lambda n: nn.LIF(n, rngs=nnx.Rngs(0)),
    "CuBaLIF": lambda n: nn.CuBaLIF(n, rngs=nnx.Rngs(0)),
    "ALIF": lambda n: nn.ALIF(n, rngs=nnx.Rngs(0)),
    "LIF, exp in the slope": lambda n: nn.LIF(n, activation=axn.sigmoid(), rngs=nnx.Rngs(0)),
    "RLIF": lambda n: nn.RLIF(n, rngs=nnx.Rngs(0)),
    "RALIF": lambda n: nn.RALIF(n, rngs=nnx.Rngs(0)),
    "RCuBaLIF": lambda n: nn.RCuBaLIF(n, rngs=nnx.Rngs(0)),
}


def forward(neuron: nn.Neuron, x: jax.Array, mode: str) -> Any:
    return nn.run(neuron, x, mode=mode, time_axis=0)[0]


def training(neuron: nn.Neuron, x: jax.Array, mode: str) -> Any:
    """Forward and backward: gradients of input and parameters."""
    graphdef, params, rest = nnx.split(neuron, nnx.Param, ...)

    def loss(params: Any, x: jax.Array) -> jax.Array:
        return jnp.sum(forward(nnx.merge(graphdef, params, rest), x, mode) ** 2)

    return jax.grad(loss, (0, 1))(params, x)


def medians(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(neuron: nn.Neuron, x: jax.Array, rounds: int) -> dict[str, float]:
    functions = {}
    for what in (forward, training):
        for mode in ("layer", "fused"):
            functions[f"{what.__name__} {mode}"] = partial(jax.jit(partial(what, mode=mode)), neuron, x)
    return medians(functions, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--input", type=float, default=1.0, help="how strong: sets how many units fire")
    parser.add_argument("--neurons", nargs="*", default=list(NEURONS), choices=list(NEURONS))
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    options = parser.parse_args()
    print("| neuron | time, batch, units | firing | forward: layer | fused | ratio | training: layer | fused | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.neurons:
        for shape in (SHAPES[s] for s in options.shapes):
            neuron, x = NEURONS[name](shape[-1]), options.input * jax.random.normal(jax.random.key(0), shape)
            took = {k: 1e3 * v for k, v in compare(neuron, x, options.rounds).items()}
            cells = [name, ", ".join(map(str, shape)), f"{100 * jnp.mean(forward(neuron, x, 'layer')):.0f} %"]
            for what in ("forward", "training"):
                layer, fused = took[f"{what} layer"], took[f"{what} fused"]
                cells += [f"{layer:.2f}", f"{fused:.2f}", f"{layer / fused:.2f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
