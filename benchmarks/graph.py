"""What a graph costs: a feed-forward `Graph` beside the same `Sequential`, and a cycle stepped alone beside everything.

python -m benchmarks.graph
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx import graph, nn

BATCH, STEPS, INPUTS, HIDDEN, OUTPUTS = 32, 100, 128, 256, 10
ROUNDS = 15


def layers() -> list[Any]:
    rngs = nnx.Rngs(0)
    sizes = [INPUTS, HIDDEN, HIDDEN]
    hidden = [[nnx.Linear(a, b, rngs=rngs), nn.LIF(b, beta=0.9)] for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    return [*(layer for pair in hidden for layer in pair), nnx.Linear(HIDDEN, OUTPUTS, rngs=rngs), nn.LI(OUTPUTS)]


def tangled() -> graph.Graph:
    """The same chain with a recurrent connection around its second neuron: one cycle among seven nodes."""
    nodes = dict(zip(("fc1", "lif1", "fc2", "lif2", "fc3", "out"), layers(), strict=True))
    nodes["back"] = nnx.Linear(HIDDEN, HIDDEN, rngs=nnx.Rngs(1))
    path = ["input", "fc1", "lif1", "fc2", "lif2", "fc3", "out", "output"]
    edges: list[tuple[Any, ...]] = list(zip(path[:-1], path[1:], strict=True))
    return graph.Graph(nodes, [*edges, ("lif2", "back", 1), ("back", "lif2")], merge="sum")


def gradient(model: Any, mode: str = "auto") -> Callable[[jax.Array], Any]:
    """Loss and gradient of every parameter, compiled."""
    graphdef, weights, rest = nnx.split(model, nnx.Param, ...)

    @jax.jit
    def run(weights: Any, x: jax.Array) -> Any:
        def loss(weights: Any) -> jax.Array:
            return jnp.mean(nn.run(nnx.merge(graphdef, weights, rest), x, mode=mode)[0] ** 2)

        return jax.value_and_grad(loss)(weights)

    return lambda x: run(weights, x)


def ratio(
    one: Callable[[jax.Array], Any], other: Callable[[jax.Array], Any], x: jax.Array
) -> tuple[float, float, float]:
    """Median milliseconds of both, in turns so that a busy machine hits both alike, and the median of their ratios."""
    jax.block_until_ready((one(x), other(x)))
    pairs = []
    for turn in range(ROUNDS):
        times = {}
        for run in (one, other) if turn % 2 else (other, one):
            start = time.perf_counter()
            jax.block_until_ready(run(x))
            times[run] = 1e3 * (time.perf_counter() - start)
        pairs.append((times[one], times[other]))
    ones, others = zip(*pairs, strict=True)
    return statistics.median(ones), statistics.median(others), statistics.median(a / b for a, b in pairs)


def main() -> None:
    x = jax.random.normal(jax.random.key(0), (BATCH, STEPS, INPUTS))
    print(f"{jax.devices()[0].device_kind}, batch {BATCH}, {STEPS} steps, loss and gradients, median of {ROUNDS}")
    print(f"{'':44}{'ms':>9}{'ms':>9}{'ratio':>8}")
    rows = [
        ("feed-forward Graph : Sequential", graph.feed_forward(*layers()), "auto", nn.Sequential(*layers()), "auto"),
        ("cycle stepped alone : whole graph stepped", tangled(), "auto", tangled(), "step"),
    ]
    for name, one, one_mode, other, other_mode in rows:
        a, b, times = ratio(gradient(one, one_mode), gradient(other, other_mode), x)
        print(f"{name:44}{a:9.1f}{b:9.1f}{times:8.2f}")


if __name__ == "__main__":
    main()
