"""Parallel in time against the loop over time: `python -m benchmarks.parallel`.

One layer of 128 units, batch 16, float32; milliseconds, the best of several calls of one compiled program, for the
outputs and for the gradient in parameters and input. Prints one table per question, in Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.plain import MODES
from spyx import engine, nn
from spyx.experimental import SPSN, AssociativeLIF, AssociativeResonateFire

BATCH, UNITS = 16, 128
Runner = Callable[[Any, Any, Any], Any]


def best_ms(function: Callable[..., Any], *args: Any, samples: int) -> float:
    jax.block_until_ready(function(*args))
    times = []
    for _ in range(samples):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def measure(layer: nn.Neuron, run: Runner, xs: jax.Array, samples: int) -> tuple[float, float]:
    start, p = nn.Neuron.initial_state(layer, BATCH), layer.params()

    def loss(p: Any, xs: jax.Array) -> jax.Array:
        return jnp.mean(run(p, xs, start) ** 2)

    forward = best_ms(jax.jit(lambda p, xs: run(p, xs, start)), p, xs, samples=samples)
    return forward, best_ms(jax.jit(jax.grad(loss, argnums=(0, 1))), p, xs, samples=samples)


def by_mode(layer: nn.Neuron, mode: str) -> Runner:
    return lambda p, xs, start: MODES[mode](layer.step, p, xs, start)[0]


def by_fft(layer: SPSN) -> Runner:
    from spyx.experimental._spsn import GAINS, convolve

    return lambda p, xs, start: convolve(p.beta, GAINS[layer.normalize](p.beta), xs, start)


def contenders() -> list[tuple[str, nn.Neuron, str, Runner]]:
    decays = jnp.linspace(0.5, 0.98, UNITS)
    free, spsn, lif = AssociativeLIF(UNITS, beta=decays), SPSN(UNITS, beta=decays), nn.LIF(UNITS, beta=decays)
    resonator = AssociativeResonateFire(UNITS, omega=decays)
    rows = [
        (layer, mode, by_mode(layer, mode))
        for layer, modes in (
            (free, ("scan", "layer", "parallel")),
            (resonator, ("layer", "parallel")),
            (lif, ("layer", "fixed_point")),
            (spsn, ("layer", "parallel")),
        )
        for mode in modes
    ]
    rows.append((spsn, "FFT", by_fft(spsn)))
    return [(type(layer).__name__, layer, mode, run) for layer, mode, run in rows]


def inputs(steps: int) -> jax.Array:
    """Currents that keep a LIF layer at about one spike in ten steps."""
    return 0.5 * jax.random.normal(jax.random.key(0), (steps, BATCH, UNITS)) + 0.1


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.parallel", description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--samples", type=int, default=5)
    options = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, batch {BATCH}, {UNITS} units\n")
    print("| neuron | mode | " + " | ".join(f"T={t} forward | gradient" for t in options.steps) + " |")
    print("| --- | --- |" + " ---: | ---: |" * len(options.steps))
    for name, layer, mode, run in contenders():
        cells = [f"{ms:.2f}" for t in options.steps for ms in measure(layer, run, inputs(t), options.samples)]
        print(f"| {name} | {mode} | " + " | ".join(cells) + " |", flush=True)
    print("\n| LIF by fixed_point | spikes per step | rounds |\n| --- | ---: | ---: |")
    lif = nn.LIF(UNITS, beta=jnp.linspace(0.5, 0.98, UNITS))
    for t in options.steps:
        outs, _, how = engine.fixed_point(lif.step, lif.params(), inputs(t), lif.initial_state(BATCH))
        print(f"| T={t} | {float(outs.mean()):.3f} | {int(how.rounds)} |")


if __name__ == "__main__":
    main()
