"""A program of its own, because devices are counted once: every mode inside `jax.shard_map`, next to one device.

Run by `test_over_devices.py`. It prints a line for every mode that differs.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

from functools import partial  # noqa: E402

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from flax import nnx  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from spyx import nn  # noqa: E402

MODES = {"LIF": ("auto", "layer", "step", "fused", "fixed_point"), "RLIF": ("auto", "layer", "step", "fused")}


def network(name: str) -> nn.Sequential:
    neuron = nn.LIF(3, beta=0.8) if name == "LIF" else nn.RLIF(3, beta=0.8, rngs=nnx.Rngs(1))
    return nn.Sequential(nn.Linear(4, 3, rngs=nnx.Rngs(0)), neuron, nn.LI(3))


def main() -> None:
    assert jax.device_count() == 4
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    draw = np.random.default_rng(1)
    x = jnp.asarray(0.5 + 1.5 * draw.normal(size=(8, 7, 4)), jnp.float32)
    cosines = jnp.cos(jnp.arange(8 * 7 * 3, dtype=jnp.float32)).reshape(8, 7, 3)
    for name, modes in MODES.items():
        graphdef, weights, rest = nnx.split(network(name), nnx.Param, ...)

        def outputs(weights, x, mode, graphdef=graphdef, rest=rest):
            return nn.run(nnx.merge(graphdef, weights, rest, copy=True), x, mode=mode)[0]

        def loss(weights, x, cosines, mode, outputs=outputs):
            outs = outputs(weights, x, mode)
            return (outs * cosines).sum(), outs

        expected = jax.value_and_grad(partial(loss, mode="layer"), (0, 1), has_aux=True)(weights, x, cosines)
        for mode in modes:

            @partial(
                jax.shard_map,
                mesh=mesh,
                in_specs=(P(), P("batch"), P("batch")),
                out_specs=((P(), P("batch")), (P(), P("batch"))),
            )
            def over_devices(weights, x, cosines, mode=mode, loss=loss):
                (total, outs), found = jax.value_and_grad(partial(loss, mode=mode), (0, 1), has_aux=True)(
                    weights, x, cosines
                )
                return (jax.lax.psum(total, "batch"), outs), found  # the weights' gradient is summed by JAX

            got = jax.jit(over_devices)(weights, x, cosines)
            for number, (a, b) in enumerate(zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)):
                worst = float(jnp.max(jnp.abs(a - b)) / (1 + jnp.max(jnp.abs(b))))
                if not worst < 2e-4:
                    print(f"{name} {mode}: array {number} differs by {worst:.1e}", flush=True)
    print("compared", flush=True)


if __name__ == "__main__":
    main()
