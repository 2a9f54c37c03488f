"""Event-driven products against dense ones, by density: `python -m benchmarks.event_products [--rounds 15]`.

The kernels and the dense products take turns (A B A B ...); the numbers are dense / events, of medians. The last column
is the density at which the two would meet, by a straight line between those around it: what the `DENSITY` of
`spyx.engine.events` rests on. The gradient of a convolution's input is measured for a cotangent without a zero.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cpu_kernels import medians
from spyx.engine import convolution
from spyx.engine.events.sparse_delays import by_lags
from spyx.engine.kernels import convolution_kernels, product_kernels
from spyx.engine.kernels.delay_kernels import arrivals

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)

PRODUCTS = (
    (6400, 700, 512),
    (6400, 512, 512),
    (6400, 700, 256),
    (32768, 128, 128),
    (6400, 512, 20),
    (1600, 2048, 2048),
)
"""Rows (time times batch), inputs, outputs."""

CONVOLUTIONS = ((320, 34, 2, 12, 5), (320, 15, 12, 32, 5), (320, 16, 32, 32, 3), (320, 16, 64, 64, 3))
"""Images (time times batch), height and width, channels in, channels out, window."""

DELAYED = ((100, 128, 140, 256, 25), (100, 128, 256, 256, 25), (100, 128, 256, 20, 25), (1, 1, 256, 256, 25))
"""Time, batch, inputs, outputs, lags."""

Pair = tuple[Callable[..., Any], Callable[..., Any], tuple[jax.Array, ...]]


def product_pairs(sizes: tuple[int, int, int], x: jax.Array, rng: np.random.Generator) -> dict[str, Pair]:
    many, inputs, outputs = sizes
    w, b, g = (_normal(rng, shape) for shape in ((inputs, outputs), (outputs,), (many, outputs)))
    return {
        "forward": (product_kernels.affine, lambda x, w, b: x @ w + b, (x, w, b)),
        "weight gradient": (product_kernels.outer, lambda x, g: x.T @ g, (x, g)),
    }


def convolution_pairs(sizes: tuple[int, ...], x: jax.Array, rng: np.random.Generator) -> dict[str, Pair]:
    images, side, inputs, outputs, k = sizes
    out = side - k + 1
    w, g = _normal(rng, (k, k, inputs, outputs)), _normal(rng, (images, out, out, outputs))

    def patches(x: jax.Array, w: jax.Array) -> jax.Array:
        return convolution.by_patches(x, w, (1, 1), ((0, 0), (0, 0)), (1, 1), None)

    return {
        "forward": (
            lambda x, w: convolution_kernels.scatter(
                x, w[::-1, ::-1].transpose(0, 2, 1, 3), (k - 1, k - 1), (out, out)
            ),
            patches,
            (x, w),
        ),
        "weight gradient": (
            lambda x, g: convolution_kernels.gather(x, g, (k - 1, k - 1), (k, k)),
            lambda x, g: jax.vjp(partial(patches, x), w)[1](g),
            (x, g),
        ),
        "input gradient": (
            lambda g, w: convolution_kernels.scatter(g, w.transpose(0, 3, 1, 2), (0, 0), (side, side)),
            lambda g, w: jax.vjp(lambda x: patches(x, w), x)[1](g),
            (g, w),
        ),
    }


def delayed_pairs(sizes: tuple[int, ...], x: jax.Array, rng: np.random.Generator) -> dict[str, Pair]:
    *_, inputs, outputs, lags = sizes
    w, delays = _normal(rng, (inputs, outputs)), jnp.asarray(rng.integers(0, lags, (inputs, outputs)), jnp.int32)
    both = (partial(f, lags=lags) for f in (arrivals, by_lags))
    return {"rounded delays": (*both, (x, w, delays))}  # type: ignore[dict-item]


def measure(shape: tuple[int, ...], pairs: Callable[..., dict[str, Pair]], rounds: int) -> dict[str, list[float]]:
    """Per product: events, dense, events, dense ... milliseconds over the densities."""
    found: dict[str, list[float]] = {}
    for density in DENSITIES:
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.random(shape) < density, jnp.float32)
        for name, (events, dense, operands) in pairs(x=x, rng=rng).items():
            both = {kind: partial(jax.jit(f), *operands) for kind, f in (("events", events), ("dense", dense))}
            took = medians(both, rounds)
            found.setdefault(name, []).extend(1e3 * took[kind] for kind in both)
    return found


def meeting_point(times: list[float]) -> str:
    """The density at which events cost what the dense product costs."""
    gaps = [events - dense for events, dense in zip(times[::2], times[1::2], strict=True)]
    points = list(zip(DENSITIES, gaps, strict=True))
    for (low, a), (high, b) in itertools.pairwise(points):
        if a <= 0 < b:
            return f"{low + (high - low) * a / (a - b):.2f}"
    return f"over {DENSITIES[-1]}" if gaps[-1] <= 0 else f"under {DENSITIES[0]}"


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="product, convolution or delayed; default: all")
    rounds, chosen = (vars(parser.parse_args())[name] for name in ("rounds", "only"))
    print(f"| product | size | {' | '.join(f'{d:.0%}' for d in DENSITIES)} | meet at |")
    print("| --- | --- | " + "--- | " * (len(DENSITIES) + 1))
    cases = [((s[0], s[1]), partial(product_pairs, s), s) for s in PRODUCTS]
    cases += [((s[0], s[1], s[1], s[2]), partial(convolution_pairs, s), s) for s in CONVOLUTIONS]
    cases += [((s[0] + s[4] - 1, s[1], s[2]), partial(delayed_pairs, s), s) for s in DELAYED]
    for shape, pairs, sizes in (case for case in cases if chosen in case[1].func.__name__):
        for name, times in measure(shape, pairs, rounds).items():
            ratios = " | ".join(f"{d / e:.1f}" for e, d in zip(times[::2], times[1::2], strict=True))
            print(f"| {name} | {', '.join(map(str, sizes))} | {ratios} | {meeting_point(times)} |", flush=True)


if __name__ == "__main__":
    main()
