"""One neuron layer in every mode on an NVIDIA GPU, beside the device's ceilings: `python -m benchmarks.gpu`.

Needs jax with CUDA and this repository's `src` on the path, not even flax; with torch installed it also times a
hand-written loop in torch and its compiled form. Prints a Markdown table under the device's name. A row: forward and
forward + backward in milliseconds (median), peak memory of the training step, and the time of forward + backward over
the time that its bytes alone take at the measured bandwidth. The floor counts four arrays once each: input, output, and
the cotangents of both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.plain import MODES
from spyx import axn, engine

SHAPES = ((256, 256, 128), (256, 256, 512), (100, 1024, 1024), (1024, 64, 256), (4096, 16, 256))
"""Time, batch, units."""

SPIKE = axn.superspike()


def lif(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
    z = p.spike(v - 1.0)
    return z, p.beta * v + x - z


def li(p: Any, x: Any, v: Any) -> tuple[Any, Any]:
    v = p.beta * v + x
    return v, v


NEURONS = {"LIF": (lif, ("scan", "layer", "fixed_point", "fused")), "LI": (li, ("scan", "layer", "parallel", "fused"))}
"""Step and modes; `scan` is a loop differentiated by JAX."""


def seconds(function: Callable[[], Any], rounds: int) -> float:
    """Median of `rounds` calls, the first two left out: compilation and warm-up."""
    for _ in range(2):
        jax.block_until_ready(function())
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def bandwidth(rounds: int) -> float:
    """Bytes per second of `a + b` over arrays of 256 MiB."""
    a, b = (jnp.ones(2**26, jnp.float32) for _ in range(2))
    return 3 * a.nbytes / seconds(partial(jax.jit(jnp.add), a, b), rounds)


def arithmetic(rounds: int, dtype: Any) -> float:
    """Floating-point operations per second of a square matrix product."""
    a = jnp.ones((8192, 8192), dtype)
    return 2 * 8192**3 / seconds(partial(jax.jit(jnp.matmul), a, a), rounds)


def forward(step: Any, mode: str, beta: jax.Array, x: jax.Array) -> jax.Array:
    p = engine.Params({"beta": beta}, {"spike": SPIKE})
    xs = x if mode == "fused" else x.astype(jnp.float32)  # a kernel reads bfloat16 as it is
    return MODES[mode](step, p, xs, jnp.zeros(x.shape[1:], jnp.float32))[0].astype(x.dtype)


def training(step: Any, mode: str, beta: jax.Array, x: jax.Array, g: jax.Array) -> Any:
    """Gradients of parameter and input for a given cotangent of the output."""
    return jax.vjp(partial(forward, step, mode), beta, x)[1](g)


def rows(name: str, shape: tuple[int, int, int], dtype: Any, rate: float, rounds: int) -> Iterator[list[str]]:
    step, modes = NEURONS[name]
    beta = jnp.full((1, shape[-1]), 0.5, jnp.float32)
    x, g = (jax.random.normal(k, shape, dtype) for k in jax.random.split(jax.random.key(0)))
    floor = 4 * x.nbytes / rate
    for mode in modes:
        cells = [name, f"{shape}", jnp.dtype(dtype).name, mode]
        try:
            once = seconds(partial(jax.jit(partial(forward, step, mode)), beta, x), rounds)
            compiled = jax.jit(partial(training, step, mode)).lower(beta, x, g).compile()
            both = seconds(partial(compiled, beta, x, g), rounds)
            memory = compiled.memory_analysis()
            peak = memory.temp_size_in_bytes + memory.output_size_in_bytes + memory.argument_size_in_bytes
            yield [*cells, f"{1e3 * once:.3f}", f"{1e3 * both:.3f}", f"{peak / 2**20:.0f}", f"{both / floor:.2f}"]
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            yield [*cells, f"{type(error).__name__}: {str(error).splitlines()[0][:60]}", "", "", ""]


def torch_rows(shape: tuple[int, int, int], rate: float, rounds: int) -> Iterator[list[str]]:
    """The same LIF as a loop in torch, eager and compiled; the surrogate written as a custom function."""
    try:
        import torch
    except ImportError:
        return

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, v: Any) -> Any:
            ctx.save_for_backward(v)
            return (v > 0).to(v.dtype)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (v,) = ctx.saved_tensors
            return g / (1 + 25 * v.abs()) ** 2

    def loop(x: Any, beta: Any) -> Any:
        v, outs = torch.zeros_like(x[0]), []
        for t in range(x.shape[0]):
            z = Spike.apply(v - 1)
            outs.append(z)
            v = beta * v + x[t] - z
        return torch.stack(outs)

    x = torch.randn(shape, device="cuda", requires_grad=True)
    beta = torch.full(shape[-1:], 0.5, device="cuda", requires_grad=True)
    weights = torch.randn(shape, device="cuda")

    def timed(function: Callable[[], Any]) -> float:
        def call() -> None:
            function()
            torch.cuda.synchronize()

        return seconds(call, rounds)

    for label, run in (("torch", loop), ("torch.compile", torch.compile(loop))):
        if label == "torch.compile" and shape[0] > 256:
            continue  # it unrolls the loop, and compiling takes minutes
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            once = timed(partial(run, x, beta))
        both = timed(lambda run=run: torch.autograd.grad((run(x, beta) * weights).sum(), (x, beta)))
        peak = torch.cuda.max_memory_allocated() / 2**20
        ratio = both * rate / (4 * x.numel() * 4)
        yield [
            "LIF",
            f"{shape}",
            "float32",
            label,
            f"{1e3 * once:.3f}",
            f"{1e3 * both:.3f}",
            f"{peak:.0f}",
            f"{ratio:.2f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="the first shape alone")
    options = parser.parse_args()
    if jax.default_backend() != "gpu":
        raise SystemExit(f"benchmarks.gpu: expected a CUDA device; got {jax.default_backend()}. Install jax[cuda13].")
    rate, device = bandwidth(options.rounds), jax.devices()[0].device_kind
    print(f"{device}, jax {jax.__version__}: {rate / 1e9:.0f} GB/s", end="")
    for dtype in (jnp.float32, jnp.bfloat16):
        print(f", {arithmetic(options.rounds, dtype) / 1e12:.1f} TFLOP/s in {jnp.dtype(dtype).name}", end="")
    print(
        "\n\n| neuron | time, batch, units | dtype | mode | forward | + backward | peak MiB | over the bytes' floor |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for shape in SHAPES[: 1 if options.quick else None]:
        for name in NEURONS:
            for dtype in (jnp.float32, jnp.bfloat16):
                for row in rows(name, shape, dtype, rate, options.rounds):
                    print(f"| {' | '.join(row)} |", flush=True)
        for row in torch_rows(shape, rate, options.rounds):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
