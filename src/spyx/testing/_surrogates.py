"""`check_surrogate`: what a spike function with a replaced derivative must satisfy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from spyx.testing._agreement import require, require_close

if TYPE_CHECKING:
    from spyx.axn import Surrogate

_GRID = (-30.0, -2.0, -1.0, -0.51, -0.3, -0.01, 0.0, 0.01, 0.2, 0.49, 1.0, 2.0, 30.0)


def check_surrogate(spike: Surrogate, *, binary: bool = True) -> None:
    """Check a surrogate: hashable, shape and dtype unchanged, and its slope is its derivative in every mode of JAX.

    Args:
        spike: what a factory of `spyx.axn`, or your own `@surrogate`, returns.
        binary: require 0 and 1 as outputs; False for a relaxation.

    Raises:
        AssertionError: names the promise that is broken.

    Example:
        >>> from spyx import axn
        >>> check_surrogate(axn.superspike())
    """
    require(hash(spike) == hash(spike) and spike == spike, spike, "is hashable and equal to itself")
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        x = jnp.asarray(_GRID, dtype)
        out, slope = spike(x), spike.slope(x)
        require(out.dtype == x.dtype and out.shape == x.shape, spike, f"keeps shape and dtype ({x.dtype})")
        require(slope.dtype == x.dtype and slope.shape == x.shape, spike, f"slope keeps shape and dtype ({x.dtype})")
        require(bool(jnp.isfinite(slope).all()), spike, f"slope is finite ({x.dtype})")
        if binary:
            require(bool(((out == 0) | (out == 1)).all()), spike, "gives spikes: 0 and 1 only")
    x = jnp.asarray(_GRID, jnp.float32)
    out, slope = spike(x), spike.slope(x)
    g = jnp.linspace(-1.0, 2.0, x.size)
    require_close(jax.vjp(spike, x)[1](g)[0], g * slope, spike, "reverse mode is cotangent times slope", 1e-6)
    require_close(jax.jvp(spike, (x,), (g,))[1], g * slope, spike, "forward mode is tangent times slope", 1e-6)
    require_close(jax.vmap(jax.grad(spike))(x), slope, spike, "works under vmap", 1e-6)
    require_close(jax.jit(spike)(x), out, spike, "jit changes nothing", 0.0)
    require_close(spike(x.reshape(1, -1, 1)), out.reshape(1, -1, 1), spike, "works at any rank", 0.0)
    inner = jnp.asarray([-0.3, -0.01, 0.2, 1.3], jnp.float32)

    def squared(u: jax.Array) -> jax.Array:
        return spike(u) ** 2 * u

    second = jax.vmap(jax.grad(jax.grad(squared)))(inner)
    s, d = spike(inner), spike.slope(inner)
    d2 = jax.vmap(jax.grad(lambda u: spike.slope(u)))(inner)
    require_close(second, 4 * s * d + 2 * inner * (d * d + s * d2), spike, "second order is consistent", 1e-4)
