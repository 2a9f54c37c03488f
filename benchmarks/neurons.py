"""Cost of every neuron: a training step of the neuron alone, beside LIF, interleaved. `python -m benchmarks.neurons`.

One jitted forward and backward pass over (64, 100, 256) in mode "auto"; the median of rounds in which every neuron has
one turn, so that a busy machine slows all of them alike.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from spyx import experimental, nn

SHAPE, ROUNDS = (64, 100, 256), 15


def neurons() -> dict[str, Any]:
    rngs, units = nnx.Rngs(0), SHAPE[-1]
    library = [nn.IF, nn.LIF, nn.PLIF, nn.CuBaLIF, nn.ALIF, nn.adLIF, nn.EFadLIF, nn.cAdLIF, nn.SiLIF, nn.CSiLIF]
    library += [nn.BRF, nn.GLIF, nn.TCLIF, nn.SigmaDelta, nn.Izhikevich, nn.AdEx, experimental.SlidingPSN]
    found = {
        cls.__name__: cls(units, **({"order": 8} if cls is experimental.SlidingPSN else {"rngs": rngs}))
        for cls in library
    }
    found["LIF paper"] = nn.LIF(units, rngs=rngs, dynamics="paper")
    found["DHLIF 4"] = nn.DHLIF(units, branches=4, rngs=rngs)
    return found


def training_step(layer: Any, x: jax.Array) -> Any:
    graphdef, weights, rest = nnx.split(layer, nnx.Param, ...)

    def loss(weights: Any, x: jax.Array) -> jax.Array:
        return nn.run(nnx.merge(graphdef, weights, rest), x)[0].mean()

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    return lambda: jax.block_until_ready(step(weights, x))


def main() -> None:
    x = 1.5 * jax.random.normal(jax.random.key(0), SHAPE)
    steps = {}
    for name, layer in neurons().items():
        width = x if name != "DHLIF 4" else jnp.broadcast_to(x[:, :, None], (*SHAPE[:2], 4, SHAPE[2]))
        steps[name] = training_step(layer, width)
        steps[name]()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"jax {jax.__version__}, {jax.default_backend()}, {SHAPE}")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        print(f"{name:14s} {1e3 * seconds:7.1f} ms   {seconds / medians['LIF']:5.2f} x LIF")


if __name__ == "__main__":
    main()
